"""The discrete Fourier transform of complex numbers, held as pairs along the last dim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from graphc.ir.errors import DTypeError, ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.table import REQUIRED, Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import TensorType, normalize_axis


def _type(types: Types, attrs: Attrs) -> TensorType:
    (x,) = types
    if x.dtype.name not in ("float32", "float64"):
        raise DTypeError(f"a Fourier transform needs float32 or float64, got {x.dtype}")
    if x.shape is not None:
        if len(x.shape) < 2 or x.shape[-1] not in (2, "?"):
            raise ShapeError(f"complex numbers are pairs along the last dim, got {x}")
        normalize_axis(attrs["axis"], len(x.shape) - 1)
    return x


def _numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    dense = np.ascontiguousarray(x)
    numbers = dense.view(np.complex64 if x.dtype == np.float32 else np.complex128)[..., 0]
    axis = attrs["axis"] % numbers.ndim
    if numbers.shape[axis] == 0:
        return x
    result = (np.fft.ifft if attrs["inverse"] else np.fft.fft)(numbers, axis=axis)
    pairs = np.stack([result.real, result.imag], axis=-1)
    return np.asarray(pairs.astype(x.dtype, copy=False))


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # the transform is linear; its adjoint is the inverse one, but for the factor
    g = grads[0]
    assert g is not None
    axis, inverse = node.attrs["axis"], node.attrs["inverse"]
    back = fourier(g, axis=axis, inverse=not inverse)
    shape = node.types[0].shape
    count = shape[normalize_axis(axis, len(shape) - 1)] if shape else None
    if not isinstance(count, int):
        raise ShapeError(f"the gradient of {node.name!r} needs to know the length {shape}")
    return [back * (1.0 / count if inverse else float(count))]


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(31)
    for shape, axis in (((5, 2), 0), ((3, 4, 2), 1), ((3, 4, 2), 0), ((1, 2), 0)):
        x = rng.standard_normal(shape).astype(np.float32)
        yield Sample((x,), {"axis": axis})
        yield Sample((x,), {"axis": axis, "inverse": True})


fourier: Op = register(
    Op(
        "fourier", Kind.OPAQUE, _type, numpy=_numpy, attrs={"axis": REQUIRED, "inverse": False},
        grad=_grad, samples=_samples,
        doc="The Fourier transform along an axis of x [..., 2]; the inverse divides by the length.",
    )
)  # fmt: skip
