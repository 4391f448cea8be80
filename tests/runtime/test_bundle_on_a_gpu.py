"""Bundles of cubins: written without a GPU; loaded by the driver's functions, on stand-ins.

The device of triton_stand_in.py takes the place of torch's CUDA, a recording driver or a small C
library that of libcuda. What a GPU makes of the cubins is shown only on a GPU.
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import errors
from graphc.codegen.triton import Options
from graphc.codegen.triton.candidates import candidates, tuning_key
from graphc.codegen.triton.contraction import prepared
from tests.gpu import has_gpu

pytest.importorskip("triton")
bundle_triton = importlib.import_module("graphc.runtime.bundle_triton")
cuda_driver = importlib.import_module("graphc.runtime.devices.cuda_driver")
Entry = importlib.import_module("graphc.runtime.devices.triton_compile").Entry

stand_ins = importlib.import_module("tests.runtime.triton_stand_in")


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with gc.Graph().as_default():
        yield


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def classifier() -> tuple[dict[str, Any], gc.Session]:
    """A product with epilogue, a softmax, and an update."""
    x = gc.placeholder(gc.float32, [6, 20], name="x")
    weights = gc.Variable(normal(20, 10, seed=1), name="weights")
    y = gc.nn.softmax(gc.matmul(x, weights) + 1.0)
    session = gc.Session(device="numpy")
    session.run(gc.global_variables_initializer())
    return {"y": y, "step": gc.assign(weights, weights * 0.5).op}, session


class RecordingDriver:
    """A driver whose functions are the program's kernels, run by the evaluator."""

    def __init__(self, gpu: Any) -> None:
        self.gpu = gpu
        self.loaded: dict[str, bytes] = {}
        self.launched: list[tuple[str, int]] = []

    def load(self, name: str, cubin: bytes, entry: Any) -> str:
        assert cubin[:4] == b"\x7fELF" and entry.threads % 32 == 0
        self.loaded[name] = cubin
        return name

    def launch(self, name: str, function: str, entry: Any, grid: int, addresses: list[int]) -> None:
        self.launched.append((name, grid))
        kernel = next(k for k in self.gpu.program.kernels if k.name == function)
        names = dict.fromkeys((*kernel.inputs, *kernel.outputs))
        buffers = [self.gpu.program.buffers[n] for n in names]
        tensors = [_tensor_at(a, b) for a, b in zip(addresses, buffers, strict=True)]
        stand_ins.Compiled(self.gpu, function)[(grid, 1, 1)](*tensors)


def _tensor_at(address: int, buffer: Any) -> Any:
    import torch

    raw = (ctypes.c_uint8 * buffer.nbytes).from_address(address)
    return torch.frombuffer(raw, dtype=torch.uint8)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """(device, state, driver) of the stand-ins; the GPU says that it is an H200. From here on
    Triton compiles nothing."""
    import torch

    device, state = stand_ins.stand_in(monkeypatch)
    driver = RecordingDriver(state)
    monkeypatch.setattr(cuda_driver, "Driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    return device, state, driver


def test_a_bundle_of_cubins_runs_as_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches, session = classifier()
    manifest = gc.write_bundle(
        tmp_path / "b.zip", fetches, target="sm_90", session=session, libraries=False
    )
    assert manifest["target"]["arch"] == 90 and manifest["target"]["ptxas"] >= "12"
    device, state, driver = stand_in(monkeypatch)
    state.program = gc.explain(fetches, device="sm_90").program
    model = gc.load_bundle(tmp_path / "b.zip", device)
    x = normal(6, 20, seed=3)
    for _ in range(2):
        expected, _ = session.run([fetches["y"], fetches["step"]], {"x:0": x})
        np.testing.assert_allclose(model(x=x)["y"], expected, rtol=1e-5)
    np.testing.assert_allclose(model.variables["weights"], session.read_variable("weights"))
    assert set(driver.loaded) == {name for name, _ in driver.launched}


def test_a_library_computes_in_a_bundle_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = gc.placeholder(gc.float32, [40, 50], name="x")
    w, y = normal(50, 60, seed=1), gc.exp(x * 0.5)
    fetches = {"y": gc.matmul(y, gc.constant(w)), "e": y}
    gc.write_bundle(tmp_path / "b.zip", fetches, target="sm_90")
    device, state, driver = stand_in(monkeypatch)
    state.program = gc.explain(fetches, device="sm_90").program
    model = gc.load_bundle(tmp_path / "b.zip", device)
    given = normal(40, 50)
    np.testing.assert_allclose(model(x=given)["y"], np.exp(given * 0.5) @ w, rtol=1e-4, atol=1e-4)
    assert len(driver.loaded) == 1, "the product is no kernel of the bundle"


def test_measured_schedules_are_bundled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where such a GPU is here; else by rule, and the log says so."""
    fetches = {"y": gc.nn.softmax(gc.placeholder(gc.float32, [96, 64], name="x"))}

    class Measuring:
        arch = 90

        def options_for(self, settings: Any, program: Any) -> Options:
            (kernel,) = program.kernels
            ready, options = prepared(kernel), Options(libraries=True)
            last = candidates(ready, program.buffers, options)[-1]
            key = tuning_key(ready, program.buffers, options)
            return replace(options, schedules={key: replace(last, note="measured 1 us")})

    monkeypatch.setattr(bundle_triton, "TritonDevice", Measuring)
    monkeypatch.setattr(bundle_triton, "_arch", lambda place: place.arch)
    for arch, measured in ((90, True), (80, False)):
        Measuring.arch, path = arch, tmp_path / f"{arch}"
        gc.write_bundle(path, fetches, target="sm_90", autotune=True)
        assert ("measured 1 us" in (path / "kernels/program.py").read_text()) == measured
    assert "by rule, not measured: this GPU is sm_80" in caplog.text
    monkeypatch.undo()
    gc.write_bundle(tmp_path / "c", fetches, target="sm_90", autotune=True)
    assert caplog.text.count("by rule, not measured") == (1 if has_gpu() else 2)


def test_another_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = gc.placeholder(gc.float32, [64], name="x")
    gc.write_bundle(tmp_path / "b", {"y": gc.exp(x)}, target="sm_80")
    device, _, _ = stand_in(monkeypatch)
    with pytest.raises(errors.TargetError, match="compiled for sm_80, and this GPU is sm_90: comp"):
        gc.load_bundle(tmp_path / "b", device)


def test_without_a_gpu(tmp_path: Path) -> None:
    x = gc.placeholder(gc.float32, [64], name="x")
    gc.write_bundle(tmp_path / "b", {"y": gc.exp(x)}, target="sm_90")
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(errors.DeviceError, match=r"needs an NVIDIA GPU|finds no CUDA device"):
            gc.load_bundle(tmp_path / "b")


def test_the_users_lines_stay_at_home(tmp_path: Path) -> None:
    x = gc.placeholder(gc.float32, [64], name="x")
    gc.write_bundle(tmp_path / "b", {"y": gc.exp(x)}, target="sm_90")
    assert "test_bundle_on_a_gpu" in gc.explain(gc.exp(x), device="sm_90").kernels[0].source
    for file in (p for p in (tmp_path / "b").rglob("*") if p.is_file()):
        assert b"test_bundle_on_a_gpu" not in file.read_bytes(), file


# -- the driver's functions, against a library with their signatures

FAKE_CUDA = r"""
#include <stdio.h>
#include <string.h>
char said[4096];
int result = 0;
static void *handles[2];
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuGetErrorName(int code, const char **name) {
    *name = code == 209 ? "NO_BINARY" : "OTHER";
    return 0;
}
int cuModuleLoadData(void **module, const void *image) {
    *module = &handles[0];
    sprintf(said + strlen(said), "load %.4s\n", (const char *)image + 1);
    return result;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = &handles[1];
    sprintf(said + strlen(said), "get %d %s\n", module == &handles[0], name);
    return 0;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    sprintf(said + strlen(said), "set %d %d %d\n", function == &handles[1], attribute, value);
    return 0;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **arguments, void **extra) {
    sprintf(said + strlen(said), "launch %d grid %u %u %u block %u %u %u shared %u stream %zu:",
            function == &handles[1], gx, gy, gz, bx, by, bz, shared, (size_t)stream);
    for (int i = 0; i < 4; i++) sprintf(said + strlen(said), " %zu", *(size_t *)arguments[i]);
    sprintf(said + strlen(said), " %d\n", extra == 0);
    return result;
}
"""


@pytest.fixture(scope="module")
def fake_cuda(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "cuda.c").write_text(FAKE_CUDA)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "cuda.so", folder / "cuda.c"], check=True
    )
    return ctypes.CDLL(str(folder / "cuda.so"))


class Tensor:
    def __init__(self, address: int) -> None:
        self.address = address

    def data_ptr(self) -> int:
        return self.address


def said(library: Any) -> list[str]:
    """What the library was asked for since the last time."""
    text = ctypes.c_char.in_dll(library, "said")
    lines = ctypes.string_at(ctypes.addressof(text)).decode().splitlines()
    text.value = b"\0"
    return lines


@pytest.mark.parametrize("shared", [1024, 100 << 10])
def test_a_launch_gives_the_driver_what_it_needs(
    shared: int, fake_cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = cuda_driver.Driver(fake_cuda)
    monkeypatch.setattr(driver, "stream", lambda: 77)
    said(fake_cuda)
    entry = Entry("kernel_0", shared, 128, 2)
    function = cuda_driver.CubinFunction(driver, "kernel", b"\x7fELF!", entry)
    high = (1 << 40) + 5  # an address beyond 32 bits
    launch = function.warmup(grid=(9, 1, 1), num_warps=4, num_stages=2)[(9, 1, 1)]
    launch(Tensor(high), Tensor(3))
    asked = [f"set 1 8 {shared}"] if shared > 48 << 10 else []
    assert said(fake_cuda) == [
        "load ELF!", "get 1 kernel_0", *asked,
        f"launch 1 grid 9 1 1 block 128 1 1 shared {shared} stream 77: {high} 3 0 0 1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [(209, errors.TargetError, "NO_BINARY.*CUDA 13.0.*--target"), (700, errors.DeviceError, "700")],
)
def test_what_the_driver_refuses(code: int, kind: type, words: str, fake_cuda: Any) -> None:
    result = ctypes.c_int.in_dll(fake_cuda, "result")
    result.value = code
    try:
        with pytest.raises(kind, match=words):
            cuda_driver.Driver(fake_cuda).load("k", b"\x7fELF", Entry("k", 0, 32, 0))
    finally:
        result.value = 0
