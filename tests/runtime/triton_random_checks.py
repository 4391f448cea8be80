"""Checks of the Triton device on random graphs, every op of the table, and nasty numbers.

On a GPU fewer random graphs are drawn: there each costs the compilation of its kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir.computation import cut
from graphc.ir.dtypes import DType, as_dtype, float32, float64
from graphc.ir.graph import Graph
from graphc.ir.interpret import evaluate
from graphc.ir.table import OPS, Kind, Sample
from graphc.runtime.devices.triton import TritonDevice
from tests.random_graphs import Choose, chooser, random_graph, random_program
from tests.runtime.triton_device_checks import Check, load, op, placeholder

CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Enter a check under its name."""
    CHECKS[function.__name__] = function
    return function


def agree(got: Any, want: Any, tolerance: float, what: str) -> None:
    """Equal shapes and dtypes; floats within the tolerance, others equal."""
    assert got.dtype == want.dtype and got.shape == want.shape, what
    limit = tolerance if want.dtype.kind not in "biu" else 0.0
    np.testing.assert_allclose(
        got.astype(np.float64), want.astype(np.float64), limit, limit, err_msg=what
    )


# -- random graphs


def seeds(device: TritonDevice, interpreted: int, on_gpu: int) -> range:
    """Seeds of random graphs."""
    return range(interpreted if device.interpret else on_gpu)


def check_graph(device: TritonDevice, choose: Choose, tolerance: float, **options: Any) -> None:
    """A random graph on the device against the graph evaluator."""
    outputs, given = random_graph(choose, **options)
    computation = cut(outputs, (), [n.outputs[0] for n in given])
    executable, _ = load(device, computation, {})
    got = executable.run([given[n] for n in computation.inputs], 0)
    for result, want in zip(got, evaluate(computation.outputs, given), strict=True):
        agree(result, want, tolerance, str(options))


def named(seed: int, run: Callable[[], None]) -> None:
    """Run, and name the seed in whatever goes wrong."""
    try:
        run()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error}") from error


@check
def random_graphs_of_float64(device: TritonDevice) -> None:
    for seed in seeds(device, 60, 16):
        options = {"steps": 14, "backward": seed % 2 == 1}
        named(seed, lambda s=seed, o=options: check_graph(device, chooser(s), 1e-6, **o))


@check
def random_smooth_graphs(device: TritonDevice) -> None:
    for seed in seeds(device, 40, 12):
        options = {"steps": 14, "backward": seed % 2 == 1, "exact": False}
        named(seed, lambda s=seed, o=options: check_graph(device, chooser(s), 1e-8, **o))


@check
def random_graphs_of_float32(device: TritonDevice) -> None:
    # whole numbers: every order of summation gives the same bits
    for seed in seeds(device, 40, 12):
        options = {"steps": 14, "backward": seed % 2 == 1, "dtype": float32}
        named(seed, lambda s=seed, o=options: check_graph(device, chooser(s), 1e-6, **o))


def check_updates(device: TritonDevice, choose: Choose, dtype: DType) -> None:
    """A random computation with updates: outputs, then the variables."""
    computation, given = random_program(choose, dtype=dtype)
    variables = {n: a for n, a in given.items() if n in computation.variables}
    executable, storage = load(device, computation, variables)
    got = executable.run([given[n] for n in computation.inputs], 0)
    want = evaluate(computation.roots, given)
    for result, value in zip(got, want, strict=False):
        agree(result, value, 0.0, "an output")
    for (node, _), value in zip(computation.updates, want[len(got) :], strict=True):
        agree(device.read(storage[node]), value, 0.0, f"variable {node.name}")


@check
def random_updates(device: TritonDevice) -> None:
    for seed in seeds(device, 60, 16):
        dtype = float64 if seed % 2 else float32
        named(seed, lambda s=seed, d=dtype: check_updates(device, chooser(s), d))


# -- every op


def check_sample(device: TritonDevice, name: str, sample: Sample) -> None:
    """An op on one of its samples against its meaning."""
    arrays = [np.asarray(a) for a in sample.inputs]
    with Graph().as_default():
        inputs = [OPS["placeholder"](dtype=as_dtype(a.dtype), shape=a.shape) for a in arrays]
        outputs = OPS[name].outputs(*inputs, **sample.attrs)
    want = evaluate(outputs, dict(zip((v.node for v in inputs), arrays, strict=True)))
    executable, _ = load(device, cut(list(outputs), [], inputs), {})
    for got, value in zip(executable.run(arrays, 0), want, strict=True):
        agree(got, value, 2e-5 if value.dtype.itemsize > 2 else 1e-2, f"{name} {sample.attrs}")


def walk(device: TritonDevice, samples: Sequence[tuple[str, int, Sample]]) -> None:
    """All of these samples; what fails is named."""
    failed = []
    for name, number, sample in samples:
        try:
            check_sample(device, name, sample)
        except Exception as error:
            failed.append(f"{name}-{number}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)


def enter_walks() -> None:
    """One check per kind of op, several where there are many samples.

    Pointwise ops have cases of their own, in tests/codegen; loops and branches in
    tests/control_programs.py; of sources, states and random numbers there are no samples. What the
    host computes no device knows.
    """
    unwalked = {
        Kind.SOURCE, Kind.STATE, Kind.RANDOM, Kind.POINTWISE, Kind.CONTROL, Kind.HOST,
    }  # fmt: skip
    for kind in (k for k in Kind if k not in unwalked):
        names = sorted(n for n, o in OPS.items() if o.kind is kind)
        samples = [(n, i, s) for n in names for i, s in enumerate(OPS[n].samples())]
        assert samples, f"no {kind.name} op has samples"
        for part, start in enumerate(range(0, len(samples), _WALK)):
            chosen = samples[start : start + _WALK]
            name = f"every_{kind.name.lower()}_op_{part}"
            CHECKS[name] = lambda device, chosen=chosen: walk(device, chosen)  # type: ignore[misc]


_WALK = 70  # samples per check
enter_walks()


# -- sine and cosine


def units_off(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """The error in units in the last place; `want` has more digits than `got`."""
    unit = np.spacing(np.abs(want.astype(got.dtype))).astype(want.dtype)
    return np.asarray(np.abs(got.astype(want.dtype) - want) / unit, np.float64)


def angles(dtype: Any) -> np.ndarray:
    """Ordinary, huge and tiny arguments, any bits, and the nearest neighbours of k pi/2."""
    rng = np.random.default_rng(7)
    wide = dtype == np.float64
    # one more than the largest multiple for which the argument is reduced in parts
    multiples = np.arange(-3000, 3000) * (np.pi / 2) * (300 if wide else 1)
    near = multiples.astype(dtype)
    integers = rng.integers(0, 2**64 if wide else 2**32, 3000, np.uint64)
    bits = integers.astype(np.uint64 if wide else np.uint32).view(dtype)
    worst = [6381956970095103 * 2.0**797] if wide else [16367173 * 2.0**72]
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-38, 1e10, 3e38, 4095.99, 4096.0]
    parts = [
        near, np.nextafter(near, dtype(0)), np.nextafter(near, dtype(1e30)), bits,
        rng.uniform(-5000, 5000, 3000), rng.standard_normal(3000), worst, special,
    ]  # fmt: skip
    return np.concatenate([np.asarray(p, dtype) for p in parts])


@check
def sine_and_cosine_within_two_units(device: TritonDevice) -> None:
    for dtype in (np.float32, np.float64):
        x = angles(dtype)
        exact = x.astype(np.float64 if dtype == np.float32 else np.longdouble)
        value = placeholder(len(x), dtype=dtype)
        executable, _ = load(device, cut([op("sin")(value), op("cos")(value)], [], [value]), {})
        sine, cosine = executable.run([x], 0)
        with np.errstate(invalid="ignore"):
            wanted = np.sin(exact), np.cos(exact)
        for got, want in zip((sine, cosine), wanted, strict=True):
            assert np.array_equal(np.isnan(got), np.isnan(want))
            finite = np.isfinite(want)
            error = units_off(got[finite], want[finite])
            assert error.max() <= 2.0, (dtype, x[finite][error.argmax()], error.max())
        zeros = x == 0
        assert np.array_equal(np.signbit(sine[zeros]), np.signbit(x[zeros]))
