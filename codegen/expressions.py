"""What the texts of expressions have in common in every back end that writes them."""

from __future__ import annotations

from graphc.ir import loop
from graphc.ir.loop import Expr


def title(expr: Expr) -> str:
    """What a value is called that has no buffer of its own: after its op."""
    while isinstance(expr, loop.Apply) and expr.op == "cast":
        (expr,) = expr.args
    return expr.op if isinstance(expr, loop.Apply) else "value"


def bare(text: str) -> str:
    """The text without parentheses around the whole of it."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and i < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
