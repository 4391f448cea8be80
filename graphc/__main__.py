"""`python -m graphc`: the command of graphc.cli."""

from graphc.cli import main

main(prog_name="graphc")
