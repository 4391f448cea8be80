"""What users call to build graphs."""
