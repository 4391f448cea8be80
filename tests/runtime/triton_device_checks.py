"""What the Triton device must do, on a GPU and in Triton's interpreter (triton_checks.py).

A check gets the device and asserts.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest

import graphc as gc
from graphc.ir import loop
from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import as_dtype, float32
from graphc.ir.errors import DeviceError
from graphc.ir.graph import Node
from graphc.ir.interpret import evaluate
from graphc.ir.loop import Access, Apply, Axis, Buffer, Call, Const, Kernel, Let, Load, Ref, Store
from graphc.ir.settings import Settings
from graphc.ir.table import OPS
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.passes.plan_memory import plan_memory
from graphc.runtime.devices.triton import TritonDevice
from graphc.runtime.devices.triton_library import Matmul

Check = Callable[[TritonDevice], None]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Enter a check under its name."""
    CHECKS[function.__name__] = function
    return function


def op(name: str) -> Any:
    """An op of the table."""
    return OPS[name]


def placeholder(*shape: int, dtype: Any = np.float32) -> Any:
    """A placeholder."""
    return op("placeholder")(dtype=as_dtype(dtype), shape=shape)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


def load(
    device: TritonDevice, computation: Computation, values: dict[Node, np.ndarray], **settings: Any
) -> tuple[Any, dict[Node, Any]]:
    """The executable, and the storage of the variables, set to `values`."""
    program = compile_program(computation, Context(Settings(), device.target))
    storage = {}
    for node, array in values.items():
        storage[node] = device.allocate(as_dtype(array.dtype), array.shape)
        device.write(storage[node], array)
    by_name = {n.name: storage[n] for n in storage}
    named = {name: by_name[program.buffers[name].source] for name in program.variables}
    return device.load(program, named, Settings(**{"libraries": False, **settings})), storage


def close(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> None:
    """Equal shapes and dtypes, nearly equal values."""
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5)


@check
def variables_change_in_place(device: TritonDevice) -> None:
    x = placeholder(5, 3)
    w = op("variable")(dtype=float32, shape=(3, 4))
    product = op("matmul")(x, w)
    loss = op("reduce_sum")(product * product, axis=None)
    gradient = op("matmul")(x, product * 2.0, transpose_a=True)
    changed = w - gradient * 0.1
    computation = Computation([x.node], [loss, w], [(w.node, changed)])
    start = normal(3, 4, seed=1)
    executable, storage = load(device, computation, {w.node: start})
    given = {x.node: normal(5, 3), w.node: start}
    for run in range(3):
        want = evaluate([loss, w, changed], given)
        got = executable.run([given[x.node]], run)
        close(got, want[:2])  # a fetched variable has its value from before the update
        given[w.node] = device.read(storage[w.node])
        close([given[w.node]], [want[2]])


@check
def loading_changes_nothing(device: TritonDevice) -> None:
    w = op("variable")(dtype=float32, shape=(7,))
    start = normal(7)
    _, storage = load(device, Computation([], [], [(w.node, w + 1.0)]), {w.node: start})
    assert np.array_equal(device.read(storage[w.node]), start)


@check
def outputs_belong_to_the_caller(device: TritonDevice) -> None:
    x = placeholder(4)
    doubled = x * 2.0
    executable, _ = load(device, cut([doubled, doubled, x], [], [x]), {})
    first = executable.run([np.ones(4, np.float32)], 0)
    executable.run([np.zeros(4, np.float32)], 1)
    close(first, [np.full(4, 2, np.float32)] * 2 + [np.ones(4, np.float32)])
    first[0][:] = 7
    assert first[1][0] == 2 and first[2][0] == 1


@check
def odd_feeds_are_taken(device: TritonDevice) -> None:
    x = placeholder(3, 4)
    executable, _ = load(device, cut([x + 1.0], [], [x]), {})
    base = normal(8, 6)
    spread = np.broadcast_to(base[0, :4], (3, 4))
    for feed in (base[::-2, 4:0:-1][:3, :4], base[:3, :4].T.copy().T, spread):
        close(executable.run([feed], 0), [feed + 1])


@check
def every_dtype_goes_in_and_out(device: TritonDevice) -> None:
    for name in ("float16", "bfloat16", "float64", "int8", "int64", "uint8", "uint32", "bool"):
        dtype = as_dtype(name)
        array = np.array([0, 1, 1, 0, 1]).astype(dtype.numpy)
        x = op("placeholder")(dtype=dtype, shape=(5,))
        other = op("equal")(x, x)
        executable, _ = load(device, cut([op("reshape")(x, shape=(5, 1)), other], [], [x]), {})
        got = executable.run([array], 0)
        assert np.array_equal(got[0], array.reshape(5, 1)) and got[0].dtype == array.dtype
        assert got[1].dtype == np.bool_ and got[1].all()


@check
def empty_and_scalar_values(device: TritonDevice) -> None:
    x, s = placeholder(0, 3), placeholder()
    outputs = [x * 2.0, op("reduce_sum")(x, axis=(0,)), s * 3.0]
    executable, _ = load(device, cut(outputs, [], [x, s]), {})
    got = executable.run([np.zeros((0, 3), np.float32), np.float32(2)], 0)
    close(got, [np.zeros((0, 3), np.float32), np.zeros(3, np.float32), np.array(6, np.float32)])


@check
def random_numbers_follow_the_run(device: TritonDevice) -> None:
    value = op("random_unit")(shape=(100,), dtype=float32, key=77)
    executable, _ = load(device, cut([value], [], []), {})
    for run in (0, 5):
        (want,) = evaluate([value], {}, run)
        assert np.array_equal(executable.run([], run)[0], want)


@check
def libraries_agree(device: TritonDevice) -> None:
    for ta, tb in ((False, False), (True, False), (False, True), (True, True)):
        a = placeholder(*((40, 33) if ta else (33, 40)))
        b = placeholder(*((3, 35, 40) if tb else (3, 40, 35)))
        product = op("matmul")(a, b, transpose_a=ta, transpose_b=tb)
        executable, _ = load(device, cut([product], [], [a, b]), {}, libraries=True)
        given = {v.node: normal(*v.type.static_shape, seed=i) for i, v in enumerate((a, b))}
        close(executable.run(list(given.values()), 0), evaluate([product], given))


@check
def libraries_work_inside_the_arena(device: TritonDevice) -> None:
    inputs = [placeholder(40, 40) for _ in range(4)]
    a, b, c, d = inputs
    product = op("matmul")(op("matmul")(a, b), op("matmul")(c, d))
    executable, _ = load(device, cut([product], [], inputs), {}, libraries=True)
    given = {v.node: normal(40, 40, seed=i) * 0.1 for i, v in enumerate(inputs)}
    close(executable.run(list(given.values()), 0), evaluate([product], given))


@check
def what_follows_a_library_is_a_kernel(device: TritonDevice) -> None:
    x, bias = placeholder(200, 160), placeholder(150)
    w = op("variable")(dtype=float32, shape=(160, 150))
    y = op("relu")(op("matmul")(x, w) * 0.125 + bias)
    arrays = [normal(200, 160, seed=1), normal(150, seed=2)]
    computation, start = cut([y], [], [x, bias]), normal(160, 150)
    executable, _ = load(device, computation, {w.node: start}, libraries=True)
    (launch,) = executable.built.module.launches.values()
    assert launch.recipe == "library" and len(launch.stages) == 1
    assert [s.name for s in executable.steps] == [launch.kernel, launch.stages[0].function]
    want = np.maximum(arrays[0] @ start * np.float32(0.125) + arrays[1], 0)
    for number in range(2):
        close(executable.run(arrays, number), [want])


@check
def what_a_library_refuses_is_said(device: TritonDevice) -> None:
    a, b = placeholder(64, 64), placeholder(64, 64)
    executable, _ = load(device, cut([op("matmul")(a, b)], [], [a, b]), {}, libraries=True)
    (step,) = executable.steps

    assert step.warm_up is not None
    said = f" of kernel {step.name}: no engine; with GRAPHC_LIBRARIES=0"
    refusing = mock.patch.object(Matmul, "warm_up", side_effect=RuntimeError("no engine"))
    with refusing, pytest.raises(DeviceError, match=re.escape(said)):
        step.warm_up()


@check
def libraries_work_inside_loops(device: TritonDevice) -> None:
    """Also that what follows them there has its own place for the sums."""
    start, w = placeholder(40, 160), placeholder(160, 160)
    (result,) = gc.while_loop(
        lambda i, h: i < 3, lambda i, h: [i + 1, gc.tanh(gc.matmul(h, w))], [gc.constant(0), start]
    )[1:]
    given = {start.node: normal(40, 160), w.node: normal(160, 160, seed=1) / 13}
    executable, _ = load(device, cut([result], [], [start, w]), {}, libraries=True)
    close(executable.run(list(given.values()), 0), evaluate([result], given))


@check
def attention_by_a_library_and_by_kernels(device: TritonDevice) -> None:
    keep = np.random.default_rng(1).random((40, 33)) < 0.6
    bias = normal(3, 1, 33, seed=5).astype(np.float16)
    for mask, causal in ((None, False), (None, True), (keep, False), (bias, False), (keep, True)):
        inputs = [placeholder(2, 3, n, 16, dtype=np.float16) for n in (40, 33, 33)]
        masks = [] if mask is None else [placeholder(*mask.shape, dtype=mask.dtype)]
        out = op("scaled_dot_product_attention")(*inputs, *masks, causal=causal)
        arrays = [normal(*v.type.static_shape, seed=i).astype("e") for i, v in enumerate(inputs)]
        arrays += [] if mask is None else [mask]
        given = {v.node: a for v, a in zip([*inputs, *masks], arrays, strict=True)}
        (want,) = evaluate([out], given)
        for libraries in (False, True):
            computation = cut([out], [], [*inputs, *masks])
            executable, _ = load(device, computation, {}, libraries=libraries)
            (got,) = executable.run(arrays, 0)
            np.testing.assert_allclose(got.astype("f"), want.astype("f"), rtol=4e-3, atol=4e-3)


def call_program() -> loop.Program:
    """y = -x by a routine on the host, then doubled by a kernel."""
    buffers = {
        "x": Buffer("x", float32, (6,), loop.INPUT),
        "t": Buffer("t", float32, (6,), loop.TEMPORARY),
        "y": Buffer("y", float32, (6,), loop.OUTPUT),
    }
    call = Kernel("k0_host", (), (Call("negative", ("x",), ("t",), (("shapes", ((6,),)),)),))
    twice = Apply("multiply", (Load((Access("t", (1,)),), float32), Const(2.0, float32)), float32)
    body = (Let("v1", twice), Store(Access("y", (1,)), Ref("v1", float32)))
    kernels = (call, Kernel("k1_twice", (Axis("i0", 6),), body))
    program = loop.Program(buffers, kernels, ("x",), ("y",), (), commit=2)
    return plan_memory(program, Context())


@check
def host_routines_run_between_kernels(device: TritonDevice) -> None:
    executable = device.load(call_program(), {}, Settings())
    x = np.arange(6, dtype=np.float32)
    close(executable.run([x], 0), [x * -2])


def _routines() -> Iterator[tuple[str, dict[str, Any], list[np.ndarray]]]:
    """Ops that torch computes: odd sizes, positions out of range and many at one place, ties,
    NaN and inf, one element, 16-bit floats and integers."""
    rng = np.random.default_rng(2)
    special = normal(3, 41)
    special[0, :6] = np.nan, np.inf, -np.inf, 0.0, -0.0, np.nan
    for dtype in (np.float32, np.float64, np.float16, np.int32, np.int64):
        x = (4 * normal(5, 300, 7)).astype(dtype)
        ids = rng.integers(-2, 12, 300).astype(np.int32)
        yield "scatter_add", {"axis": 1, "size": 11}, [x, ids]
        yield "scatter_add", {"axis": 0, "size": 3}, [x, np.array([[2] * 300] * 5, np.int64)]
        whole = np.dtype(dtype).kind == "i"
        ties = rng.integers(-3, 4, (3, 41)) if whole else np.round(special)
        ties = ties.astype(dtype)
        for descending in (False, True):
            yield "sort_pairs", {"axis": -1, "descending": descending}, [ties]
            yield "sort_pairs", {"axis": 0, "descending": descending, "k": 2}, [ties]
    x, at = normal(4, 9, 5), rng.integers(0, 9, (4, 6, 5)).astype(np.int32)
    yield "take_pairs", {"axis": 1}, [x, at]
    yield "put_pairs", {"axis": -2}, [normal(4, 6, 5), at, x]
    for name in ("unsorted_segment_max", "unsorted_segment_min"):
        yield name, {"count": 4}, [special.T.copy(), rng.integers(-1, 6, 41)]
        yield name, {"count": 1}, [normal(1), np.zeros(1, np.int32)]
    yield "bitcast", {"dtype": as_dtype(np.int32)}, [special]


@check
def torch_computes_what_kernels_do_not(device: TritonDevice) -> None:
    for name, attrs, arrays in _routines():
        inputs = [placeholder(*a.shape, dtype=a.dtype) for a in arrays]
        outputs = list(OPS[name].outputs(*inputs, **attrs))
        executable, _ = load(device, cut(outputs, [], inputs), {})
        assert not any(s.on_host for s in executable.steps), name
        meaning: Any = OPS[name].numpy
        with np.errstate(all="ignore"):
            want = meaning({**OPS[name].attrs, **attrs}, *arrays)
        want = want if isinstance(want, tuple) else (want,)
        for run in range(2):
            for g, w in zip(executable.run(arrays, run), want, strict=True):
                assert g.dtype == w.dtype and np.array_equal(g, w, equal_nan=g.dtype.kind == "f")


@check
def torch_computes_fourier_transforms(device: TritonDevice) -> None:
    for shape, axis, inverse in (((3, 12, 2), 1, False), ((6, 5, 2), -2, True), ((1, 2), 0, True)):
        x, y = placeholder(*shape), normal(*shape, seed=4)
        out = op("fourier")(x * 1.0 + 0.5, axis=axis, inverse=inverse)
        executable, _ = load(device, cut([out], [], [x]), {})
        assert not any(s.on_host for s in executable.steps)
        close(executable.run([y], 0), evaluate([out], {x.node: y}))


@check
def what_torch_cannot_do_stays_on_the_host(device: TritonDevice) -> None:
    x = placeholder(5, 3, 3)
    inverse = op("matrix_inverse")(x)
    small = placeholder(4, dtype=np.uint16)
    ids = placeholder(4, dtype=np.int32)
    sums = op("scatter_add")(small, ids, axis=0, size=2)
    executable, _ = load(device, cut([inverse, sums], [], [x, small, ids]), {})
    assert [s.on_host for s in executable.steps] == [True, True]
    got = executable.run(
        [normal(5, 3, 3), np.arange(4, dtype=np.uint16), np.array([1, 0, 1, 9], np.int32)], 0
    )
    close(got, [np.linalg.inv(normal(5, 3, 3)), np.array([1, 2], np.uint16)])


@check
def threads_do_not_mix(device: TritonDevice) -> None:
    x = placeholder(9)
    executable, _ = load(device, cut([x * 2.0], [], [x]), {})
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            (got,) = executable.run([np.full(9, number, np.float32)], 0)
            if not (got == 2 * number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@check
def storage_keeps_bits(device: TritonDevice) -> None:
    for array in (
        np.array([True, False]), np.array([1, -2], np.int32), np.array(3.5, np.float64),
        np.zeros((0, 2), np.float32), np.array([np.nan, -0.0], np.float32),
    ):  # fmt: skip
        storage = device.allocate(as_dtype(array.dtype), array.shape)
        device.write(storage, array)
        got = device.read(storage)
        assert got.tobytes() == array.tobytes() and got.dtype == array.dtype
        assert got.shape == array.shape


@check
def sources_are_given_per_kernel(device: TritonDevice) -> None:
    x = placeholder(4, 8)
    program = compile_program(cut([op("softmax")(x)], [], [x]), Context())
    (kernel,) = program.kernels
    source = device.sources(program, Settings())[kernel.name]
    assert f"def {kernel.name}(" in source and "# reads 128 bytes, writes 128 bytes" in source
    assert "def maximum(" in source  # runnable alone


@check
def float32_products_are_exact_unless_asked(device: TritonDevice) -> None:
    a, b = placeholder(64, 64), placeholder(64, 64)
    plain = op("matmul")(a, b)
    # one plus 2^-20 needs more than TF32's ten bits
    given = {a.node: np.full((64, 64), 1 + 2.0**-20, np.float32), b.node: np.eye(64, dtype="f")}
    for product, libraries in ((plain, True), (plain, False), (plain + 1.0, False)):
        executable, _ = load(device, cut([product], [], [a, b]), {}, libraries=libraries)
        (got,) = executable.run(list(given.values()), 0)
        assert np.array_equal(got, evaluate([product], given)[0])
        executable, _ = load(device, cut([product], [], [a, b]), {}, libraries=libraries, tf32=True)
        (got,) = executable.run(list(given.values()), 0)
        np.testing.assert_allclose(got, evaluate([product], given)[0], rtol=1e-3)


@check
def a_product_is_written_to_a_variable(device: TritonDevice) -> None:
    w = op("variable")(dtype=float32, shape=(40, 40))
    start = normal(40, 40) * 0.1
    changed = op("matmul")(w, w)
    computation = Computation([], [w], [(w.node, changed)])
    executable, storage = load(device, computation, {w.node: start}, libraries=True)
    assert np.array_equal(device.read(storage[w.node]), start)
    want = start
    for run in range(2):
        close(executable.run([], run), [want])
        want = want @ want
        close([device.read(storage[w.node])], [want])


@check
def variables_may_be_written_between_runs(device: TritonDevice) -> None:
    w = op("variable")(dtype=float32, shape=(33,))
    first, storage = load(
        device, Computation([], [w * 2.0], [(w.node, w + 1.0)]), {w.node: normal(33)}
    )
    for number in (3, 5):
        device.write(storage[w.node], np.full(33, number, np.float32))
        assert (first.run([], 0)[0] == 2 * number).all()
        assert (first.run([], 1)[0] == 2 * number + 2).all()


@check
def without_a_graph_it_is_the_same(device: TritonDevice) -> None:
    x = placeholder(5, 3)
    w = op("variable")(dtype=float32, shape=(3, 4))
    product = op("matmul")(x, w)
    computation = Computation([x.node], [product, w], [(w.node, w + 0.5)])
    start, feed = normal(3, 4, seed=1), normal(5, 3)
    results = []
    for cuda_graph in (True, False):
        executable, storage = load(device, computation, {w.node: start}, cuda_graph=cuda_graph)
        assert (executable.turns[0].graph is None) == (device.interpret or not cuda_graph)
        outputs = [executable.run([feed], run) for run in range(3)][-1]
        results.append([*outputs, device.read(storage[w.node])])
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)
    close(results[0], [feed @ (start + 1.0), start + 1.0, start + 1.5])
