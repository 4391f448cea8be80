"""Convolutions in one, two and three dims and their gradients: windows, then a contraction.

    convolution(x, w) = contract(unfold(pad(x)), w)

so that the dot's kernel reads the windows through strides and guards and nothing is copied.
Filters are [window..., inputs / groups, outputs]; images as their `data_format` says. A group is
a batch label of the contraction; where each group has one input channel (depthwise), the few
products are summed without a dot. The gradients are linear in each of their inputs, so their
gradients are convolutions again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import slicing
from graphc.ir.ops.contract import contract, parse_spec
from graphc.ir.ops.geometry import (
    channel_axis,
    check_window,
    is_same,
    output_size,
    per_dim,
    spatial_axes,
    spread_windows,
    window_of,
    windows,
)
from graphc.ir.ops.pointwise import check_category, check_same_dtype
from graphc.ir.table import Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, Dim, TensorType, merge_shapes

_ATTRS: Final[Attrs] = {
    "strides": None, "padding": "VALID", "dilations": None, "data_format": "NHWC", "groups": 1,
}  # fmt: skip


_MOST_TERMS: Final = 32  # a depthwise window of more elements is summed by a loop


def _conv_type(types: Types, attrs: Attrs) -> TensorType:
    dtype = _float_type(types)
    x, w = types
    axes = spatial_axes(attrs["data_format"])
    c = channel_axis(attrs["data_format"])
    _check_ranks(x, w, len(axes) + 2)
    if x.shape is None or w.shape is None:
        return TensorType(dtype, (UNKNOWN,) * (len(axes) + 2))
    check_window(attrs, w.shape[:-2])
    _check_channels(x, w, x.shape[c], attrs["groups"])
    dims = list(x.shape)
    for i, axis in enumerate(axes):
        dims[axis] = output_size(x.shape[axis], w.shape[i], attrs, i)
    dims[c] = w.shape[-1]
    return TensorType(dtype, tuple(dims))


def _float_type(types: Types) -> Any:
    dtype = check_same_dtype(types)
    check_category(types, "float")
    return dtype


def _check_ranks(x: TensorType, w: TensorType, rank: int) -> None:
    if any(t.shape is not None and len(t.shape) != rank for t in (x, w)):
        raise ShapeError(
            f"a convolution in {rank - 2} dims needs an image and a filter of rank {rank}, "
            f"got {x} and {w}"
        )


def _check_groups(groups: Any) -> None:
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise AttributeValueError(f"groups is a positive number, got {groups!r}")


def _check_channels(x: TensorType, w: TensorType, channels: Dim, groups: int) -> None:
    assert w.shape is not None
    _check_groups(groups)
    inputs, outputs = w.shape[-2:]
    wrong = isinstance(channels, int) and isinstance(inputs, int) and channels != inputs * groups
    if wrong or (isinstance(outputs, int) and outputs % groups):
        raise ShapeError(
            f"a filter {w} in {groups} groups takes images of {inputs} x {groups} channels and "
            f"has outputs divisible by {groups}; got an image {x} with {channels} channels"
        )


def _split_channels(x: Value, axis: int, groups: int) -> Value:
    """The channels as [groups, channels / groups]."""
    shape = list(x.type.static_shape)
    shape[axis : axis + 1] = [groups, shape[axis] // groups]
    return mv.reshape_to(x, shape)


def _split_filter(w: Value, groups: int) -> Value:
    *window, c, o = w.type.static_shape
    return mv.reshape_to(w, (*window, c, groups, o // groups))


def _labels(data_format: str, groups: int) -> tuple[str, str, str]:
    """einsum labels of windows, filter and result."""
    rank = len(spatial_axes(data_format))
    places, inside = "pqr"[:rank], "ijk"[:rank]
    group = "g" if groups > 1 else ""
    if channel_axis(data_format) == 1:
        image, result = f"n{group}c{places}", f"n{group}o{places}"
    else:
        image, result = f"n{places}{group}c", f"n{places}{group}o"
    return image + inside, f"{inside}c{group}o", result


def _is_depthwise(shape: Sequence[int], groups: int) -> bool:
    return groups > 1 and shape[-2] == 1


def _sum_of_products(a: Value, b: Value, spec: str, depthwise: bool) -> Value:
    """The contraction; where a group has one channel, products and sums: too few for a dot.

    There a small window is written out, a term for each of its elements: then what remains is
    elementwise along the image, where a sum over the window's few elements would be short rows.
    """
    if not depthwise:
        return contract(a, b, spec=spec)
    left, right, out = parse_spec(spec)
    dtype = a.dtype
    a, b = (pw.cast(x, dtype=dtype.compute) for x in (a, b))
    inside = "".join(c for c in "ijk" if c in left and c not in out)
    count = math.prod(a.type.static_shape[left.index(c)] for c in inside)
    if not inside or count > _MOST_TERMS:
        total = _reduced_products(a, left, b, right, out)
    else:
        parts = zip(_elements(a, left, inside), _elements(b, right, inside), strict=True)
        rest = [_without(labels, inside) for labels in (left, right)]
        terms = [_reduced_products(x, rest[0], y, rest[1], out) for x, y in parts]
        total = functools.reduce(pw.add, terms)
    return pw.cast(total, dtype=dtype)


def _without(labels: str, gone: str) -> str:
    return "".join(c for c in labels if c not in gone)


def _elements(x: Value, labels: str, inside: str) -> Iterator[Value]:
    """x at each position of the labels `inside`, which go."""
    shape = x.type.static_shape
    at = [labels.index(c) for c in inside]
    size = [1 if i in at else d for i, d in enumerate(shape)]
    rest = [d for i, d in enumerate(shape) if i not in at]
    for place in np.ndindex(*(shape[i] for i in at)):
        start = [place[at.index(i)] if i in at else 0 for i in range(len(shape))]
        part = slicing.slice_(x, start=tuple(start), size=tuple(size), step=(1,) * len(shape))
        yield mv.reshape_to(part, rest)


def _reduced_products(a: Value, left: str, b: Value, right: str, out: str) -> Value:
    """The sum of a * b over the labels that `out` lacks."""
    order = out + _without(left, out)
    order += _without(right, order)
    product = _aligned(a, left, order) * _aligned(b, right, order)
    shape = product.type.static_shape
    axes = range(len(out), len(order))
    if all(shape[i] == 1 for i in axes):
        return mv.reshape_to(product, shape[: len(out)])
    return red.reduce_sum(product, axis=tuple(axes))


def _aligned(x: Value, labels: str, order: str) -> Value:
    """x with its dims in the order, and ones for the labels that it lacks."""
    own = [c for c in order if c in labels]
    x = mv.transpose(x, perm=tuple(labels.index(c) for c in own))
    sizes = dict(zip(own, x.type.static_shape, strict=True))
    return mv.reshape_to(x, [sizes.get(c, 1) for c in order])


def _conv(node: Node) -> Value:
    x, w = node.inputs
    attrs = node.attrs
    groups, data_format = attrs["groups"], attrs["data_format"]
    shape = w.type.static_shape
    view = windows(x, window_of(x.type.static_shape, shape[:-2], attrs), data_format)
    left, right, out = _labels(data_format, groups)
    if groups > 1:
        view = _split_channels(view, channel_axis(data_format), groups)
        w = _split_filter(w, groups)
    depthwise = _is_depthwise(shape, groups)
    result = _sum_of_products(view, w, f"{left},{right}->{out}", depthwise)
    return mv.reshape_to(result, node.types[0].static_shape)


def _conv_input_grad(node: Node) -> Value:
    w, g, like = node.inputs
    attrs = node.attrs
    groups, data_format = attrs["groups"], attrs["data_format"]
    image, shape = like.type.static_shape, w.type.static_shape
    window = window_of(image, shape[:-2], attrs)
    c = channel_axis(data_format)
    wide = tuple(shape[-1] if axis == c else d for axis, d in enumerate(image))
    spread = spread_windows(g, window, wide, data_format)
    left, right, out = _labels(data_format, groups)
    if groups > 1:
        spread = _split_channels(spread, c, groups)
        w = _split_filter(w, groups)
    # the sum runs over the outputs, and the channels come out
    given, target = left.replace("c", "o"), out.replace("o", "c")
    depthwise = _is_depthwise(shape, groups)
    result = _sum_of_products(spread, w, f"{given},{right}->{target}", depthwise)
    return mv.reshape_to(result, image)


def _conv_filter_grad(node: Node) -> Value:
    x, g, like = node.inputs
    attrs = node.attrs
    groups, data_format = attrs["groups"], attrs["data_format"]
    shape = like.type.static_shape
    view = windows(x, window_of(x.type.static_shape, shape[:-2], attrs), data_format)
    left, right, out = _labels(data_format, groups)
    if groups > 1:
        view = _split_channels(view, channel_axis(data_format), groups)
        g = _split_channels(g, channel_axis(data_format), groups)
    depthwise = _is_depthwise(shape, groups)
    result = _sum_of_products(view, g, f"{left},{out}->{right}", depthwise)
    return mv.reshape_to(result, shape)


def _input_grad_type(types: Types, attrs: Attrs) -> TensorType:
    w, g, x = types
    _check_gradient(g, _conv_type((x, w), attrs))
    return x


def _filter_grad_type(types: Types, attrs: Attrs) -> TensorType:
    x, g, w = types
    _check_gradient(g, _conv_type((x, w), attrs))
    return w


def _check_gradient(g: TensorType, result: TensorType) -> None:
    check_same_dtype((g, result))
    merge_shapes(g.shape, result.shape, "the gradient needs the shape of the convolution's result")


def _conv_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (x, w), g = node.inputs, grads[0]
    return [
        convolution_input_grad(w, g, x, **node.attrs),
        convolution_filter_grad(x, g, w, **node.attrs),
    ]


def _input_grad_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (w, g, _), h = node.inputs, grads[0]
    return [convolution_filter_grad(h, g, w, **node.attrs), convolution(h, w, **node.attrs), None]


def _filter_grad_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (x, g, _), h = node.inputs, grads[0]
    return [convolution_input_grad(h, g, x, **node.attrs), convolution(x, h, **node.attrs), None]


# -- the transposed convolution


_TRANSPOSED_ATTRS: Final[Attrs] = {**_ATTRS, "output_padding": None}


def _transposed_type(types: Types, attrs: Attrs) -> TensorType:
    dtype = _float_type(types)
    x, w = types
    axes = spatial_axes(attrs["data_format"])
    _check_ranks(x, w, len(axes) + 2)
    _check_groups(attrs["groups"])
    if x.shape is None or w.shape is None:
        return TensorType(dtype, (UNKNOWN,) * (len(axes) + 2))
    check_window(attrs, w.shape[:-2])
    c = channel_axis(attrs["data_format"])
    outputs, inputs = w.shape[-2:]
    merge_shapes((x.shape[c],), (inputs,), f"a transposed convolution of {x} with the filter {w}")
    dims = list(x.shape)
    for i, axis in enumerate(axes):
        dims[axis] = _grown(x.shape[axis], w.shape[i], attrs, i)
    dims[c] = outputs * attrs["groups"] if isinstance(outputs, int) else UNKNOWN
    return TensorType(dtype, tuple(dims))


def _grown(size: Dim, window: Dim, attrs: Attrs, which: int) -> Dim:
    """The size of which a convolution makes `size`: of all such, the least plus output_padding."""
    stride, dilation = (per_dim(attrs, name)[which] for name in ("strides", "dilations"))
    more = 0 if attrs["output_padding"] is None else attrs["output_padding"][which]
    if not 0 <= more < stride:
        raise AttributeValueError(
            f"output_padding is less than the stride: {more} of {stride} along spatial dim {which}"
        )
    padding = attrs["padding"]
    if isinstance(size, str) or isinstance(window, str):
        return size if is_same(padding) and stride == 1 else UNKNOWN
    if is_same(padding):
        return size * stride
    taken = 0 if padding == "VALID" else sum(padding[which])
    grown: int = (size - 1) * stride + (window - 1) * dilation + 1 - taken + more
    if grown < 0:
        raise ShapeError(f"padding takes {taken} from what has only {grown + taken}")
    return grown


def _transposed(node: Node) -> Value:
    x, w = node.inputs
    like = mv.broadcast_to_shape(convert(0, like=x.dtype), node.types[0].static_shape)
    return convolution_input_grad(w, x, like, **_plain(node.attrs))


def _plain(attrs: Attrs) -> dict[str, Any]:
    return {k: attrs[k] for k in _ATTRS}


def _transposed_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (x, w), g, attrs = node.inputs, grads[0], _plain(node.attrs)
    return [convolution(g, w, **attrs), convolution_filter_grad(g, x, w, **attrs)]


# -- samples and entries

_CASES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 5, 6, 3), (3, 3, 3, 4), {"padding": "SAME"}),
    ((1, 7, 5, 2), (3, 2, 2, 3), {"padding": "VALID", "strides": (2, 1)}),
    ((2, 6, 7, 2), (3, 3, 2, 2), {"padding": "SAME", "strides": (2, 3)}),
    ((1, 8, 8, 1), (3, 3, 1, 2), {"padding": "SAME", "dilations": (2, 2)}),
    ((2, 3, 5, 6), (2, 3, 3, 2), {"padding": "SAME", "data_format": "NCHW"}),
    ((1, 5, 5, 4), (3, 3, 2, 6), {"padding": "SAME", "groups": 2}),
    ((1, 4, 4, 2), (3, 3, 2, 1), {"padding": ((1, 0), (2, 1))}),
    ((1, 4, 5, 3), (2, 3, 1, 6), {"padding": "SAME_LOWER", "groups": 3, "strides": (1, 2)}),
    ((2, 7, 3), (3, 3, 2), {"padding": ((2, 1),), "strides": (2,), "data_format": "NWC"}),
    ((1, 4, 9), (2, 2, 4), {"groups": 2, "dilations": (3,), "data_format": "NCW"}),
    ((1, 3, 4, 5, 2), (2, 2, 3, 2, 3),
     {"padding": "SAME", "strides": (1, 2, 2), "data_format": "NDHWC"}),
    ((1, 2, 3, 4, 3), (2, 3, 1, 1, 4),
     {"groups": 2, "padding": ((0, 0), (1, 1), (0, 1)), "data_format": "NCDHW"}),
)  # fmt: skip


def _samples(make: Any) -> Any:
    def samples() -> Iterable[Sample]:
        rng = np.random.default_rng(23)
        for image, kernel, attrs in _CASES:
            arrays = [rng.standard_normal(s).astype(np.float32) for s in (image, kernel)]
            yield make(rng, *arrays, attrs)

    return samples


def _forward_sample(rng: np.random.Generator, x: Any, w: Any, attrs: Any) -> Sample:
    return Sample((x, w), attrs)


def _result(rng: np.random.Generator, x: Any, w: Any, attrs: Any) -> np.ndarray:
    """Something in the shape of the convolution."""
    types = tuple(TensorType(float32, a.shape) for a in (x, w))
    shape = _conv_type(types, {**_ATTRS, **attrs}).static_shape
    return rng.standard_normal(shape).astype(np.float32)


def _input_sample(rng: np.random.Generator, x: Any, w: Any, attrs: Any) -> Sample:
    return Sample((w, _result(rng, x, w, attrs), x), attrs, (0, 1))


def _filter_sample(rng: np.random.Generator, x: Any, w: Any, attrs: Any) -> Sample:
    return Sample((x, _result(rng, x, w, attrs), w), attrs, (0, 1))


def _transposed_sample(rng: np.random.Generator, x: Any, w: Any, attrs: Any) -> Sample:
    more = {"output_padding": tuple(s - 1 for s in attrs["strides"])} if "strides" in attrs else {}
    return Sample((_result(rng, x, w, attrs), w), {**attrs, **more})


def _register(name: str, type_rule: Any, decompose: Any, grad: Any, samples: Any, doc: str) -> Op:
    attrs = _TRANSPOSED_ATTRS if name == "convolution_transpose" else _ATTRS
    return register(
        Op(
            name, Kind.COMPOSITE, type_rule, attrs=attrs, grad=grad, decompose=decompose,
            samples=samples, doc=doc,
        )
    )  # fmt: skip


convolution: Op = _register(
    "convolution", _conv_type, _conv, _conv_grad, _samples(_forward_sample),
    """Cross-correlation of an image [n, h, w, c] with a filter [i, j, c / groups, o].

    One, two or three spatial dims, by `data_format`; strides and dilations one number per spatial
    dim (None: ones); padding "SAME" (the odd rest after), "SAME_LOWER", "VALID" or pairs.""",
)  # fmt: skip
convolution_input_grad: Op = _register(
    "convolution_input_grad", _input_grad_type, _conv_input_grad, _input_grad_grad,
    _samples(_input_sample),
    "The gradient of a convolution for its image: (filter, gradient, image for its shape).",
)  # fmt: skip
convolution_filter_grad: Op = _register(
    "convolution_filter_grad", _filter_grad_type, _conv_filter_grad, _filter_grad_grad,
    _samples(_filter_sample),
    "The gradient of a convolution for its filter: (image, gradient, filter for its shape).",
)  # fmt: skip
convolution_transpose: Op = _register(
    "convolution_transpose", _transposed_type, _transposed, _transposed_grad,
    _samples(_transposed_sample),
    """The image gradient of a convolution as an op of its own: images grow by the strides.

    [n, p, q, o] with the convolution's filter [i, j, c / groups, o] gives [n, h, w, c]; "SAME":
    the strides' multiples, else the least size that the convolution takes back to p and q, plus
    `output_padding`.""",
)  # fmt: skip


def depthwise_convolution(x: Value, w: Value, name: str | None = None, **attrs: Any) -> Value:
    """Each channel with its own filters: a convolution with as many groups as channels.

    w: [window..., channels, multiplier], all known; output channel c * multiplier + m is input
    channel c with the filter w[..., c, m]. `attrs` are the convolution's.
    """
    rank = len(spatial_axes(attrs.get("data_format", "NHWC"))) + 2
    if not w.type.is_static or len(w.type.static_shape) != rank:
        raise ShapeError(
            f"a depthwise convolution needs a filter of rank {rank} and known sizes, got {w.type}"
        )
    *window, channels, multiplier = w.type.static_shape
    flat = mv.reshape_to(w, (*window, 1, channels * multiplier))
    return convolution(x, flat, groups=channels, name=name, **attrs)
