"""GraphDef protos: every op by hand-made nodes against NumPy, round trips, broken files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc as tf
from graphc.errors import UninitializedError
from graphc.frontend.graphdef import (
    convert_variables_to_constants,
    extract_sub_graph,
    import_graph_def,
    remove_training_nodes,
)
from graphc.ir.errors import GraphError, ModelError, ShapeError, UnsupportedOp
from graphc.ir.graphdef import NUMBERS, make_ndarray, make_tensor_proto, proto

pytest.importorskip("tensorboard")

RNG = np.random.default_rng(41)


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    """Every test its own graph."""
    with tf.Graph().as_default():
        yield


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def graph_def() -> Any:
    return proto("graph_pb2", "GraphDef")()


def add_node(made: Any, name: str, op: str, inputs: tuple[str, ...] = (), **attrs: Any) -> Any:
    """A NodeDef with attributes given as Python values."""
    node = made.node.add(name=name, op=op)
    node.input.extend(inputs)
    for key, value in attrs.items():
        held = node.attr[key]
        if isinstance(value, bool):
            held.b = value
        elif isinstance(value, int):
            held.i = value
        elif isinstance(value, float):
            held.f = value
        elif isinstance(value, (list, tuple)):
            held.list.i.extend(value)
        elif isinstance(value, np.ndarray):
            held.tensor.CopyFrom(make_tensor_proto(value))
        elif value in NUMBERS:
            held.type = NUMBERS[value]
        else:
            held.s = value.encode()
    return node


def ran(op: str, arrays: list[np.ndarray], **attrs: Any) -> Any:
    """The outputs of one node; floats of rank 2 and more are fed, the rest are constants."""
    made, feeds = graph_def(), {}
    for i, x in enumerate(arrays):
        if x.ndim > 1 and x.dtype.kind == "f":
            add_node(made, f"in{i}", "Placeholder", dtype=str(x.dtype))
            made.node[-1].attr["shape"].shape.dim.extend(
                [type(made.node[-1].attr["shape"].shape).Dim(size=d) for d in x.shape]
            )
            feeds[f"import/in{i}:0"] = x
        else:
            add_node(made, f"in{i}", "Const", value=x, dtype=x.dtype.name)
    add_node(made, "made", op, tuple(f"in{i}" for i in range(len(arrays))), **attrs)
    import_graph_def(made)
    with tf.Session(device="numpy") as session:
        return session.run("import/made:0", feeds)


X, Y = floats(3, 4), floats(3, 4)
IMAGE = floats(2, 7, 8, 3)
INTS = np.array


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x).permute(0, 3, 1, 2)


def nhwc(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def i32(*numbers: Any) -> np.ndarray:
    return np.array(numbers[0] if len(numbers) == 1 else numbers, np.int32)


CASES: dict[str, tuple[list[np.ndarray], dict[str, Any], Any]] = {
    "Identity": ([X], {}, X),
    "AddV2": ([X, Y[0]], {}, X + Y[0]),
    "Sub": ([X, Y], {}, X - Y),
    "Mul": ([X, Y], {}, X * Y),
    "RealDiv": ([X, Y], {}, X / Y),
    "Div": ([i32(7, -7), i32(2, 2)], {}, [3, -4]),
    "Maximum": ([X, Y], {}, np.maximum(X, Y)),
    "SquaredDifference": ([X, Y], {}, (X - Y) ** 2),
    "AddN": ([X, Y, X], {}, X + Y + X),
    "Relu6": ([X * 9], {}, np.clip(X * 9, 0, 6)),
    "LeakyRelu": ([X], {"alpha": 0.5}, np.where(X > 0, X, 0.5 * X)),
    "Rsqrt": ([np.abs(X) + 1], {}, 1 / np.sqrt(np.abs(X) + 1)),
    "Round": ([X * 3], {}, np.round(X * 3)),
    "Softmax": ([X], {}, softmax(X)),
    "LogSoftmax": ([X], {}, np.log(softmax(X))),
    "MatMul": ([X, Y], {"transpose_a": True, "transpose_b": False}, X.T @ Y),
    "BatchMatMulV2": ([X, Y], {"adj_y": True}, X @ Y.T),
    "BiasAdd": ([X, Y[0]], {"data_format": "NHWC"}, X + Y[0]),
    "Cast": ([X], {"DstT": "int32"}, X.astype(np.int32)),
    "Greater": ([X, Y], {}, X > Y),
    "SelectV2": ([X > 0, X, Y], {}, np.where(X > 0, X, Y)),
    "Select": ([X[:, 0] > 0, X, Y], {}, np.where(X[:, :1] > 0, X, Y)),
    "Sum": ([X, i32(1).reshape(1)], {"keep_dims": True}, X.sum(1, keepdims=True)),
    "Mean": ([X, i32(0, 1)], {}, X.mean()),
    "Max": ([X, np.array(1, np.int32)], {}, X.max(1)),
    "ArgMax": ([X, np.array(1, np.int32)], {"output_type": "int64"}, X.argmax(1)),
    "Reshape": ([X, i32(2, -1)], {}, X.reshape(2, 6)),
    "Transpose": ([X, i32(1, 0)], {}, X.T),
    "ExpandDims": ([X, np.array(1, np.int32)], {}, X[:, None]),
    "Squeeze": ([X[:, None]], {"squeeze_dims": [1]}, X),
    "ConcatV2": ([X, Y, np.array(1, np.int32)], {"N": 2}, np.concatenate([X, Y], 1)),
    "Concat": ([np.array(0, np.int32), X, Y], {"N": 2}, np.concatenate([X, Y])),
    "Pack": ([X, Y], {"axis": 1, "N": 2}, np.stack([X, Y], 1)),
    "Unpack": ([X], {"axis": 1, "num": 4}, X[:, 0]),
    "Split": ([np.array(1, np.int32), X], {"num_split": 2}, X[:, :2]),
    "SplitV": ([X, i32(1, 3), np.array(1, np.int32)], {"num_split": 2}, X[:, :1]),
    "Slice": ([X, i32(1, 0), i32(2, -1)], {}, X[1:3]),
    "StridedSlice": (
        [X, i32(0, 1, 0), i32(0, 4, 0), i32(1, 2, 1)],
        {"begin_mask": 1, "end_mask": 1, "new_axis_mask": 4}, X[:, 1:4:2, None],
    ),
    "Pad": ([X, i32([[1, 0], [0, 2]])], {}, np.pad(X, [(1, 0), (0, 2)])),
    "PadV2": ([X, i32([[1, 0], [0, 2]]), np.array(5, np.float32)], {},
              np.pad(X, [(1, 0), (0, 2)], constant_values=5)),
    "MirrorPad": ([X, i32([[1, 0], [0, 2]])], {"mode": "REFLECT"},
                  np.pad(X, [(1, 0), (0, 2)], "reflect")),
    "Tile": ([X, i32(2, 1)], {}, np.tile(X, (2, 1))),
    "Fill": ([i32(2, 3), np.array(1.5, np.float32)], {}, np.full((2, 3), 1.5, np.float32)),
    "Range": ([i32(1), i32(9), i32(3)], {}, [1, 4, 7]),
    "GatherV2": ([X, i32(2, 0), np.array(0, np.int32)], {}, X[[2, 0]]),
    "OneHot": ([i32(2, 0), i32(3), np.array(1, np.float32), np.array(0, np.float32)],
               {"axis": -1}, np.eye(3)[[2, 0]]),
    "Shape": ([X], {"out_type": "int32"}, [3, 4]),
    "TopKV2": ([X, np.array(2, np.int32)], {}, -np.sort(-X, 1)[:, :2]),
    "Where": ([np.array([0.0, 2, 3], np.float32)], {}, [[1], [2]]),
    "LRN": ([IMAGE], {"depth_radius": 1, "bias": 2.0, "alpha": 3e-4, "beta": 0.5},
            nhwc(torch.nn.functional.local_response_norm(nchw(IMAGE), 3, 9e-4, 0.5, 2.0))),
    "MaxPool": ([IMAGE], {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "VALID"},
                nhwc(torch.nn.functional.max_pool2d(nchw(IMAGE), 2))),
    "AvgPool": ([IMAGE], {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "VALID"},
                nhwc(torch.nn.functional.avg_pool2d(nchw(IMAGE), 2))),
}  # fmt: skip


@pytest.mark.parametrize("op", CASES)
def test_an_op_means_what_numpy_says(op: str) -> None:
    arrays, attrs, expected = CASES[op]
    got = ran(op, [np.asarray(a) for a in arrays], **attrs)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("depthwise", [False, True])
def test_convolutions_are_torchs(depthwise: bool) -> None:
    w = floats(3, 3, 3, 2)
    op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
    got = ran(op, [IMAGE, w], strides=[1, 1, 1, 1], padding="VALID", dilations=[1, 2, 2, 1])
    kernel = torch.tensor(w).permute(3, 2, 0, 1)
    if depthwise:
        kernel = torch.tensor(w).permute(2, 3, 0, 1).reshape(6, 1, 3, 3)
    expected = torch.nn.functional.conv2d(
        nchw(IMAGE), kernel, dilation=2, groups=3 if depthwise else 1
    )
    np.testing.assert_allclose(got, nhwc(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
def test_batch_norm_for_inference(op: str) -> None:
    scale, offset, mean, variance = floats(3), floats(3), floats(3), np.abs(floats(3))
    got = ran(op, [IMAGE, scale, offset, mean, variance], is_training=False, epsilon=1e-3,
              data_format="NHWC")  # fmt: skip
    expected = (IMAGE - mean) / np.sqrt(variance + 1e-3) * scale + offset
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


# -- names, maps, elements


def small() -> Any:
    made = graph_def()
    add_node(made, "y", "Mul", ("x", "two"))  # before what it reads
    add_node(made, "x", "Placeholder", dtype="float32")
    add_node(made, "two", "Const", value=np.array(2, np.float32), dtype="float32")
    return made


def test_elements_are_given_back_and_found_by_name() -> None:
    op, y = import_graph_def(small(), return_elements=["y", "y:0"], name="net") or []
    assert isinstance(op, tf.Operation)
    assert (op.name, y.name) == ("net/y", "net/y:0")
    import_graph_def(small(), name="")
    x = tf.get_default_graph().get_tensor_by_name("x:0")
    with tf.Session(device="numpy") as session:
        assert session.run("y:0", {x: [3.0]}).tolist() == [6.0]
    with pytest.raises(GraphError, match="no node 'z'"):
        import_graph_def(small(), return_elements=["z:0"])
    with pytest.raises(GraphError, match="1 outputs"):
        import_graph_def(small(), return_elements=["y:1"])


def test_inputs_may_be_mapped_to_tensors_of_the_graph() -> None:
    mine = tf.constant([4.0])
    (y,) = import_graph_def(small(), {"x": mine * 2.0}, ["y:0"]) or []
    (z,) = import_graph_def(small(), {"x:0": mine, "two:0": 5.0}, ["y:0"]) or []
    with tf.Session(device="numpy") as session:
        assert [v.tolist() for v in session.run([y, z])] == [[16.0], [20.0]]
    with pytest.raises(GraphError, match=r"input_map names w:0"):
        import_graph_def(small(), {"w": mine})


def test_computed_shapes_stay_computed() -> None:
    made = graph_def()
    add_node(made, "x", "Placeholder", dtype="float32")
    dims = made.node[-1].attr["shape"].shape.dim
    dims.add(size=-1)
    dims.add(size=6)
    add_node(made, "s", "Shape", ("x",), out_type="int32")
    for name, number in (("a", 0), ("b", 1), ("c", 1)):
        add_node(made, name, "Const", value=i32(number).reshape(1), dtype="int32")
    add_node(made, "n", "StridedSlice", ("s", "a", "b", "c"), shrink_axis_mask=1)
    for name, number in (("three", 3), ("two", 2)):
        add_node(made, name, "Const", value=np.array(number, np.int32), dtype="int32")
    add_node(made, "shape", "Pack", ("n", "three", "two"), axis=0, N=3)
    add_node(made, "y", "Reshape", ("x", "shape"))
    x, y = import_graph_def(made, return_elements=["x:0", "y:0"]) or []
    assert y.shape.as_list() == [None, 3, 2]
    data = floats(5, 6)
    with tf.Session(device="numpy") as session:
        np.testing.assert_array_equal(session.run(y, {x: data}), data.reshape(5, 3, 2))


# -- what is refused


def broken(what: str) -> Any:
    made = small()
    match what:
        case "op":
            made.node[0].op = "Frobnicate"
        case "input":
            made.node[0].input[0] = "nothing"
        case "output":
            made.node[0].input[0] = "x:3"
        case "twice":
            made.node[1].name = "two"
        case "circle":
            made.node[0].input[0] = "y"
        case "frames":
            made.node[0].op = "Merge"
            made.node[0].input[0] = "y"
        case "control":
            made.node[0].input.append("^nothing")
        case "few":
            del made.node[0].input[:]
            made.node[0].op = "MatMul"
        case "dtype":
            made.node[1].attr["dtype"].type = 8
        case "bytes":
            made.node[2].attr["value"].tensor.tensor_content = b"12"
        case "absurd":
            made.node[2].attr["value"].tensor.tensor_shape.dim.add(size=1 << 40)
        case "attributes":
            made.node[0].attr["_graphc"].s = b"no text form"
    return made


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ("op", UnsupportedOp, "op Frobnicate, node 'y'"),
        ("input", ModelError, r"'y' \(Mul\) reads 'nothing', but there is none"),
        ("output", ModelError, "reads 'x:3', but that has 1 outputs"),
        ("twice", ModelError, "two nodes"),
        ("circle", ModelError, "depends on itself"),
        ("frames", UnsupportedOp, "Merge, node 'y'"),
        ("control", ModelError, "waits for 'nothing'"),
        ("few", UnsupportedOp, "node 'y': it has 0 inputs"),
        ("dtype", UnsupportedOp, "Placeholder, node 'x'"),
        ("bytes", ModelError, "node 'two'.*2 bytes"),
        ("absurd", ModelError, "node 'two'"),
    ],
)
def test_broken_files_are_refused_by_op_and_node(what: str, kind: Any, said: str) -> None:
    with pytest.raises(kind, match=said):
        import_graph_def(broken(what))


def test_broken_attributes_and_other_things_are_refused() -> None:
    with pytest.raises(tf.errors.GraphcError, match="node 'y'"):
        import_graph_def(broken("attributes"))
    with pytest.raises(ModelError, match="needs a GraphDef, got bytes"):
        import_graph_def(b"bytes")
    with pytest.raises(ShapeError, match=r"MatMul, node 'made'.*transpose_b"):
        ran("MatMul", [floats(2, 3), floats(2, 3)])


def test_tensors_are_read_in_all_their_spellings() -> None:
    made = make_tensor_proto(np.zeros((2, 2), np.float32))
    made.ClearField("tensor_content")
    assert make_ndarray(made).tolist() == [[0, 0], [0, 0]]
    made.float_val.extend([1.0, 2.0])  # the last one stands for the rest
    assert make_ndarray(made).tolist() == [[1, 2], [2, 2]]
    for x in (np.array([1, -2], np.int8), np.array([True, False]), np.array(3, np.int64),
              np.array([1.5, 2], np.float16), np.array([b"a", b""], object)):  # fmt: skip
        again = make_ndarray(make_tensor_proto(x))
        assert again.dtype == x.dtype
        np.testing.assert_array_equal(again, x)
    half = make_tensor_proto(np.array([1.5], np.float16))
    half.ClearField("tensor_content")
    half.half_val.append(int(np.float16(1.5).view(np.uint16)))
    assert make_ndarray(half).tolist() == [1.5]


# -- there and back


def lenet() -> tuple[Any, Any, Any]:
    """(image, labels, train op) of a small LeNet with dropout and batch normalization."""
    x = tf.placeholder(tf.float32, [None, 12, 12, 1], name="x")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    h = x
    for channels in (4, 6):
        h = tf.layers.conv2d(h, channels, 3, padding="same", activation=tf.nn.relu)
        h = tf.layers.max_pooling2d(h, 2, 2)
    h = tf.layers.batch_normalization(tf.reshape(h, [-1, 3 * 3 * 6]))
    logits = tf.layers.dense(tf.nn.dropout(h, 0.9), 10)
    tf.nn.softmax(logits, name="probabilities")
    tf.argmax(logits, 1, name="class")
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    tf.identity(loss, name="loss")
    tf.train.AdamOptimizer(0.01).minimize(loss, name="train")
    return x, labels, loss


def test_a_frozen_lenet_comes_back_bit_for_bit() -> None:
    x, _, _ = lenet()
    data = floats(3, 12, 12, 1)
    names = ["probabilities:0", "class:0"]
    with tf.Session(device="numpy") as session:
        whole = session.graph_def
        with pytest.raises(UninitializedError):
            convert_variables_to_constants(session, whole, ["class"])
        session.run(tf.global_variables_initializer())
        frozen = convert_variables_to_constants(session, whole, ["probabilities", "class"])
        with pytest.raises(GraphError, match="no node 'clas'"):
            convert_variables_to_constants(session, whole, ["clas"])
        # dropout draws by the run's number: the same one for both
        with tf.Session(session.graph, device="numpy") as again:
            again.run(tf.global_variables_initializer())
            for v in tf.global_variables():
                v.load(session.read_variable(v), again)
            expected = again.run(names, {x: data})
    ops = {n.op for n in frozen.node}
    assert {"Conv2D", "MaxPool", "MatMul", "Reshape", "Const", "Placeholder"} <= ops
    assert not ops & {"VariableV2", "Assign"}
    data_back = type(frozen).FromString(frozen.SerializeToString())
    with tf.Graph().as_default(), tf.Session(device="numpy") as session:
        import_graph_def(data_back, name="")
        session.run(tf.no_op())  # as many runs as the other session had
        got = session.run(names, {"x:0": data})
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_whole_graphs_go_on_training_from_their_files(tmp_path: Any) -> None:
    x, labels, loss = lenet()
    feeds = {x: floats(5, 12, 12, 1), labels: np.arange(5)}
    with tf.Session(device="numpy") as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, tmp_path / "model", global_step=4)
        assert (tmp_path / "model-4.meta").is_file()
    train = tf.get_default_graph().get_operation_by_name("train")
    names = [v.name for v in tf.global_variables()]

    def losses(session: Any, fed: Any, fetches: Any) -> list[float]:
        return [session.run(fetches, fed)[0] for _ in range(5)]

    with tf.Session(device="numpy") as session:
        tf.train.Saver().restore(session, path)
        expected = losses(session, feeds, [loss, train])
    with tf.Graph().as_default(), tf.Session(device="numpy") as session:
        saver = tf.train.import_meta_graph(f"{path}.meta")
        assert saver is not None
        saver.restore(session, path)
        assert [v.name for v in tf.global_variables()] == names
        assert len(tf.trainable_variables()) == 8
        fed = {v.name: data for v, data in feeds.items()}
        assert losses(session, fed, ["loss:0", "train"]) == expected
        session.run(tf.global_variables_initializer())
    with tf.Graph().as_default(), tf.Session(device="numpy") as session:
        saver = tf.train.import_meta_graph(f"{path}.meta", import_scope="inner")
        assert saver is not None
        saver.restore(session, path)
        assert tf.global_variables()[0].name == f"inner/{names[0]}"


def test_loops_and_branches_come_back() -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    w = tf.Variable(0.5, name="w")
    _, total = tf.while_loop(
        lambda i, a: i < 4, lambda i, a: (i + 1, a * w + tf.reduce_sum(x)), [0, 1.0]
    )
    y = tf.cond(total > 0, lambda: total * 2.0, lambda: total - 1.0)
    tf.identity(y, name="y")
    (g,) = tf.gradients(y, [x])
    tf.identity(g, name="g")
    made = tf.get_default_graph().as_graph_def()
    with tf.Session(device="numpy") as session:
        session.run(w.initializer)
        expected = session.run(["y:0", "g:0"], {x: [1.0, 2.0]})
    with tf.Graph().as_default(), tf.Session(device="numpy") as session:
        import_graph_def(made, name="")
        session.run("w/Assign:0")
        got = session.run(["y:0", "g:0"], {"x:0": [1.0, 2.0]})
    assert got[0] == expected[0]
    np.testing.assert_array_equal(got[1], expected[1])


def tampered(whole: Any, rng: np.random.Generator) -> Any:
    """A copy in which one node reads, is or says something else."""
    made = type(whole)()
    made.CopyFrom(whole)
    node, other = (made.node[i] for i in rng.integers(0, len(made.node), 2))
    keys = list(node.attr)
    match rng.integers(0, 5):
        case 0 if node.input:
            node.input[rng.integers(0, len(node.input))] = other.name
        case 1 if keys and list(other.attr):
            key = keys[rng.integers(0, len(keys))]
            node.attr[key].CopyFrom(other.attr[next(iter(other.attr))])
        case 2 if keys:
            del node.attr[keys[rng.integers(0, len(keys))]]
        case 3 if node.input:
            del node.input[-1]
        case _:
            node.op = other.op
    return made


@pytest.mark.parametrize("seed", range(4))
def test_tampered_files_give_a_graph_or_an_error_of_graphcs(seed: int) -> None:
    lenet()
    tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 2.0), [0, tf.ones([2])])
    whole, rng = tf.get_default_graph().as_graph_def(), np.random.default_rng(seed)
    refused = 0
    for _ in range(12):
        with tf.Graph().as_default():
            try:
                import_graph_def(tampered(whole, rng))
            except tf.errors.GraphcError as error:
                refused += 1
                assert error.message
    assert 0 < refused < 12


def test_sub_graphs_and_nodes_for_training_only() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.identity(tf.identity(x * 2.0, name="away"), name="y")
    tf.exp(y, name="more")
    whole = tf.get_default_graph().as_graph_def()
    part = extract_sub_graph(whole, ["y"])
    assert "more" not in [n.name for n in part.node]
    slim = remove_training_nodes(part, ["y"])
    assert "away" not in [n.name for n in slim.node]
    (again,) = import_graph_def(slim, return_elements=["y:0"], name="slim") or []
    with tf.Session(device="numpy") as session:
        assert session.run(again, {"slim/x:0": [1.0, 2.0]}).tolist() == [2.0, 4.0]


def test_collections_travel_with_the_graph(tmp_path: Any) -> None:
    y = tf.placeholder(tf.float32, [], name="y") * 2.0
    for item in (y, y.op):
        tf.add_to_collection("ends", item)
    tf.add_to_collection("names", "some text")
    tf.add_to_collection("functions", len)
    path = tmp_path / "graph.meta"
    tf.train.export_meta_graph(path)
    tf.train.export_meta_graph(tmp_path / "text.meta", as_text=True)
    for file in (path, tmp_path / "text.meta"):
        with tf.Graph().as_default():
            assert tf.train.import_meta_graph(file) is None
            assert [x.name for x in tf.get_collection("ends")] == [y.name, y.op.name]
            assert tf.get_collection("names") == ["some text"]
            assert tf.get_collection("functions") == []
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ModelError, match="MetaGraphDef"):
        tf.train.import_meta_graph(path)
    with pytest.raises(ModelError, match="no meta graph"):
        tf.train.import_meta_graph(tmp_path / "other.meta")
