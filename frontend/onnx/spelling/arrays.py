"""Sources, and ops by which elements change places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from graphc.frontend.onnx.exporting import CODES, Exporting, exporter, types_of, unsaid
from graphc.frontend.onnx.spelling.reductions import axes_of
from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import ModelError, UnsupportedOp
from graphc.ir.graph import Node, Value
from graphc.ir.types import Dim, normalize_axis

_FAR: Final = 1 << 60  # beyond the end of any axis


@exporter("constant")
def _constant(e: Exporting, node: Node) -> None:
    array = node.attrs["value"].array
    e.names[node.outputs[0]] = e.constant(array, node.name)


@exporter("variable")
def _variable(e: Exporting, node: Node) -> None:
    if node not in e.variables:
        raise ModelError(f"the value of variable {node.name!r} is needed: give the session")
    name = e.fresh(node.name)
    e.initializers.append(e.onnx.numpy_helper.from_array(e.variables[node], name))
    e.names[node.outputs[0]] = name


@exporter("transpose")
def _transpose(e: Exporting, node: Node) -> None:
    perm = node.attrs["perm"]
    e.define(node, "Transpose", [e.name(node.inputs[0])], perm=None if perm is None else list(perm))


@exporter("reshape")
def _reshape(e: Exporting, node: Node) -> None:
    if len(node.inputs) > 1:
        target = e.emit("Cast", [e.name(node.inputs[1])], to=CODES["int64"])
    else:
        dims = [-1 if isinstance(d, str) else int(d) for d in node.attrs["shape"]]
        if dims.count(-1) > 1:
            raise UnsupportedOp(f"op reshape ({node.name!r}) leaves two sizes open")
        target = e.ints(dims)
    allow = int(0 in (node.attrs["shape"] or ()))
    e.define(node, "Reshape", [e.name(node.inputs[0]), target], allowzero=allow or None)


@exporter("expand_dims", "squeeze")
def _dims(e: Exporting, node: Node) -> None:
    axes = node.attrs["axis"]
    given = [e.name(node.inputs[0])]
    if axes == ():
        e.define(node, "Identity", given)
        return
    if axes is not None:
        given.append(e.ints(axes_of(axes)))
    e.define(node, "Unsqueeze" if node.op.name == "expand_dims" else "Squeeze", given)


@exporter("concat")
def _concat(e: Exporting, node: Node) -> None:
    e.define(node, "Concat", [e.name(v) for v in node.inputs], axis=int(node.attrs["axis"]))


@exporter("slice")
def _slice(e: Exporting, node: Node) -> None:
    start, size, step = (node.attrs[k] for k in ("start", "size", "step"))
    ends = []
    for a, n, s in zip(start, size, step, strict=True):
        end = a + (n - 1) * s + (1 if s > 0 else -1)
        ends.append(end if end >= 0 else -(1 << 60))
    axes = range(len(start))
    e.define(node, "Slice", [e.name(node.inputs[0]), e.ints(start), e.ints(ends), e.ints(axes),
                             e.ints(step)])  # fmt: skip


@exporter("strided_slice")
def _strided_slice(e: Exporting, node: Node) -> None:
    x = node.inputs[0]
    if not all(t.is_static for t in types_of(node)):
        _open_slice(e, node, x)
        return
    e.decomposed(node)


def _open_slice(e: Exporting, node: Node, x: Value) -> None:
    """Slices, integers and new axes, of tensors whose sizes are not known."""
    bounds: list[tuple[int, int, int, int]] = []  # start, end, axis, step
    gone, new = [], []
    axis = place = 0
    for k in node.attrs["key"]:
        if k == "new":
            new.append(place)
            place += 1
            continue
        if k == "...":
            used = sum(other not in ("new", "...") for other in node.attrs["key"])
            if x.type.rank is None:
                raise unsaid(node, "of a tensor of unknown rank")
            place, axis = place + x.type.rank - used, axis + x.type.rank - used
            continue
        bounds.append((*_bounds(node, k), axis, _step(k)))
        if isinstance(k, int):
            gone.append(axis)
        else:
            place += 1
        axis += 1
    name = e.name(x)
    if bounds:
        name = e.emit("Slice", [name, *(e.ints(column) for column in zip(*bounds, strict=True))])
    name = e.emit("Squeeze", [name, e.ints(gone)]) if gone else name
    name = e.emit("Unsqueeze", [name, e.ints(new)]) if new else name
    e.names[node.outputs[0]] = name


def _step(k: Any) -> int:
    return 1 if isinstance(k, int) else k[3] or 1


def _bounds(node: Node, k: Any) -> tuple[int, int]:
    """Where a slice begins and ends; of an integer, around it."""
    if isinstance(k, int):
        return k, k + 1 if k != -1 else _FAR
    if not isinstance(k, tuple):
        raise unsaid(node, f"by {k!r} of unknown sizes")
    _, start, stop, step = k
    if (step or 1) > 0:
        return start or 0, _FAR if stop is None else stop
    return -1 if start is None else start, -_FAR if stop is None else stop


@exporter("pad")
def _pad(e: Exporting, node: Node) -> None:
    low, high, interior, fill = (node.attrs[k] for k in ("low", "high", "interior", "fill"))
    value = e.constant(np.asarray(fill, node.types[0].dtype.numpy))
    x = _spaced(e, node, interior, value) if any(interior) else e.name(node.inputs[0])
    e.define(node, "Pad", [x, e.ints((*low, *high)), value])


def _spaced(e: Exporting, node: Node, interior: Sequence[int], fill: str) -> str:
    """With that many fills between the elements of each axis: behind all, but for the last."""
    x, name = node.inputs[0], e.name(node.inputs[0])
    if not x.type.is_static:
        raise unsaid(node, "between elements of unknown number")
    sizes = list(x.type.static_shape)
    for axis, count in enumerate(interior):
        if not count or not sizes[axis]:
            continue
        rank = len(sizes)
        wide = e.emit("Unsqueeze", [name, e.ints([axis + 1])])
        pads = [0] * (2 * rank + 2)
        pads[rank + 1 + axis + 1] = count
        wide = e.emit("Pad", [wide, e.ints(pads), fill])
        sizes[axis] *= count + 1
        name = e.emit("Reshape", [wide, e.ints(sizes)], allowzero=1)
        sizes[axis] -= count
        name = e.emit("Slice", [name, e.ints([0]), e.ints([sizes[axis]]), e.ints([axis])])
    return name


@exporter("bias_add")
def _bias_add(e: Exporting, node: Node) -> None:
    x, bias = node.inputs
    name = e.name(bias)
    if node.attrs["data_format"].startswith("NC"):
        name = e.emit("Unsqueeze", [name, e.ints(range(1, (x.type.rank or 2) - 1))])
    e.define(node, "Add", [e.name(x), name])


@exporter("gather", "take")
def _gather(e: Exporting, node: Node) -> None:
    """ONNX does not say what an index out of range gives; graphc gives zeros.

    In what ops decompose to, such indices are meant: they pick a slice behind all.
    """
    (x, at), axis = node.inputs, int(node.attrs["axis"])
    name, index = e.given(node)
    if e.depth and not _is_inside(e, at, (x.type.shape or ("?",))[axis]):
        rank = x.type.rank or 1
        axis = normalize_axis(axis, rank)
        ends = [int(i == rank + axis) for i in range(2 * rank)]
        sizes = e.emit("Shape", [name])
        name = e.emit("Pad", [name, e.ints(ends)])
        end = e.emit("Gather", [sizes, e.constant(np.int64(axis))])
        index = inside(e, index, end)
    e.define(node, "Gather", [name, index], axis=axis)


def _is_inside(e: Exporting, positions: Value, size: Dim) -> bool:
    known = e.known(positions)
    if known is None or not isinstance(size, int):
        return False
    return bool(((known >= 0) & (known < size)).all())


def inside(e: Exporting, positions: str, ends: str) -> str:
    """The positions as int64; those out of range are put behind the last."""
    at = e.cast(positions, "int64")
    low = e.emit("Less", [at, e.constant(np.int64(0))])
    high = e.emit("GreaterOrEqual", [at, ends])
    return e.emit("Where", [e.emit("Or", [low, high]), ends, at])


@exporter("broadcast_to")
def _broadcast_to(e: Exporting, node: Node) -> None:
    if len(node.inputs) > 1:
        target = e.emit("Cast", [e.name(node.inputs[1])], to=CODES["int64"])
    else:
        target = e.ints([int(d) for d in node.attrs["shape"]])
    e.define(node, "Expand", [e.name(node.inputs[0]), target])


@exporter("shape")
def _shape(e: Exporting, node: Node) -> None:
    found = e.emit("Shape", [e.name(node.inputs[0])])
    e.define(node, "Cast", [found], to=CODES[node.types[0].dtype.name])


@exporter("zeros_like", "ones_like")
def _like(e: Exporting, node: Node) -> None:
    number = 0 if node.op.name == "zeros_like" else 1
    value = np.full(1, number, node.types[0].dtype.numpy)
    sizes = e.emit("Shape", [e.name(node.inputs[0])])
    e.define(node, "ConstantOfShape", [sizes], value=e.onnx.numpy_helper.from_array(value))


@exporter("iota")
def _iota(e: Exporting, node: Node) -> None:
    shape, axis = node.attrs["shape"], node.attrs["axis"]
    ends = [e.constant(np.int64(n)) for n in (0, shape[axis], 1)]
    steps = e.cast(e.emit("Range", ends), node.types[0].dtype.name)
    if len(shape) > 1:
        others = [i for i in range(len(shape)) if i != axis]
        steps = e.emit("Unsqueeze", [steps, e.ints(others)])
    e.define(node, "Expand", [steps, e.ints(shape)])


@exporter("tile")
def _tile(e: Exporting, node: Node) -> None:
    multiples = node.attrs["multiples"]
    given = e.name(node.inputs[-1])
    times = e.cast(given, "int64") if multiples is None else e.ints(multiples)
    e.define(node, "Tile", [e.name(node.inputs[0]), times])


@exporter("bitcast")
def _bitcast(e: Exporting, node: Node) -> None:
    e.needs(26)
    dtype = as_dtype(node.attrs["dtype"])
    e.define(node, "BitCast", e.given(node), to=e.code(dtype))


@exporter("stack")
def _stack(e: Exporting, node: Node) -> None:
    rank = node.inputs[0].type.rank
    if rank is None:
        raise unsaid(node, "of tensors of unknown rank")
    axis = normalize_axis(node.attrs["axis"], rank + 1)
    wide = [e.emit("Unsqueeze", [x, e.ints([axis])]) for x in e.given(node)]
    e.define(node, "Concat", wide, axis=axis)
