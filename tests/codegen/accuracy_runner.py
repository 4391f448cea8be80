"""How exact the functions of Triton's prelude are, in the interpreter; one line of JSON each.

A process of its own, because Triton reads TRITON_INTERPRET when it is imported:
`TRITON_INTERPRET=1 python -m tests.codegen.accuracy_runner`. Errors are in units in the last place
of the result in twice the precision (float64: of the long double).
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from graphc.ir.settings import Settings
from graphc.ir.table import OPS, Kind
from graphc.runtime.devices.triton import TritonDevice
from tests.codegen.triton_cases import graph_case

Array = np.ndarray
_rng = np.random.default_rng(71)


def _spread(low: float, high: float) -> Array:
    """Numbers evenly between the ends, and of every size below them, of both signs."""
    sizes = np.exp(_rng.uniform(np.log(1e-30), np.log(min(max(-low, high), 1e30)), 700))
    x = np.concatenate([_rng.uniform(low, high, 700), _rng.uniform(-2, 2, 700), sizes, -sizes])
    return x[(x >= low) & (x <= high)]


# name: the arguments, the same function in NumPy, how many units in the last place are granted
FUNCTIONS: Final[dict[str, tuple[Array, Callable[..., Any], float]]] = {
    "negative": (_spread(-10, 10), np.negative, 0),
    "expm1": (_spread(-80, 80), np.expm1, 4),
    "tan": (_spread(-10, 10), np.tan, 4),
    "asin": (_spread(-1, 1), np.arcsin, 5),
    "acos": (_spread(-1, 1), np.arccos, 4),
    "atan": (_spread(-1e30, 1e30), np.arctan, 4),
    "sinh": (_spread(-85, 85), np.sinh, 8),
    "cosh": (_spread(-85, 85), np.cosh, 6),
    "asinh": (_spread(-1e30, 1e30), np.arcsinh, 4),
    "acosh": (1 + np.exp(_rng.uniform(-14, 60, 1500)), np.arccosh, 5),
    "atanh": (_spread(-0.999, 0.999), np.arctanh, 6),
    "erfc": (_spread(-6, 9), np.vectorize(math.erfc, otypes=[np.float64]), 10),
}
SPECIAL: Final = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, -2, 1e30, -1e30, 1e-38, -1e-38, 3e38, -3e38]
)


def computed(device: TritonDevice, name: str, arrays: tuple[Array, ...], **attrs: Any) -> Any:
    """The op's outputs on the device."""
    case = graph_case(lambda *x: OPS[name].outputs(*x, **attrs), *arrays)
    return device.load(case.program, {}, Settings(libraries=False)).run(case.feeds, 0)


def units(got: Array, want: Array) -> float:
    """The largest error, in units in the last place of `got`'s dtype."""
    size = np.maximum(np.abs(want.astype(got.dtype)), np.finfo(got.dtype).tiny)
    return float((np.abs(got.astype(want.dtype) - want) / np.spacing(size)).max())


def _wide(dtype: Any) -> Any:
    return np.float64 if dtype is np.float32 else np.longdouble


def error(device: TritonDevice, name: str, dtype: Any) -> float:
    """The largest error of a function of FUNCTIONS, or of atan2."""
    if name == "atan2":
        y, x = (
            (np.exp(_rng.uniform(-20, 20, 2000)) * _rng.choice([-1, 1], 2000)).astype(dtype)
            for _ in range(2)
        )
        return units(computed(device, name, (y, x))[0], np.arctan2(*map(_wide(dtype), (y, x))))
    x, function, _ = FUNCTIONS[name]
    x = x.astype(dtype)
    wide = x if name == "erfc" and dtype is np.float64 else x.astype(_wide(dtype))
    return units(computed(device, name, (x,))[0], function(wide))


def wrong_specials(device: TritonDevice, name: str, dtype: Any) -> list[str]:
    """The special arguments at which NaN, inf, zero or the sign is not NumPy's."""
    arguments = [SPECIAL.astype(dtype)]
    if name == "atan2":
        arguments = [a.ravel() for a in np.meshgrid(*arguments * 2)]
    meaning: Any = OPS[name].numpy
    (got,), want = computed(device, name, tuple(arguments)), meaning({}, *arguments)
    close = np.isclose(got, want, rtol=8 * np.finfo(dtype).eps, atol=0, equal_nan=True)
    same = (close & (np.signbit(got) == np.signbit(want))) | np.isnan(want) & np.isnan(got)
    return [str([float(a[i]) for a in arguments]) for i in np.flatnonzero(~same)]


def differing_outputs(device: TritonDevice, name: str) -> list[str]:
    """The samples on which a library routine does not give what it means: exactly, or, where
    sums may be taken in another order, but for rounding."""
    wrong = []
    summed = OPS[name].decompose is not None or name in ("cumsum", "cumprod", "fourier")
    rounding = 1e-5 if summed else 0.0
    for number, sample in enumerate(OPS[name].samples()):
        got = computed(device, name, sample.inputs, **sample.attrs)
        meaning: Any = OPS[name].numpy
        want = meaning({**OPS[name].attrs, **sample.attrs}, *sample.inputs)
        want = want if isinstance(want, tuple) else (want,)
        near = [
            np.shape(g) == np.shape(w) and np.allclose(g, w, rounding, rounding, equal_nan=True)
            for g, w in zip(got, want, strict=True)
        ]
        if not all(near):
            wrong.append(str(number))
    return wrong


def results(device: TritonDevice) -> Iterator[dict[str, Any]]:
    """All that is measured."""
    for name in (*FUNCTIONS, "atan2"):
        for dtype in (np.float32, np.float64):
            yield {
                "case": f"{name}-{dtype.__name__}",
                "error": error(device, name, dtype),
                "wrong": wrong_specials(device, name, dtype),
            }
    for name, op in OPS.items():
        if op.kind is Kind.OPAQUE:
            yield {"case": name, "error": 0.0, "wrong": differing_outputs(device, name)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for result in results(TritonDevice(interpret=True)):
        print(json.dumps(result), flush=True)
