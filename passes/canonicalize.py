"""canonicalize: algebraic rules, until none fires.

    x * 1 -> x        transpose(transpose(x)) -> x        log(softmax(x)) -> log_softmax(x)

Static shapes only. Runs before decompose, where composites can still be recognized, and after
it. The rules stand in the tables below by subject; `graphc.passes.rules` says what they may
do. Cost: one walk per round of rewriting, two or three rounds as a rule.
"""

from __future__ import annotations

from typing import Final

from graphc.ir.computation import Computation
from graphc.passes import rules_arithmetic, rules_movement, rules_reduce, rules_select
from graphc.passes.context import Context
from graphc.passes.rules import Rewriter, Rule

RULES: Final[tuple[Rule, ...]] = (
    *rules_arithmetic.RULES,
    *rules_select.RULES,
    *rules_movement.RULES,
    *rules_reduce.RULES,
)


def canonicalize(computation: Computation, ctx: Context, limit: int | None = None) -> Computation:
    """Apply all rules; `limit` stops after so many firings, to find the one that is wrong.

    ctx.notes["rules"] has a RuleRecord per rule, ctx.notes["fired"] the rules in the order of
    their firing.
    """
    return Rewriter(RULES, ctx.notes, limit, ctx.settled).run(computation)
