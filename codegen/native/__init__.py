"""C for the CPU: one translation unit per program, which a C compiler vectorizes."""
