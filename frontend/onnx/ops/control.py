"""If, Loop and Scan: the graphs that are attributes become the bodies of branches and loops."""

from __future__ import annotations

from typing import Any

from graphc.frontend.array import reverse
from graphc.frontend.onnx.registry import Call, NotKnown, converter
from graphc.ir.dtypes import int64
from graphc.ir.graph import Value, convert, next_serial
from graphc.ir.ops import movement as mv
from graphc.ir.ops.control import BranchPlan, LoopPlan, build_branch
from graphc.ir.ops.pointwise import cast
from graphc.ir.ops.source import placeholder
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


@converter("If")
def if_(call: Call) -> Any:
    """One of two graphs; where the condition is known now, only it is built."""
    predicate = mv.reshape(call.x(), shape=())
    try:
        taken = bool(call.host(predicate))
    except NotKnown:
        plans = []
        for name in ("then_branch", "else_branch"):
            first = next_serial()
            results = call.importer.build(call.attr(name), [])
            own = [v if v.node.serial >= first else OPS["identity"](v) for v in results]
            plans.append(BranchPlan(own, [], first))
        outputs, _ = build_branch(predicate, (plans[0], plans[1]))
        return outputs
    return call.importer.build(call.attr("then_branch" if taken else "else_branch"), [])


def _param(like: Value, shape: Any) -> Value:
    return placeholder(dtype=like.dtype, shape=shape)


@converter("Loop")
def loop(call: Call) -> Any:
    """A number of steps, a condition, or both. What is stacked needs a known number of steps."""
    body = call.attr("body")
    most, go, state = call.get(0), call.get(1), [call.x(i) for i in range(2, len(call.inputs))]
    first = next_serial()
    step = placeholder(dtype=int64, shape=())
    params = [_param(v, v.type.shape) for v in state]
    running = _param(convert(True), ())
    try:
        outputs = call.importer.build(body, [step, running, *params])
    except NotKnown:
        return _unrolled(call, state)
    again, after, stacked = outputs[0], outputs[1 : 1 + len(state)], outputs[1 + len(state) :]
    again = mv.reshape(again, shape=())
    start = convert(True) if go is None else mv.reshape(go, shape=())
    carried = list(zip(params, state, after, strict=True))
    endless = _always(call, start) and (again is running or _is_true(again))
    trips: Value | int = -1 if most is None else cast(mv.reshape(most, shape=()), dtype=int64)
    if most is None and stacked:
        raise call.refused("the length of what it stacks depends on a condition")
    if endless and most is not None:
        plan = LoopPlan(step, carried, [], stacked, trips, [], first=first)
        finals, stacks = plan.build()
        return [*finals, *stacks]
    carried.insert(0, (running, start, again))
    if stacked:
        return _counted(call, LoopPlan(step, carried, [], stacked, trips, [], first=first))
    plan = LoopPlan(step, carried, [], [], trips, [], conditional=True, first=first)
    return plan.build()[0][1:]


_MOST_UNROLLED = 1000


def _unrolled(call: Call, state: list[Value]) -> list[Value]:
    """Step after step in place of a loop whose body needs to know the number of the step."""
    most = int(call.value(0)) if call.get(0) is not None else _MOST_UNROLLED
    go = call.get(1)
    running, stacks, step = convert(True) if go is None else go, [], 0
    while step < most and bool(call.host(running).all()):
        given = [convert(step, int64), running, *state]
        running, *rest = call.importer.build(call.attr("body"), given)
        state, slices = rest[: len(state)], rest[len(state) :]
        stacks.append(slices)
        step += 1
        if step > _MOST_UNROLLED:
            raise call.refused(f"a loop of more than {_MOST_UNROLLED} steps of different sizes")
    if not stacks:
        raise call.refused("a loop of no steps, of which no step's sizes are known")
    return [*state, *(OPS["stack"](*column, axis=0) for column in zip(*stacks, strict=True))]


def _counted(call: Call, plan: LoopPlan) -> list[Value]:
    """What is stacked by a loop that may end early: its steps are counted on the host."""
    count = _param(convert(0, int64), ())
    plan.carried.append((count, convert(0, int64), count + 1))
    plan.conditional = True
    plan.trips = int(call.host(plan.trips)) if isinstance(plan.trips, Value) else plan.trips
    finals, stacks = plan.build()
    steps = int(call.host(finals[-1]))
    return [*finals[1:-1], *(s[:steps] for s in stacks)]


def _always(call: Call, value: Value) -> bool:
    try:
        return bool(call.host(value))
    except NotKnown:
        return False


def _is_true(value: Value) -> bool:
    """True for a constant that holds, behind reshapes and identities."""
    while value.node.op.name in ("reshape", "identity"):
        value = value.node.inputs[0]
    return value.node.op.name == "constant" and bool(value.node.attrs["value"].array.all())


@converter("Scan")
def scan(call: Call) -> list[Value]:
    """A graph over slices: states are carried, outputs stacked, along any axes and directions."""
    count = call.attr("num_scan_inputs")
    given = call.given() if call.version >= 9 else [call.x(i) for i in range(1, len(call.inputs))]
    if call.version < 9:
        return _batched_scan(call, given, count)
    state, scanned = given[: len(given) - count], given[len(given) - count :]
    finals, stacks = _scanned(call, state, _aligned(call, scanned))
    return [*finals, *_turned(call, stacks)]


def _scanned(call: Call, state: list[Value], whole: list[Value]) -> tuple[list[Value], list[Value]]:
    """The final states and the stacks of a walk along the first axes."""
    first = next_serial()
    step = placeholder(dtype=int64, shape=())
    params = [_param(v, v.type.shape) for v in state]
    slices = [_param(v, v.type.shape and v.type.shape[1:]) for v in whole]
    outputs = call.importer.build(call.attr("body"), [*params, *slices])
    after, stacked = outputs[: len(state)], outputs[len(state) :]
    length = call.dims(whole[0])[0]
    plan = LoopPlan(
        step, list(zip(params, state, after, strict=True)),
        list(zip(slices, whole, strict=True)), stacked, length, [], first=first,
    )  # fmt: skip
    return plan.build()


def _batched_scan(call: Call, given: list[Value], count: int) -> list[Value]:
    """As opset 8 has it: each element of a batch by itself, along the axis behind the batch's."""
    if call.get(0) is not None:
        raise call.refused("sequences of different lengths in a Scan of opset 8")
    directions = call.ints("directions", None, [0] * count)
    rows = []
    for i in range(call.dims(given[0])[0]):
        parts = [v[i] for v in given]
        state, whole = parts[: len(parts) - count], parts[len(parts) - count :]
        pairs = zip(whole, directions, strict=True)
        whole = [reverse(v, [0]) if backward else v for v, backward in pairs]
        finals, stacks = _scanned(call, state, whole)
        rows.append([*finals, *stacks])
    return [OPS["stack"](*column, axis=0) for column in zip(*rows, strict=True)]


def _aligned(call: Call, scanned: list[Value]) -> list[Value]:
    axes = call.ints("scan_input_axes", None, [0] * len(scanned))
    directions = call.ints("scan_input_directions", None, [0] * len(scanned))
    result = []
    for v, axis, backward in zip(scanned, axes, directions, strict=True):
        rank = call.rank(v)
        at = normalize_axis(axis, rank)
        order = (at, *(i for i in range(rank) if i != at))
        moved = mv.transpose(v, perm=order) if at else v
        result.append(reverse(moved, [0]) if backward else moved)
    return result


def _turned(call: Call, stacks: list[Value]) -> list[Value]:
    axes = call.ints("scan_output_axes", None, [0] * len(stacks))
    directions = call.ints("scan_output_directions", None, [0] * len(stacks))
    result = []
    for v, axis, backward in zip(stacks, axes, directions, strict=True):
        v = reverse(v, [0]) if backward else v
        rank = call.rank(v)
        at = normalize_axis(axis, rank)
        rest = list(range(1, rank))
        rest.insert(at, 0)
        result.append(mv.transpose(v, perm=tuple(rest)) if at else v)
    return result
