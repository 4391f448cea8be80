"""Reductions along axes; argmax and argmin.

`reduce_mean` and the like are composites of these. Empty reductions give the neutral element
(sum 0, prod 1, max -inf, min inf, any False, all True); max and min of integers give the
least and greatest integer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.dtypes import DType, as_dtype, int64
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import Shape, TensorType, normalize_axes


def reduced_shape(shape: Shape | None, axes: Any, keepdims: bool) -> Shape | None:
    """The shape after reducing `axes` (None: all)."""
    if shape is None:
        return () if axes is None and not keepdims else None
    gone = set(normalize_axes(axes, len(shape)))
    if keepdims:
        return tuple(1 if i in gone else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in gone)


def expand_reduced(value: Value, like: Value, attrs: Attrs) -> Value:
    """A reduction's result, spread over the shape of its input again."""
    if not attrs["keepdims"] and attrs["axis"] is not None:
        rank = like.type.rank
        assert rank is not None, "a reduction over named axes has a known rank"
        value = OPS["expand_dims"](value, axis=normalize_axes(attrs["axis"], rank))
    return OPS["broadcast_like"](value, like)


def neutral(op: str, dtype: DType) -> Any:
    """What an empty reduction gives."""
    match op:
        case "sum" | "any":
            return dtype.numpy.type(0).item()
        case "prod" | "all":
            return dtype.numpy.type(1).item()
        case "max":
            return float("-inf") if dtype.is_floating else dtype.min
        case "min":
            return float("inf") if dtype.is_floating else dtype.max
    raise AssertionError(f"{op} of nothing has no value")


def _sum_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    g = grads[0]
    assert g is not None
    return [expand_reduced(g, node.inputs[0], node.attrs)]


def _prod_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # d prod / dx_i = product of the others; by division, and where there are zeros by the
    # product of the rest: exact for one zero, 0 for two or more
    x, g = node.inputs[0], grads[0]
    assert g is not None
    axes = {"axis": node.attrs["axis"], "keepdims": node.attrs["keepdims"]}
    zero = pw.equal(x, convert(0, like=x.dtype))
    safe = pw.where(zero, convert(1, like=x.dtype), x)
    count = reduce_sum(pw.cast(zero, dtype=x.dtype), **axes)
    rest = expand_reduced(g * reduce_prod(safe, **axes), x, node.attrs)
    zeros = expand_reduced(count, x, node.attrs)
    none = pw.equal(zeros, convert(0, like=x.dtype))
    one = pw.logical_and(pw.equal(zeros, convert(1, like=x.dtype)), zero)
    return [pw.where(pw.logical_or(none, one), rest / safe, convert(0, like=x.dtype))]


def _extremum_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # the gradient is shared equally among ties, as TensorFlow does
    x, y, g = node.inputs[0], node.outputs[0], grads[0]
    assert g is not None
    hit = pw.cast(pw.equal(x, expand_reduced(y, x, node.attrs)), dtype=x.dtype)
    count = reduce_sum(hit, axis=node.attrs["axis"], keepdims=node.attrs["keepdims"])
    return [hit * expand_reduced(g / count, x, node.attrs)]


def _samples(category: str) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        rng = np.random.default_rng(7)
        for shape, axis, keepdims in (
            ((3, 5), None, False), ((3, 5), (0,), False), ((3, 5), (1,), True),
            ((2, 3, 4), (0, 2), False), ((), None, False), ((7, 1), (1,), False),
            ((0, 3), (0,), False), ((3, 0), (0,), False),
        ):  # fmt: skip
            x = pw._random(rng, shape, category, -2, 2)
            yield Sample((x,), {"axis": axis, "keepdims": keepdims})
        if category == "float":
            special = np.array([[1, np.nan, 2], [np.inf, 0, -np.inf]], np.float32)
            yield Sample((special,), {"axis": (1,)}, differentiable=(), name="special")

    return samples


def _reduction(name: str, op: str, function: Any, accepts: str, grad: Any, *, doc: str = "") -> Op:
    def type_rule(types: Types, attrs: Attrs) -> TensorType:
        pw.check_category(types, accepts)
        return types[0].with_shape(reduced_shape(types[0].shape, attrs["axis"], attrs["keepdims"]))

    def numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
        dtype = as_dtype(x.dtype)
        axes = normalize_axes(attrs["axis"], x.ndim)
        wide = x.astype(dtype.compute.numpy, copy=False)
        initial = wide.dtype.type(neutral(op, dtype.compute))
        result = function.reduce(
            wide, axis=axes, keepdims=attrs["keepdims"], initial=initial, dtype=wide.dtype
        )
        return np.asarray(result).astype(x.dtype, copy=False)

    return register(
        Op(
            name,
            Kind.REDUCE,
            type_rule,
            numpy=numpy,
            attrs={"axis": None, "keepdims": False},
            grad=grad,
            facts=frozenset({f"reduce:{op}"}),
            samples=_samples("bool" if accepts == "bool" else "float"),
            doc=doc,
        )
    )


reduce_sum = _reduction("reduce_sum", "sum", np.add, pw.NUMERIC, _sum_grad)
reduce_prod = _reduction("reduce_prod", "prod", np.multiply, pw.NUMERIC, _prod_grad)
reduce_max = _reduction("reduce_max", "max", np.maximum, pw.NUMERIC, _extremum_grad)
reduce_min = _reduction("reduce_min", "min", np.minimum, pw.NUMERIC, _extremum_grad)
_LOGIC = NoGradient("it gives truth values", zero=True)
reduce_any = _reduction("reduce_any", "any", np.logical_or, "bool", _LOGIC)
reduce_all = _reduction("reduce_all", "all", np.logical_and, "bool", _LOGIC)


def _arg_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, pw.NUMERIC)
    shape = types[0].shape
    if shape is None:
        return TensorType(attrs["dtype"], None)
    (axis,) = normalize_axes(attrs["axis"], len(shape))
    if shape[axis] == 0:
        raise ShapeError(f"no position along axis {axis} of {types[0]}: it is empty")
    return TensorType(attrs["dtype"], reduced_shape(shape, attrs["axis"], attrs["keepdims"]))


def _arg_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(9)
    yield Sample((rng.standard_normal((3, 5)).astype(np.float32),), {"axis": 1})
    yield Sample((rng.integers(0, 3, (4, 7)).astype(np.int32),), {"axis": 0, "keepdims": True})
    yield Sample((np.array([1, np.nan, 3], np.float32),), {"axis": 0}, name="nan")


def _position(name: str, op: str, function: Any) -> Op:
    def numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
        (axis,) = normalize_axes(attrs["axis"], x.ndim)
        wide = x.astype(as_dtype(x.dtype).compute.numpy, copy=False)
        result = function(wide, axis=axis, keepdims=attrs["keepdims"])
        return np.asarray(result).astype(attrs["dtype"].numpy, copy=False)

    return register(
        Op(
            name,
            Kind.REDUCE,
            _arg_type,
            numpy=numpy,
            attrs={"axis": 0, "keepdims": False, "dtype": int64},
            grad=NoGradient("it gives positions", zero=True),
            facts=frozenset({f"reduce:{op}"}),
            samples=_arg_samples,
            doc="The first position of the extremum; of the first NaN where there is one.",
        )
    )


argmax = _position("argmax", "argmax", np.argmax)
argmin = _position("argmin", "argmin", np.argmin)


def reduce_kind(op: Op) -> str:
    """The loop IR's name of the reduction: "sum", "max", ..."""
    return next(f.partition(":")[2] for f in op.facts if f.startswith("reduce:"))


def _mean_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, "float")
    return types[0].with_shape(reduced_shape(types[0].shape, attrs["axis"], attrs["keepdims"]))


def _mean(node: Node) -> Value:
    x = node.inputs[0]
    axes = normalize_axes(node.attrs["axis"], len(x.type.static_shape))
    count = int(np.prod([x.type.static_shape[a] for a in axes]))
    total = reduce_sum(x, axis=node.attrs["axis"], keepdims=node.attrs["keepdims"])
    return total * (1.0 / count if count else float("nan"))


def _mean_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    x, g = node.inputs[0], grads[0]
    assert g is not None
    return [OPS["mean_spread"](g, x, axis=node.attrs["axis"], keepdims=node.attrs["keepdims"])]


def _mean_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    axes = normalize_axes(attrs["axis"], x.ndim)
    wide = x.astype(as_dtype(x.dtype).compute.numpy, copy=False)
    return np.asarray(np.mean(wide, axis=axes, keepdims=attrs["keepdims"])).astype(x.dtype)


reduce_mean = register(
    Op(
        "reduce_mean",
        Kind.COMPOSITE,
        _mean_type,
        numpy=_mean_numpy,
        attrs={"axis": None, "keepdims": False},
        grad=_mean_grad,
        decompose=_mean,
        samples=_samples("float"),
        doc="The arithmetic mean along the axes; of nothing it is NaN.",
    )
)


def _spread_decompose(node: Node) -> Value:
    g, x = node.inputs
    axes = normalize_axes(node.attrs["axis"], len(x.type.static_shape))
    count = int(np.prod([x.type.static_shape[a] for a in axes]))
    return expand_reduced(g * (1.0 / max(count, 1)), x, node.attrs)


mean_spread = register(
    Op(
        "mean_spread",
        Kind.COMPOSITE,
        lambda types, attrs: types[0].with_shape(types[1].shape),
        attrs={"axis": None, "keepdims": False},
        grad=lambda node, grads: [
            reduce_mean(grads[0], axis=node.attrs["axis"], keepdims=node.attrs["keepdims"]),
            None,
        ],
        decompose=_spread_decompose,
        doc="The gradient of reduce_mean: its input, divided by the count, over the shape of x.",
    )
)
