"""Sessions, executables, devices and what they keep between runs."""
