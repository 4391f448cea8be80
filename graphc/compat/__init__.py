"""Other libraries' spellings of what graphc does: programs written for them run on it.

`graphc.compat.tf1` is TensorFlow 1's API. `python -m graphc.compat.tf1 program.py` runs a program
that says `import tensorflow` as it is. `python -m graphc.compat.coverage` writes docs/tf1.md, which
says how much of the API is there.
"""
