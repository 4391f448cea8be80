"""Results whose size depends on values: where a mask holds, the distinct elements, parts.

Each op takes the number that decides its size as an input, which is known when a program is
compiled: from what is fed, or by a run before the run (see `graphc.passes.stages`).

    positions(mask, count)       ->  int64[count, rank]
    first_of_each(x, count)      ->  int64[count], int32[n]
    part(x, bounds){key}         ->  strided_slice(x){key filled in}
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import bool_, int32, int64
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops.slicing import strided_slice
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
from graphc.ir.types import UNKNOWN, Dim, TensorType, check_sizes

# A run of its own finds the numbers that these ops need, even where the host could: programs
# are then kept by the numbers, not by all the values that lead to them.
COUNTED: Final = "counted"


def _count(attrs: Attrs) -> Dim:
    count: int | None = attrs["count"]
    return UNKNOWN if count is None else count


def _check_count(what: str, found: int, attrs: Attrs) -> None:
    if found != attrs["count"]:
        raise ShapeError(f"{what}: there are {found}, but the count says {attrs['count']}")


# -- where a mask holds


def _positions_type(types: Types, attrs: Attrs) -> TensorType:
    if types[0].dtype is not bool_:
        raise DTypeError(f"positions are those where a bool tensor holds, got {types[0]}")
    shape = types[0].shape
    rank = UNKNOWN if shape is None else len(shape)
    return TensorType(int64, check_sizes((_count(attrs), rank)))


def _positions_numpy(attrs: Attrs, mask: np.ndarray) -> np.ndarray:
    found = np.argwhere(mask).astype(np.int64)
    _check_count("positions", len(found), attrs)
    return found


def _mask_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(211)
    for shape in ((7,), (3, 5), (2, 3, 4), (0, 3), ()):
        mask = np.asarray(rng.random(shape) < 0.4)
        yield Sample((mask,), {"count": int(mask.sum())})


positions: Op = register(
    Op(
        "positions", Kind.OPAQUE, _positions_type, numpy=_positions_numpy, attrs={"count": None},
        grad=NoGradient("positions are integers", zero=True), host_inputs={1: "count"},
        facts=frozenset({COUNTED}), samples=_mask_samples,
        doc="Where the mask holds, in row-major order: [count, rank].",
    )
)  # fmt: skip

# -- distinct elements


def _distinct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct element stands first, and the number of each element's own."""
    if x.dtype.kind == "V":  # extended floats: compared as what they are computed in
        x = x.astype(np.float32)
    _, first, inverse = np.unique(x, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    number = np.argsort(order, kind="stable")
    return first[order].astype(np.int64), number[inverse.ravel()].astype(np.int32)


def _check_vector(x: TensorType) -> None:
    if x.rank not in (1, None):
        raise ShapeError(f"distinct elements are those of a vector, got {x}")


def _first_type(types: Types, attrs: Attrs) -> Types:
    _check_vector(types[0])
    size = (UNKNOWN,) if types[0].shape is None else types[0].shape
    return TensorType(int64, check_sizes((_count(attrs),))), TensorType(int32, size)


def _first_numpy(attrs: Attrs, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = _distinct(x)
    _check_count("distinct elements", len(found[0]), attrs)
    return found


def _vectors() -> Iterable[np.ndarray]:
    rng = np.random.default_rng(223)
    yield rng.integers(-3, 4, 20).astype(np.int32)
    yield rng.integers(0, 2, 5).astype(np.float32)
    yield np.zeros(0, np.int64)
    yield np.array([7, 7, 7], np.int64)


def _first_samples() -> Iterable[Sample]:
    for x in _vectors():
        yield Sample((x,), {"count": len(np.unique(x))}, ())


first_of_each: Op = register(
    Op(
        "first_of_each", Kind.OPAQUE, _first_type, numpy=_first_numpy, attrs={"count": None},
        grad=NoGradient("positions are integers", zero=True), host_inputs={1: "count"},
        facts=frozenset({COUNTED, STRINGS}), samples=_first_samples,
        doc="Where each distinct element of a vector stands first, and each element's number.",
    )
)  # fmt: skip


def _distinct_count_type(types: Types, _: Attrs) -> TensorType:
    _check_vector(types[0])
    return TensorType(int64, ())


distinct_count: Op = register(
    Op(
        "distinct_count", Kind.OPAQUE, _distinct_count_type,
        numpy=lambda attrs, x: np.asarray(len(_distinct(x)[0]), np.int64),
        grad=NoGradient("it is an integer", zero=True), facts=frozenset({STRINGS}),
        samples=lambda: [Sample((x,), {}, ()) for x in _vectors()],
        doc="How many distinct elements a vector has.",
    )
)  # fmt: skip

# -- parts whose bounds are computed


def _filled(key: Sequence[Any], bounds: Sequence[int]) -> tuple[Any, ...]:
    """The key of strided_slice: in slices, `("bound", i)` becomes number i of the bounds."""

    def number(k: Any) -> Any:
        return bounds[k[1]] if isinstance(k, tuple) else k

    return tuple(("slice", *map(number, k[1:])) if isinstance(k, tuple) else k for k in key)


def _is_open(k: Any) -> bool:
    return isinstance(k, tuple) and any(isinstance(part, tuple) for part in k)


def _part_type(types: Types, attrs: Attrs) -> TensorType:
    x, key, bounds = types[0], attrs["key"], attrs["bounds"]
    rule = strided_slice.type_rule
    if bounds is not None:
        (result,) = _as_types(rule((x,), {"key": _filled(key, bounds)}))
        return result
    if x.shape is None:
        return x
    whole = tuple(("slice", None, None, None) if _is_open(k) else k for k in key)
    (result,) = _as_types(rule((x,), {"key": whole}))
    pairs = _dims_of(key, result, len(x.shape))
    return result.with_shape(tuple(UNKNOWN if _is_open(k) else d for k, d in pairs))


def _as_types(given: TensorType | Types) -> Types:
    return (given,) if isinstance(given, TensorType) else given


def _dims_of(key: Sequence[Any], result: TensorType, rank: int) -> list[tuple[Any, Dim]]:
    """Each dim of the result with the entry of the key that made it; None: no entry."""
    used = sum(k not in ("new", "...") for k in key)
    rest: list[Any] = [None] * (rank - used)
    full = list(key) if "..." in key else [*key, "..."]
    at = full.index("...")
    entries = [k for k in [*full[:at], *rest, *full[at + 1 :]] if not isinstance(k, int)]
    return list(zip(entries, result.shape or (), strict=True))


def _part_samples() -> Iterable[Sample]:
    x = np.random.default_rng(227).standard_normal((6, 5)).astype(np.float32)
    key = (("slice", ("bound", 0), ("bound", 1), None), "...")
    yield Sample((x,), {"key": key, "bounds": (1, 4)})
    yield Sample((x,), {"key": key, "bounds": (-2, 9)})
    yield Sample((x,), {"key": key, "bounds": (4, 4)})
    yield Sample((x,), {"key": (2, "new", ("slice", None, ("bound", 0), -1)), "bounds": (1,)})


def _part_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    x, *rest = node.inputs
    return [part_grad(grads[0], x, *rest, **node.attrs), *[None] * len(rest)]


part: Op = register(
    Op(
        "part", Kind.COMPOSITE, _part_type, attrs={"key": REQUIRED, "bounds": None},
        grad=_part_grad, host_inputs={1: "bounds"}, facts=frozenset({COUNTED, STRINGS}),
        decompose=lambda node: strided_slice(
            node.inputs[0], key=_filled(node.attrs["key"], node.attrs["bounds"])
        ),
        samples=_part_samples,
        doc="Indexing whose bounds are computed: entries (bound, i) of the key are bounds[i].",
    )
)  # fmt: skip


def _part_grad_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    rest = node.inputs[2:]
    return [part(grads[0], *rest, **node.attrs), None, *[None] * len(rest)]


part_grad: Op = register(
    Op(
        "part_grad", Kind.COMPOSITE, lambda types, _: types[1],
        attrs={"key": REQUIRED, "bounds": None}, grad=_part_grad_grad,
        host_inputs={2: "bounds"}, facts=frozenset({COUNTED}),
        decompose=lambda node: OPS["strided_slice_grad"](
            *node.inputs[:2], key=_filled(node.attrs["key"], node.attrs["bounds"])
        ),
        doc="The gradient of part: (gradient, x for its shape, bounds).",
    )
)  # fmt: skip


def computed_item(x: Value, keys: Sequence[Any]) -> Value:
    """`x[keys]` where some of the numbers are tensors.

    An index that is a tensor is a `gather`, which needs no number before the run; it is not
    checked: beyond the axis it gives zeros.
    """
    bounds: list[Value] = []
    entries, indices = [], []
    for at, k in enumerate(keys):
        if _is_tensor(k):
            indices.append((at, _scalar(k)))
            k = slice(None)
        entries.append(k)
    axes = [_result_axis(x, entries, at) for at, _ in indices]
    key = tuple(_entry(k, bounds) for k in entries)
    if bounds:
        result = part(x, OPS["stack"](*bounds, axis=0), key=key)
    else:
        plain = all(isinstance(k, slice) and k == slice(None) for k in entries)
        result = x if plain else x[tuple(entries)]
    for axis, (_, index) in sorted(zip(axes, indices, strict=True), key=lambda p: -p[0]):
        result = OPS["gather"](result, _from_the_start(result, axis, index), axis=axis)
    return result


def _is_tensor(k: Any) -> bool:
    return isinstance(k, Value) or hasattr(k, "__graphc_value__")


def _scalar(k: Any) -> Value:
    value = convert(k)
    if not value.dtype.is_integer or value.type.rank not in (0, None):
        raise AttributeValueError(
            f"a tensor is indexed by integer scalars, got {value!r}: use boolean_mask for a mask, "
            "gather for several indices"
        )
    return value


def _entry(k: Any, bounds: list[Value]) -> Any:
    """An entry of part's key; the computed bounds of slices go to `bounds`."""
    if not isinstance(k, slice):
        return "new" if k is None else "..." if k is Ellipsis else k
    made: list[Any] = []
    for number in (k.start, k.stop, k.step):
        if _is_tensor(number):
            made.append(("bound", len(bounds)))
            bounds.append(OPS["cast"](_scalar(number), dtype=int64))
        else:
            made.append(None if number is None else int(number))
    return ("slice", *made)


def _result_axis(x: Value, keys: Sequence[Any], at: int) -> int:
    """The axis of the result that entry `at` makes."""
    before = [k for k in keys[:at] if not isinstance(k, (int, np.integer))]
    if Ellipsis not in before:
        return len(before)
    if x.type.rank is None:
        raise ShapeError(f"an index behind ... needs a tensor of known rank, got {x!r}")
    used = sum(k is not None and k is not Ellipsis for k in keys)
    return len(before) - 1 + x.type.rank - used


def _from_the_start(x: Value, axis: int, index: Value) -> Value:
    """An index from the end as one from the start."""
    size = OPS["cast"](OPS["shape"](x, dtype=int64)[axis], dtype=index.dtype)
    return OPS["where"](index < 0, index + size, index)
