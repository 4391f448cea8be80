"""Dropout, which is drawn anew in every run and repeats by its seed."""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import as_value, constant_value, shape_argument
from graphc.frontend.framework import name_scope
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, convert, get_default_graph
from graphc.ir.ops import nn as ops
from graphc.ir.ops.random import random_key
from graphc.ir.table import OPS
from graphc.ir.types import Dim, same_dim


def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Value:
    """x / keep_prob with probability keep_prob, else 0; rate = 1 - keep_prob.

    keep_prob may be a tensor. `noise_shape` (broadcast to x) says what is dropped together.
    (Srivastava et al., 2014.)
    """
    if (keep_prob is None) == (rate is None):
        raise AttributeValueError("dropout needs keep_prob or rate, and not both")
    value = as_value(x)
    if not value.dtype.is_floating:
        raise DTypeError(f"dropout scales floats, got {value!r}")
    with name_scope(name, "dropout") as scope:
        dropped = _dropped_share(keep_prob, rate)
        known = constant_value(dropped)
        if known is not None and not 0 <= float(known) < 1:
            raise AttributeValueError(f"dropout drops a share in [0, 1), got {float(known):g}")
        if known is not None and float(known) == 0:
            return OPS["identity"](value, name=scope)
        graph = get_default_graph()
        key = random_key(graph.seed, seed, graph.unique_name("dropout", mark=False))
        noise = _noise_shape(value, noise_shape)
        share = convert(dropped, like=value.dtype)
        return ops.dropout(value, share, key=key, noise_shape=noise, name=scope)


def _dropped_share(keep_prob: Any, rate: Any) -> Any:
    if rate is not None:
        return rate
    known = constant_value(keep_prob)
    return 1.0 - (keep_prob if known is None else float(known))


def _noise_shape(x: Value, given: Any) -> tuple[int | None, ...] | None:
    """The mask's sizes, None for x's own."""
    if given is None:
        return None
    own = x.type.shape or ()
    listed = isinstance(given, (list, tuple))
    sizes = [-1 if d is None else d for d in given] if listed else given
    dims = shape_argument(sizes)[1]["shape"]
    if dims is None or len(dims) != len(own):
        raise ShapeError(f"noise_shape needs one size per dim of {x.type}, got {given!r}")
    return tuple(_noise_size(d, o, given) for d, o in zip(dims, own, strict=True))


def _noise_size(dim: Dim, own: Dim, given: Any) -> int | None:
    if dim == -1 or same_dim(dim, own):
        return None
    if isinstance(dim, str):
        raise ShapeError(f"noise_shape {given!r}: {dim} is not known to be x's {own}, nor 1")
    return dim
