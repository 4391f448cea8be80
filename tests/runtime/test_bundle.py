"""Bundles: what is written runs elsewhere with the same results, and what is wrong is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc as gc
from graphc import errors
from graphc.ir.computation import cut
from graphc.ir.loop import Program
from graphc.ir.loop_json import Decoder, Encoder
from graphc.ir.loop_text import format_program
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.passes.target import GPU
from graphc.runtime import bundle_native
from graphc.runtime.bundle_files import pack_arrays, unpack_arrays, write_files
from graphc.runtime.explain import compile_fetches
from graphc.runtime.targets import find_target
from tests.control_programs import PROGRAMS, expected, fetches_and_feeds
from tests.random_graphs import chooser, random_graph

HAS_COMPILER = any(map(shutil.which, ("cc", "gcc", "clang")))
TARGETS = ["numpy", *["native"] * HAS_COMPILER]
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler")


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with gc.Graph().as_default():
        yield


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


FEEDS = {"x": normal(7, 5), "labels": np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 2]]}
SHAPES = {n: a.shape for n, a in FEEDS.items()}


def training() -> tuple[dict[str, Any], gc.Session]:
    """A small network in training, with dropout, so that the run's number matters."""
    x = gc.placeholder(gc.float32, [None, 5], name="x")
    labels = gc.placeholder(gc.float32, [None, 3], name="labels")
    weights = gc.Variable(normal(5, 3, seed=2), name="weights")
    hidden = gc.nn.dropout(gc.tanh(gc.matmul(x, weights) + gc.Variable(gc.ones([3]))), 0.5)
    losses = gc.nn.softmax_cross_entropy_with_logits(labels=labels, logits=hidden)
    step = gc.train.AdamOptimizer(0.1).minimize(gc.reduce_mean(losses))
    session = gc.Session(device="numpy", graph=gc.get_default_graph())
    session.run(gc.global_variables_initializer())
    return {"loss": gc.reduce_mean(losses), "hidden": hidden, "step": step}, session


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_training_step_goes_on_as_in_the_session(target: str, name: str, tmp_path: Path) -> None:
    fetches, session = training()
    gc.write_bundle(tmp_path / name, fetches, target=target, shapes=SHAPES, session=session)
    model = gc.load_bundle(tmp_path / name)
    assert list(model.outputs) == ["loss", "hidden"]
    assert model.inputs["x"].shape == (7, 5) and model.target == target
    fresh = gc.Session(device="numpy", graph=session.graph)  # whose runs are numbered from 0
    fresh.write_variables({v: session.read_variable(v) for v in gc.global_variables()})
    for _ in range(3):
        expected = fresh.run([fetches["loss"], fetches["hidden"], fetches["step"]],
                             {f"{n}:0": a for n, a in FEEDS.items()})  # fmt: skip
        result = model(FEEDS)
        np.testing.assert_allclose(result["loss"], expected[0], rtol=1e-5)
        np.testing.assert_allclose(result["hidden"], expected[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        model.variables["weights"], fresh.read_variable("weights"), rtol=1e-4
    )


@needs_compiler
def test_it_runs_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetches, session = training()
    gc.write_bundle(tmp_path / "b", fetches, target="native", shapes=SHAPES, session=session)
    expected = gc.load_bundle(tmp_path / "b")(FEEDS)
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(subprocess, "run", forbidden)
    result = gc.load_bundle(tmp_path / "b")(FEEDS)
    assert all(np.array_equal(result[n], expected[n]) for n in expected)


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing may be compiled")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["scan_rnn", "branch_in_loop", "doubled"])
def test_loops_and_branches(name: str, target: str, tmp_path: Path) -> None:
    program = PROGRAMS[name]
    fetches, feeds = fetches_and_feeds(program)
    named = {f"y{i}": y for i, y in enumerate(fetches)}
    inputs = {f"x{i}": x for i, x in enumerate(feeds)}
    gc.write_bundle(tmp_path / "b", named, target=target, inputs=inputs,
                    shapes={f"x{i}": a.shape for i, a in enumerate(feeds.values())})  # fmt: skip
    result = gc.load_bundle(tmp_path / "b")({f"x{i}": a for i, a in enumerate(feeds.values())})
    for y, expected_y in zip(result.values(), expected(program), strict=True):
        np.testing.assert_allclose(y, expected_y, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(12))
def test_programs_survive_being_written(seed: int) -> None:
    outputs, given = random_graph(chooser(seed), exact=bool(seed % 2))
    program = compile_program(cut(outputs, [], [n.outputs[0] for n in given]), Context())
    check_written(program)


def check_written(program: Program) -> None:
    encoder = Encoder()
    text = json.dumps(encoder.encode(program), allow_nan=False)
    read = Decoder(unpack_arrays(pack_arrays(encoder.arrays))).decode(json.loads(text))
    assert format_program(read) == format_program(program)
    assert Encoder().encode(read) == encoder.encode(program)  # programs hold NaN: never equal


def test_what_json_has_not_survives() -> None:
    x = gc.placeholder(gc.float32, [3], name="x")
    y = gc.minimum(gc.maximum(x, -np.inf), np.nan) + gc.cast(gc.constant([1, 2, 3]), gc.float32)
    made = compile_fetches({"y": y}, {}, GPU, Settings(), None)
    check_written(made.program)


def test_arrays_of_every_dtype_survive() -> None:
    dtypes = ["bool", "int8", "uint64", "float16", "float64", ml_dtypes.bfloat16]
    arrays = {f"{d}": np.ones((2, 3)).astype(d) for d in dtypes}
    arrays |= {"scalar": np.float32(2.5).reshape(()), "empty": np.zeros((0, 4), np.float32)}
    arrays["brain scalar"] = np.asarray(1.5, ml_dtypes.bfloat16)
    read = unpack_arrays(pack_arrays(arrays))
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and read[name].shape == array.shape
        assert np.array_equal(read[name], array)


# -- what is wrong


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A bundle of tanh(x) for the CPU by NumPy."""
    x = gc.placeholder(gc.float32, [2, 3], name="x")
    gc.write_bundle(tmp_path / "small", {"y": gc.tanh(x)}, target="numpy")
    return tmp_path / "small"


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, ["'x' is missing", "float32[2, 3]"]),
        ({"x": normal(2, 3), "z": 1}, ["there is no 'z'"]),
        ({"x": normal(3, 3)}, ["[3, 3]", "--shape x=3,3"]),
        ({"x": ["a"]}, ["x: float32[2, 3]"]),
    ],
)
def test_wrong_feeds(feeds: dict[str, Any], words: list[str], small: Path) -> None:
    with pytest.raises(errors.FeedError) as caught:
        gc.load_bundle(small)(feeds)
    assert all(w in str(caught.value) for w in words), caught.value


def test_integers_are_fed_as_in_a_session(small: Path) -> None:
    result = gc.load_bundle(small)(x=[[1, 2, 3], [4, 5, 6]])["y"]
    np.testing.assert_allclose(result, np.tanh([[1, 2, 3], [4, 5, 6]]), rtol=1e-6)


@pytest.mark.parametrize("file", ["program.json", "weights.safetensors", "program.txt"])
def test_a_damaged_file_is_found(file: str, small: Path) -> None:
    data = bytearray((small / file).read_bytes())
    data[len(data) // 2] ^= 1
    (small / file).write_bytes(data)
    with pytest.raises(errors.BundleError, match=rf"{file} is damaged \(its checksum"):
        gc.load_bundle(small)


@pytest.mark.parametrize("file", ["program.json", "manifest.json"])
def test_a_missing_file_is_found(file: str, small: Path) -> None:
    (small / file).unlink()
    with pytest.raises(errors.BundleError, match="no bundle, or damaged"):
        gc.load_bundle(small)


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The bundle with its manifest changed."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m["files"].update({"../../etc/passwd": ""}), "names files outside"),
        (lambda m: m.pop("target"), "damaged or of another graphc"),
        (lambda m: m["target"].update(device="tpu"), "damaged or of another graphc"),
        (lambda m: m.update(files=[]), "not one of a bundle"),
    ],
)
def test_a_wrong_manifest(change: Callable[[Any], Any], words: str, small: Path) -> None:
    edited(small, change)
    with pytest.raises(errors.BundleError, match=words):
        gc.load_bundle(small)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(errors.BundleError, match="there is no bundle"):
        gc.load_bundle(tmp_path / "none")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(errors.BundleError, match="no bundle, or damaged"):
        gc.load_bundle(tmp_path / "text.zip")


def test_what_is_no_bundle_is_not_overwritten(small: Path) -> None:
    (small.parent / "mine").mkdir()
    (small.parent / "mine" / "notes").write_text("keep")
    with pytest.raises(errors.BundleError, match="is no bundle"):
        write_files(small.parent / "mine", {}, {})
    write_files(small, {"new": 1}, {"a/b": b"x"})  # a bundle is
    assert sorted(p.name for p in small.iterdir()) == ["a", "manifest.json"]
    assert [p.name for p in small.parent.iterdir() if p.name.startswith(".")] == []


@needs_compiler
@pytest.mark.parametrize(
    ("here", "words"),
    [
        (lambda m, f: ("riscv64", f), ["this machine is riscv64", "--target numpy"]),
        (lambda m, f: (m, f[1:]), ["a processor with", "which this one has not"]),
    ],
)
def test_another_processor(
    here: Callable[..., Any], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = gc.placeholder(gc.float32, [4], name="x")
    gc.write_bundle(tmp_path / "b", {"y": x * 2.0}, target="native")
    now = bundle_native.processor()
    monkeypatch.setattr(bundle_native, "processor", lambda: here(*now))
    with pytest.raises(errors.TargetError) as caught:
        gc.load_bundle(tmp_path / "b")
    assert all(w in str(caught.value) for w in words)


@needs_compiler
def test_c_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = gc.placeholder(gc.float32, [4], name="x")
    gc.write_bundle(tmp_path / "b", {"y": x * 3.0}, target="native")
    monkeypatch.setattr(bundle_native, "header_text", lambda: "other headers")
    with pytest.raises(errors.BundleError, match="another version of graphc"):
        gc.load_bundle(tmp_path / "b")


def test_what_cannot_be_bundled(tmp_path: Path) -> None:
    x = gc.placeholder(gc.float32, [None], name="x")
    with pytest.raises(errors.TargetError, match="sm_80, sm_90, sm_100, native, numpy"):
        gc.write_bundle(tmp_path / "b", {"y": x}, target="sm_10")
    with pytest.raises(errors.FeedError, match="shape of placeholder 'x'"):
        gc.write_bundle(tmp_path / "b", {"y": gc.exp(x)}, target="numpy")
    with pytest.raises(errors.UnsupportedOp, match="its sizes depend on values"):
        gc.write_bundle(
            tmp_path / "b", {"y": gc.exp(gc.boolean_mask(x, x > 0.0))}, target="numpy",
            shapes={"x": (5,)},
        )  # fmt: skip
    with pytest.raises(errors.FetchError, match="needs a value"):
        gc.write_bundle(tmp_path / "b", {"v": gc.Variable(1.0) + 1.0}, target="numpy")
    assert not (tmp_path / "b").exists()


def test_targets() -> None:
    assert find_target("native") is None and find_target("numpy") is None
    found = find_target("sm_90a")
    assert found is not None and (found.name, found.arch) == ("sm_90", 90)
