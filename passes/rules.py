"""Rewrite rules: their form, the engine that applies them, and what rules ask of values.

A rule is a function of a node that gives the value to put in its place, `Refused` with a
reason where the pattern is there but the rewrite would not be exact, or None where it does not
match. Its docstring says `before -> after`. Exact means: the same IEEE result for every input,
NaN and infinities included, but for the sign of a zero and the bits of a NaN. Where a rule
allows itself more, its docstring says so.

The engine walks the graph until no rule fires. A node that no rule changed is not tried again
as long as its inputs are the same objects; so later rounds cost little. What a rule does follows
from the node and what is below it, which never change: where all rules have been tried, that holds
for the later passes of the same rules, too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.ir.computation import Computation, clone, rewrite
from graphc.ir.graph import CONSTANT, Node, Value
from graphc.ir.literal import Literal
from graphc.ir.ops.movement import broadcast_to_shape
from graphc.ir.table import Kind, Op
from graphc.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Refused:
    """The pattern is there, but the rewrite would change results: why."""

    reason: str


Outcome: TypeAlias = "Value | Refused | None"
OpTest: TypeAlias = Callable[[Op], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """`rewrite(node)` is tried on nodes whose op passes `on`.

    `alone`: only where nothing else reads the node's first input, which the rewrite would
    otherwise compute twice.
    """

    rewrite: Callable[[Node], Outcome]
    on: OpTest
    alone: bool = False

    @property
    def name(self) -> str:
        """The rule is named like its function."""
        return self.rewrite.__name__


@dataclass
class RuleRecord:
    """What became of one rule in a compilation."""

    tried: int = 0
    fired: int = 0
    declined: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def named(*names: str) -> OpTest:
    """Ops of these names."""
    return lambda op: op.name in names


def fact(name: str, kind: Kind = Kind.POINTWISE) -> OpTest:
    """Ops of the kind of which the table states the fact."""
    return lambda op: op.kind is kind and name in op.facts


def of_kind(kind: Kind) -> OpTest:
    """Ops of the kind."""
    return lambda op: op.kind is kind


# -- the engine

_MOST_ROUNDS: Final = 20
_MOST_STEPS: Final = 40  # rewrites of one node in one round


class Rewriter:
    """Applies rules until none fires; `limit` stops it after so many firings (for bisection).

    `settled` are nodes to which no rule applies whoever reads them; those found now are added.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        notes: dict[str, Any],
        limit: int | None = None,
        settled: set[Node] | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self.records: dict[str, RuleRecord] = notes.setdefault("rules", {})
        self.fired: list[str] = notes.setdefault("fired", [])
        self.start = len(self.fired)
        self.limit = limit
        self.by_op: dict[Op, tuple[tuple[Rule, RuleRecord], ...]] = {}
        self.stable: set[Node] = set()
        self.settled: set[Node] = set() if settled is None or limit is not None else settled
        self.tried_all = True  # in the last step
        self.uses: Counter[Value] = Counter()

    def run(self, computation: Computation) -> Computation:
        """The computation in which no rule fires any more."""
        for _ in range(_MOST_ROUNDS):
            self.uses = Counter(v for n in computation.nodes for v in n.inputs)
            self.uses.update(computation.roots)
            after = rewrite(computation, self.visit)
            if after is computation:
                break
            computation = after
        return computation

    def visit(self, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if (node in self.settled or node in self.stable) and inputs == node.inputs:
            return None
        current = node if inputs == node.inputs else clone(node, inputs)
        outputs = current.outputs
        for _ in range(_MOST_STEPS):
            value = self.step(current)
            if value is None:
                (self.settled if self.tried_all else self.stable).add(current)
                break
            assert value.type == current.outputs[0].type, f"{self.fired[-1]} changed a type"
            outputs = (value,)
            is_new = value.node.serial > current.serial
            if not is_new or len(value.node.outputs) != 1:
                break
            current = value.node
        self.share_uses(node, outputs)
        return None if outputs is node.outputs else outputs

    def share_uses(self, node: Node, outputs: Sequence[Value]) -> None:
        for old, new in zip(node.outputs, outputs, strict=True):
            if old is not new:
                self.uses[new] += self.uses[old]

    def step(self, node: Node) -> Value | None:
        """What the first rule that fires puts in the node's place."""
        self.tried_all = True
        if len(node.outputs) != 1:
            return None
        start = time.perf_counter()  # of each rule when the one before has ended
        for rule, record in self.rules_for(node.op):
            if rule.alone and self.uses[node.inputs[0]] > 1:
                self.tried_all = False
                continue
            if self.limit is not None and len(self.fired) - self.start >= self.limit:
                self.tried_all = False
                return None
            outcome = rule.rewrite(node)
            end = time.perf_counter()
            record.seconds += end - start
            start = end
            record.tried += 1
            if isinstance(outcome, Refused):
                record.declined[outcome.reason] += 1
            elif outcome is not None:
                record.fired += 1
                self.fired.append(rule.name)
                return outcome
        return None

    def rules_for(self, op: Op) -> tuple[tuple[Rule, RuleRecord], ...]:
        found = self.by_op.get(op)
        if found is None:
            found = tuple(
                (rule, self.records.setdefault(rule.name, RuleRecord()))
                for rule in self.rules
                if rule.on(op)
            )
            self.by_op[op] = found
        return found


# -- what rules ask

# Movements whose every output element is an element of the input: no padding, no gaps.
_REARRANGING: Final = frozenset({"broadcast_to", "reshape", "transpose", "slice", "unfold"})


def single_source(value: Value) -> Value:
    """The value of one element of which all elements of `value` are copies, or `value` itself."""
    found = value
    while found.node.op.name in _REARRANGING and len(found.node.inputs) == 1:
        found = found.node.inputs[0]
        if found.type.is_static and found.type.size == 1:
            return found
    return value


def scalar_of(value: Value) -> np.generic | None:
    """The constant that every element of `value` is, where that is known."""
    source = single_source(value).node
    if source.op is not CONSTANT:
        return None
    array: np.ndarray = source.attrs["value"].array
    return array.reshape(-1)[0] if array.size == 1 else None


def is_scalar(value: Value, number: float) -> bool:
    """True when every element of `value` is known to be `number`."""
    scalar = scalar_of(value)
    return scalar is not None and bool(scalar == number)


def is_constant(value: Value) -> bool:
    """True for constants and what is a copy of one element of them."""
    return value.node.op is CONSTANT or scalar_of(value) is not None


def producer(value: Value, *names: str) -> Node | None:
    """The node of `value`, if its op has one of the names."""
    return value.node if value.node.op.name in names else None


def shaped(value: Value, node: Node) -> Value:
    """`value` broadcast to the node's shape."""
    return broadcast_to_shape(value, node.types[0].static_shape)


def splat(number: Any, t: TensorType) -> Value:
    """A tensor of static type `t`, all of whose elements are `number`: a broadcast scalar."""
    array = np.asarray(number).astype(t.dtype.numpy)
    if t.size == 1:
        return CONSTANT(value=Literal(array.reshape(t.static_shape)))
    return broadcast_to_shape(CONSTANT(value=Literal(array)), t.static_shape)


def scalar_constant(number: Any, like: Value) -> Value:
    """A scalar constant of the dtype of `like`."""
    return CONSTANT(value=Literal(np.asarray(number).astype(like.dtype.numpy)))


# Ops whose floating result is never negative (it may be NaN).
_NON_NEGATIVE: Final = frozenset({"abs", "square", "exp", "sqrt", "sigmoid"})


def is_nonnegative(value: Value) -> bool:
    """True when no element of a floating `value` can be below 0; NaN may be among them."""
    if not value.dtype.is_floating:
        return False
    if value.node.op.name == "maximum":
        return any(is_constant(v) and bool((_array(v) >= 0).all()) for v in value.node.inputs)
    return value.node.op.name in _NON_NEGATIVE


def _array(value: Value) -> np.ndarray:
    array: np.ndarray = single_source(value).node.attrs["value"].array
    return array
