"""The definitions of the two languages: a graph evaluator and a program evaluator in NumPy.

Slow and plain on purpose: every back end, pass and fusion is tested against these.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import graphc.ir.ops as _ops  # fills the op table
from graphc.ir import loop
from graphc.ir.computation import topological_order
from graphc.ir.dtypes import blank, bool_, float32
from graphc.ir.errors import InputError
from graphc.ir.graph import Node, Value, detached
from graphc.ir.ops.reduce import neutral
from graphc.ir.table import OPS, freeze

assert _ops

Arrays = dict[Value, np.ndarray]


class MissingValue(Exception):
    """The evaluation needs a placeholder or variable that was not given."""

    def __init__(self, node: Node) -> None:
        super().__init__(f"{node.op.name} {node.name!r} has no value here")
        self.node = node


def evaluate(
    values: Sequence[Value], given: Mapping[Node, np.ndarray] | None = None, run: int = 0
) -> list[np.ndarray]:
    """The values, computed op by op from the placeholders' and variables' arrays in `given`."""
    arrays: Arrays = {n.outputs[0]: _array(a) for n, a in (given or {}).items()}
    known = set(given or {})
    with np.errstate(all="ignore"):
        for node in topological_order(v.node for v in values):
            if node not in known and node.outputs and node.outputs[0] not in arrays:
                _evaluate_node(node, arrays, run)
    return [arrays[v] for v in values]


def _evaluate_node(node: Node, arrays: Arrays, run: int) -> None:
    if node.op.name == "run_counter":
        arrays[node.outputs[0]] = np.asarray(run, np.int64)
        return
    results: Sequence[Any]
    if node.op.name in ("loop", "branch"):
        results = (_evaluate_loop if node.op.name == "loop" else _evaluate_branch)(
            node, [arrays[v] for v in node.inputs], run
        )
    elif node.op.name in ("deferred", "deferred_grad"):
        results = _evaluate_deferred(node, [arrays[v] for v in node.inputs], run)
    elif node.op.numpy is not None:
        attrs, inputs = _host_inputs_as_attrs(node, [arrays[v] for v in node.inputs])
        result = _called(node, attrs, inputs)
        results = result if isinstance(result, (tuple, list)) else (result,)
    elif node.op.decompose is not None:
        results = tuple(_evaluate_decomposed(node, arrays, run))
    else:
        raise MissingValue(node)
    arrays.update(zip(node.outputs, map(_array, results), strict=True))


def _called(node: Node, attrs: Mapping[str, Any], inputs: Sequence[np.ndarray]) -> Any:
    """The op's meaning; what it cannot read is said with the op's name and the user's line."""
    assert node.op.numpy is not None, f"{node.op} has no meaning in NumPy"
    try:
        return node.op.numpy(attrs, *inputs)
    except InputError as error:
        at = f", {node.where}" if node.where else ""
        named = InputError(f"{error.message} (op {node.name!r}{at})")
        named.where = node.where or named.where
        raise named from None


def _host_inputs_as_attrs(
    node: Node, inputs: list[np.ndarray]
) -> tuple[Mapping[str, Any], list[np.ndarray]]:
    """The attributes and inputs that the op has when it is compiled."""
    given = {i: name for i, name in node.op.host_inputs.items() if i < len(inputs)}
    if not given:
        return node.attrs, inputs
    known = {name: freeze(inputs[i].tolist()) for i, name in given.items()}
    return {**node.attrs, **known}, [x for i, x in enumerate(inputs) if i not in given]


def _array(result: Any) -> np.ndarray:
    """A result as an array; NumPy would take one string for an array of characters."""
    return np.asarray(result, dtype=object if isinstance(result, bytes) else None)


def _evaluate_loop(node: Node, inputs: list[np.ndarray], run: int) -> tuple[np.ndarray, ...]:
    attrs, body = node.attrs, node.attrs["body"]
    trips = attrs["trips"]
    if trips is None:
        trips, inputs = max(int(inputs[0]), 0), inputs[1:]
    first, last = attrs["carried"], attrs["carried"] + attrs["scanned"]
    state, scanned, captured = inputs[:first], inputs[first:last], inputs[last:]
    slices: list[dict[int, np.ndarray]] = [{} for _ in body.outputs[first:]]
    steps: Iterable[int] = itertools.count() if trips < 0 else range(trips)
    for step in reversed(range(trips)) if attrs["reverse"] else steps:
        if attrs["conditional"] and not state[0]:
            break
        given = (np.asarray(step, np.int64), *state, *(x[step] for x in scanned), *captured)
        outer = dict(zip(body.inputs, given, strict=True))
        results = evaluate(body.outputs, outer, loop.step_counter(run, step))
        state = results[:first]
        for kept, x in zip(slices, results[first:], strict=True):
            kept[step] = x
    stacks = [
        _stacked(kept, max(trips, 0), v)
        for kept, v in zip(slices, body.outputs[first:], strict=True)
    ]
    return (*state, *stacks)


def _stacked(slices: Mapping[int, np.ndarray], trips: int, value: Value) -> np.ndarray:
    """The slices along a new axis; steps that did not run have zeros."""
    shape = (
        next(iter(slices.values())).shape
        if slices
        else tuple(d if isinstance(d, int) else 0 for d in value.type.shape or ())
    )
    result = np.full((trips, *shape), blank(value.dtype.numpy), value.dtype.numpy)
    for step, x in slices.items():
        result[step] = x[()]
    return result


def _evaluate_branch(node: Node, inputs: list[np.ndarray], run: int) -> tuple[np.ndarray, ...]:
    body = node.attrs["then" if inputs[0] else "otherwise"]
    return tuple(evaluate(body.outputs, dict(zip(body.inputs, inputs[1:], strict=True)), run))


def _evaluate_deferred(node: Node, inputs: list[np.ndarray], run: int) -> list[np.ndarray]:
    """The expansion's value, which is built for arrays of these shapes."""
    with detached(node):
        params = [
            OPS["placeholder"](dtype=v.dtype, shape=x.shape)
            for v, x in zip(node.inputs, inputs, strict=True)
        ]
        given = {p.node: x for p, x in zip(params, inputs, strict=True)}
        results = _ops.deferred.expand(node, params, lambda v: evaluate([v], given, run)[0])
    return evaluate(results, given, run)


def _evaluate_decomposed(node: Node, arrays: Arrays, run: int) -> list[np.ndarray]:
    """The decomposition's value, on inputs whose shapes are those of the arrays at hand."""
    attrs, data = dict(node.attrs), []
    for i, value in enumerate(node.inputs):
        if i in node.op.host_inputs:
            attrs[node.op.host_inputs[i]] = freeze(arrays[value].tolist())
        else:
            data.append(value)
    with detached(node):
        inputs = []
        for value in data:
            declared: Any = {"dtype": value.type.dtype, "shape": arrays[value].shape}
            inputs.append(OPS["placeholder"].node(**declared))
        temporary = node.op.node(*(n.outputs[0] for n in inputs), **attrs)
        assert node.op.decompose is not None
        result = node.op.decompose(temporary)
    parts = [result] if isinstance(result, Value) else list(result)
    given = {n: arrays[v] for n, v in zip(inputs, data, strict=True)}
    return evaluate(parts, given, run)


# -- programs


def run_program(program: loop.Program, buffers: dict[str, np.ndarray]) -> None:
    """Run all kernels on flat arrays, in place; temporaries and outputs are made here."""
    for b in program.buffers.values():
        if b.role == loop.CONSTANT:
            buffers[b.name] = np.asarray(b.value.array).ravel()
        elif b.name not in buffers:
            buffers[b.name] = np.zeros(b.size, b.dtype.numpy)
    with np.errstate(all="ignore"):
        for kernel in program.kernels:
            run_kernel(kernel, buffers)


def run_kernel(kernel: loop.Kernel, buffers: Mapping[str, np.ndarray]) -> None:
    """Run one kernel on flat arrays: every statement over the whole loop nest at once."""
    _KernelRun(kernel, buffers).run()


class _KernelRun:
    def __init__(self, kernel: loop.Kernel, buffers: Mapping[str, np.ndarray]) -> None:
        self.kernel = kernel
        self.buffers = buffers
        self.sizes = tuple(a.size for a in kernel.axes)
        self.names: dict[str, np.ndarray] = {}
        rank = len(self.sizes)
        self.grid = [
            np.arange(n, dtype=np.int64).reshape([-1 if i == j else 1 for j in range(rank)])
            for i, n in enumerate(self.sizes)
        ]

    def run(self) -> None:
        for part in self.kernel.parts:
            run_kernel(part, self.buffers)
        for stmt in self.kernel.body:
            match stmt:
                case loop.Let(name, value):
                    self.names[name] = self.expr(value)
                case loop.Reduce(name, op, value, dtype):
                    self.names[name] = self.reduce(op, value, dtype, self.kernel.reduced)
                case loop.Fold(name, op, value, dtype):
                    self.names[name] = self.reduce(op, value, dtype, self.kernel.folded)
                case loop.Dot(name, a, b, dtype):
                    wide = dtype.numpy
                    axes = self.kernel.reduced
                    product = self.expr(a).astype(wide) * self.expr(b).astype(wide)
                    product = self.full(product, axes)
                    self.names[name] = np.add.reduce(product, axis=axes, keepdims=True)
                case loop.Store(access, value):
                    self.store(access, value)
                case loop.Call():
                    self.call(stmt)
                case loop.Repeat():
                    self.repeat(stmt)
                case loop.Branch():
                    self.branch(stmt)

    def full(self, array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        """Broadcast along these axes; the others stay as they are."""
        rank = len(self.sizes)
        array = np.asarray(array).reshape(array.shape or (1,) * rank)
        shape = [
            n if i in axes else d
            for i, (n, d) in enumerate(zip(self.sizes, array.shape, strict=True))
        ]
        return np.broadcast_to(array, shape)

    def linear(self, value: loop.Linear) -> np.ndarray:
        result = np.asarray(value.offset, np.int64).reshape((1,) * len(self.sizes))
        for stride, grid in zip(value.strides, self.grid, strict=True):
            if stride:
                result = result + stride * grid
        return result

    def holds(self, access: loop.Access) -> np.ndarray:
        result = np.ones((1,) * len(self.sizes), np.bool_)
        for guard in access.guards:
            v = self.linear(guard.value)
            result = result & (v >= 0) & (v < guard.size * guard.step) & (v % guard.step == 0)
        return result

    def at(self, access: loop.Access) -> np.ndarray:
        index = self.linear(loop.Linear(access.strides, access.offset))
        return index // access.divisor

    def load(self, pieces: Sequence[loop.Access], fill: Any, dtype: Any) -> np.ndarray:
        result = np.full((1,) * len(self.sizes), fill, dtype.numpy)
        for piece in reversed(pieces):
            flat, holds = self.buffers[piece.buffer], self.holds(piece)
            if not flat.size:
                continue  # its guards never hold
            index = self.at(piece)
            bounded = np.where(holds, index, 0)
            assert bounded.size == 0 or (bounded.min() >= 0 and bounded.max() < flat.size), piece
            result = np.where(holds, flat[bounded], result)
        return result

    def expr(self, e: loop.Expr) -> np.ndarray:
        match e:
            case loop.Load(pieces, dtype, fill):
                return self.load(pieces, fill, dtype)
            case loop.Gather():
                return self.gather(e)
            case loop.Const(value, dtype):
                return np.asarray(value, dtype.numpy).reshape((1,) * len(self.sizes))
            case loop.Index(value, dtype):
                return self.linear(value).astype(dtype.numpy)
            case loop.Ref(name):
                return self.names[name]
        args = [self.expr(a) for a in e.args]
        attrs = dict(e.attrs) if e.op != "cast" else {"dtype": e.dtype}
        meaning = OPS[e.op].numpy
        assert meaning is not None, e.op
        return np.asarray(meaning(attrs, *args))

    def gather(self, e: loop.Gather) -> np.ndarray:
        index = self.expr(e.index).astype(np.int64)
        inside = (index >= 0) & (index < e.size)
        flat = self.buffers[e.access.buffer]
        at = self.at(e.access) + e.stride * np.where(inside, index, 0)
        return np.where(inside, flat[at], np.asarray(e.fill, e.dtype.numpy))

    def reduce(self, op: str, value: loop.Expr, dtype: Any, axes: tuple[int, ...]) -> np.ndarray:
        array = self.full(self.expr(value), axes)
        if op in ("argmax", "argmin"):
            rest = [i for i in range(array.ndim) if i not in axes]
            moved = np.transpose(array, [*rest, *axes])
            kept = [array.shape[i] for i in rest]
            rows = moved.reshape([*kept, math.prod(array.shape[i] for i in axes)])
            found = getattr(np, op)(rows, axis=-1)
            shape = [1 if i in axes else d for i, d in enumerate(array.shape)]
            return np.asarray(found.reshape(shape).astype(dtype.numpy))
        ufunc = {
            "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
            "any": np.logical_or, "all": np.logical_and,
        }[op]  # fmt: skip
        initial = neutral(op, bool_ if op in ("any", "all") else dtype)
        result = ufunc.reduce(array, axis=axes, keepdims=True, initial=initial, dtype=dtype.numpy)
        return np.asarray(result)

    def store(self, access: loop.Access, value: loop.Expr) -> None:
        array = self.expr(value)
        used = [i for i, s in enumerate(access.strides) if s]
        shape = [n if i in used else 1 for i, n in enumerate(self.sizes)]
        index, holds = self.at(access), self.holds(access)
        index, array, holds = np.broadcast_arrays(index, np.broadcast_to(array, shape), holds)
        self.buffers[access.buffer][index[holds]] = array[holds]

    def call(self, stmt: loop.Call) -> None:
        op = OPS[stmt.op]
        assert op.numpy is not None
        attrs = dict(stmt.attrs)
        shapes = attrs.pop("shapes")
        inputs = [self.buffers[n].reshape(s) for n, s in zip(stmt.inputs, shapes, strict=True)]
        result = op.numpy(attrs, *inputs)
        results = result if isinstance(result, (tuple, list)) else (result,)
        for name, array in zip(stmt.outputs, results, strict=True):
            self.buffers[name][...] = np.asarray(array).ravel()

    def repeat(self, stmt: loop.Repeat) -> None:
        buffers, body = self.buffers, stmt.body
        state = [buffers[c.initial].copy() for c in stmt.carried]
        for name in stmt.stacked:
            buffers[name][...] = 0
        steps: Iterable[int] = itertools.count() if stmt.trips < 0 else range(stmt.trips)
        for step in reversed(range(stmt.trips)) if stmt.reverse else steps:
            if stmt.conditional and not state[0][0]:
                break
            slices = [_part(buffers[n], step, stmt.trips) for n in stmt.scanned]
            taken = [buffers[n] for n in stmt.captured]
            given = [np.array([step], np.int64), *state, *slices, *taken]
            results = self.inner(body, given, step)
            state = results[: len(state)]
            for name, x in zip(stmt.stacked, results[len(state) :], strict=True):
                _part(buffers[name], step, stmt.trips)[...] = x
        for c, x in zip(stmt.carried, state, strict=True):
            buffers[c.result][...] = x

    def branch(self, stmt: loop.Branch) -> None:
        program = stmt.programs[0 if self.buffers[stmt.predicate][0] else 1]
        results = self.inner(program, [self.buffers[n] for n in stmt.captured], None)
        for name, x in zip(stmt.results, results, strict=True):
            self.buffers[name][...] = x

    def inner(
        self, program: loop.Program, given: Sequence[np.ndarray], step: int | None
    ) -> list[np.ndarray]:
        """The outputs of a program inside, on flat arrays for its inputs."""
        own = {n: x.copy() for n, x in zip(program.inputs, given, strict=True)}
        (stmt,) = self.kernel.body
        assert isinstance(stmt, (loop.Repeat, loop.Branch))
        for b in program.buffers.values():
            if b.role == loop.COUNTER:
                run = int(self.buffers[stmt.counter][0])
                count = run if step is None else loop.step_counter(run, step)
                own[b.name] = np.array([count], np.int64)
        run_program(program, own)
        return [own[n].copy() for n in program.outputs]


def _part(flat: np.ndarray, step: int, trips: int) -> np.ndarray:
    size = flat.size // trips
    return flat[step * size : (step + 1) * size]


__all__ = ["MissingValue", "evaluate", "float32", "run_kernel", "run_program"]
