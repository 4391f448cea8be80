"""Control flow in a graph: cond, case, while_loop, and the functions over slices.

Bodies are Python functions that build their part of the graph once. A while_loop whose condition
depends on counters alone (the usual kind) becomes a loop of a number of steps that is known when
it is compiled; any other runs as long as its condition holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphc.frontend import nest
from graphc.frontend.arguments import as_value
from graphc.frontend.array import reverse as reverse_along
from graphc.frontend.array import shape as shape_of
from graphc.frontend.framework import control_dependencies, name_scope
from graphc.frontend.tensor_array import TensorArray, counters, loop_arrays
from graphc.ir.computation import topological_order
from graphc.ir.dtypes import as_dtype, bool_, int64
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Node, Value, constant, convert, next_serial
from graphc.ir.loop import UNBOUNDED
from graphc.ir.ops.control import (
    BranchPlan,
    LoopPlan,
    build_branch,
    draws,
    find_captures,
    region,
    trip_count,
)
from graphc.ir.ops.pointwise import cast, equal, minimum
from graphc.ir.ops.source import placeholder
from graphc.ir.table import OPS, Kind
from graphc.ir.types import may_equal

# -- branches


def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
) -> Any:
    """What `true_fn` builds where `pred` (a bool scalar) holds, else what `false_fn` builds.

    Both give the same structure of tensors with the same dtypes and shapes. Only one of them
    runs, and variables that they assign change only when it does; what was built outside of
    them runs anyway. A Python bool chooses now.
    """
    functions = [true_fn or fn1, false_fn or fn2]
    if not all(map(callable, functions)):
        raise AttributeValueError("cond needs two functions, true_fn and false_fn")
    if isinstance(pred, bool):
        return functions[0 if pred else 1]()  # type: ignore[misc]
    predicate = as_value(pred)
    with name_scope(name, "cond"):
        (then, form), (otherwise, second) = (_traced(f) for f in functions)
        nest.flatten_like(form, second, "cond: the branches give different structures")
        outputs, changed = build_branch(predicate, (then, otherwise), "cond")
        results = list(outputs)
        if changed:
            assigned = [OPS["assign"](v.outputs[0], value) for v, value in changed]
            with control_dependencies(assigned):
                results = [OPS["identity"](v) for v in outputs]
    packed = nest.pack_as(form, results)
    single = isinstance(packed, (list, tuple)) and len(packed) == 1 and not strict
    return packed[0] if single else packed


def _traced(function: Any) -> tuple[BranchPlan, Any]:
    """What a branch's function builds, and the structure that it gives."""
    first = next_serial()
    structure = function()
    results: list[Value] = []
    nodes: list[Node] = []
    for leaf in nest.flatten(structure):
        if leaf is None or isinstance(leaf, Node):  # an op: it gives True when it has run
            nodes += [] if leaf is None else [leaf]
            results.append(constant(True))
        else:
            results.append(_read(leaf, first))
    return BranchPlan(results, nodes, first), structure


def _read(leaf: Any, first: int) -> Value:
    value = convert(leaf)
    # a variable's reading or a fed tensor is copied, so that the result is the branch's own
    return value if value.node.serial >= first else OPS["identity"](value)


def case(
    pred_fn_pairs: Any,
    default: Callable[[], Any] | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """The result of the first function whose predicate holds, else of `default`.

    Without a default, the last function is taken when no predicate holds.
    """
    del exclusive  # a promise, of which nothing here depends
    pairs = list(pred_fn_pairs.items() if isinstance(pred_fn_pairs, dict) else pred_fn_pairs)
    if not pairs and default is None:
        raise AttributeValueError("case needs at least one (predicate, function) pair")
    if default is None:
        default = pairs.pop()[1]

    def choose(at: int) -> Any:
        if at == len(pairs):
            assert default is not None
            return default()
        return cond(pairs[at][0], pairs[at][1], lambda: choose(at + 1), strict=strict)

    with name_scope(name):
        return choose(0)


def switch_case(
    branch_index: Any,
    branch_fns: Any,
    default: Callable[[], Any] | None = None,
    name: str = "switch_case",
) -> Any:
    """The result of the function of that number; the default, or the last, for any other."""
    index = as_value(branch_index)
    numbered = list(branch_fns.items() if isinstance(branch_fns, dict) else enumerate(branch_fns))
    if numbered and isinstance(numbered[0][1], tuple):
        numbered = [pair for _, pair in numbered]
    fallback = default or numbered[-1][1]
    pairs = [(equal(index, convert(i, like=index.dtype)), f) for i, f in numbered]
    return case(pairs, fallback, name=name)


# -- while


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
    maximum_iterations: Any = None,
    return_same_structure: bool = False,
) -> Any:
    """`loop_vars` after `body` has run as long as `cond` holds.

    Every variable keeps its dtype and shape from step to step, whatever `shape_invariants` allow;
    rows that are added step by step go into a TensorArray, which may be a variable. A loop that
    ends by what it computes is run twice where its gradient is wanted, first to count its steps;
    with `maximum_iterations` once, for that many.
    """
    del shape_invariants, parallel_iterations, back_prop, swap_memory
    if not nest.is_nested(loop_vars) or not nest.flatten(loop_vars):
        raise AttributeValueError(f"while_loop needs a list of loop variables, got {loop_vars!r}")
    with name_scope(name, "while"):
        loop = _While(cond, body, loop_vars, maximum_iterations)
        finals = nest.pack_as(loop_vars, loop.build())
    single = len(loop_vars) == 1 and isinstance(finals, (list, tuple))
    return finals[0] if single and not return_same_structure else finals


class _While:
    def __init__(
        self, cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, most: Any
    ) -> None:
        self.cond = cond
        self.form = loop_vars
        self.most = most
        leaves = nest.flatten(loop_vars)
        self.arrays = loop_arrays(leaves)
        self.initial = [convert(x) for x in leaves if not isinstance(x, TensorArray)]
        self.first = next_serial()
        self.step = placeholder(dtype=int64, shape=(), name="step")
        self.params = [_parameter(v, v.type.shape) for v in self.initial]
        self.condition = self.ask(self.params, self.arrays.inside)
        given = self.call(body, self.params, self.arrays.inside)
        if len(leaves) == 1 and not nest.is_nested(given):
            given = [given]
        results = nest.flatten_like(
            list(loop_vars) if isinstance(loop_vars, (list, tuple)) else loop_vars,
            given, "while_loop: the body must give what it takes",
        )  # fmt: skip
        pairs = zip(self.arrays.take(results), self.params, strict=True)
        self.next = [_kept(convert(leaf, like=p.dtype), p) for leaf, p in pairs]

    def call(
        self,
        function: Callable[..., Any],
        values: Sequence[Value],
        arrays: Mapping[int, TensorArray],
    ) -> Any:
        packed = nest.pack_as(self.form, self.arrays.merged(values, arrays))
        return function(**packed) if isinstance(packed, dict) else function(*packed)

    def ask(self, values: Sequence[Value], arrays: Mapping[int, TensorArray]) -> Value:
        condition = convert(self.call(self.cond, values, arrays))
        if condition.dtype is not bool_:
            raise DTypeError(f"while_loop: cond must give a bool, got {condition.type}")
        return OPS["reshape"](condition, shape=()) if condition.type.rank else condition

    def build(self) -> list[Any]:
        trips = self.counted()
        most = UNBOUNDED if self.most is None else _steps(self.most)
        counting = counters(self.params, self.initial, self.next)
        known = trips is not None or self.most is not None
        rows, stacked = self.arrays.plan(counting, known or self.arrays.grow)
        carried = [*zip(self.params, self.initial, self.next, strict=True), *rows]
        if stacked and not known:  # as many rows as steps: these are counted by a run before
            trips = self.conditional(list(carried), [], UNBOUNDED)[0][1]
        if trips is not None:
            finals, stacks = self.plan(carried, stacked, trips).build("loop")
            return self.results(finals, stacks, None)
        finals, stacks = self.conditional(carried, stacked, most)
        return self.results(finals[2:], stacks, finals[1])

    def conditional(
        self, carried: list[Any], stacked: list[Value], most: Value | int
    ) -> tuple[list[Value], list[Value]]:
        """The loop as long as its condition holds: (goes on, steps taken, what is carried)."""
        start = self.ask(self.initial, self.arrays.before)
        go, ran = _parameter(start, ()), _parameter(convert(0, int64), ())
        carried.insert(0, (go, start, self.ask(self.next, self.arrays.after)))
        carried.insert(1, (ran, convert(0, int64), ran + convert(1, int64)))
        plan = self.plan(carried, stacked, most)
        plan.conditional, plan.counter = True, 1
        return plan.build("loop")

    def results(
        self, finals: Sequence[Value], stacks: Sequence[Value], steps: Value | None
    ) -> list[Any]:
        """The loop's variables after it, arrays among them."""
        count = len(self.params)
        arrays = self.arrays.finish(finals[count:], stacks, steps)
        return self.arrays.merged(finals[:count], arrays)

    def plan(self, carried: list[Any], stacked: list[Value], trips: Value | int) -> LoopPlan:
        return LoopPlan(self.step, carried, [], stacked, trips, [], first=self.first)

    def counted(self) -> Value | None:
        """The number of steps, where the condition depends on counters alone."""
        index = {p: i for i, p in enumerate(self.params)}
        needed: set[int] = set()
        roots = [self.condition]
        while True:
            nodes = topological_order(v.node for v in roots)
            found = {index[v] for v in (*roots, *(v for n in nodes for v in n.inputs))
                     if v in index}  # fmt: skip
            if found <= needed:
                break
            needed |= found
            roots = [self.condition, *(self.next[i] for i in needed)]
        params = [self.params[i] for i in sorted(needed)]
        inside = {n for n in nodes if n.serial >= self.first}
        captured = [v for v, _ in find_captures(roots, set(params), inside, self.first)]
        given = [self.initial[i] for i in sorted(needed)] + captured
        scalar = all(p.type.rank == 0 and not p.dtype.is_floating for p in params)
        if not scalar or not params or not is_known_on_host([*given, *roots], set(params)):
            return None
        feeds = [*params, *captured]
        count = trip_count(
            *given,
            condition=region([self.condition], feeds, self.first),
            body=region([self.next[i] for i in sorted(needed)], feeds, self.first),
        )
        return count if self.most is None else minimum(count, convert(_steps(self.most), int64))


def _kept(after: Value, param: Value) -> Value:
    """What a step gives, which must have the shape of what it was given."""
    if not all(map(may_equal, after.type.shape or (), param.type.shape or ())) or (
        None not in (after.type.rank, param.type.rank) and after.type.rank != param.type.rank
    ):
        raise ShapeError(
            f"while_loop: a variable is {param.type} before a step and {after.type} after it, but "
            "keeps its shape here (shape_invariants change nothing): write the rows that are added "
            "to a TensorArray, or carry a tensor of the greatest size and how much of it is used"
        )
    return after


def _parameter(like: Value, shape: Any) -> Value:
    return placeholder(dtype=like.dtype, shape=shape, name="param")


def _steps(most: Any) -> Value | int:
    return most if isinstance(most, int) else cast(convert(most), dtype=int64)


def is_known_on_host(values: Sequence[Value], stops: set[Value]) -> bool:
    """True where the values follow from constants, shapes and fed integers by plain arithmetic."""
    seen: set[Node] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        node = value.node
        if value in stops or node in seen or "of_type" in node.op.facts:
            continue
        seen.add(node)
        if node.op is placeholder:
            if not node.types[0].dtype.is_integer or node.types[0].rank not in (0, 1):
                return False
        elif node.op.name == "variable" or draws(node) or node.kind is Kind.CONTROL:
            return False
        stack.extend(node.inputs)
    return True


# -- over slices


def map_fn(
    fn: Callable[[Any], Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: str | None = None,
) -> Any:
    """`fn` of every slice of `elems` along the first axis, stacked.

    `elems` may be a structure of tensors with one length; fn gives any structure. `dtype`, where
    it is given, must be that of the results.
    """
    del parallel_iterations, back_prop, swap_memory, infer_shape
    with name_scope(name, "map"):
        slices = _Slices(elems)
        result = fn(slices.packed)
        outs = [convert(x) for x in nest.flatten(result)]
        if dtype is not None:
            expected = [as_dtype(d) for d in nest.flatten(dtype)]
            got = [v.dtype for v in outs]
            if len(expected) in (1, len(got)) and expected * (len(got) // len(expected)) != got:
                raise DTypeError(f"map_fn: fn gives {got}, but dtype says {expected}")
        return nest.pack_as(result, slices.plan([], outs).build("loop")[1])


class _Slices:
    """What a function over slices is given: one step's slice of each element."""

    def __init__(self, elems: Any, skip: int = 0) -> None:
        whole = [convert(x) for x in nest.flatten(elems)]
        if not whole:
            raise AttributeValueError("needs at least one tensor of elements")
        for value in whole:
            if value.type.rank == 0:
                raise ShapeError(f"{value!r} has no first axis to go along")
        self.whole = [v[skip:] for v in whole] if skip else whole
        self.leading = [v[0] for v in whole] if skip else []
        self.first = next_serial()
        self.step = placeholder(dtype=int64, shape=(), name="step")
        self.params = [_parameter(v, v.type.shape and v.type.shape[1:]) for v in self.whole]
        self.packed = nest.pack_as(elems, self.params)

    def plan(
        self, carried: list[tuple[Value, Value, Value]], stacked: list[Value], reverse: bool = False
    ) -> LoopPlan:
        shape = self.whole[0].type.shape
        length = shape[0] if shape else None
        trips = length if isinstance(length, int) else cast(shape_of(self.whole[0])[0], dtype=int64)
        pairs = list(zip(self.params, self.whole, strict=True))
        return LoopPlan(
            self.step, carried, pairs, stacked, trips, [], reverse=reverse, first=self.first
        )


def _carry(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any, reverse: bool, what: str
) -> tuple[Any, LoopPlan, list[Value]]:
    """The structure that is carried, the loop without stacks, and the next values."""
    if initializer is None and reverse:
        elems = nest.map_leaves(lambda x: reverse_along(x, [0]), elems)
    slices = _Slices(elems, skip=0 if initializer is not None else 1)
    form = elems if initializer is None else initializer
    initial = slices.leading if initializer is None else [convert(x) for x in nest.flatten(form)]
    params = [_parameter(v, v.type.shape) for v in initial]
    given = fn(nest.pack_as(form, params), slices.packed)
    leaves = nest.flatten_like(form, given, f"{what}: fn must give what it carries")
    following = [convert(x, like=p.dtype) for x, p in zip(leaves, params, strict=True)]
    carried = list(zip(params, initial, following, strict=True))
    plan = slices.plan(carried, [], reverse=reverse and initializer is not None)
    return form, plan, following


def foldl(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """fn(...fn(fn(initializer, elems[0]), elems[1])...); it starts with elems[0] without one."""
    del parallel_iterations, back_prop, swap_memory
    with name_scope(name, "foldl"):
        form, plan, _ = _carry(fn, elems, initializer, False, "foldl")
        return nest.pack_as(form, plan.build("loop")[0])


def foldr(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """As foldl, from the last slice to the first."""
    del parallel_iterations, back_prop, swap_memory
    with name_scope(name, "foldr"):
        form, plan, _ = _carry(fn, elems, initializer, True, "foldr")
        return nest.pack_as(form, plan.build("loop")[0])


def scan(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: str | None = None,
) -> Any:
    """What foldl carries, after every step, stacked; without an initializer elems[0] first."""
    del parallel_iterations, back_prop, swap_memory, infer_shape
    with name_scope(name, "scan"):
        form, plan, following = _carry(fn, elems, initializer, reverse, "scan")
        starts = [init for _, init, _ in plan.carried]
        plan.stacked = following
        stacks = plan.build("loop")[1]
        if initializer is None:
            heads = [OPS["expand_dims"](s, axis=(0,)) for s in starts]
            pairs = zip(heads, stacks, strict=True)
            stacks = [OPS["concat"](head, rest, axis=0) for head, rest in pairs]
            if reverse:
                stacks = [reverse_along(s, [0]) for s in stacks]
        return nest.pack_as(form, stacks)


__all__ = ["case", "cond", "foldl", "foldr", "map_fn", "scan", "switch_case", "while_loop"]
