"""Random graphs, small and odd, for comparing evaluators and back ends.

A graph is drawn through `choose(n)`, a number in range(n): from hypothesis, which then shrinks
what fails, or from a generator of random numbers (`chooser`). In exact mode all values are
small integers held in floats, so that every order of summation gives the same bits and results
are compared without tolerance; in smooth mode exponentials and divisions take part as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

import graphc.ir.ops as _ops  # fills the op table
from graphc.ir.computation import Computation, cut, topological_order
from graphc.ir.dtypes import DType, bool_, float64, int32, int64
from graphc.ir.graph import Graph, Node, Value, convert, next_serial
from graphc.ir.ops.control import BranchPlan, LoopPlan, build_branch
from graphc.ir.table import OPS, NoGradient

assert _ops

Choose = Callable[[int], int]
_DIMS = (3, 2, 5, 1, 4, 7)
_MOST_ELEMENTS = 2000


def chooser(seed: int) -> Choose:
    """Numbers from a generator with this seed."""
    rng = np.random.default_rng(seed)
    return lambda n: int(rng.integers(n))


def random_graph(
    choose: Choose,
    *,
    dtype: DType = float64,
    exact: bool = True,
    steps: int = 10,
    backward: bool = False,
) -> tuple[list[Value], dict[Node, np.ndarray]]:
    """Outputs of a random graph and arrays for its placeholders.

    With `backward` the outputs are a scalar and its gradients by the placeholders.
    """
    builder = Builder(choose, dtype, exact)
    with Graph().as_default():
        for _ in range(1 + choose(3)):
            builder.source()
        for _ in range(2 + choose(steps)):
            builder.step()
        return builder.gradients() if backward else builder.outputs(), builder.given


def random_program(
    choose: Choose, *, dtype: DType = float64, steps: int = 8
) -> tuple[Computation, dict[Node, np.ndarray]]:
    """A computation that also updates variables, and arrays for placeholders and variables."""
    builder = Builder(choose, dtype, exact=True)
    with Graph().as_default():
        shape = builder.shape()
        variables = [builder.source(shape, "variable") for _ in range(2 + choose(2))]
        feeds = [builder.source()]
        for _ in range(2 + choose(steps)):
            builder.step()
        updates = [builder.update(v) for v in variables[: 1 + choose(len(variables))]]
        outputs = builder.outputs()
        if choose(2):
            outputs.append(variables[choose(len(variables))])
        return cut(outputs, updates, feeds), builder.given


def backward(y: Value, xs: Sequence[Value]) -> list[Value]:
    """d sum(y) / dx for each x, by the ops' own rules; zeros where there is no path."""
    order = topological_order([y.node])
    reached = {x.node for x in xs}
    for node in order:
        if any(v.node in reached for v in node.inputs):
            reached.add(node)
    pending: dict[Value, Value] = {y: OPS["ones_like"](y)}
    for node in reversed(order):
        grads = [pending.get(v) for v in node.outputs]
        if node.inputs and node in reached and any(g is not None for g in grads):
            _spread_back(node, grads, pending)
    return [pending[x] if x in pending else OPS["zeros_like"](x) for x in xs]


def _spread_back(node: Node, grads: Sequence[Value | None], pending: dict[Value, Value]) -> None:
    rule = node.op.grad
    if isinstance(rule, NoGradient):
        assert rule.zero, f"{node.op} blocks the gradient"
        return
    for x, g in zip(node.inputs, rule(node, grads), strict=True):
        if g is not None and x.dtype.is_floating:
            pending[x] = pending[x] + g if x in pending else g


def fits(a: Sequence[int], b: Sequence[int]) -> bool:
    """True when the shapes broadcast together into something small."""
    try:
        return bool(np.prod(np.broadcast_shapes(tuple(a), tuple(b))) <= _MOST_ELEMENTS)
    except ValueError:
        return False


class Builder:
    """Grows a graph step by step; `pool` holds the float values made so far."""

    def __init__(self, choose: Choose, dtype: DType, exact: bool) -> None:
        self.choose = choose
        self.dtype = dtype
        self.exact = exact
        self.pool: list[Value] = []
        self.given: dict[Node, np.ndarray] = {}
        self.rng = np.random.default_rng(choose(1000))
        self.moves = (
            self.binary, self.unary, self.reduction, self.binary, self.movement, self.contraction,
            self.selection, self.unary, self.movement, self.position, self.row, self.normalized,
            self.control,
        )  # fmt: skip
        self.depth = 0  # of the loops and branches around what is built

    # -- what the steps are made of

    def one_of(self, items: Sequence[Callable[..., Value]]) -> Callable[..., Value]:
        return items[self.choose(len(items))]

    def pick(self) -> Value:
        """A value of the pool, rather a late one."""
        count = len(self.pool)
        return self.pool[count - 1 - min(self.choose(count), self.choose(count))]

    def partner(self, x: Value) -> Value:
        """A value that broadcasts with x; a new constant where none is found."""
        for _ in range(3):
            y = self.pick()
            if fits(x.type.static_shape, y.type.static_shape):
                return y
        shape = tuple(d if self.choose(2) else 1 for d in x.type.static_shape)
        return convert(self.array(shape[self.choose(len(shape) + 1) :]), self.dtype)

    def shape(self) -> tuple[int, ...]:
        rank = (2, 1, 3, 2, 0)[self.choose(5)]
        dims = [_DIMS[self.choose(len(_DIMS))] for _ in range(rank)]
        if rank and self.choose(20) == 19:
            dims[0] = 0
        return tuple(dims)

    def array(self, shape: Sequence[int]) -> np.ndarray:
        if self.exact:
            return self.rng.integers(-3, 4, shape).astype(self.dtype.numpy)
        return self.rng.uniform(-2, 2, shape).astype(self.dtype.numpy)

    def source(self, shape: tuple[int, ...] | None = None, op: str = "placeholder") -> Value:
        shape = self.shape() if shape is None else shape
        value = OPS[op](dtype=self.dtype, shape=shape, name=f"{op[0]}{len(self.given)}")
        self.given[value.node] = np.asarray(self.array(shape))
        self.pool.append(value)
        return value

    def constant(self, number: float) -> Value:
        return convert(number, self.dtype)

    def tame(self, x: Value) -> Value:
        """x made small again, so that long chains neither overflow nor lose bits."""
        if self.exact:
            return OPS["floormod"](x + self.constant(3), self.constant(7)) - self.constant(3)
        return self.one_of([OPS["tanh"], OPS["sin"], lambda v: v * self.constant(0.3)])(x)

    def step(self) -> None:
        """One more value in the pool."""
        self.pool.append(self.moves[self.choose(len(self.moves))](self.pick()))

    # -- loops and branches

    def control(self, x: Value) -> Value:
        if self.depth == 2:
            return self.unary(x)
        self.depth += 1
        result = self.loop(x) if self.choose(3) else self.branch(x)
        self.depth -= 1
        return result

    def inside(self, params: Sequence[Value]) -> Value:
        """What a few steps make of the parameters, and of a value from outside."""
        outer, self.pool = self.pool, [*self.pool[-1:], *params]
        for _ in range(1 + self.choose(3)):
            self.step()
        result, self.pool = self.pool[-1], outer
        return result

    def loop(self, x: Value) -> Value:
        """x is carried and, where it has some rows, gone through as well."""
        first, shape = next_serial(), x.type.static_shape
        step = OPS["placeholder"](dtype=int64, shape=())
        state = OPS["placeholder"](dtype=self.dtype, shape=shape)
        rows = bool(shape) and shape[0] < 6 and bool(self.choose(2))
        row = [OPS["placeholder"](dtype=self.dtype, shape=shape[1:])] if rows else []
        made = self.inside([state, *row, OPS["cast"](step, dtype=self.dtype)])
        after = self.tame(state + OPS["reduce_sum"](made, axis=None))
        plan = LoopPlan(
            step, [(state, x, after)], [(r, x) for r in row], [made],
            shape[0] if rows else self.choose(4), [], reverse=bool(self.choose(2)), first=first,
        )  # fmt: skip
        (final,), (stack,) = plan.build()
        if stack.type.size <= _MOST_ELEMENTS:
            self.pool.append(stack)
        return final

    def branch(self, x: Value) -> Value:
        """One of two values of x's shape, by the sign of a sum."""
        condition = OPS["less"](OPS["reduce_sum"](x, axis=None), self.constant(0.5))
        plans = []
        for _ in range(2):
            first = next_serial()
            made = self.tame(x + OPS["reduce_sum"](self.inside([x]), axis=None))
            plans.append(BranchPlan([made], [], first))
        (result,), _ = build_branch(condition, (plans[0], plans[1]))
        return result

    # -- steps

    def unary(self, x: Value) -> Value:
        exact = (OPS["negative"], OPS["abs"], OPS["relu"], self.recast, lambda v: self.tame(v * v))
        if self.exact:
            return self.one_of(exact)(x)
        smooth = (OPS["tanh"], OPS["sigmoid"], lambda v: OPS["exp"](OPS["negative"](v * v)))
        return self.one_of((*smooth, lambda v: OPS["log"](v * v + self.constant(1))))(x)

    def recast(self, x: Value) -> Value:
        return OPS["cast"](OPS["cast"](x, dtype=int32), dtype=self.dtype)

    def binary(self, x: Value) -> Value:
        y = self.partner(x)
        x, y = (x, y) if self.choose(2) else (y, x)
        names = ("add", "subtract", "multiply", "maximum", "minimum")
        return self.tame(OPS[names[self.choose(len(names) if self.exact else 3)]](x, y))

    def selection(self, x: Value) -> Value:
        y = self.partner(x)
        bound = self.constant(0.5)
        condition = OPS["less"](x, bound) if self.choose(2) else OPS["greater"](y, bound)
        if self.choose(2):
            condition = OPS["logical_not"](condition)
        assert condition.dtype is bool_
        return OPS["where"](condition, x, y)

    def axes(self, x: Value) -> tuple[int, ...]:
        rank = len(x.type.static_shape)
        return tuple(i for i in range(rank) if self.choose(2)) or tuple(range(rank))

    def reduction(self, x: Value) -> Value:
        op = ("reduce_sum", "reduce_max", "reduce_min")[self.choose(3)]
        if not x.type.size:
            op = "reduce_sum"
        keep = bool(self.choose(2))
        return self.tame(OPS[op](x, axis=self.axes(x), keepdims=keep))

    def position(self, x: Value) -> Value:
        """argmax, and where each element stands."""
        shape = x.type.static_shape
        if not shape or not x.type.size:
            return self.unary(x)
        axis = self.choose(len(shape))
        found = OPS["argmax" if self.choose(2) else "argmin"](x, axis=axis, keepdims=True)
        here = OPS["iota"](shape=shape, axis=axis, dtype=found.dtype)
        return OPS["where"](OPS["equal"](here, found), x, OPS["negative"](x))

    def contraction(self, x: Value) -> Value:
        """A matrix product with a new constant, or with its own transpose."""
        shape = x.type.static_shape
        if len(shape) < 2:
            return self.binary(x)
        if self.choose(3) == 0:
            return self.tame(OPS["matmul"](x, x, transpose_b=True))
        other = convert(self.array((shape[-1], _DIMS[self.choose(len(_DIMS))])), self.dtype)
        return self.tame(OPS["matmul"](x, other))

    def row(self, x: Value) -> Value:
        """Rows made comparable: less their extremum."""
        if not x.type.size or not x.type.static_shape:
            return self.unary(x)
        axis = (self.choose(len(x.type.static_shape)),)
        return self.tame(x - OPS["reduce_max"](x, axis=axis, keepdims=True))

    def normalized(self, x: Value) -> Value:
        if self.exact or not x.type.size or not x.type.static_shape:
            return self.row(x)
        axis = self.choose(len(x.type.static_shape))
        if self.choose(2):
            return OPS["softmax"](x, axis=axis)
        mean = OPS["reduce_mean"](x, axis=(axis,), keepdims=True)
        spread = OPS["reduce_mean"]((x - mean) * (x - mean), axis=(axis,), keepdims=True)
        return (x - mean) * OPS["rsqrt"](spread + self.constant(0.1))

    def movement(self, x: Value) -> Value:
        moves = (self.transposed, self.reshaped, self.sliced, self.padded, self.joined, self.spread)
        return self.one_of(moves)(x)

    def transposed(self, x: Value) -> Value:
        rest = list(range(len(x.type.static_shape)))
        perm = []
        while rest:
            perm.append(rest.pop(self.choose(len(rest))))
        return OPS["transpose"](x, perm=tuple(perm))

    def reshaped(self, x: Value) -> Value:
        shape = list(x.type.static_shape)
        if not x.type.size or self.choose(3) == 0 or len(shape) < 2:
            return OPS["reshape"](x, shape=(x.type.size,))
        at = self.choose(len(shape) - 1)
        if self.choose(2):
            shape[at], shape[at + 1] = shape[at + 1], shape[at]  # rarely affine
        else:
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        return OPS["reshape"](x, shape=tuple(shape))

    def sliced(self, x: Value) -> Value:
        start, size, step = [], [], []
        for d in x.type.static_shape:
            back = self.choose(3) == 2 and d > 1
            stride = 1 + self.choose(2)
            first = self.choose(min(d, 2)) if d else 0
            count = max((d - first + stride - 1) // stride, 0)
            start.append(d - 1 - first if back else first)
            size.append(count)
            step.append(-stride if back else stride)
        return OPS["slice"](x, start=tuple(start), size=tuple(size), step=tuple(step))

    def padded(self, x: Value) -> Value:
        rank = len(x.type.static_shape)
        low, high = (tuple(self.choose(3) for _ in range(rank)) for _ in range(2))
        interior = tuple(int(self.choose(4) == 3) for _ in range(rank))
        padded = OPS["pad"](x, low=low, high=high, interior=interior)
        return padded if padded.type.size <= _MOST_ELEMENTS else x

    def joined(self, x: Value) -> Value:
        shape = x.type.static_shape
        if not shape or 2 * x.type.size > _MOST_ELEMENTS:
            return self.unary(x)
        alike = [v for v in self.pool if v.type.static_shape == shape]
        others = (
            [alike[self.choose(len(alike))] for _ in range(1 + self.choose(2))] if alike else []
        )
        return OPS["concat"](x, *others, axis=self.choose(len(shape)))

    def spread(self, x: Value) -> Value:
        shape = x.type.static_shape
        wide = (2 + self.choose(2), *shape)
        if np.prod(wide) > _MOST_ELEMENTS:
            return self.unary(x)
        return OPS["broadcast_to"](x, shape=wide)

    # -- ends

    def update(self, variable: Value) -> Node:
        """An assignment of something of the variable's shape, often read from the others."""
        shape = variable.type.static_shape
        alike = [v for v in self.pool if v.type.static_shape == shape]
        value = alike[self.choose(len(alike))]
        if self.choose(3) == 0:
            value = OPS["transpose"](value) if shape[::-1] == shape else OPS["negative"](value)
        if self.choose(2):
            return OPS["assign_add" if self.choose(2) else "assign"].node(variable, value)
        return OPS["assign"].node(variable, self.tame(value + variable))

    def outputs(self) -> list[Value]:
        """The last value, and some others."""
        extra = [self.pick() for _ in range(self.choose(3))]
        return [self.pool[-1], *extra]

    def gradients(self) -> list[Value]:
        """A weighted sum of the last value, and its gradients."""
        last = self.pool[-1]
        weights = convert(self.array(last.type.static_shape), self.dtype)
        loss = OPS["reduce_sum"](last * weights)
        sources: Iterable[Node] = self.given
        return [loss, *backward(loss, [n.outputs[0] for n in sources])]
