"""Models whose files were damaged or tampered with: an error of graphc's own, or a sound graph.

Each mutant has bytes or attributes of a small model changed at random. Absurd sizes must not be
allocated: the address space of the process that tries is limited.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphc.ir.errors import GraphcError, ModelError
from graphc.onnx import load

Node = helper.make_node
LARGE = (0, 1, -1, 2, 7, 100, -100, 1 << 20, (1 << 31) - 1, 1 << 40, -(1 << 63), (1 << 63) - 1)


def info(name: str, *shape: Any, kind: int = 1) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def numbers(name: str, *shape: int) -> Any:
    values = np.random.default_rng(0).standard_normal(shape).astype("f")
    return numpy_helper.from_array(values, name)


def known(**values: Any) -> list[Any]:
    return [numpy_helper.from_array(np.asarray(v), name) for name, v in values.items()]


def model(nodes: Sequence[Any], ins: Any, outs: Any, held: Sequence[Any] = ()) -> Any:
    graph = helper.make_graph(nodes, "g", ins, outs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def convolution() -> Any:
    nodes = [
        Node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        Node("MaxPool", ["c"], ["m"], kernel_shape=[2, 2]),
        Node("ConvTranspose", ["m", "f"], ["y"], strides=[2, 2], output_padding=[1, 1]),
    ]
    held = [numbers("w", 3, 2, 3, 3), numbers("f", 3, 2, 3, 3)]
    return model(nodes, [info("x", 1, 2, 8, 8)], [info("y", None, None, None, None)], held)


def shapes() -> Any:
    nodes = [
        Node("Slice", ["x", "start", "end", "axis"], ["part"]),
        Node("Reshape", ["part", "shape"], ["flat"]),
        Node("Pad", ["flat", "pads"], ["padded"]),
        Node("Resize", ["padded", "", "scales"], ["large"], mode="nearest"),
        Node("Tile", ["large", "times"], ["tiled"]),
        Node("TopK", ["tiled", "k"], ["y", "z"]),
    ]
    held = known(
        start=[1], end=[3], axis=[0], shape=[4, 2], pads=[0, 1, 1, 0],
        scales=np.array([2, 2], "f"), times=[1, 3], k=[2],
    )  # fmt: skip
    outs = [info("y", None, None), info("z", None, None, kind=7)]
    return model(nodes, [info("x", 6, 4)], outs, held)


def constants() -> Any:
    nodes = [
        Node("Range", ["a", "b", "c"], ["r"]),
        Node("OneHot", ["r", "depth", "values"], ["h"]),
        Node("ConstantOfShape", ["shape"], ["zeros"]),
        Node("Expand", ["zeros", "wide"], ["w"]),
        Node("EyeLike", ["w"], ["e"]),
        Node("Gather", ["h", "r"], ["g"], axis=0),
        Node("BlackmanWindow", ["b"], ["window"]),
        Node("Split", ["window"], ["p", "q", "s"], axis=0, num_outputs=3),
        Node("Concat", ["p", "q", "x"], ["y"], axis=0),
    ]
    held = known(
        a=np.int64(0), b=np.int64(9), c=np.int64(2), depth=np.int64(9),
        values=np.array([0, 1], "f"), shape=[2, 1], wide=[2, 3],
    )  # fmt: skip
    outs = [info("y", None), info("e", None, None), info("g", None, None)]
    return model(nodes, [info("x", 1)], outs, held)


def control() -> Any:
    body = helper.make_graph(
        [Node("Add", ["s", "x"], ["next"]), Node("Identity", ["go"], ["again"]),
         Node("Mul", ["next", "x"], ["slice"])],
        "body", [info("i", kind=7), info("go", kind=9), info("s", 2)],
        [info("again", kind=9), info("next", 2), info("slice", 2)],
    )  # fmt: skip
    then = helper.make_graph([Node("Exp", ["y"], ["p"])], "then", [], [info("p", 2)])
    other = helper.make_graph([Node("Neg", ["y"], ["q"])], "else", [], [info("q", 2)])
    nodes = [
        Node("Loop", ["k", "", "x"], ["y", "z"], body=body),
        Node("If", ["c"], ["v"], then_branch=then, else_branch=other),
        Node("Einsum", ["z", "z"], ["e"], equation="ij,kj->ik"),
    ]
    outs = [info("v", 2), info("e", None, None)]
    return model(nodes, [info("x", 2), info("c", kind=9)], outs, known(k=np.int64(3)))


MODELS: tuple[Callable[[], Any], ...] = (convolution, shapes, constants, control)


@pytest.mark.parametrize("build", MODELS)
def test_they_are_sound_before(build: Callable[[], Any]) -> None:
    assert load(build()).outputs


def damaged(proto: Any, rng: random.Random) -> bytes:
    """Bytes changed, cut off, left out or put in."""
    data = bytearray(proto.SerializeToString())
    at = rng.randrange(len(data))
    match rng.randrange(4):
        case 0:
            for _ in range(rng.choice([1, 1, 2, 5, 20])):
                data[rng.randrange(len(data))] = rng.randrange(256)
        case 1:
            del data[at:]
        case 2:
            del data[at : at + rng.choice([1, 2, 8])]
        case _:
            data[at:at] = rng.randbytes(rng.choice([1, 2, 8]))
    return bytes(data)


def tampered(proto: Any, rng: random.Random) -> bytes:
    """Attributes, inputs, sizes, operators or constants changed; the file stays readable."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for _ in range(rng.choice([1, 1, 2, 3])):
        graphs = [a.g for n in changed.graph.node for a in n.attribute if a.HasField("g")]
        graph = rng.choice([changed.graph, *(g for g in graphs if g.node)])
        rng.choice(CHANGES)(graph, rng.choice(list(graph.node)), changed, rng)
    return bytes(changed.SerializeToString())


def _attribute(graph: Any, node: Any, proto: Any, rng: random.Random) -> None:
    for a in node.attribute:
        if a.type == onnx.AttributeProto.INT:
            a.i = rng.choice(LARGE)
        elif a.ints:
            a.ints[rng.randrange(len(a.ints))] = rng.choice(LARGE)
        elif a.type == onnx.AttributeProto.STRING:
            a.s = rng.choice([b"", b"xx", b"\xff", b"ij,jk->zz", b"i->ii", b"..."])
        else:
            a.type = rng.randrange(15)
        return
    node.attribute.add(name="axis", type=2, i=rng.choice(LARGE))


def _input(graph: Any, node: Any, proto: Any, rng: random.Random) -> None:
    names = [n for other in proto.graph.node for n in (*other.input, *other.output)]
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*names, "", "nowhere"])


def _operator(graph: Any, node: Any, proto: Any, rng: random.Random) -> None:
    node.op_type = rng.choice([n.op_type for build in MODELS for n in build().graph.node])


def _size(graph: Any, node: Any, proto: Any, rng: random.Random) -> None:
    changed = rng.choice([*proto.graph.input, *graph.output]).type.tensor_type
    if changed.shape.dim:
        rng.choice(list(changed.shape.dim)).dim_value = rng.choice(LARGE)
    else:
        changed.elem_type = rng.randrange(30)


def _constant(graph: Any, node: Any, proto: Any, rng: random.Random) -> None:
    held = rng.choice(list(proto.graph.initializer))
    if held.data_type == onnx.TensorProto.INT64:
        held.raw_data = np.int64(rng.choice(LARGE)).tobytes() + held.raw_data[8:]
    elif held.dims:
        held.dims[rng.randrange(len(held.dims))] = rng.choice(LARGE)


def _opset(graph: Any, node: Any, proto: Any, rng: random.Random) -> None:
    proto.opset_import[0].version = rng.choice([1, 6, 9, 13, 20, 25, 99, -1])


CHANGES = (_attribute, _attribute, _input, _operator, _size, _constant, _constant, _opset)


def try_mutants(first: int, count: int) -> None:
    """Load mutants by number: whatever is wrong with one, the error is graphc's."""
    for number in range(first, first + count):
        rng = random.Random(number)
        data = rng.choice([damaged, tampered, tampered])(rng.choice(MODELS)(), rng)
        try:
            load(data)
        except GraphcError:
            continue
        except BaseException:
            print(f"mutant {number}", file=sys.stderr)
            raise


COUNT, GROUPS = 400, 2
LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from test_load_mutants import try_mutants
try_mutants(int(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.mark.parametrize("group", range(GROUPS))
def test_mutants(group: int) -> None:
    size = COUNT // GROUPS
    command = [sys.executable, "-c", LIMITED, str(Path(__file__).parent)]
    done = subprocess.run(
        [*command, str(group * size), str(size)], capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_parts_that_are_not_there() -> None:
    proto = constants()
    proto.graph.node[7].attribute[1].i = 1 << 31
    with pytest.raises(ModelError, match="3 outputs"):
        load(proto)


def test_an_absurd_resize() -> None:
    proto = shapes()
    proto.graph.initializer[5].raw_data = np.array([1e6, 2], "f").tobytes()
    with pytest.raises(ModelError, match="absurd"):
        load(proto)


def test_large_inputs_keep_their_size() -> None:
    """The inference that lists elements does not see it."""
    large = (1 << 31) - 1
    nodes = [Node("Gather", ["x", "k"], ["y"])]
    proto = model(nodes, [info("x", large)], [info("y", None)], known(k=[1, 2]))
    assert load(proto).inputs["x"].type.shape == (large,)
