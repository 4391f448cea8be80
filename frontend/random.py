"""Random tensors: the same bits for the same graph seed, op seed (or path) and run number.

The number of the run is part of the counter: every run of a session draws anew, and two sessions
that make the same runs draw the same.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from graphc.frontend.arguments import as_value, dtype_of, shape_argument
from graphc.frontend.framework import name_scope, set_random_seed
from graphc.ir.dtypes import DType, float32, float64, int32, int64
from graphc.ir.errors import AttributeValueError, DTypeError
from graphc.ir.graph import Value, get_default_graph
from graphc.ir.ops.random import random_key
from graphc.ir.table import OPS

_TWO_SIGMA: Final = math.erf(math.sqrt(2))  # P(|x| < 2) of a standard normal x


def _draw(op: str, shape: Any, dtype: DType, seed: int | None, **attrs: Any) -> Value:
    """One of the random ops, with the key of this place in the graph."""
    graph = get_default_graph()
    if not dtype.is_floating:
        raise DTypeError(f"random numbers are drawn as floats, not {dtype}; cast() them")
    key = random_key(graph.seed, seed, graph.unique_name(op, mark=False))
    inputs, known = shape_argument(shape)
    return OPS[op](*inputs, dtype=dtype, key=key, **known, **attrs)


def random_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Value:
    """Normally distributed numbers. shape: integers or an integer tensor."""
    with name_scope(name, "random_normal") as scope:
        unit = _draw("random_gauss", shape, dtype_of(dtype, float32), seed)
        return _scaled(unit, stddev, mean, scope)


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Value:
    """Normally distributed numbers no further than two standard deviations from the mean."""
    with name_scope(name, "truncated_normal") as scope:
        ends = {"low": -_TWO_SIGMA, "high": _TWO_SIGMA}
        unit = _draw("random_gauss", shape, dtype_of(dtype, float32), seed, **ends)
        return _scaled(unit, stddev, mean, scope)


def _scaled(unit: Value, factor: Any, offset: Any, scope: str) -> Value:
    return OPS["add"](unit * as_value(factor, unit.dtype), as_value(offset, unit.dtype), name=scope)


def random_uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Value:
    """Numbers uniform on [minval, maxval); of floats, maxval is 1 unless given."""
    dtype = dtype_of(dtype, float32)
    with name_scope(name, "random_uniform") as scope:
        if dtype in (int32, int64):
            return _uniform_integers(shape, minval, maxval, dtype, seed, scope)
        low = as_value(minval, dtype)
        high = as_value(1 if maxval is None else maxval, dtype)
        return _scaled(_draw("random_unit", shape, dtype, seed), high - low, low, scope)


def _uniform_integers(
    shape: Any, minval: Any, maxval: Any, dtype: DType, seed: int | None, scope: str
) -> Value:
    if maxval is None:
        raise AttributeValueError(f"random_uniform of {dtype} needs maxval")
    low, high = as_value(minval, dtype), as_value(maxval, dtype)
    unit = _draw("random_unit", shape, float64, seed)
    steps = OPS["floor"](unit * OPS["cast"](high - low, dtype=float64))
    return OPS["add"](OPS["cast"](steps, dtype=dtype), low, name=scope)


def multinomial(
    logits: Any,
    num_samples: int,
    seed: int | None = None,
    name: str | None = None,
    output_dtype: Any = None,
) -> Value:
    """Draws of classes by unnormalized log-probabilities. [batch, classes] -> [batch, num_samples].

    By the Gumbel-max trick: argmax of logits plus -log(-log(u)) (Maddison et al., 2014).
    """
    with name_scope(name, "multinomial") as scope:
        logits = as_value(logits)
        dims, classes = OPS["shape"](logits), logits.type.shape
        if classes is None or len(classes) != 2:
            raise AttributeValueError(f"multinomial needs logits of rank 2, got {logits.type}")
        shape = [dims[0], num_samples, dims[1]]
        unit = _draw("random_unit", shape, float32, seed) + np.float32(2.0**-25)
        gumbel = OPS["cast"](-OPS["log"](-OPS["log"](unit)), dtype=logits.dtype)
        noisy = OPS["expand_dims"](logits, axis=1) + gumbel
        return OPS["argmax"](noisy, axis=2, dtype=dtype_of(output_dtype, int64), name=scope)


# Names in TensorFlow's namespace `tf.random`.
normal = random_normal
uniform = random_uniform
categorical = multinomial

__all__ = [
    "categorical", "multinomial", "normal", "random_normal", "random_uniform", "set_random_seed",
    "truncated_normal", "uniform",
]  # fmt: skip
