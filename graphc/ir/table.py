"""The op table: one entry per op, which says everything that an op is.

Passes look at `kind` and `facts`, never at op names. The entries themselves stand in
`graphc.ir.ops`, by family; this module owns their form.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from graphc.ir.errors import AttributeValueError
from graphc.ir.types import TensorType

if TYPE_CHECKING:
    from graphc.ir.graph import Node, Value

Attrs: TypeAlias = Mapping[str, Any]
Types: TypeAlias = tuple[TensorType, ...]


class Kind(enum.Enum):
    """The vocabulary in which passes speak of ops."""

    SOURCE = "source"  # placeholder, variable, constant, iota: no tensor inputs
    POINTWISE = "pointwise"  # one scalar function over broadcast inputs
    MOVEMENT = "movement"  # elements move, none is computed
    REDUCE = "reduce"  # an associative combination along axes
    CONTRACT = "contract"  # a sum of products over shared labels
    INDEX = "index"  # which element is read depends on data
    RANDOM = "random"  # random bits from a counter
    STATE = "state"  # changes a variable when the run ends
    COMPOSITE = "composite"  # means its decomposition
    OPAQUE = "opaque"  # a library routine on whole arrays
    HOST = "host"  # Python at run time: strings, files, sizes that follow from values
    CONTROL = "control"  # runs computations that are its attributes: loops, branches


@dataclass(frozen=True, slots=True)
class NoGradient:
    """Why an op has no gradient: it blocks the path, or is constant by definition (`zero`)."""

    reason: str
    zero: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of inputs on which the tests try an op.

    `inputs` are arrays; `attrs` the op's attributes; `differentiable` says for which inputs
    finite differences are meaningful at this point; None: every floating input.
    """

    inputs: tuple[np.ndarray, ...]
    attrs: Attrs = field(default_factory=dict)
    differentiable: tuple[int, ...] | None = None
    name: str = ""


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()

TypeRule: TypeAlias = Callable[[Types, Attrs], "TensorType | Types"]
GradRule: TypeAlias = Callable[["Node", Sequence["Value | None"]], "Sequence[Value | None]"]
Decomposition: TypeAlias = Callable[["Node"], "Value | Sequence[Value]"]
Meaning: TypeAlias = Callable[..., Any]


def _no_samples() -> Iterable[Sample]:
    return ()


@dataclass(frozen=True, eq=False, slots=True)
class Op:
    """One op: calling it builds a node in the current graph.

    `type_rule(input types, attrs)` gives the output type or types, or raises a user error.
    `numpy(attrs, *arrays)` is the meaning, in NumPy, on static arrays.
    `grad(node, output gradients)` gives one gradient (or None) per input.
    `decompose(node)` gives the outputs in simpler ops, once shapes are static: of composites, and
    of routines for what has no such routine.
    `view(node, input views)` is the movement's affine map (see `graphc.ir.views`); movements only.
    `spell` holds the scalar function's text per back end (`{0}`, `{1}` are the arguments).
    `host_inputs` maps the position of an input to the attribute that it becomes before
    compilation (shapes, axes, counts given as tensors).
    `flops` per output element (pointwise) or a function of the node.
    """

    name: str
    kind: Kind
    type_rule: TypeRule
    numpy: Meaning | None = None
    attrs: Attrs = field(default_factory=dict)
    grad: GradRule | NoGradient = NoGradient("it has no gradient rule")
    decompose: Decomposition | None = None
    view: Callable[[Node, Sequence[Any]], Any] | None = None
    spell: Mapping[str, str] = field(default_factory=dict)
    host_inputs: Mapping[int, str] = field(default_factory=dict)
    facts: frozenset[str] = frozenset()
    flops: float | Callable[[Node], float] = 1.0
    samples: Callable[[], Iterable[Sample]] = _no_samples
    doc: str = ""

    def __call__(self, *inputs: Any, name: str | None = None, **attrs: Any) -> Value:
        """The op's first output on the inputs, in the current graph."""
        return self.node(*inputs, name=name, **attrs).outputs[0]

    def outputs(self, *inputs: Any, name: str | None = None, **attrs: Any) -> tuple[Value, ...]:
        """All outputs of the op on the inputs, in the current graph."""
        return self.node(*inputs, name=name, **attrs).outputs

    def node(self, *inputs: Any, name: str | None = None, **attrs: Any) -> Node:
        """A node of this op in the current graph."""
        from graphc.ir.graph import apply  # the graph's types know the table, not the other way

        return apply(self, inputs, attrs, name)

    def complete_attrs(self, given: Attrs) -> dict[str, Any]:
        """All attributes, with defaults; lists become tuples. Errors name what is wrong."""
        for key in given:
            if key not in self.attrs:
                known = ", ".join(self.attrs) or "none"
                raise AttributeValueError(
                    f"op {self.name!r} has no attribute {key!r}; it has: {known}"
                )
        result = {k: freeze(given[k]) if k in given else v for k, v in self.attrs.items()}
        for key, value in result.items():
            if value is REQUIRED:
                raise AttributeValueError(f"op {self.name!r} needs the attribute {key!r}")
        return result

    @property
    def takes_strings(self) -> bool:
        """True for what moves elements, runs computations, or says that it has a meaning there."""
        return STRINGS in self.facts or self.kind in _OF_ANY_ELEMENTS

    def __repr__(self) -> str:
        return f"Op({self.name})"


EFFECT: Final = "effect"  # the fact of an op that must run when reached, though nothing reads it
STRINGS: Final = "strings"  # the fact of an op that takes tensors of strings
_OF_ANY_ELEMENTS: Final = (Kind.MOVEMENT, Kind.HOST, Kind.CONTROL)


def freeze(value: Any) -> Any:
    """Lists become tuples and NumPy scalars Python ones, so that attributes can be hashed."""
    if isinstance(value, (list, tuple)):
        return tuple(freeze(v) for v in value)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    return value


OPS: Final[dict[str, Op]] = {}


def register(op: Op) -> Op:
    """Enter the op in the table and give it back."""
    assert op.name not in OPS, f"two ops are called {op.name!r}"
    assert op.kind is not Kind.COMPOSITE or op.decompose is not None, f"{op.name}: no meaning"
    OPS[op.name] = op
    return op
