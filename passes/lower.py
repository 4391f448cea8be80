"""lower: every node becomes a kernel; movements become the accesses of the kernels that read them.

    y = exp(transpose(x))  ->  kernel y(i0:4, i1:3): v = exp(x[i0 + 4*i1]); y[3*i0 + i1] = v

Movement ops make no kernel unless their view is not affine: then their input is copied
(decision NON_AFFINE). Dims of size 1 get no axis. 16-bit floats compute in float32 and are
rounded when stored. Every update of a variable ends in a kernel that stores to it; these come
last. Cost: one walk.
"""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from graphc.ir import loop, views
from graphc.ir.computation import Computation
from graphc.ir.dtypes import DType, bool_, int64, uint8
from graphc.ir.errors import UnsupportedOp
from graphc.ir.graph import Node, Value
from graphc.ir.literal import Literal
from graphc.ir.loop import (
    Access,
    Apply,
    Axis,
    Buffer,
    Const,
    Expr,
    Kernel,
    Linear,
    Load,
    Ref,
    numbered_axis,
)
from graphc.ir.ops import control
from graphc.ir.ops.contract import parse_spec
from graphc.ir.ops.reduce import neutral, reduce_kind
from graphc.ir.table import Kind
from graphc.ir.types import normalize_axes
from graphc.ir.views import View
from graphc.passes.context import Context, Decision
from graphc.passes.kernel_names import name_kernels

_VIRTUAL = "%"  # buffers of constants and indices, which become expressions


def lower(computation: Computation, ctx: Context) -> loop.Program:
    """The program with one kernel per node that computes something."""
    return _Lowering(computation, ctx).run()


def axes_of(shape: Sequence[int], kind: str = loop.PARALLEL, prefix: str = "i") -> tuple[Axis, ...]:
    """One axis per dim that is not 1."""
    sizes = [d for d in shape if d != 1]
    return tuple([numbered_axis(n, d, kind, prefix) for n, d in enumerate(sizes)])


def squeeze_strides(strides: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of the dims that are not 1."""
    return tuple([s for s, d in zip(strides, shape, strict=True) if d != 1])


def map_load(load: Load, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Load:
    """The load with every stride tuple (accesses' and guards') changed."""

    def guard(g: loop.Guard) -> loop.Guard:
        return loop.Guard(Linear(change(g.value.strides), g.value.offset), g.size, g.step)

    def access(p: Access) -> Access:
        guards = tuple([guard(g) for g in p.guards])
        return Access(p.buffer, change(p.strides), p.offset, guards, p.divisor)

    return Load(tuple([access(p) for p in load.pieces]), load.dtype, load.fill)


class _Lowering:
    def __init__(self, computation: Computation, ctx: Context) -> None:
        self.computation = computation
        self.ctx = ctx
        self.buffers: dict[str, Buffer] = {}
        self.kernels: list[Kernel] = []
        self.views: dict[Value, View] = {}
        self.virtual: dict[str, Any] = {}
        self.dense: dict[Value, str] = {}
        self.value_count = 0
        self.name_counts: dict[str, int] = {}
        self.fetched: dict[Value, str] = {}  # outputs so far
        self.changing: set[str] = set()  # buffers of the variables that the run updates

    # -- names, buffers, kernels

    def buffer(
        self, node: Node, shape: Sequence[int], dtype: DType, role: str, value: Any = None
    ) -> str:
        name = self.unique(node.name)
        self.buffers[name] = Buffer(name, dtype, tuple(shape), role, node.name, value)
        return name

    def unique(self, name: str) -> str:
        """An identifier that no other buffer has, of the op's name."""
        base = _NO_WORD.sub("_", name).strip("_") or "x"
        if base in _PYTHONS or _OWN.fullmatch(base):
            base += "_"
        base = f"x{base}" if base[0].isdigit() else base
        name, count = base, self.name_counts.get(base, 0)
        while name in self.name_counts:
            name, count = f"{base}_{count}", count + 1
        self.name_counts[base] = max(count, 1)
        self.name_counts[name] = self.name_counts.get(name, 1)
        return name

    def fresh(self) -> str:
        self.value_count += 1
        return f"v{self.value_count}"

    def kernel(self, node: Node, axes: tuple[Axis, ...], body: Sequence[loop.Stmt]) -> None:
        if any(a.size == 0 for a in axes if a.kind == loop.PARALLEL):
            return  # nothing to compute
        where = (node.where,) if node.where else ()
        self.kernels.append(Kernel(node.name, axes, tuple(body), node.origin, where))

    # -- expressions

    def load(self, view: View, shape: Sequence[int]) -> Expr:
        """The view as an expression over the axes of `shape` (dims of 1 have none)."""
        load = view.load
        if 1 in shape:
            load = map_load(load, lambda s: squeeze_strides(s, shape))
        return self.resolve(load)

    def resolve(self, load: Load) -> Expr:
        first = load.pieces[0]
        if load.is_plain and first.buffer.startswith(_VIRTUAL):
            source = self.virtual[first.buffer]
            if isinstance(source, Const):
                return source
            return loop.Index(Linear(first.strides, first.offset), load.dtype)
        if not any([p.buffer.startswith(_VIRTUAL) for p in load.pieces]):
            return load
        return replace(load, pieces=tuple([self.real(p, load.dtype) for p in load.pieces]))

    def real(self, access: Access, dtype: DType) -> Access:
        """A constant or index that is read behind guards gets a buffer after all."""
        if not access.buffer.startswith(_VIRTUAL):
            return access
        source = self.virtual[access.buffer]
        key = access.buffer + "/buffer"
        if key not in self.virtual:
            if isinstance(source, Const):
                origin, array = "constant", np.full(1, source.value, dtype.numpy)
            else:
                origin, array = source[0].name, np.arange(source[1], dtype=dtype.numpy)
            name = self.unique(origin)
            self.buffers[name] = Buffer(
                name, dtype, array.shape, loop.CONSTANT, name, Literal(array)
            )
            self.virtual[key] = name
        if isinstance(source, Const):
            return replace(
                access,
                buffer=self.virtual[key],
                strides=(0,) * len(access.strides),
                offset=0,
                divisor=1,
            )
        return replace(access, buffer=self.virtual[key])

    def compute(self, expr: Expr) -> Expr:
        """In the type in which arithmetic is done."""
        wide = expr.dtype.compute
        return expr if wide is expr.dtype else cast(expr, wide)

    # -- nodes

    def run(self) -> loop.Program:
        inputs = [self.source_buffer(n, loop.INPUT) for n in self.computation.inputs]
        for node in self.computation.nodes:
            self.node(node)
        self.changing = {self.source_buffer(v, loop.VARIABLE) for v, _ in self.computation.updates}
        outputs = [self.output(v) for v in self.computation.outputs]
        commit_values = [self.commit_value(n, v) for n, v in self.computation.updates]
        commit = len(self.kernels)
        for (variable, value), view in zip(self.computation.updates, commit_values, strict=True):
            self.commit(variable, value, view)
        variables = [b.name for b in self.buffers.values() if b.role == loop.VARIABLE]
        updates = [self.dense[n.outputs[0]] for n, _ in self.computation.updates]
        kernels = name_kernels(self.kernels, self.buffers)
        return loop.Program(
            self.buffers, kernels, tuple(inputs), tuple(outputs), tuple(variables),
            tuple(updates), commit,
        )  # fmt: skip

    def node(self, node: Node) -> None:
        if not node.outputs or node.outputs[0] in self.views:
            return
        match node.kind:
            case Kind.SOURCE:
                self.source(node)
            case Kind.MOVEMENT:
                self.movement(node)
            case Kind.POINTWISE:
                self.pointwise(node)
            case Kind.REDUCE:
                self.reduce(node)
            case Kind.CONTRACT:
                self.contract(node)
            case Kind.INDEX:
                self.index(node)
            case Kind.OPAQUE:
                self.opaque(node)
            case Kind.CONTROL:
                self.control(node)
            case _:
                raise UnsupportedOp(f"op {node.op.name} ({node.name!r}) cannot be lowered")

    def source_buffer(self, node: Node, role: str) -> str:
        value = node.outputs[0]
        if value not in self.dense:
            shape = node.types[0].static_shape
            name = self.buffer(node, shape, value.dtype, role)
            self.dense[value] = name
            self.views[value] = views.buffer_view(name, shape, value.dtype)
        return self.dense[value]

    def source(self, node: Node) -> None:
        value = node.outputs[0]
        shape = node.types[0].static_shape
        match node.op.name:
            case "constant":
                self.constant(node)
            case "variable":
                self.source_buffer(node, loop.VARIABLE)
            case "run_counter":
                name = self.counter(node)
                self.dense[value] = name
                self.views[value] = views.buffer_view(name, (), int64)
            case "iota":
                key = f"{_VIRTUAL}{len(self.virtual)}"
                self.virtual[key] = (node, shape[node.attrs["axis"]])
                strides = views.unit(len(shape), node.attrs["axis"]).strides
                self.views[value] = View(shape, Load((Access(key, strides),), value.dtype))
            case _:
                raise UnsupportedOp(f"source {node.op.name} ({node.name!r}) has no value here")

    def counter(self, node: Node) -> str:
        """The buffer that says which run it is."""
        found = (b.name for b in self.buffers.values() if b.role == loop.COUNTER)
        return next(found, None) or self.buffer(node, (), int64, loop.COUNTER)

    def constant(self, node: Node) -> None:
        value, array = node.outputs[0], node.attrs["value"].array
        if not node.attrs["value"].is_uniform:
            name = self.buffer(node, array.shape, value.dtype, loop.CONSTANT, node.attrs["value"])
            self.dense[value] = name
            self.views[value] = views.buffer_view(name, array.shape, value.dtype)
            return
        key = f"{_VIRTUAL}{len(self.virtual)}"
        first = array.ravel()[0]
        scalar = first.item() if array.dtype.kind in "biuf" else float(first)
        self.virtual[key] = Const(scalar, value.dtype)
        zero = (0,) * array.ndim
        self.views[value] = View(array.shape, Load((Access(key, zero),), value.dtype))

    def movement(self, node: Node) -> None:
        assert node.op.view is not None
        inputs = [self.views[v] for v in node.inputs]
        view = self.view_of(node, inputs)
        if view is None:
            self.note_copy(node)
            inputs = [self.dense_view(v) for v in node.inputs]
            view = self.view_of(node, inputs)
        if view is None:
            self.store_pieces(node, inputs)
        else:
            self.views[node.outputs[0]] = view

    def view_of(self, node: Node, inputs: list[View]) -> View | None:
        assert node.op.view is not None
        if math.prod(node.types[0].static_shape) == 0:  # nothing is ever read
            shape = node.types[0].static_shape
            key = self.zero(node.types[0].dtype)
            return View(shape, Load((Access(key, (0,) * len(shape)),), node.types[0].dtype))
        view: View | None = node.op.view(node, inputs)
        return view

    def zero(self, dtype: DType) -> str:
        key = f"{_VIRTUAL}zero.{dtype}"
        self.virtual[key] = Const(False if dtype is bool_ else 0, dtype)
        return key

    def note_copy(self, node: Node) -> None:
        self.ctx.decisions.append(
            Decision(node.inputs[0].node.name, node.name, "", "NON_AFFINE", {"op": node.op.name})
        )

    def store_pieces(self, node: Node, inputs: list[View]) -> None:
        """A concatenation too wide for one view: every part is stored where it belongs."""
        shape = node.types[0].static_shape
        axis = normalize_axes(node.attrs["axis"], len(shape))[0]
        name = self.buffer(node, shape, node.types[0].dtype, loop.TEMPORARY)
        strides = views.buffer_view(name, shape, node.types[0].dtype).load.pieces[0].strides
        start = 0
        for view in inputs:
            offset = start * strides[axis]
            access = Access(name, squeeze_strides(strides, view.shape), offset)
            body = (loop.Store(access, self.load(view, view.shape)),)
            self.kernel(node, axes_of(view.shape), body)
            start += view.shape[axis]
        self.dense[node.outputs[0]] = name
        self.views[node.outputs[0]] = views.buffer_view(name, shape, node.types[0].dtype)

    def dense_view(self, value: Value) -> View:
        """The value's view if it is a whole dense buffer, else that of a copy."""
        name = self.dense_buffer(value)
        return views.buffer_view(name, value.type.static_shape, value.dtype)

    def dense_buffer(self, value: Value) -> str:
        if value in self.dense:
            return self.dense[value]
        view = self.views[value]
        name = self.whole_buffer(view)
        if name is None:
            shape = value.type.static_shape
            name = self.buffer(value.node, shape, value.dtype, loop.TEMPORARY)
            self.copy(value.node, view, name)
        self.dense[value] = name
        return name

    def whole_buffer(self, view: View) -> str | None:
        """The buffer that the view is, element for element in its order."""
        if not view.load.is_plain:
            return None
        piece = view.load.pieces[0]
        if piece.buffer.startswith(_VIRTUAL):
            return None
        whole = views.buffer_view(piece.buffer, view.shape, view.dtype).load.pieces[0]
        same_size = self.buffers[piece.buffer].size == math.prod(view.shape)
        return piece.buffer if same_size and piece == whole else None

    def copy(self, node: Node, view: View, target: str) -> None:
        strides = views.buffer_view(target, view.shape, view.dtype).load.pieces[0].strides
        name = self.fresh()
        value = self.load(view, view.shape)
        access = Access(target, squeeze_strides(strides, view.shape))
        body = (loop.Let(name, value), loop.Store(access, Ref(name, view.dtype)))
        self.kernel(node, axes_of(view.shape), body)

    def result(self, node: Node, index: int = 0) -> Access:
        """A new temporary for an output of the node, and the access that stores it."""
        value = node.outputs[index]
        shape = value.type.static_shape
        name = self.buffer(node, shape, value.dtype, loop.TEMPORARY)
        self.dense[value] = name
        self.views[value] = views.buffer_view(name, shape, value.dtype)
        strides = self.views[value].load.pieces[0].strides
        return Access(name, squeeze_strides(strides, shape))

    def pointwise(self, node: Node) -> None:
        shape = node.types[0].static_shape
        args = []
        for value in node.inputs:
            view = views.broadcast(self.views[value], shape)
            args.append(self.load(view, shape))
        expr = self.apply(node, args)
        name = self.fresh()
        access = self.result(node)
        body = (loop.Let(name, expr), loop.Store(access, Ref(name, expr.dtype)))
        self.kernel(node, axes_of(shape), body)

    def apply(self, node: Node, args: Sequence[Expr]) -> Expr:
        dtype = node.types[0].dtype
        if node.op.name == "cast":
            return cast(args[0], dtype)
        attrs = tuple(sorted(node.attrs.items()))
        wide = [self.compute(a) for a in args]
        result = Apply(node.op.name, tuple(wide), dtype.compute, attrs)
        return result if dtype.compute is dtype else cast(result, dtype)

    def reduce(self, node: Node) -> None:
        value, dtype = node.inputs[0], node.types[0].dtype
        shape = value.type.static_shape
        gone = set(normalize_axes(node.attrs["axis"], len(shape)))
        op = reduce_kind(node.op)
        access = self.result(node)
        if any(shape[i] == 0 for i in gone):
            self.fill(node, access, neutral(op, dtype))
            return
        axes = self.reduce_axes(shape, gone)
        # the result's strides, one per input dim, 0 along the reduced ones
        kept = [i for i in range(len(shape)) if i not in gone and shape[i] != 1]
        by_dim = dict(zip(kept, access.strides, strict=True))
        spread = tuple(by_dim.get(i, 0) for i, d in enumerate(shape) if d != 1)
        wide = dtype.compute
        expr = self.compute(self.load(self.views[value], shape))
        name = self.fresh()
        stmt: loop.Stmt = loop.Reduce(name, op, expr, wide)
        if not any(a.kind == loop.REDUCE for a in axes):  # only dims of size 1: nothing to combine
            stmt = loop.Let(name, Const(0, wide) if op.startswith("arg") else expr)
        store = loop.Store(replace(access, strides=spread), store_cast(Ref(name, wide), dtype))
        self.kernel(node, axes, (stmt, store))

    def reduce_axes(self, shape: Sequence[int], gone: set[int]) -> tuple[Axis, ...]:
        result: list[Axis] = []
        for i, d in enumerate(shape):
            if d != 1:
                kind = loop.REDUCE if i in gone else loop.PARALLEL
                result.append(numbered_axis(len(result), d, kind))
        return tuple(result)

    def fill(self, node: Node, access: Access, value: Any) -> None:
        dtype = node.types[0].dtype
        body = (loop.Store(access, Const(value, dtype)),)
        self.kernel(node, axes_of(node.types[0].static_shape), body)

    def contract(self, node: Node) -> None:
        a, b, out = parse_spec(node.attrs["spec"])
        sizes: dict[str, int] = {}
        for labels, value in zip((a, b), node.inputs, strict=True):
            sizes.update(zip(labels, value.type.static_shape, strict=True))
        access = self.result(node)
        summed = [c for c in dict.fromkeys(a + b) if c not in out]
        if any(sizes[c] == 0 for c in summed):
            self.fill(node, access, 0)
            return
        order = [c for c in out + "".join(summed) if sizes[c] != 1]
        axes = tuple(
            numbered_axis(n, sizes[c], loop.PARALLEL if c in out else loop.REDUCE)
            for n, c in enumerate(order)
        )
        x, y = (
            self.operand(value, labels, order)
            for value, labels in zip(node.inputs, (a, b), strict=True)
        )
        kept = [c for c in out if sizes[c] != 1]
        spread = dict(zip(kept, access.strides, strict=True))
        access = Access(access.buffer, tuple([spread.get(c, 0) for c in order]))
        dtype = node.types[0].dtype
        name, wide = self.fresh(), dtype.compute
        stmt: loop.Stmt = loop.Dot(name, x, y, wide)
        if not any(a.kind == loop.REDUCE for a in axes):
            stmt = loop.Let(name, Apply("multiply", (self.compute(x), self.compute(y)), wide))
        store = loop.Store(access, store_cast(Ref(name, wide), dtype))
        self.kernel(node, axes, (stmt, store))

    def operand(self, value: Value, labels: str, order: list[str]) -> Expr:
        view = self.views[value]
        if len(view.load.pieces) > 1:
            view = self.dense_view(value)
        position = {c: i for i, c in enumerate(labels)}
        return self.resolve(
            map_load(
                view.load, lambda s: tuple(s[position[c]] if c in position else 0 for c in order)
            )
        )

    def index(self, node: Node) -> None:
        """take(x, indices): x's axis is replaced by the dims of the indices."""
        x, indices = node.inputs
        axis = node.attrs["axis"]
        shape = node.types[0].static_shape
        rank = indices.type.rank or 0
        access = self.result(node)
        source = self.dense_view(x)
        strides = source.load.pieces[0].strides
        spread = (*strides[:axis], *(0,) * rank, *strides[axis + 1 :])
        wide = views.broadcast(
            View(self.views[indices].shape, self.views[indices].load), indices.type.static_shape
        )
        inner = map_load(
            wide.load,
            lambda s: squeeze_strides(
                (*(0,) * axis, *s, *(0,) * (len(shape) - axis - rank)), shape
            ),
        )
        expr = loop.Gather(
            Access(source.load.pieces[0].buffer, squeeze_strides(spread, shape)),
            self.resolve(inner), strides[axis], x.type.static_shape[axis], x.dtype,
            False if x.dtype is bool_ else 0,
        )  # fmt: skip
        if x.type.static_shape[axis] == 0:
            self.fill(node, access, expr.fill)
            return
        name = self.fresh()
        body = (loop.Let(name, expr), loop.Store(access, Ref(name, x.dtype)))
        self.kernel(node, axes_of(shape), body)

    def opaque(self, node: Node) -> None:
        inputs = tuple(self.dense_buffer(v) for v in node.inputs)
        outputs = tuple(self.result(node, i).buffer for i in range(len(node.outputs)))
        shapes = tuple(v.type.static_shape for v in node.inputs)
        attrs = (*sorted(node.attrs.items()), ("shapes", shapes))
        if all(v.type.size == 0 for v in node.outputs):
            return
        flops = node.op.flops(node) if callable(node.op.flops) else 0.0
        self.kernel(node, (), (loop.Call(node.op.name, inputs, outputs, attrs, flops),))

    # -- loops and branches

    def control(self, node: Node) -> None:
        """A kernel that runs programs: those of the node's bodies, compiled by themselves."""
        stmt = self.repeat(node) if node.op is control.loop else self.branch(node)
        self.kernel(node, (), (stmt,))

    def inner(self, body: Computation) -> loop.Program:
        assert self.ctx.pipeline is not None, "a pipeline compiles the bodies of loops"
        return self.ctx.pipeline.program(body, self.ctx.inside({}))

    def inner_memory(self, node: Node, programs: Sequence[loop.Program]) -> tuple[str, str]:
        """The buffer for the temporaries inside, and the counter if one is read there."""
        nbytes = max(p.plan.arena_bytes for p in programs if p.plan)
        arena = self.temporary(node, "arena", (nbytes,), uint8) if nbytes else ""
        roles = {b.role for p in programs for b in p.buffers.values()}
        return arena, self.counter(node) if loop.COUNTER in roles else ""

    def temporary(self, node: Node, what: str, shape: Sequence[int], dtype: DType) -> str:
        name = self.unique(f"{node.name}_{what}")
        self.buffers[name] = Buffer(name, dtype, tuple(shape), loop.TEMPORARY, node.name)
        return name

    def repeat(self, node: Node) -> loop.Repeat:
        program = self.inner(node.attrs["body"])
        carried, scanned, captured = control.LoopView(node).outer
        moves = []
        for i, value in enumerate(carried):
            initial, result = self.dense_buffer(value), self.result(node, i).buffer
            shape = value.type.static_shape
            spare = (
                ""
                if node.attrs["trips"] in (0, 1)
                else self.temporary(node, "spare", shape, value.dtype)
            )
            moves.append(loop.Carried(initial, result, spare))
        stacked = [self.result(node, i).buffer for i in range(len(carried), len(node.outputs))]
        arena, counter = self.inner_memory(node, [program])
        return loop.Repeat(
            program, node.attrs["trips"], tuple(moves),
            tuple(self.dense_buffer(v) for v in scanned),
            tuple(self.dense_buffer(v) for v in captured), tuple(stacked),
            node.attrs["conditional"], node.attrs["reverse"], arena, counter,
        )  # fmt: skip

    def branch(self, node: Node) -> loop.Branch:
        then, otherwise = (self.inner(node.attrs[which]) for which in ("then", "otherwise"))
        predicate, *captured = (self.dense_buffer(v) for v in node.inputs)
        results = tuple(self.result(node, i).buffer for i in range(len(node.outputs)))
        arena, counter = self.inner_memory(node, [then, otherwise])
        programs = then, otherwise
        return loop.Branch(predicate, programs, tuple(captured), results, arena, counter)

    # -- what leaves the program

    def output(self, value: Value) -> str:
        """A buffer that holds the value; a temporary becomes an output of its own.

        A variable that the run updates is copied: what is fetched is its value at the start.
        """
        own = self.ctx.own_outputs
        if value in self.fetched and not own:
            return self.fetched[value]
        name = self.dense_buffer(value)
        buffer, shape = self.buffers[name], value.type.static_shape
        if buffer.role == loop.TEMPORARY:
            self.buffers[name] = replace(buffer, role=loop.OUTPUT, shape=shape)
        elif own or buffer.shape != shape or name in self.changing:
            name = self.buffer(value.node, shape, value.dtype, loop.OUTPUT)
            self.copy(value.node, self.views[value], name)
        self.fetched[value] = name
        return name

    def commit_value(self, variable: Node, value: Value) -> View:
        """The view to store; copied first where it reads another variable that changes too."""
        view = self.views[value]
        target = self.source_buffer(variable, loop.VARIABLE)
        reads = {p.buffer for p in view.load.pieces}
        if not reads & self.changing or self.whole_buffer(view) == target:
            return view
        shape = value.type.static_shape
        name = self.buffer(value.node, shape, value.dtype, loop.TEMPORARY)
        self.copy(value.node, view, name)
        return views.buffer_view(name, shape, value.dtype)

    def commit(self, variable: Node, value: Value, view: View) -> None:
        self.copy(value.node, view, self.dense[variable.outputs[0]])


def cast(expr: Expr, dtype: DType) -> Expr:
    """The expression in another dtype."""
    if expr.dtype is dtype:
        return expr
    if (
        isinstance(expr, Const)
        and dtype.is_floating
        and expr.dtype.is_floating
        and dtype.bits >= expr.dtype.bits
    ):
        return Const(expr.value, dtype)
    return Apply("cast", (expr,), dtype)


def store_cast(expr: Expr, dtype: DType) -> Expr:
    """What is stored to a buffer of `dtype`."""
    return cast(expr, dtype)


# what the texts of the loop language and of emitted sources call things of their own
_NO_WORD: Final = re.compile(r"\W+")
_PYTHONS: Final = frozenset((*keyword.kwlist, *dir(builtins)))
_OWN: Final = re.compile(r"[ikprsv]\d*|tl|np|lo|hi|kernel|triton|scratch|first|last")
