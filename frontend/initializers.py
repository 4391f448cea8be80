"""Initializers: objects that make a variable's initial value from its shape and dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from graphc.frontend import random, sources
from graphc.ir.dtypes import DType, as_dtype, float32
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value

_UNIT_STDDEV: Final = 0.87962566103423978  # of a standard normal cut at two sigma


class Initializer:
    """`initializer(shape, dtype)` gives a tensor; `dtype` defaults to the initializer's own."""

    def __init__(self, dtype: Any = float32) -> None:
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Value:
        """The initial value of that shape."""
        del partition_info
        dims = tuple(int(d) for d in ((shape,) if isinstance(shape, int) else shape))
        return self.make(dims, self.dtype if dtype is None else as_dtype(dtype))

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        """The initial value, of checked arguments."""
        raise NotImplementedError


class Zeros(Initializer):
    """Zeros."""

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        return sources.zeros(shape, dtype)


class Ones(Initializer):
    """Ones."""

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        return sources.ones(shape, dtype)


class Constant(Initializer):
    """A number everywhere, or the elements of a list or array in order."""

    def __init__(self, value: Any = 0, dtype: Any = None, verify_shape: bool = False) -> None:
        super().__init__(float32 if dtype is None else dtype)
        self.value = value
        self.verify_shape = verify_shape

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        return sources.constant(self.value, dtype, shape, verify_shape=self.verify_shape)


class RandomNormal(Initializer):
    """Normally distributed."""

    def __init__(
        self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = float32
    ) -> None:
        super().__init__(dtype)
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        return random.random_normal(shape, self.mean, self.stddev, dtype, self.seed)


class TruncatedNormal(RandomNormal):
    """Normally distributed, no further than two standard deviations from the mean."""

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


class RandomUniform(Initializer):
    """Uniform on [minval, maxval)."""

    def __init__(
        self, minval: Any = 0, maxval: Any = None, seed: int | None = None, dtype: Any = float32
    ) -> None:
        super().__init__(dtype)
        self.minval, self.maxval, self.seed = minval, maxval, seed

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        return random.random_uniform(shape, self.minval, self.maxval, dtype, self.seed)


def fans(shape: Sequence[int]) -> tuple[float, float]:
    """Inputs and outputs of one unit: of a [.., in, out] kernel, times its receptive field."""
    if len(shape) < 2:
        size = float(shape[0]) if shape else 1.0
        return size, size
    field = float(math.prod(shape[:-2]))
    return field * shape[-2], field * shape[-1]


class VarianceScaling(Initializer):
    """Random numbers of variance scale / n; n is fan_in, fan_out, or their mean (fan_avg).

    `distribution` is "truncated_normal" (also "normal"), "untruncated_normal" or "uniform".
    Glorot & Bengio 2010, He et al. 2015, LeCun et al. 1998 are values of scale and mode.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        dtype: Any = float32,
    ) -> None:
        super().__init__(dtype)
        if scale <= 0:
            raise AttributeValueError(f"scale must be positive, got {scale}")
        _one_of("mode", mode, ("fan_in", "fan_out", "fan_avg"))
        known = ("normal", "truncated_normal", "untruncated_normal", "uniform")
        _one_of("distribution", distribution, known)
        self.scale, self.mode, self.distribution, self.seed = scale, mode, distribution, seed

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        fan_in, fan_out = fans(shape)
        count = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, count)
        match self.distribution:
            case "uniform":
                limit = math.sqrt(3.0 * variance)
                return random.random_uniform(shape, -limit, limit, dtype, self.seed)
            case "untruncated_normal":
                return random.random_normal(shape, 0.0, math.sqrt(variance), dtype, self.seed)
        stddev = math.sqrt(variance) / _UNIT_STDDEV
        return random.truncated_normal(shape, 0.0, stddev, dtype, self.seed)


def _one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise AttributeValueError(f"{what} must be one of {', '.join(known)}; got {value!r}")


class GlorotUniform(VarianceScaling):
    """Uniform, of variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010); the default."""

    def __init__(self, seed: int | None = None, dtype: Any = float32) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed, dtype)


class GlorotNormal(VarianceScaling):
    """Truncated normal, of variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""

    def __init__(self, seed: int | None = None, dtype: Any = float32) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, dtype)


class UniformUnitScaling(Initializer):
    """Uniform, scaled so that the variance of the input is kept: ±factor * sqrt(3 / fan_in)."""

    def __init__(self, factor: float = 1.0, seed: int | None = None, dtype: Any = float32) -> None:
        super().__init__(dtype)
        self.factor, self.seed = factor, seed

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        limit = math.sqrt(3.0 / max(1.0, float(math.prod(shape[:-1])))) * self.factor
        return random.random_uniform(shape, -limit, limit, dtype, self.seed)


class Orthogonal(Initializer):
    """`gain` times a matrix with orthonormal rows or columns; other ranks as [prod(..), last].

    By a QR decomposition in NumPy while the graph is built: so the value is a constant of the
    graph, drawn from `seed` (0 when there is none), and the same for every run and session.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None, dtype: Any = float32) -> None:
        super().__init__(dtype)
        self.gain, self.seed = gain, seed

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        if len(shape) < 2:
            raise ShapeError(f"an orthogonal initial value has at least two dims, got {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        rng = np.random.default_rng(self.seed or 0)
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))  # makes the distribution uniform (Mezzadri 2007)
        matrix = (q.T if rows < columns else q) * self.gain
        return sources.constant(matrix.reshape(shape), dtype)


class Identity(Initializer):
    """`gain` times the identity matrix."""

    def __init__(self, gain: float = 1.0, dtype: Any = float32) -> None:
        super().__init__(dtype)
        self.gain = gain

    def make(self, shape: tuple[int, ...], dtype: DType) -> Value:
        if len(shape) != 2:
            raise ShapeError(f"an identity initial value is a matrix, got {shape}")
        return sources.eye(*shape, dtype=dtype) * self.gain


def he_normal(seed: int | None = None) -> Initializer:
    """Truncated normal, of variance 2 / fan_in (He et al. 2015)."""
    return VarianceScaling(2.0, "fan_in", "truncated_normal", seed)


def he_uniform(seed: int | None = None) -> Initializer:
    """Uniform, of variance 2 / fan_in (He et al. 2015)."""
    return VarianceScaling(2.0, "fan_in", "uniform", seed)


def lecun_normal(seed: int | None = None) -> Initializer:
    """Truncated normal, of variance 1 / fan_in (LeCun et al. 1998)."""
    return VarianceScaling(1.0, "fan_in", "truncated_normal", seed)


def lecun_uniform(seed: int | None = None) -> Initializer:
    """Uniform, of variance 1 / fan_in (LeCun et al. 1998)."""
    return VarianceScaling(1.0, "fan_in", "uniform", seed)


def default_initializer(dtype: DType) -> Initializer:
    """What get_variable takes when none is given: Glorot's uniform; zeros for other dtypes."""
    if dtype.is_floating:
        return GlorotUniform(dtype=dtype)
    if dtype.is_integer or dtype.is_bool:
        return Zeros(dtype)
    raise DTypeError(f"there is no default initializer for {dtype}")


# TensorFlow 1's names, in `tf.initializers` and, with _initializer, at the top.
zeros = zeros_initializer = Zeros
ones = ones_initializer = Ones
constant = constant_initializer = Constant
random_normal = random_normal_initializer = RandomNormal
random_uniform = random_uniform_initializer = RandomUniform
truncated_normal = truncated_normal_initializer = TruncatedNormal
variance_scaling = variance_scaling_initializer = VarianceScaling
glorot_uniform = glorot_uniform_initializer = GlorotUniform
glorot_normal = glorot_normal_initializer = GlorotNormal
uniform_unit_scaling = uniform_unit_scaling_initializer = UniformUnitScaling
orthogonal = orthogonal_initializer = Orthogonal
identity = identity_initializer = Identity
