"""Reading ONNX models: what they compute, how they train, and what broken files get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphc as gc
from graphc.ir.errors import FeedError, ModelError, UnsupportedOp
from graphc.onnx import backend, load

FLOAT = TensorProto.FLOAT


def info(name: str, shape: Sequence[Any] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any],
    initializers: Sequence[Any] = (), opset: int = 18, **more: Any,
) -> Any:  # fmt: skip
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)


def tensor(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def perceptron() -> Any:
    rng = np.random.default_rng(2)
    shapes = {"w1": (4, 8), "b1": (8,), "w2": (8, 3)}
    weights = [tensor(n, rng.standard_normal(s).astype("f")) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["a"], "act"),
        helper.make_node("MatMul", ["a", "w2"], ["y"], "second"),
    ]
    return model(nodes, [info("x", ["batch", 4])], [info("y", ["batch", 3])], weights)


def run(loaded: Any, *arrays: Any) -> list[Any]:
    with gc.Session(graph=loaded.graph, device="numpy") as session:
        feeds = dict(zip(loaded.inputs.values(), arrays, strict=True))
        return list(session.run(list(loaded.outputs.values()), feeds))


def test_dynamic_dims_keep_their_names_and_take_any_batch() -> None:
    loaded = load(perceptron())
    assert str(loaded.inputs["x"].type) == "float32[batch, 4]"
    assert list(loaded.outputs) == ["y"]
    for batch in (1, 5):
        (y,) = run(loaded, np.ones((batch, 4), "f"))
        assert y.shape == (batch, 3)


def test_from_a_path_from_bytes_and_from_a_proto(tmp_path: Path) -> None:
    proto = perceptron()
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    x = np.random.default_rng(0).standard_normal((2, 4)).astype("f")
    results = [run(load(m), x)[0] for m in (proto, proto.SerializeToString(), path, str(path))]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_kernels_carry_the_names_of_the_nodes() -> None:
    loaded = load(perceptron())
    report = gc.explain(loaded.outputs["y"], {loaded.inputs["x"]: (2, 4)}, device="numpy")
    assert report.kernels[0].covers[0].startswith("first/")


def test_a_loaded_model_trains() -> None:
    loaded = load(perceptron(), trainable=True)
    assert list(loaded.variables) == ["w1", "b1", "w2"]
    with loaded.graph.as_default(), gc.Session(device="numpy") as session:
        target = gc.placeholder(gc.float32, [None, 3])
        loss = gc.reduce_mean(gc.square(loaded.outputs["y"] - target))
        step = gc.train.GradientDescentOptimizer(0.02).minimize(loss)
        session.run(gc.global_variables_initializer())
        rng = np.random.default_rng(1)
        feeds = {loaded.inputs["x"]: rng.standard_normal((16, 4)),
                 target: rng.standard_normal((16, 3))}  # fmt: skip
        curve = [session.run([loss, step], feeds)[0] for _ in range(150)]
    assert curve[-1] < 0.3 * curve[0]


def test_shapes_axes_and_counts_fed_at_run_time() -> None:
    nodes = [
        helper.make_node("Slice", ["x", "starts", "ends"], ["part"]),
        helper.make_node("Reshape", ["part", "shape"], ["flat"]),
        helper.make_node("ReduceSum", ["flat", "axes"], ["y"], keepdims=0),
    ]
    ints = TensorProto.INT64
    proto = model(
        nodes,
        [info("x", ["n", "m"]), info("starts", [1], ints), info("ends", [1], ints),
         info("shape", [2], ints), info("axes", [1], ints)],
        [info("y", ["k"])],
    )  # fmt: skip
    loaded = load(proto)
    x = np.arange(24, dtype="f").reshape(6, 4)
    with gc.Session(graph=loaded.graph, device="numpy") as session:
        for start, end, shape, axis in ((0, 3, (2, 6), 0), (2, 6, (8, 2), 1)):
            feeds = dict(
                zip(loaded.inputs.values(), (x, [start], [end], shape, [axis]), strict=True)
            )
            got = session.run(loaded.outputs["y"], feeds)
            np.testing.assert_array_equal(got, x[start:end].reshape(shape).sum(axis))


def test_gradient_through_what_is_known_only_at_run_time() -> None:
    nodes = [
        helper.make_node("Slice", ["x", "starts", "ends"], ["part"]),
        helper.make_node("Mul", ["part", "part"], ["y"]),
    ]
    ints = TensorProto.INT64
    inputs = [info("x", ["n"]), info("starts", [1], ints), info("ends", [1], ints)]
    loaded = load(model(nodes, inputs, [info("y", ["k"])]))
    with loaded.graph.as_default(), gc.Session(device="numpy") as session:
        (grad,) = gc.gradients(loaded.outputs["y"], [loaded.inputs["x"]])
        feeds = dict(zip(loaded.inputs.values(), (np.arange(5.0), [1], [4]), strict=True))
        np.testing.assert_array_equal(session.run(grad, feeds), [0, 2, 4, 6, 0])


def test_initializers_may_be_inputs_with_a_default() -> None:
    proto = model(
        [helper.make_node("Add", ["x", "b"], ["y"])], [info("x", [2]), info("b", [2])],
        [info("y", [2])], [tensor("b", np.array([1, 2], "f"))],
    )  # fmt: skip
    loaded = load(proto)
    assert list(loaded.inputs) == ["x"]
    np.testing.assert_array_equal(run(loaded, [1, 1])[0], [2, 3])


def test_a_recurrent_layer_is_a_loop_whose_projection_is_outside() -> None:
    rng = np.random.default_rng(0)
    weights = [tensor("w", rng.standard_normal((1, 16, 3)).astype("f")),
               tensor("r", rng.standard_normal((1, 16, 4)).astype("f"))]  # fmt: skip
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y", "h"], hidden_size=4)
    outputs = [info("y", [7, 1, 2, 4]), info("h", [1, 2, 4])]
    loaded = load(model([node], [info("x", [7, 2, 3])], outputs, weights))
    report = gc.explain(list(loaded.outputs.values()), device="numpy")
    (loop,) = (k for k in report.program.kernels if k.form == "loop")
    assert [k.form for k in loop.programs[0].kernels] == ["dot", "flat"]
    assert any(k.form == "dot" and k.space == 7 * 2 * 16 * 3 for k in report.program.kernels)


def test_local_functions_are_inlined() -> None:
    body = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="mine")], "g", [info("x", [2])],
        [info("y", [2])],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    proto = helper.make_model(graph, opset_imports=imports, functions=[body])
    np.testing.assert_array_equal(run(load(proto), [1, 2])[0], [2, 4])


def test_run_node_takes_scalars_and_lists() -> None:
    node = helper.make_node("Add", ["a", "b"], ["c"])
    (c,) = backend.run_node(node, [np.float32(2), np.float32(3)])
    assert c == 5
    assert backend.supports_device("CPU")


# -- external data


def external(tmp_path: Path, location: str, **keys: Any) -> Path:
    array = np.arange(6, dtype="f").reshape(2, 3)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "data.bin").write_bytes(b"\0" * 8 + array.tobytes())
    (tmp_path / "secret.bin").write_bytes(array.tobytes())
    held = TensorProto(name="w", dims=[2, 3], data_type=FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **keys}.items():
        held.external_data.add(key=key, value=str(value))
    proto = model(
        [helper.make_node("Add", ["x", "w"], ["y"])], [info("x", [2, 3])], [info("y", [2, 3])],
        [held],
    )  # fmt: skip
    path = tmp_path / "model" / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    path = external(tmp_path, "data.bin", offset=8, length=24)
    (y,) = run(load(path), np.ones((2, 3), "f"))
    np.testing.assert_array_equal(y, np.arange(1, 7).reshape(2, 3))


@pytest.mark.parametrize(
    ("location", "keys", "message"),
    [
        ("../secret.bin", {}, "outside"),
        ("/etc/passwd", {}, "outside"),
        ("data.bin", {"offset": 16}, "missing"),
        ("data.bin", {"offset": -8}, "missing"),
        ("none.bin", {}, "missing"),
        ("data.bin", {"offset": 8, "length": 4}, "4 bytes"),
    ],
)
def test_external_data_that_is_not_there(
    tmp_path: Path, location: str, keys: dict[str, Any], message: str
) -> None:
    path = external(tmp_path, location, **keys)
    with pytest.raises(ModelError, match=message):
        load(path)


def test_a_link_does_not_lead_outside(tmp_path: Path) -> None:
    path = external(tmp_path, "link.bin")
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="outside"):
        load(path)


def test_external_data_of_bytes_has_no_folder(tmp_path: Path) -> None:
    path = external(tmp_path, "data.bin", offset=8)
    with pytest.raises(ModelError, match="by its path"):
        load(path.read_bytes())


# -- broken models


def _truncated() -> bytes:
    return bytes(perceptron().SerializeToString()[:-40])


def _cyclic() -> Any:
    nodes = [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    return model(nodes, [], [info("a", [2])])


def _missing_input() -> Any:
    return model([helper.make_node("Relu", ["nowhere"], ["y"])], [], [info("y", [2])])


def _absurd() -> Any:
    proto = perceptron()
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend([1 << 40, 1 << 40])
    return proto


def _too_little_data() -> Any:
    proto = perceptron()
    proto.graph.initializer[0].raw_data = b"\0" * 4
    return proto


def _unknown_op() -> Any:
    return model(
        [helper.make_node("Frobnicate", ["x"], ["y"], "n1", domain="odd")], [info("x", [2])],
        [info("y", [2])],
    )  # fmt: skip


BROKEN: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "truncated": (_truncated, ModelError, "model"),
    "no model": (lambda: b"hello, this is text", ModelError, "model"),
    "empty": (lambda: b"", ModelError, "no graph"),
    "cyclic": (_cyclic, ModelError, "sorted|before"),
    "missing input": (_missing_input, ModelError, "nowhere"),
    "absurd shape": (_absurd, ModelError, "absurd shape"),
    "too little data": (_too_little_data, ModelError, "w1"),
    "no file": (lambda: "nowhere.onnx", ModelError, "no model file"),
    "a number": (lambda: 3, ModelError, "takes a path"),
    "an old opset": (
        lambda: model([], [info("x", [1])], [info("x", [1])], opset=3), UnsupportedOp, "opset 3",
    ),
    "complex numbers": (
        lambda: model(
            [helper.make_node("Identity", ["x"], ["y"])], [info("x", [1], TensorProto.COMPLEX64)],
            [info("y", [1], TensorProto.COMPLEX64)],
        ),
        UnsupportedOp, "COMPLEX64",
    ),
    "an unknown operator": (_unknown_op, (ModelError, UnsupportedOp), "Frobnicate|odd"),  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    build, error, message = BROKEN[name]
    with pytest.raises(error, match=message):
        load(build())


def test_wrong_number_of_inputs() -> None:
    prepared = backend.prepare(perceptron())
    with pytest.raises(FeedError, match="takes x"):
        prepared.run([np.zeros((1, 4), "f"), np.zeros(1, "f")])


# -- bodies that need the number of the step


def growing(cond: str) -> Any:
    """A loop whose step takes as many elements as its number says."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["i", "one"], ["end"]),
            helper.make_node("Reshape", ["end", "shape"], ["ends"]),
            helper.make_node("Slice", ["x", "zero", "ends"], ["part"]),
            helper.make_node("ReduceSum", ["part"], ["sum"], keepdims=0),
            helper.make_node("Add", ["s", "sum"], ["next"]),
            helper.make_node("Less", ["i", "last"], ["again"]),
        ],
        "body",
        [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("s", [])],
        [info("again", [], TensorProto.BOOL), info("next", []), info("sum", [])],
    )
    held = [tensor("one", 1), tensor("shape", [1]), tensor("zero", [0]),
            tensor("start", np.float32(0)),
            tensor("last", 1)]  # fmt: skip
    nodes = [helper.make_node("Loop", ["n", cond, "start"], ["y", "z"], body=body)]
    inputs = [info("x", ["m"]), info("n", [], TensorProto.INT64)]
    return model(nodes, inputs, [info("y", []), info("z", [None])], held)


@pytest.mark.parametrize(("count", "want"), [(2, [1, 3]), (9, [1, 3])])
def test_a_body_whose_sizes_change_is_laid_out(count: int, want: list[float]) -> None:
    """Step by step, as long as the condition holds and the count allows."""
    y, z = run(load(growing("")), np.array([1, 2, 3, 4], "f"), np.int64(count))
    np.testing.assert_array_equal(z, want)
    assert y == sum(want)


def test_a_body_whose_sizes_change_and_no_end() -> None:
    proto = growing("")
    proto.graph.node[0].attribute[0].g.node[5].op_type = "GreaterOrEqual"
    proto.graph.initializer[4].CopyFrom(tensor("last", -1))
    with pytest.raises(UnsupportedOp, match="more than 1000 steps"):
        run(load(proto), np.array([1, 2], "f"), np.int64(5000))


def test_optional_inputs_are_fed() -> None:
    optional = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    nodes = [
        helper.make_node("OptionalGetElement", ["x"], ["v"]),
        helper.make_node("Neg", ["v"], ["y"]),
    ]
    proto = model(nodes, [helper.make_value_info("x", optional)], [info("y", [2])])
    np.testing.assert_array_equal(run(load(proto), [1, 2])[0], [-1, -2])


def test_optional_inputs_may_be_absent() -> None:
    optional = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    inputs = [helper.make_value_info("x", optional), info("z", [2])]
    node = helper.make_node("OptionalHasElement", ["x"], ["y"])
    proto = model([node], inputs, [info("y", [], TensorProto.BOOL)])
    loaded = load(proto, absent=["x"])
    assert list(loaded.inputs) == ["z"]
    assert not run(loaded, [1, 2])[0]
    with pytest.raises(ModelError, match="no optional input"):
        load(proto, absent=["z"])
