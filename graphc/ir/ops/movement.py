"""Movement ops: elements change places, none is computed.

A movement says how its output is a view of its inputs (`view(node, input views)`), which the
lowering composes into the accesses of the kernels that read it; so movements cost nothing.
They are linear: `movement` derives the gradient op from the adjoint, and the gradient of that
is the movement again. The adjoint needs static shapes, so it is a composite, decomposed when
they are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.ir import views
from graphc.ir.dtypes import as_dtype, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import CONSTANT, Literal, Node, Value, convert
from graphc.ir.loop import Guard, Linear
from graphc.ir.table import OPS, REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import (
    UNKNOWN,
    Dim,
    Shape,
    TensorType,
    broadcast_shapes,
    check_sizes,
    format_shape,
    may_equal,
    merge_dims,
    normalize_axes,
    normalize_axis,
)
from graphc.ir.views import Map, View

Adjoint = Callable[[Value, tuple[Value, ...], Attrs], Sequence["Value | None"]]


def movement(
    name: str,
    type_rule: Any,
    numpy: Callable[..., Any],
    view: Callable[[Node, Sequence[View]], View | None] | None,
    adjoint: Adjoint,
    *,
    attrs: Attrs,
    samples: Callable[[], Iterable[Sample]],
    decompose: Any = None,
    host_inputs: dict[int, str] | None = None,
    doc: str = "",
) -> Op:
    """Enter a movement op and its gradient op `<name>_grad`."""
    op = register(
        Op(
            name,
            Kind.MOVEMENT if decompose is None else Kind.COMPOSITE,
            type_rule,
            numpy=numpy,
            attrs=attrs,
            grad=lambda node, grads: _adjoint_grad(node, grads[0]),
            decompose=decompose,
            view=view,
            host_inputs=host_inputs or {},
            samples=samples,
            facts=frozenset({"linear"}),
            doc=doc,
        )
    )
    register(
        Op(
            f"{name}_grad",
            Kind.COMPOSITE,
            lambda types, _: types[1:],
            attrs=attrs,
            grad=lambda node, grads: _again(op, node, grads),
            decompose=lambda node: _expect(adjoint(node.inputs[0], node.inputs[1:], node.attrs)),
            doc=f"The gradient of {name}: the adjoint, over the shapes of its inputs.",
        )
    )
    return op


def _expect(values: Sequence[Value | None]) -> list[Value]:
    assert all(v is not None for v in values)
    return list(values)  # type: ignore[arg-type]


def _adjoint_grad(node: Node, g: Value | None) -> Sequence[Value | None]:
    assert g is not None
    data = [v for i, v in enumerate(node.inputs) if i not in node.op.host_inputs]
    grads = list(OPS[f"{node.op.name}_grad"].outputs(g, *data, **node.attrs))
    return grads + [None] * (len(node.inputs) - len(data))


def _again(op: Op, node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    parts = [zeros_like(x) if g is None else g for g, x in zip(grads, node.inputs[1:], strict=True)]
    return [op(*parts, **node.attrs)] + [None] * len(parts)


def _array(*shape: int) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape) / 4 - 1


# -- reshape


def _reshape_type(types: Types, attrs: Attrs) -> TensorType:
    x, target = types[0], attrs["shape"]
    if target is None:  # the shape is a tensor whose value only a run knows
        length = types[1].shape[0] if types[1].shape else None
        return x.with_shape((UNKNOWN,) * length if isinstance(length, int) else None)
    return x.with_shape(resolve_shape(x.shape, target))


def resolve_shape(old: Shape | None, target: Sequence[Dim]) -> Shape:
    """`target` with its -1 or unknown worked out from the old shape, as far as that is known."""
    if sum(d == -1 for d in target) > 1:
        raise AttributeValueError(f"reshape to {tuple(target)} has more than one -1")
    known = math.prod(d for d in target if isinstance(d, int) and d != -1)
    names = [d for d in target if isinstance(d, str)]
    unknown = [] if old is None else [d for d in old if isinstance(d, str)]
    if old is None or not set(names) - {UNKNOWN} <= set(unknown) or UNKNOWN in names:
        return tuple(UNKNOWN if d == -1 else d for d in target)
    for name in names:  # a size that stands on both sides says nothing of the others
        if name in unknown:
            unknown.remove(name)
    total = math.prod(d for d in old if isinstance(d, int))
    if not unknown:
        return _resolve_static(old, target, known, total)
    if len(unknown) == 1 and total == known:  # the one unknown dim stays what it is
        return tuple(unknown[0] if d == -1 else d for d in target)
    return tuple(UNKNOWN if d == -1 else d for d in target)


def _resolve_static(old: Shape, target: Sequence[Dim], known: int, total: int) -> Shape:
    if -1 in target:
        if known == 0 or total % known:
            raise ShapeError(f"cannot reshape {format_shape(old)} to {format_shape(target)}")
        return tuple(total // known if d == -1 else d for d in target)
    if known != total:
        raise ShapeError(
            f"cannot reshape {format_shape(old)} ({total} elements) to {format_shape(target)} "
            f"({known} elements)"
        )
    return tuple(target)


def _reshape_samples() -> Iterable[Sample]:
    yield Sample((_array(3, 4),), {"shape": (2, 6)})
    yield Sample((_array(2, 3, 4),), {"shape": (-1, 4)})
    yield Sample((_array(1, 1),), {"shape": ()})
    yield Sample((_array(0, 3),), {"shape": (3, 0)})
    yield Sample((_array(4, 6),), {"shape": (6, 4)})


reshape: Op = movement(
    "reshape",
    _reshape_type,
    lambda attrs, x, *shape: np.reshape(x, shape[0] if shape else attrs["shape"]),
    lambda node, inputs: views.reshape(inputs[0], node.types[0].static_shape),
    lambda g, x, attrs: [reshape(g, shape=x[0].type.static_shape)],
    attrs={"shape": None},
    samples=_reshape_samples,
    host_inputs={1: "shape"},
    doc="The same elements in row-major order in another shape; one dim may be -1.",
)


def reshape_to(x: Value, shape: Sequence[int]) -> Value:
    """`x` itself when it has the shape already."""
    return x if x.type.shape == tuple(shape) else reshape(x, shape=tuple(shape))


def _expand_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    axes = normalize_axes(attrs["axis"], len(shape) + len(_as_tuple(attrs["axis"])))
    dims = list(shape)
    for axis in axes:
        dims.insert(axis, 1)
    return types[0].with_shape(tuple(dims))


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


expand_dims: Op = movement(
    "expand_dims",
    _expand_type,
    lambda attrs, x: np.expand_dims(x, attrs["axis"]),
    None,
    lambda g, x, attrs: [reshape_to(g, x[0].type.static_shape)],
    attrs={"axis": REQUIRED},
    samples=lambda: [
        Sample((_array(3, 4),), {"axis": 1}),
        Sample((_array(3),), {"axis": (0, -1)}),
    ],
    decompose=lambda node: reshape(node.inputs[0], shape=node.types[0].static_shape),
    doc="A dim of size 1 put in at each of the axes (of the result).",
)


def _squeeze_type(types: Types, attrs: Attrs) -> TensorType:
    shape, axis = types[0].shape, attrs["axis"]
    if shape is None:
        return types[0]
    if axis is None:
        if any(isinstance(d, str) for d in shape):
            return types[0].with_shape(None)
        return types[0].with_shape(tuple(d for d in shape if d != 1))
    axes = normalize_axes(axis, len(shape))
    for a in axes:
        if not may_equal(shape[a], 1):
            raise ShapeError(f"cannot squeeze axis {a} of {format_shape(shape)}: it is not 1")
    return types[0].with_shape(tuple(d for i, d in enumerate(shape) if i not in axes))


squeeze: Op = movement(
    "squeeze",
    _squeeze_type,
    lambda attrs, x: np.squeeze(x, attrs["axis"]),
    None,
    lambda g, x, attrs: [reshape_to(g, x[0].type.static_shape)],
    attrs={"axis": None},
    samples=lambda: [
        Sample((_array(3, 1, 4, 1),), {}),
        Sample((_array(3, 1, 4, 1),), {"axis": (1,)}),
    ],
    decompose=lambda node: reshape(node.inputs[0], shape=node.types[0].static_shape),
    doc="Without the dims of size 1 (of the given axes, or all).",
)

# -- transpose


def _permutation(perm: Any, rank: int) -> tuple[int, ...]:
    if perm is None:
        return tuple(reversed(range(rank)))
    axes = tuple(normalize_axis(p, rank) for p in perm)
    if sorted(axes) != list(range(rank)):
        raise AttributeValueError(f"perm {perm} is no permutation of {rank} axes")
    return axes


def _transpose_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    return types[0].with_shape(tuple(shape[p] for p in _permutation(attrs["perm"], len(shape))))


def _transpose_view(node: Node, inputs: Sequence[View]) -> View | None:
    rank = len(inputs[0].shape)
    if rank == 0:
        return inputs[0]
    perm = _permutation(node.attrs["perm"], rank)
    dims = tuple(views.unit(rank, perm.index(d)) for d in range(rank))
    return views.compose(inputs[0], node.types[0].static_shape, Map(dims))


transpose: Op = movement(
    "transpose",
    _transpose_type,
    lambda attrs, x: np.transpose(x, attrs["perm"]),
    _transpose_view,
    lambda g, x, attrs: [
        transpose(g, perm=tuple(np.argsort(_permutation(attrs["perm"], g.type.rank or 0)).tolist()))
    ],
    attrs={"perm": None},
    samples=lambda: [
        Sample((_array(3, 4),), {}),
        Sample((_array(2, 3, 4),), {"perm": (1, 2, 0)}),
        Sample((_array(0, 2),), {}),
        Sample((_array(),), {}),
    ],
    doc="The axes in the order `perm`; reversed when it is None.",
)

# -- broadcast


def _broadcast_type(types: Types, attrs: Attrs) -> TensorType:
    shape = attrs["shape"]
    if shape is None:
        length = types[1].shape[0] if types[1].shape else None
        return types[0].with_shape((UNKNOWN,) * length if isinstance(length, int) else None)
    return types[0].with_shape(_check_broadcast(types[0].shape, check_sizes(shape)))


def _check_broadcast(old: Shape | None, new: Shape | None) -> Shape | None:
    if old is not None and new is not None:
        both = broadcast_shapes([old, new])
        if both is not None and (len(both) != len(new) or not all(map(may_equal, both, new))):
            raise ShapeError(f"{format_shape(old)} cannot be broadcast to {format_shape(new)}")
    return new


broadcast_to: Op = movement(
    "broadcast_to",
    _broadcast_type,
    lambda attrs, x, *shape: np.broadcast_to(x, attrs["shape"] if not shape else shape[0]),
    lambda node, inputs: views.broadcast(inputs[0], node.types[0].static_shape),
    lambda g, x, attrs: [OPS["sum_to_like"](g, x[0])],
    attrs={"shape": None},
    samples=lambda: [
        Sample((_array(3, 1),), {"shape": (2, 3, 4)}),
        Sample((_array(),), {"shape": (5,)}),
        Sample(
            (
                _array(
                    1,
                ),
            ),
            {"shape": (0,)},
        ),
    ],
    host_inputs={1: "shape"},
    doc="NumPy's broadcast to a shape.",
)


def _broadcast_like_type(types: Types, _: Attrs) -> TensorType:
    return types[0].with_shape(types[1].shape)


broadcast_like: Op = register(
    Op(
        "broadcast_like",
        Kind.COMPOSITE,
        _broadcast_like_type,
        grad=lambda node, grads: [OPS["sum_to_like"](grads[0], node.inputs[0]), None],
        decompose=lambda node: broadcast_to_shape(node.inputs[0], node.types[0].static_shape),
        samples=lambda: [Sample((_array(3, 1), _array(3, 4)), differentiable=(0,))],
        doc="The first input broadcast to the shape of the second.",
    )
)


def broadcast_to_shape(x: Value, shape: Sequence[int]) -> Value:
    """`x` itself when it has the shape already."""
    return x if x.type.shape == tuple(shape) else broadcast_to(x, shape=tuple(shape))


# -- tile


def _tile_type(types: Types, attrs: Attrs) -> TensorType:
    x, times = types[0], attrs["multiples"]
    if times is None:
        return x.with_shape(None if x.rank is None else (UNKNOWN,) * x.rank)
    if any(isinstance(t, int) and t < 0 for t in times):
        raise AttributeValueError(f"multiples are not negative, got {times}")
    if x.shape is None:
        return x.with_shape((UNKNOWN,) * len(times))
    if len(times) != len(x.shape):
        raise ShapeError(f"tile of {x} needs {x.rank} multiples, got {times}")
    return x.with_shape(tuple(map(_tiled_dim, x.shape, times)))


def _tiled_dim(dim: Dim, times: Dim) -> Dim:
    if dim == 1 or times == 1:
        return dim if times == 1 else times
    return dim * times if isinstance(dim, int) and isinstance(times, int) else UNKNOWN


def _tile(node: Node) -> Value:
    """By a broadcast along an axis of its own before each dim: nothing is copied."""
    x, times = node.inputs[0], node.attrs["multiples"]
    dims = x.type.static_shape
    lanes = reshape(x, shape=tuple(n for d in dims for n in (1, d)))
    pairs = tuple(n for pair in zip(times, dims, strict=True) for n in pair)
    return reshape(broadcast_to(lanes, shape=pairs), shape=node.types[0].static_shape)


def _tile_adjoint(g: Value, x: tuple[Value, ...], _: Attrs) -> list[Value | None]:
    sizes = zip(g.type.static_shape, x[0].type.static_shape, strict=True)
    pairs = tuple(n for total, dim in sizes for n in (total // dim if dim else 1, dim))
    copies = tuple(range(0, len(pairs), 2))
    return [OPS["reduce_sum"](reshape(g, shape=pairs), axis=copies)]


tile: Op = movement(
    "tile",
    _tile_type,
    lambda attrs, x: np.tile(x, attrs["multiples"]),
    None,
    _tile_adjoint,
    attrs={"multiples": None},
    samples=lambda: [
        Sample((_array(2, 3),), {"multiples": (2, 3)}),
        Sample((_array(2, 1),), {"multiples": (1, 4)}),
        Sample((_array(3),), {"multiples": (0,)}),
        Sample((_array(0, 2),), {"multiples": (3, 1)}),
        Sample((_array(),), {"multiples": ()}),
    ],
    decompose=_tile,
    host_inputs={1: "multiples"},
    doc="The tensor repeated multiples[i] times along every dim i.",
)

# -- what follows the shape of another tensor


def _sum_to(node: Node) -> Value:
    g, like = node.inputs
    source, target = g.type.static_shape, like.type.static_shape
    lead = len(source) - len(target)
    axes = tuple(i for i, d in enumerate(source) if i < lead or (target[i - lead] == 1 and d != 1))
    summed = OPS["reduce_sum"](g, axis=axes) if axes else g
    return reshape_to(summed, target)


sum_to_like: Op = register(
    Op(
        "sum_to_like",
        Kind.COMPOSITE,
        lambda types, _: types[0].with_shape(types[1].shape),
        grad=lambda node, grads: [broadcast_like(grads[0], node.inputs[0]), None],
        decompose=_sum_to,
        samples=lambda: [
            Sample((_array(2, 3, 4), _array(3, 1)), differentiable=(0,)),
            Sample((_array(3), _array()), differentiable=(0,)),
        ],
        doc="The first input summed over the dims along which the second would be broadcast.",
    )
)

reshape_like: Op = register(
    Op(
        "reshape_like",
        Kind.COMPOSITE,
        lambda types, _: types[0].with_shape(types[1].shape),
        grad=lambda node, grads: [reshape_like(grads[0], node.inputs[0]), None],
        decompose=lambda node: reshape_to(node.inputs[0], node.types[0].static_shape),
        samples=lambda: [Sample((_array(2, 6), _array(3, 4)), differentiable=(0,))],
        doc="The first input in the shape of the second.",
    )
)


def _full_like(value: int) -> Callable[[Node], Value]:
    def decompose(node: Node) -> Value:
        one = convert(value, dtype=node.types[0].dtype)
        return broadcast_to_shape(one, node.types[0].static_shape)

    return decompose


def _like_type(types: Types, attrs: Attrs) -> TensorType:
    return types[0] if attrs["dtype"] is None else types[0].with_dtype(as_dtype(attrs["dtype"]))


def _like(name: str, value: int) -> Op:
    return register(
        Op(
            name,
            Kind.COMPOSITE,
            _like_type,
            attrs={"dtype": None},
            grad=NoGradient("it depends only on a shape", zero=True),
            decompose=lambda node: (
                convert(value == 1, dtype=node.types[0].dtype)
                if node.types[0].dtype.is_bool and node.types[0].shape == ()
                else _full_like(value)(node)
            ),
            samples=lambda: [Sample((_array(3, 2),)), Sample((_array(),))],
            doc=f"{value} in the shape of the input.",
        )
    )


zeros_like: Op = _like("zeros_like", 0)
ones_like: Op = _like("ones_like", 1)


def _shape_of(node: Node) -> Value:
    shape = node.inputs[0].type.static_shape
    return CONSTANT(value=Literal(np.array(shape, node.attrs["dtype"].numpy)))


shape_of: Op = register(
    Op(
        "shape",
        Kind.COMPOSITE,
        lambda types, attrs: TensorType(
            attrs["dtype"], (UNKNOWN if types[0].rank is None else types[0].rank,)
        ),
        attrs={"dtype": int32},
        grad=NoGradient("a shape is constant", zero=True),
        decompose=_shape_of,
        facts=frozenset({"of_type"}),
        samples=lambda: [Sample((_array(3, 2),))],
        doc="The shape of the input, as a vector of integers.",
    )
)

# -- slices, padding, concatenation


def _slice_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    start, size, step = attrs["start"], attrs["size"], attrs["step"]
    if shape is None:
        return types[0].with_shape(size)
    if not len(shape) == len(start) == len(size) == len(step):
        raise ShapeError(f"slice of {types[0]} needs one start, size and step per dim")
    for dim, first, count, stride in zip(shape, start, size, step, strict=True):
        last = first + (count - 1) * stride
        inside = count == 0 or (0 <= first < dim and 0 <= last < dim) if isinstance(dim, int) else 1
        if count < 0 or stride == 0 or not inside:
            raise ShapeError(
                f"slice start={start} size={size} step={step} reaches outside {types[0]}"
            )
    return types[0].with_shape(tuple(size))


def _slice_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    index = tuple(
        first + np.arange(count) * stride
        for first, count, stride in zip(attrs["start"], attrs["size"], attrs["step"], strict=True)
    )
    return x[np.ix_(*index)] if index else x


def _slice_view(node: Node, inputs: Sequence[View]) -> View | None:
    rank = len(inputs[0].shape)
    if rank == 0:
        return inputs[0]
    triples = zip(node.attrs["start"], node.attrs["step"], strict=True)
    dims = tuple(views.unit(rank, d, step, start) for d, (start, step) in enumerate(triples))
    return views.compose(inputs[0], node.types[0].static_shape, Map(dims))


def _slice_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    low, high, interior = [], [], []
    negative = tuple(i for i, s in enumerate(attrs["step"]) if s < 0)
    if negative:
        g = flip(g, negative)
    for dim, first, count, step in zip(
        x[0].type.static_shape, attrs["start"], attrs["size"], attrs["step"], strict=True
    ):
        least = first if step > 0 or count == 0 else first + (count - 1) * step
        reach = (count - 1) * abs(step) + 1 if count else 0
        low.append(least if count else 0)
        high.append(dim - least - reach if count else dim)
        interior.append(abs(step) - 1)
    return [pad(g, low=tuple(low), high=tuple(high), interior=tuple(interior))]


slice_: Op = movement(
    "slice",
    _slice_type,
    _slice_numpy,
    _slice_view,
    _slice_adjoint,
    attrs={"start": REQUIRED, "size": REQUIRED, "step": REQUIRED},
    samples=lambda: [
        Sample((_array(5, 7),), {"start": (1, 0), "size": (3, 4), "step": (1, 2)}),
        Sample(
            (
                _array(
                    5,
                ),
            ),
            {"start": (4,), "size": (5,), "step": (-1,)},
        ),
        Sample((_array(6, 2),), {"start": (5, 1), "size": (2, 1), "step": (-3, 1)}),
        Sample(
            (
                _array(
                    4,
                ),
            ),
            {"start": (2,), "size": (0,), "step": (1,)},
        ),
    ],
    doc="size elements from start on, in steps (negative ones go back), along every dim.",
)


def flip(x: Value, axes: Sequence[int]) -> Value:
    """`x` reversed along the axes; static shapes only."""
    shape = x.type.static_shape
    start = tuple(max(d - 1, 0) if i in axes else 0 for i, d in enumerate(shape))
    step = tuple(-1 if i in axes else 1 for i in range(len(shape)))
    return slice_(x, start=start, size=shape, step=step)


def _pad_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    parts = (attrs["low"], attrs["high"], attrs["interior"])
    if any(len(p) != len(shape) for p in parts):
        raise ShapeError(f"pad of {types[0]} needs low, high and interior per dim, got {parts}")
    return types[0].with_shape(
        tuple(_padded(d, lo, hi, i) for d, lo, hi, i in zip(shape, *parts, strict=True))
    )


def _padded(dim: Dim, low: int, high: int, interior: int) -> Dim:
    if isinstance(dim, str):
        return dim if low == high == interior == 0 else UNKNOWN
    size = dim + max(dim - 1, 0) * interior + low + high
    if size < 0 or interior < 0:
        raise ShapeError(f"padding ({low}, {high}, {interior}) of a dim of {dim} leaves {size}")
    return size


def _pad_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    parts = (attrs["low"], attrs["high"], attrs["interior"])
    shape = [int(_padded(d, *p)) for d, *p in zip(x.shape, *parts, strict=True)]
    out = np.full(shape, attrs["fill"], x.dtype)
    target, source = [], []
    for dim, size, low, interior in zip(x.shape, shape, parts[0], parts[2], strict=True):
        step = interior + 1
        at = low + np.arange(dim) * step
        keep = (at >= 0) & (at < size)
        target.append(at[keep])
        source.append(np.arange(dim)[keep])
    out[np.ix_(*target)] = x[np.ix_(*source)]
    return out


def _pad_view(node: Node, inputs: Sequence[View]) -> View | None:
    shape = inputs[0].shape
    rank = len(shape)
    if rank == 0:
        return inputs[0]
    attrs = node.attrs
    dims, guards, steps = [], [], []
    for d, (size, low, high, interior) in enumerate(
        zip(shape, attrs["low"], attrs["high"], attrs["interior"], strict=True)
    ):
        value = views.unit(rank, d, 1, -low)
        step = interior + 1
        dims.append(value)
        steps.append(step)
        if low > 0 or high > 0 or step > 1:
            guards.append(Guard(value, size, step))
    map_ = Map(tuple(dims), tuple(guards), attrs["fill"], tuple(steps))
    return views.compose(inputs[0], node.types[0].static_shape, map_)


def _pad_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    # take back what the padding added: crop (a negative padding), then every step-th element
    shape = x[0].type.static_shape
    zero = (0,) * len(shape)
    cropped = pad(
        g, low=tuple(-p for p in attrs["low"]), high=tuple(-p for p in attrs["high"]), interior=zero
    )
    step = tuple(i + 1 for i in attrs["interior"])
    if all(s == 1 for s in step):
        return [cropped]
    return [slice_(cropped, start=zero, size=shape, step=step)]


pad: Op = movement(
    "pad",
    _pad_type,
    _pad_numpy,
    _pad_view,
    _pad_adjoint,
    attrs={"low": REQUIRED, "high": REQUIRED, "interior": REQUIRED, "fill": 0},
    samples=lambda: [
        Sample((_array(3, 2),), {"low": (1, 0), "high": (0, 2), "interior": (0, 0)}),
        Sample(
            (
                _array(
                    4,
                ),
            ),
            {"low": (-1,), "high": (2,), "interior": (2,)},
        ),
        Sample((_array(0, 2),), {"low": (1, 1), "high": (1, 0), "interior": (0, 0)}),
    ],
    doc="low elements of `fill` before, high after (negative: cut off), interior in between.",
)


def _concat_type(types: Types, attrs: Attrs) -> TensorType:
    from graphc.ir.ops.pointwise import check_same_dtype

    dtype = check_same_dtype(types)
    known = [t.shape for t in types if t.shape is not None]
    if not known:
        return TensorType(dtype, None)
    axis = normalize_axis(attrs["axis"], len(known[0]))
    dims = list(known[0])
    if len({len(s) for s in known}) > 1:
        raise ShapeError(f"concat of different ranks: {' and '.join(map(format_shape, known))}")
    text = "concat along axis {} of {}".format(axis, " and ".join(map(format_shape, known)))
    for shape in known[1:]:
        dims = [d if i == axis else merge_dims(d, shape[i], text) for i, d in enumerate(dims)]
    along = [t.shape[axis] if t.shape is not None else UNKNOWN for t in types]
    numbers = [d for d in along if isinstance(d, int)]
    dims[axis] = sum(numbers) if len(numbers) == len(along) else UNKNOWN
    if len(along) == 1:
        dims[axis] = along[0]
    return TensorType(dtype, tuple(dims))


def _concat_view(node: Node, inputs: Sequence[View]) -> View | None:
    shape = node.types[0].static_shape
    rank = len(shape)
    axis = normalize_axis(node.attrs["axis"], rank)
    pieces: list[Any] = []
    start = 0
    for view in inputs:
        size = view.shape[axis]
        if size == 0:
            continue
        if any(p.guards for p in view.load.pieces):
            return None  # a padded or concatenated part would shine through its own gaps
        dims = tuple(views.unit(rank, d, 1, -start if d == axis else 0) for d in range(rank))
        guard = Guard(views.unit(rank, axis, 1, -start), size)
        part = views.compose(view, shape, Map(dims, (guard,)))
        if part is None:
            return None
        pieces.extend(part.load.pieces)
        start += size
    if not pieces or len(pieces) > _MOST_PIECES:
        return None
    return View(shape, replace(inputs[0].load, pieces=tuple(pieces)))


_MOST_PIECES = 8  # beyond that every reader would test too many guards


def _concat_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    shape = g.type.static_shape
    axis = normalize_axis(attrs["axis"], len(shape))
    result: list[Value | None] = []
    start = 0
    for part in x:
        size = part.type.static_shape
        first = tuple(start if i == axis else 0 for i in range(len(shape)))
        result.append(slice_(g, start=first, size=size, step=(1,) * len(shape)))
        start += size[axis]
    return result


concat: Op = movement(
    "concat",
    _concat_type,
    lambda attrs, *xs: np.concatenate(xs, attrs["axis"]),
    _concat_view,
    _concat_adjoint,
    attrs={"axis": REQUIRED},
    samples=lambda: [
        Sample((_array(3, 2), _array(3, 4)), {"axis": 1}),
        Sample((_array(1, 2), _array(0, 2), _array(2, 2)), {"axis": 0}),
        Sample((_array(5),), {"axis": -1}),
    ],
    doc="The inputs one after the other along an axis.",
)


def _stack_type(types: Types, attrs: Attrs) -> TensorType:
    from graphc.ir.ops.pointwise import check_same_dtype
    from graphc.ir.types import merge_shapes

    dtype = check_same_dtype(types)
    shape: Shape | None = None
    for t in types:
        shape = merge_shapes(shape, t.shape, "stack needs equal shapes")
    if shape is None:
        return TensorType(dtype, None)
    axis = normalize_axis(attrs["axis"], len(shape) + 1)
    return TensorType(dtype, (*shape[:axis], len(types), *shape[axis:]))


stack: Op = movement(
    "stack",
    _stack_type,
    lambda attrs, *xs: np.stack(xs, attrs["axis"]),
    None,
    lambda g, x, attrs: [
        squeeze(part, axis=(normalize_axis(attrs["axis"], len(g.type.static_shape)),))
        for part in split_even(g, attrs["axis"], len(x))
    ],
    attrs={"axis": 0},
    samples=lambda: [
        Sample((_array(3, 2), _array(3, 2)), {"axis": 1}),
        Sample((_array(), _array(), _array()), {}),
    ],
    decompose=lambda node: concat(
        *(
            expand_dims(x, axis=normalize_axis(node.attrs["axis"], len(node.types[0].static_shape)))
            for x in node.inputs
        ),
        axis=node.attrs["axis"],
    ),
    doc="The inputs along a new axis.",
)


def split_even(x: Value, axis: int, count: int) -> list[Value]:
    """`x` in `count` equal parts along the axis; static shapes only."""
    shape = x.type.static_shape
    axis = normalize_axis(axis, len(shape))
    size = shape[axis] // count
    part = tuple(size if i == axis else d for i, d in enumerate(shape))
    starts = [tuple(size * n if i == axis else 0 for i in range(len(shape))) for n in range(count)]
    return [slice_(x, start=s, size=part, step=(1,) * len(shape)) for s in starts]


# -- windows


def window_count(size: int, window: int, stride: int, dilation: int) -> int:
    """Number of windows that lie wholly inside `size`."""
    return max((size - (window - 1) * dilation - 1) // stride + 1, 0)


def _unfold_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    dims = list(shape)
    for axis, window, stride, dilation in _windows(attrs):
        if axis >= len(shape):
            raise AttributeValueError(f"unfold has no axis {axis} in {types[0]}")
        dim = shape[axis]
        dims[axis] = (
            UNKNOWN if isinstance(dim, str) else window_count(dim, window, stride, dilation)
        )
        dims.append(window)
    return types[0].with_shape(tuple(dims))


def _windows(attrs: Attrs) -> list[tuple[int, int, int, int]]:
    columns = (attrs["axes"], attrs["window"], attrs["stride"], attrs["dilation"])
    return list(zip(*columns, strict=True))


def _unfold_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    shape, strides = list(x.shape), list(x.strides)
    for axis, window, stride, dilation in _windows(attrs):
        shape[axis] = window_count(x.shape[axis], window, stride, dilation)
        strides[axis] = x.strides[axis] * stride
        shape.append(window)
        strides.append(x.strides[axis] * dilation)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False).copy()


def _unfold_view(node: Node, inputs: Sequence[View]) -> View | None:
    shape = node.types[0].static_shape
    rank, outer = len(shape), len(inputs[0].shape)
    dims = [views.unit(rank, d) for d in range(outer)]
    for i, (axis, _, stride, dilation) in enumerate(_windows(node.attrs)):
        strides = [0] * rank
        strides[axis], strides[outer + i] = stride, dilation
        dims[axis] = Linear(tuple(strides))
    return views.compose(inputs[0], shape, Map(tuple(dims)))


def _unfold_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    """Each element sums the windows that hold it: dx[h] = sum_i g[(h - i*dilation)/stride, i].

    Along every windowed axis: dilate by the stride, pad by the window's reach, then take the
    windows of the result and keep, in each, the element whose window offset is its own.
    """
    return [fold(g, shape=x[0].type.static_shape, **attrs)]


def _fold_type(types: Types, attrs: Attrs) -> TensorType:
    return types[0].with_shape(attrs["shape"])


def _fold_diagonal(node: Node, inputs: Sequence[View]) -> View | None:
    shape = node.types[0].static_shape
    outer = len(node.attrs["shape"])
    rank = len(shape)
    dims = [views.unit(rank, d) for d in range(rank)]
    steps = [1] * rank
    guards = []
    for i, (axis, _, stride, dilation) in enumerate(_windows(node.attrs)):
        strides = [0] * rank
        strides[axis], strides[outer + i] = 1, -dilation
        dims[axis], steps[axis] = Linear(tuple(strides)), stride
        guards.append(Guard(dims[axis], inputs[0].shape[axis], stride))
    return views.compose(inputs[0], shape, Map(tuple(dims), tuple(guards), 0, tuple(steps)))


def _spread_numpy(attrs: Attrs, g: np.ndarray) -> np.ndarray:
    columns = _windows(attrs)
    outer = len(attrs["shape"])
    out = np.zeros((*attrs["shape"], *(w for _, w, _, _ in columns)), g.dtype)
    for offsets in np.ndindex(*(w for _, w, _, _ in columns)):
        target: list[Any] = [slice(None)] * outer
        for (axis, _, stride, dilation), offset in zip(columns, offsets, strict=True):
            first = offset * dilation
            target[axis] = slice(first, first + (g.shape[axis] - 1) * stride + 1, stride)
        if g.size:
            out[(*target, *offsets)] = g[(*[slice(None)] * outer, *offsets)]
    return out


def _spread_type(types: Types, attrs: Attrs) -> TensorType:
    return types[0].with_shape((*attrs["shape"], *attrs["window"]))


_WINDOW_ATTRS: Attrs = {
    "axes": REQUIRED,
    "window": REQUIRED,
    "stride": REQUIRED,
    "dilation": REQUIRED,
}


def _gather_windows(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    # the adjoint of the spreading takes back, from each position, what was put there
    shape = x[0].type.static_shape
    outer = len(attrs["shape"])
    rank = outer + len(attrs["window"])
    total = unfold(g, **{k: attrs[k] for k in _WINDOW_ATTRS})  # [..., window again]
    eye = _diagonal(total, outer, attrs["window"])
    axes = tuple(range(outer, rank))
    return [reshape_to(OPS["reduce_sum"](eye, axis=axes), shape)]


def _diagonal(total: Value, outer: int, window: Sequence[int]) -> Value:
    where, equal = OPS["where"], OPS["equal"]
    shape = total.type.static_shape
    count = len(window)
    result = total
    for i in range(count):
        left = OPS["iota"](shape=shape, axis=outer + i, dtype=int32)
        right = OPS["iota"](shape=shape, axis=outer + count + i, dtype=int32)
        result = where(equal(left, right), result, convert(0, like=total.dtype))
    return result


window_spread: Op = movement(
    "window_spread",
    _spread_type,
    _spread_numpy,
    _fold_diagonal,
    _gather_windows,
    attrs={**_WINDOW_ATTRS, "shape": REQUIRED},
    samples=lambda: [
        Sample(
            (_array(2, 3, 3),),
            {"axes": (1,), "window": (3,), "stride": (2,), "dilation": (1,), "shape": (2, 7)},
        ),
    ],
    doc="Where unfold took element i of window p from, element i of window p is put; else 0.",
)


def fold(g: Value, shape: Sequence[int], **attrs: Any) -> Value:
    """The sum over overlapping windows: the adjoint of unfold. Static shapes only."""
    spread = window_spread(g, shape=tuple(shape), **attrs)
    rank = len(shape)
    return OPS["reduce_sum"](spread, axis=tuple(range(rank, rank + len(attrs["window"]))))


unfold: Op = movement(
    "unfold",
    _unfold_type,
    _unfold_numpy,
    _unfold_view,
    _unfold_adjoint,
    attrs=_WINDOW_ATTRS,
    samples=lambda: [
        Sample((_array(2, 7),), {"axes": (1,), "window": (3,), "stride": (2,), "dilation": (1,)}),
        Sample(
            (_array(1, 5, 6, 2),),
            {"axes": (1, 2), "window": (2, 3), "stride": (1, 2), "dilation": (2, 1)},
        ),
    ],
    doc="All windows along the axes: their positions in place, their insides as last dims.",
)


# -- NumPy-style indexing


def getitem(x: Value, key: Any) -> Value:
    """`x[key]` with integers, slices, `...` and None, as NumPy does; static dims where sliced."""
    keys = list(key) if isinstance(key, tuple) else [key]
    return OPS["strided_slice"](x, key=tuple(_freeze_key(k) for k in keys))


def _freeze_key(k: Any) -> Any:
    if isinstance(k, slice):
        return ("slice", *(None if p is None else int(p) for p in (k.start, k.stop, k.step)))
    if k is None:
        return "new"
    if k is Ellipsis:
        return "..."
    if isinstance(k, (int, np.integer)) and not isinstance(k, bool):
        return int(k)
    raise AttributeValueError(f"a tensor is indexed by integers, slices, ... and None, got {k!r}")


def _expand_key(key: Sequence[Any], rank: int) -> list[Any]:
    used = sum(k not in ("new", "...") for k in key)
    if used > rank:
        raise ShapeError(f"{used} indices for a tensor of rank {rank}")
    full = ("slice", None, None, None)
    rest = [full] * (rank - used)
    if "..." not in key:
        return [*key, *rest]
    at = list(key).index("...")
    return [*key[:at], *rest, *key[at + 1 :]]


def _slice_dims(key: Sequence[Any], shape: Shape) -> tuple[list[Any], list[Dim]]:
    """Per input dim (start, size, step), and the result's dims."""
    triples: list[Any] = []
    dims: list[Dim] = []
    rest = iter(shape)
    for k in _expand_key(key, len(shape)):
        if k == "new":
            dims.append(1)
            continue
        dim = next(rest)
        if isinstance(k, int):
            if isinstance(dim, int) and not -dim <= k < dim:
                raise ShapeError(f"index {k} is outside a dim of size {dim}")
            triples.append((k % dim if isinstance(dim, int) else k, 1, 1))
        elif isinstance(dim, str):
            whole = k[1:] in ((None, None, None), (0, None, None))
            triples.append((0, dim, 1))
            dims.append(dim if whole else UNKNOWN)
        else:
            start, stop, step = slice(*k[1:]).indices(dim)
            count = len(range(start, stop, step))
            triples.append((start if count else 0, count, step))
            dims.append(count)
    return triples, dims


def _getitem_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    return types[0].with_shape(tuple(_slice_dims(attrs["key"], shape)[1]))


def _getitem(node: Node) -> Value:
    x = node.inputs[0]
    triples, dims = _slice_dims(node.attrs["key"], x.type.static_shape)
    start, size, step = (tuple(t[i] for t in triples) for i in range(3))
    whole = size == x.type.static_shape and all(s == 1 for s in step)
    part = x if whole else slice_(x, start=start, size=size, step=step)
    return reshape_to(part, [d for d in dims if isinstance(d, int)])


def _getitem_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    triples, _ = _slice_dims(attrs["key"], x[0].type.static_shape)
    start, size, step = (tuple(t[i] for t in triples) for i in range(3))
    return list(
        _slice_adjoint(reshape_to(g, size), x, {"start": start, "size": size, "step": step})
    )


def _getitem_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    special = {"new": None, "...": Ellipsis}
    index = tuple(
        special[k] if isinstance(k, str) else slice(*k[1:]) if isinstance(k, tuple) else k
        for k in attrs["key"]
    )
    return np.asarray(x[index])


strided_slice: Op = movement(
    "strided_slice",
    _getitem_type,
    _getitem_numpy,
    None,
    _getitem_adjoint,
    attrs={"key": REQUIRED},
    samples=lambda: [
        Sample((_array(5, 7),), {"key": (("slice", 1, None, 2), -1)}),
        Sample((_array(5, 7),), {"key": ("...", ("slice", None, None, -1), "new")}),
        Sample((_array(4, 3),), {"key": (2,)}),
    ],
    decompose=_getitem,
    doc="NumPy's basic indexing: integers, slices, ellipsis and new axes.",
)
