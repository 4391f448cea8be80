"""The command `graphc`: what it writes and prints, and how it says what is wrong."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import graphc as gc
from graphc.cli import main

NET = """
import graphc as gc
import sizes

def classifier():
    x = gc.placeholder(gc.float32, [None, 6], name="x")
    weights = gc.Variable(gc.ones([6, sizes.CLASSES]) * 0.5, name="weights")
    return {"y": gc.nn.softmax(gc.matmul(x, weights))}

def nothing():
    return None

def broken():
    return {"y": gc.matmul(gc.ones([2, 3]), gc.ones([4, 5]))}
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    """A file of functions that build graphs, and a module that it imports."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "sizes.py").write_text("CLASSES = 4\n")
    return str(tmp_path / "net.py")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_a_function_becomes_a_bundle(net: str, tmp_path: Path) -> None:
    done = run("compile", f"{net}:classifier", "--shape", "x=3,6", "--target", "numpy", "-o",
               tmp_path / "b")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "input  x: float32[3, 6]" in done.output and "output y: float32[3, 4]" in done.output
    result = gc.load_bundle(tmp_path / "b")(x=np.ones((3, 6)))["y"]
    np.testing.assert_allclose(result, np.full((3, 4), 0.25), rtol=1e-6)


def test_variables_come_from_a_checkpoint(net: str, tmp_path: Path) -> None:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        weights = gc.Variable(np.eye(6, 4, dtype=np.float32) * 50, name="weights")
        session.run(weights.initializer)
        checkpoint = gc.train.Saver().save(session, str(tmp_path / "trained"))
    run("compile", f"{net}:classifier", "--shape", "x=1,6", "--target", "numpy", "-o",
        tmp_path / "b.zip", "--checkpoint", checkpoint)  # fmt: skip
    result = gc.load_bundle(tmp_path / "b.zip")(x=np.eye(6)[[2]])["y"]
    assert result.argmax() == 2 and result.max() > 0.99


def test_an_onnx_model_becomes_a_bundle(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with gc.Graph().as_default():
        x = gc.placeholder(gc.float32, [None, 3], name="images")
        save = importlib.import_module("graphc.onnx").save
        save({"scores": gc.tanh(x)}, tmp_path / "net.onnx", inputs={"images": x})
    done = run("compile", tmp_path / "net.onnx", "--shape", "images=2,3", "--target", "numpy",
               "-o", tmp_path / "b")  # fmt: skip
    assert done.exit_code == 0, done.output
    result = gc.load_bundle(tmp_path / "b")(images=np.ones((2, 3)))["scores"]
    np.testing.assert_allclose(result, np.tanh(np.ones((2, 3))), rtol=1e-6)
    told = run("explain", tmp_path / "net.onnx", "--shape", "images=2,3", "--target", "numpy")
    assert told.exit_code == 0 and ".py:" not in told.output  # no line of anyone's is the cause


def test_explain_prints_the_report_and_the_roofline(net: str) -> None:
    done = run("explain", f"{net}:classifier", "--shape", "x=3,6", "--target", "sm_90",
               "--roofline", "--source")  # fmt: skip
    assert done.exit_code == 0, done.output
    for words in ("sm_90: ", "not fused:", "predicted, not measured", "@triton.jit", "= dot "):
        assert words in done.output, words


def test_dump_writes_every_stage(net: str, tmp_path: Path) -> None:
    done = run("dump", f"{net}:classifier", "--shape", "x=3,6", "-o", tmp_path / "stages")
    assert done.exit_code == 0, done.output
    names = {p.name for p in (tmp_path / "stages").rglob("*")}
    assert {"memory.txt", "decisions.txt", "kernels"} <= names


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{net}:classifier", "--target", "sm_99"], "TargetError: no target 'sm_99'; there are"),
        (["{net}:classifier"], "--shape NAME=SIZE"),
        (["{net}:classifier", "--shape", "x=3,y"], "is not NAME=SIZE,SIZE"),
        (["{net}:classifier", "--shape", "z=3"], "FeedError: cannot feed 'z'"),
        (["{net}:classifier", "--shape", "x=3"], "ShapeError"),
        (["{net}:missing"], "has no function missing"),
        (["{net}:nothing"], "gives NoneType, not a dict"),
        (["{net}:broken"], "net.py:14"),
        (["{net}.other:f.py"], "neither MODEL.onnx nor FILE.py:FUNCTION"),
        (["none.onnx"], "there is no file none.onnx"),
        (["none.py:f"], "there is no file none.py"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str, net: str, tmp_path: Path) -> None:
    given = [a.replace("{net}", net) for a in arguments]
    target = [] if "--target" in given else ["--target", "numpy"]
    done = run("compile", *given, *target, "-o", tmp_path / "b")
    assert done.exit_code != 0 and words in done.output, done.output
    assert "Traceback" not in done.output and not (tmp_path / "b").exists()


def test_roofline_needs_a_gpu_as_target(net: str) -> None:
    done = run("explain", f"{net}:classifier", "--roofline", "--shape", "x=3,6")
    assert done.exit_code != 0 and "give --target sm_80" in done.output


def test_python_m_graphc() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphc", "--help"], capture_output=True, text=True, check=True
    )
    assert all(word in done.stdout for word in ("compile", "explain", "dump"))
