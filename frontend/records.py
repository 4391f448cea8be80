"""Records read while a run goes on: lines of comma-separated values, tf.train.Example protos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from graphc.frontend.arguments import as_value, constant_value, is_tensor, static_shape
from graphc.frontend.sparse import SparseTensor
from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.errors import AttributeValueError, DTypeError, UnsupportedOp
from graphc.ir.graph import Value
from graphc.ir.literal import as_array
from graphc.ir.ops.records import Feature
from graphc.ir.table import OPS

_CSV_DTYPES: Final = ("float32", "float64", "int32", "int64", "string")
_EXAMPLE_DTYPES: Final = ("float32", "int64", "string")


def decode_csv(
    records: Any,
    record_defaults: Sequence[Any],
    field_delim: str = ",",
    use_quote_delim: bool = True,
    name: str | None = None,
    na_value: str = "",
    select_cols: Sequence[int] | None = None,
) -> list[Value]:
    """The fields of each line, one tensor per column.

    A column has the dtype of its default: a list or tensor with one value, or none where the
    field may not be empty; or the dtype itself.
    """
    columns = tuple(_column(d) for d in record_defaults)
    if len(field_delim) != 1:
        raise AttributeValueError(f"field_delim is one character, got {field_delim!r}")
    select = None if select_cols is None else tuple(select_cols)
    if select is not None and (len(select) != len(columns) or list(select) != sorted(set(select))):
        raise AttributeValueError(f"{len(columns)} defaults for the columns {select}, in order")
    made = OPS["decode_csv"].outputs(
        as_value(records), columns=columns, delimiter=field_delim, quotes=use_quote_delim,
        missing=na_value, select=select, name=name or "DecodeCSV",
    )  # fmt: skip
    return list(made)


def _column(default: Any) -> tuple[str, str | None]:
    if isinstance(default, (DType, type, str)) and not isinstance(default, bytes):
        array = np.zeros(0, as_dtype(default).numpy)
    else:
        known = constant_value(default) if is_tensor(default) else as_array(default)
        if known is None:
            raise AttributeValueError(f"a default must be known while building, got {default!r}")
        array = known
    dtype = as_dtype(array.dtype)
    if dtype.name not in _CSV_DTYPES or array.size > 1:
        raise DTypeError(f"a column is one of {', '.join(_CSV_DTYPES)}, got {default!r}")
    values = array.ravel().tolist()
    return dtype.name, None if not values else _as_text(values[0])


def _as_text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else repr(value)


# -- examples


class FixedLenFeature(NamedTuple):
    """A feature of exactly this shape; its default is for an Example that lacks it."""

    shape: Any
    dtype: Any
    default_value: Any = None


class VarLenFeature(NamedTuple):
    """A feature of any number of values: a SparseTensor."""

    dtype: Any


class FixedLenSequenceFeature(NamedTuple):
    """A feature of any number of values of a shape; a batch is padded."""

    shape: Any
    dtype: Any
    allow_missing: bool = False
    default_value: Any = None


def parse_example(
    serialized: Any,
    features: Mapping[str, Any],
    name: str | None = None,
    example_names: Any = None,
) -> dict[str, Any]:
    """The features of a vector of serialized Examples: name -> tensor, or SparseTensor."""
    del example_names
    value = as_value(serialized)
    if value.type.rank == 0:
        raise AttributeValueError("parse_example takes a vector; use parse_single_example")
    return _parsed(value, features, name or "ParseExample")


def parse_single_example(
    serialized: Any,
    features: Mapping[str, Any],
    name: str | None = None,
    example_names: Any = None,
) -> dict[str, Any]:
    """The features of one serialized Example: name -> tensor, or SparseTensor."""
    del example_names
    value = as_value(serialized)
    if value.type.rank not in (0, None):
        raise AttributeValueError(f"parse_single_example takes one Example, got {value!r}")
    return _parsed(value, features, name or "ParseSingleExample")


def _parsed(serialized: Value, features: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(features, Mapping) or not features:
        raise AttributeValueError(f"features are a dict of FixedLenFeature, got {features!r}")
    wanted = [_feature(key, features[key]) for key in sorted(features)]
    values = iter(
        OPS["parse_example"].outputs(serialized, features=tuple(map(tuple, wanted)), name=name)
    )
    result: dict[str, Any] = {}
    for feature in wanted:
        if feature.kind == "sparse":
            result[feature.name] = SparseTensor(next(values), next(values), next(values))
        else:
            result[feature.name] = next(values)
    return result


def _feature(name: str, given: Any) -> Feature:
    match given:
        case FixedLenFeature():
            kind, shape, default = "fixed", static_shape(given.shape), given.default_value
        case FixedLenSequenceFeature():
            kind, shape, default = "sequence", static_shape(given.shape), given.default_value
        case VarLenFeature():
            kind, shape, default = "sparse", (), None
        case _:
            raise UnsupportedOp(
                f"feature {name!r} is {given!r}; offered are FixedLenFeature, VarLenFeature and "
                "FixedLenSequenceFeature"
            )
    dtype = as_dtype(given.dtype)
    if dtype.name not in _EXAMPLE_DTYPES:
        raise DTypeError(
            f"Examples hold {', '.join(_EXAMPLE_DTYPES)}, not {dtype} (feature {name!r}); cast() it"
        )
    return Feature(name, kind, dtype.name, shape, _default(name, default, dtype, shape))


def _default(name: str, given: Any, dtype: DType, shape: Sequence[int]) -> tuple[Any, ...] | None:
    if given is None:
        return None
    array = as_array(given, dtype)
    if array.size not in (1, int(np.prod(shape, dtype=np.int64))):
        raise AttributeValueError(
            f"the default of feature {name!r} has {array.size} values, its shape is {list(shape)}"
        )
    return tuple(v.decode("latin-1") if isinstance(v, bytes) else v for v in array.ravel().tolist())


__all__ = [
    "FixedLenFeature", "FixedLenSequenceFeature", "VarLenFeature", "decode_csv", "parse_example",
    "parse_single_example",
]  # fmt: skip
