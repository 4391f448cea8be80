"""Sparse tensors as three dense ones: what labels of CTC and bags of words are given in.

There are no sparse ops behind it: a few functions take such a triple, and that is all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from graphc.frontend.arguments import as_value
from graphc.frontend.sources import placeholder
from graphc.ir.dtypes import int64
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS


class SparseTensor(NamedTuple):
    """values[i] at indices[i], zero elsewhere. indices: [n, rank], values: [n], shape: [rank]."""

    indices: Any
    values: Any
    dense_shape: Any

    @property
    def dtype(self) -> Any:
        """The values' dtype."""
        return as_value(self.values).dtype


class SparseTensorValue(NamedTuple):
    """The same as arrays: what is fed and fetched."""

    indices: Any
    values: Any
    dense_shape: Any


def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparseTensor:
    """A sparse tensor that every run is fed: (indices, values, dense_shape)."""
    rank = None if shape is None else len(shape)
    base = name or "Placeholder"
    return SparseTensor(
        placeholder(int64, [None, rank], name=f"{base}/indices"),
        placeholder(dtype, [None], name=f"{base}/values"),
        placeholder(int64, [rank], name=f"{base}/shape"),
    )


class DecodedLabels:
    """Sequences of labels of lengths that a run finds: a padded matrix and the lengths.

    Fetched, it is a SparseTensorValue.
    """

    def __init__(self, padded: Value, counts: Value) -> None:
        self.padded = padded  # [batch, steps], -1 behind the last label
        self.counts = counts  # [batch]

    def __graphc_fetch__(self) -> tuple[Any, Any]:
        return [self.padded, self.counts], _sparse_value


def _sparse_value(values: Any) -> SparseTensorValue:
    import numpy as np

    padded, counts = values
    inside = np.arange(padded.shape[1]) < counts[:, None]
    longest = int(counts.max()) if counts.size else 0
    shape = np.array([len(padded), longest], np.int64)
    return SparseTensorValue(np.argwhere(inside), padded[inside], shape)


def sparse_tensor_to_dense(
    sp_input: Any, default_value: Any = 0, validate_indices: bool = True, name: str | None = None
) -> Value:
    """The dense tensor, with `default_value` where nothing is.

    Decoded labels become [batch, steps], for no run knows the longest before it has ended.
    """
    del validate_indices
    if isinstance(sp_input, DecodedLabels):
        fill = convert(default_value, like=sp_input.padded.dtype)
        return pw.where(sp_input.padded >= 0, sp_input.padded, fill, name=name)
    if not isinstance(sp_input, (SparseTensor, SparseTensorValue)):
        raise AttributeValueError(f"a sparse tensor is needed, got {sp_input!r}")
    from graphc.frontend.array import scatter_nd

    values, indices = as_value(sp_input.values), as_value(sp_input.indices)
    shape = sp_input.dense_shape
    if values.dtype.is_string:
        rest = default_value if isinstance(default_value, (str, bytes)) else ""
        return OPS["dense_strings"](indices, values, as_value(shape), as_value(rest), name=name)
    sums = scatter_nd(indices, values, shape)
    if isinstance(default_value, (int, float)) and default_value == 0:
        return OPS["identity"](sums, name=name)
    ones = OPS["ones_like"](values, dtype=int64)
    there = pw.not_equal(scatter_nd(indices, ones, shape), 0)
    return pw.where(there, sums, convert(default_value, like=values.dtype), name=name)


__all__ = [
    "DecodedLabels", "SparseTensor", "SparseTensorValue", "sparse_placeholder",
    "sparse_tensor_to_dense",
]  # fmt: skip
