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
from typing import Any

import numpy as np

from graphc.ir import views
from graphc.ir.dtypes import as_dtype, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import CONSTANT, Node, Value, convert
from graphc.ir.literal import Literal
from graphc.ir.table import (
    OPS,
    REQUIRED,
    STRINGS,
    Attrs,
    Kind,
    NoGradient,
    Op,
    Sample,
    Types,
    register,
)
from graphc.ir.types import (
    UNKNOWN,
    Dim,
    Shape,
    TensorType,
    broadcast_shapes,
    check_sizes,
    format_shape,
    may_equal,
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
            facts=frozenset({"linear", STRINGS}),
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


def sample_array(*shape: int) -> np.ndarray:
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
    yield Sample((sample_array(3, 4),), {"shape": (2, 6)})
    yield Sample((sample_array(2, 3, 4),), {"shape": (-1, 4)})
    yield Sample((sample_array(1, 1),), {"shape": ()})
    yield Sample((sample_array(0, 3),), {"shape": (3, 0)})
    yield Sample((sample_array(4, 6),), {"shape": (6, 4)})


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
    axes = normalize_axes(attrs["axis"], len(shape) + len(as_tuple(attrs["axis"])))
    dims = list(shape)
    for axis in axes:
        dims.insert(axis, 1)
    return types[0].with_shape(tuple(dims))


def as_tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


expand_dims: Op = movement(
    "expand_dims",
    _expand_type,
    lambda attrs, x: np.expand_dims(x, attrs["axis"]),
    None,
    lambda g, x, attrs: [reshape_to(g, x[0].type.static_shape)],
    attrs={"axis": REQUIRED},
    samples=lambda: [
        Sample((sample_array(3, 4),), {"axis": 1}),
        Sample((sample_array(3),), {"axis": (0, -1)}),
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
        Sample((sample_array(3, 1, 4, 1),), {}),
        Sample((sample_array(3, 1, 4, 1),), {"axis": (1,)}),
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
        Sample((sample_array(3, 4),), {}),
        Sample((sample_array(2, 3, 4),), {"perm": (1, 2, 0)}),
        Sample((sample_array(0, 2),), {}),
        Sample((sample_array(),), {}),
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
        Sample((sample_array(3, 1),), {"shape": (2, 3, 4)}),
        Sample((sample_array(),), {"shape": (5,)}),
        Sample(
            (
                sample_array(
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
        samples=lambda: [Sample((sample_array(3, 1), sample_array(3, 4)), differentiable=(0,))],
        facts=frozenset({STRINGS}),
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
        Sample((sample_array(2, 3),), {"multiples": (2, 3)}),
        Sample((sample_array(2, 1),), {"multiples": (1, 4)}),
        Sample((sample_array(3),), {"multiples": (0,)}),
        Sample((sample_array(0, 2),), {"multiples": (3, 1)}),
        Sample((sample_array(),), {"multiples": ()}),
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
            Sample((sample_array(2, 3, 4), sample_array(3, 1)), differentiable=(0,)),
            Sample((sample_array(3), sample_array()), differentiable=(0,)),
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
        samples=lambda: [Sample((sample_array(2, 6), sample_array(3, 4)), differentiable=(0,))],
        facts=frozenset({STRINGS}),
        doc="The first input in the shape of the second.",
    )
)


def _full_like(value: int) -> Callable[[Node], Value]:
    def decompose(node: Node) -> Value:
        dtype = node.types[0].dtype
        one = convert(b"" if dtype.is_string else value, dtype=dtype)
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
            samples=lambda: [Sample((sample_array(3, 2),)), Sample((sample_array(),))],
            facts=frozenset({STRINGS} if value == 0 else ()),
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
        facts=frozenset({"of_type", STRINGS}),
        samples=lambda: [Sample((sample_array(3, 2),))],
        doc="The shape of the input, as a vector of integers.",
    )
)
