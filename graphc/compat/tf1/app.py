"""`tf.app`: `run(main)` reads the flags and calls main."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from graphc.compat.tf1 import flags as flags


def run(
    main: Callable[[list[str]], Any] | None = None, argv: Sequence[str] | None = None
) -> NoReturn:
    """Call `main(argv)`, default the program's own main, with what is no flag; then exit."""
    given = list(sys.argv if argv is None else argv)
    rest = flags.FLAGS(given)
    function = main or sys.modules["__main__"].main
    sys.exit(function(rest))
