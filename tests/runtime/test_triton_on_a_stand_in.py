"""The Triton device prepares, captures and replays a run as it must, on a stand-in for a GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import float32
from graphc.runtime.devices.triton import TritonDevice
from graphc.runtime.devices.triton_steps import KernelLaunch
from tests.runtime.triton_device_checks import CHECKS, load, normal, op, placeholder
from tests.runtime.triton_session_checks import strings_stay_on_the_host
from tests.runtime.triton_stand_in import Event, Gpu, stand_in

Made = tuple[TritonDevice, Gpu]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    pytest.importorskip("triton")
    return stand_in(monkeypatch)


NOT_HERE = {"threads_do_not_mix", "libraries_work_inside_loops"}  # it knows neither


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - NOT_HERE))
def test_checks(name: str, made: Made) -> None:
    CHECKS[name](made[0])


def test_strings(made: Made) -> None:
    strings_stay_on_the_host(made[0])


def training() -> tuple[Computation, dict]:
    """A step that reads, fetches and updates w."""
    x = placeholder(5, 3)
    w = op("variable")(dtype=float32, shape=(3, 4))
    loss = op("reduce_sum")(op("matmul")(x, w), axis=None)
    return Computation([x.node], [loss, w], [(w.node, w * 0.5)]), {w.node: normal(3, 4)}


def test_all_but_updates_run_before_the_capture(made: Made) -> None:
    device, gpu = made
    executable, _ = load(device, *training())
    warmed = [entry for entry in gpu.log if entry.endswith("on side") and "capture" not in entry]
    captured = [s.name for s in executable.turns[0].graph.steps]
    assert len(warmed) >= 1 and not any("update" in entry for entry in warmed)
    assert any("update" in name for name in captured)
    assert gpu.log.index("side waits for main") < gpu.log.index(warmed[0])
    assert gpu.log.index(warmed[-1]) < gpu.log.index("wait for all")
    assert gpu.log.index("wait for all") < gpu.log.index("capture on side")


def test_a_run_is_one_replay(made: Made) -> None:
    device, gpu = made
    executable, _ = load(device, *training())
    gpu.log.clear()
    executable.run([normal(5, 3)], 0)
    (turn,) = executable.turns
    assert turn.graph.replays == 1
    names = [s.name for s in executable.steps]
    assert [s.name for s in turn.graph.steps] == ["copy_in", *names, "copy_out"]
    assert gpu.log == [*(f"{name} on main" for name in names), "wait for main"]


def test_a_run_without_outputs_does_not_wait(made: Made) -> None:
    device, gpu = made
    w = op("variable")(dtype=float32, shape=(7,))
    executable, storage = load(
        device, Computation([], [], [(w.node, w + 1.0)]), {w.node: normal(7)}
    )
    gpu.log.clear()
    executable.run([], 0)
    assert not any(entry.startswith("wait") for entry in gpu.log)
    assert np.array_equal(device.read(storage[w.node]), normal(7) + np.float32(1))


def test_a_side_of_the_host_in_use_is_left_alone(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, gpu = made
    x, w = placeholder(7), op("variable")(dtype=float32, shape=(7,))
    computation = Computation([x.node], [], [(w.node, w + x)])
    executable, storage = load(device, computation, {w.node: normal(7)})
    ones = np.ones(7, np.float32)
    executable.run([ones], 0)
    executable.run([ones], 1)  # the GPU has done with the first
    assert len(executable.turns) == 1 and "wait for a run" not in gpu.log
    monkeypatch.setattr(Event, "reached", False)
    for run in range(2, 5):
        before = executable.turns[0]
        executable.run([ones], run)
        assert executable.turns[0] is not before and len(executable.turns) == 2
    assert gpu.log.count("wait for a run") == 3  # that is, for the last but one
    np.testing.assert_allclose(device.read(storage[w.node]), normal(7) + ones * 5, rtol=1e-5)


def test_a_side_that_nothing_is_fed_to_is_never_in_use(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, gpu = made
    w = op("variable")(dtype=float32, shape=(7,))
    computation = Computation([], [], [(w.node, w + 1.0)])
    executable, _ = load(device, computation, {w.node: normal(7)})
    monkeypatch.setattr(Event, "reached", False)
    gpu.log.clear()
    for run in range(3):
        executable.run([], run)
    assert len(executable.turns) == 1
    assert not {"wait for a run", "record", "wait for main"} & set(gpu.log)


def test_kernels_are_timed_without_copies(made: Made) -> None:
    device, gpu = made
    executable, _ = load(device, *training())
    gpu.log.clear()
    executable.launch()
    executable.launch()
    names = [s.name for s in executable.steps]
    ran = [entry for entry in gpu.log if entry.endswith("on main")]
    assert ran == [f"{name} on main" for name in names] * 2
    assert sum("capture" in entry for entry in gpu.log) == 1
    assert executable.turns[0].graph.replays == 0


def test_work_goes_to_the_stream_of_the_device(made: Made) -> None:
    device, gpu = made
    x = placeholder(4)
    other = type(gpu.main)(gpu.log, "other")
    with gpu.stream(other):
        executable, _ = load(device, cut([x * 2.0], [], [x]), {})
        executable.run([np.ones(4, np.float32)], 0)
        assert gpu.current is other
    ran = [e for e in gpu.log if " on " in e and "capture" not in e]
    assert ran and {e.split(" on ")[1] for e in ran} == {"side", "main"}


def test_a_host_routine_prevents_the_graph(made: Made) -> None:
    from graphc.ir.settings import Settings
    from tests.runtime.triton_device_checks import call_program

    executable = made[0].load(call_program(), {}, Settings())
    assert executable.turns[0].graph is None
    assert [s.on_host for s in executable.steps] == [True, False]


def test_products_follow_the_setting(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    seen: list[str] = []
    matmul = torch.matmul

    def watched(*arguments: object, **options: object) -> object:
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return matmul(*arguments, **options)

    monkeypatch.setattr(torch, "matmul", watched)
    before = torch.backends.cuda.matmul.fp32_precision
    a, b = placeholder(64, 64), placeholder(64, 64)
    computation = cut([op("matmul")(a, b)], [], [a, b])
    for tf32, precision in ((False, "ieee"), (True, "tf32")):
        seen.clear()
        executable, _ = load(made[0], computation, {}, libraries=True, tf32=tf32)
        executable.run([normal(64, 64)] * 2, 0)
        assert seen == [precision] * 2  # before the capture, and in the run
        assert torch.backends.cuda.matmul.fp32_precision == before


def test_torch_computes_attention_where_nothing_reads_the_sums(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    calls: list[int] = []
    function = torch.nn.functional.scaled_dot_product_attention

    def watched(*arguments: object, **options: object) -> object:
        calls.append(1)
        return function(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)

    def run(dtype: object, sums: bool, causal: bool, masked: bool, libraries: bool = True) -> int:
        inputs = [placeholder(2, 40, 16, dtype=dtype) for _ in range(3)]
        masks = [placeholder(40, 40, dtype=np.bool_)] if masked else []
        outputs = op("scaled_dot_product_attention").outputs(*inputs, *masks, causal=causal)
        computation = cut(outputs if sums else outputs[:1], [], [*inputs, *masks])
        executable, _ = load(made[0], computation, {}, libraries=libraries)
        calls.clear()
        arrays = [normal(2, 40, 16).astype(dtype)] * 3 + [np.ones((40, 40), np.bool_)] * masked
        executable.run(arrays, 0)
        return len(calls)

    assert run(np.float16, sums=False, causal=True, masked=False) == 1
    assert run(np.float16, sums=False, causal=False, masked=True) == 1
    assert run(np.float16, sums=True, causal=True, masked=False) == 0
    assert run(np.float16, sums=False, causal=True, masked=True) == 0
    assert run(np.float32, sums=False, causal=True, masked=False) == 0
    assert run(np.float16, sums=False, causal=True, masked=False, libraries=False) == 0


def test_a_kernel_that_fails_to_compile_leaves_the_device_usable(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton

    from graphc.runtime.devices.triton_steps import KernelLaunch

    device, _ = made
    x = placeholder(4)
    computation = cut([x * 2.0], [], [x])

    class Broken(triton.AsyncCompileMode):  # type: ignore[misc]
        def __exit__(self, *_: object) -> None:
            raise ValueError("no such instruction")  # its mode stays set, as in Triton 3.6

    with monkeypatch.context() as patch:
        patch.setattr(triton, "AsyncCompileMode", Broken)
        with pytest.raises(ValueError, match="no such instruction"):
            load(device, computation, {})
    executable, _ = load(device, computation, {})
    assert (executable.run([np.ones(4, np.float32)], 0)[0] == 2).all()
    with pytest.raises(AssertionError, match="loaded before"):
        KernelLaunch(None, (1, 1, 1), [])()


class Spilling:
    """A compiled kernel that spills so many words."""

    def __init__(self, name: str, n_spills: int, log: list[str]) -> None:
        self.name, self.n_spills, self.log = name, n_spills, log

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        return lambda *_: self.log.append(self.name)


@pytest.mark.parametrize(
    ("spills", "spills_again", "runs"), [(0, 0, "first"), (2, 0, "again"), (2, 1, "first")]
)
def test_a_kernel_that_spills_is_compiled_again(spills: int, spills_again: int, runs: str) -> None:
    pytest.importorskip("triton")
    log: list[str] = []
    asked: list[bool] = []

    def again() -> Spilling:
        asked.append(True)
        return Spilling("again", spills_again, log)

    launch = KernelLaunch(Spilling("first", spills, log), (1, 1, 1), [], again)
    launch.load()
    launch()
    assert log == [runs] and len(asked) == bool(spills)
