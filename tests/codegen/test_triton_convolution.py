"""Convolutions found in kernels and computed by torch, against the interpreter of the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import graphc as gc
from graphc.codegen.triton.convolution import (
    DATA,
    FILTER,
    FORWARD,
    Convolution,
    find_convolution,
)
from graphc.codegen.triton.library import find_product
from graphc.ir import interpret
from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Graph, Value
from graphc.ir.loop import (
    Access,
    Apply,
    Const,
    Dot,
    Guard,
    Kernel,
    Let,
    Linear,
    Load,
    Program,
    Ref,
    Store,
)
from graphc.ir.loop_text import format_kernel
from graphc.ir.ops.conv import convolution
from graphc.ir.settings import Settings
from graphc.onnx import load
from graphc.passes.target import GPU
from graphc.runtime.devices.triton_convolution import Convolve, convolution_flags
from graphc.runtime.devices.triton_library import bound_call
from graphc.runtime.explain import compile_fetches

torch = pytest.importorskip("torch")

Arrays = dict[str, np.ndarray]
Sizes = tuple[int, ...]
ALL = (FORWARD, DATA, FILTER)
LAYOUTS = {3: "NWC", 4: "NHWC", 5: "NDHWC"}

# Image and filter (its channels per group), attributes, and what is found of the three.
TABLE: dict[str, tuple[Sizes, Sizes, dict[str, Any], tuple[str, ...]]] = {
    "plain": ((2, 9, 8, 3), (3, 3, 3, 4), {"padding": "SAME"}, ALL),
    "valid": ((2, 9, 8, 3), (3, 3, 3, 4), {}, ALL),
    "valid_with_a_rest": ((2, 10, 8, 3), (3, 3, 3, 4), {"strides": (2, 2)}, ALL),
    "valid_dilated": ((2, 9, 8, 3), (3, 2, 3, 4), {"dilations": (2, 3)}, ALL),
    "strided": ((2, 9, 8, 3), (3, 3, 3, 4), {"padding": "SAME", "strides": (2, 3)}, ALL),
    "strided_evenly": ((2, 8, 8, 3), (3, 3, 3, 4), {"padding": "SAME", "strides": (2, 2)}, ALL),
    "dilated": ((2, 9, 8, 3), (3, 3, 3, 4), {"padding": "SAME", "dilations": (3, 2)}, ALL),
    "same_lower": (
        (2, 7, 7, 3), (2, 4, 3, 4), {"padding": "SAME_LOWER", "strides": (1, 2)}, ALL,
    ),
    "explicit": (
        (2, 7, 6, 3), (3, 3, 3, 4), {"padding": ((2, 2), (0, 3)), "strides": (2, 1)}, ALL,
    ),
    "causal": ((2, 9, 3), (3, 3, 4), {"padding": ((4, 0),), "dilations": (2,)}, ALL),
    "full": ((2, 5, 6, 3), (3, 3, 3, 4), {"padding": ((2, 2), (2, 2))}, ALL),
    "window_in_padding": (
        (1, 4, 1, 2), (2, 2, 2, 2), {"padding": ((0, 2), (3, 0)), "strides": (3, 3)}, ALL,
    ),
    "padded_too_far": ((2, 4, 4, 3), (2, 2, 3, 4), {"padding": ((3, 4), (5, 3))}, ALL),
    "groups": ((2, 6, 7, 6), (3, 3, 2, 9), {"padding": "SAME", "groups": 3}, ALL),
    "groups_strided": ((2, 6, 7, 4), (3, 2, 2, 6), {"strides": (2, 2), "groups": 2}, ALL),
    "image_of_one_channel": ((2, 9, 8, 1), (3, 3, 1, 4), {"padding": "SAME"}, ALL),
    "valid_of_one_channel": ((2, 9, 8, 1), (3, 3, 1, 4), {}, ALL),
    "result_of_one_channel": ((2, 9, 8, 3), (3, 3, 3, 1), {"padding": "SAME"}, ALL),
    "one_image": ((1, 9, 8, 3), (3, 3, 3, 4), {"padding": "SAME"}, ALL),
    "valid_of_one_image": ((1, 9, 8, 3), (3, 3, 3, 4), {}, ALL),
    "one_of_all": ((1, 9, 8, 1), (3, 3, 1, 1), {"padding": "SAME"}, ALL),
    "window_of_one_strided": ((2, 8, 8, 3), (1, 1, 3, 4), {"strides": (2, 2)}, ALL),
    "window_of_one_padded": ((2, 5, 5, 3), (1, 1, 3, 4), {"padding": ((1, 1), (1, 2))}, ALL),
    "narrow_window": ((2, 7, 7, 3), (3, 1, 3, 4), {"padding": "SAME"}, ALL),
    "flat_window": ((2, 7, 7, 3), (1, 3, 3, 4), {"strides": (2, 1)}, ALL),
    "patches": ((2, 8, 8, 3), (4, 4, 3, 5), {"strides": (4, 4)}, ALL),
    "high_window": ((2, 7, 9, 3), (7, 3, 3, 4), {}, ALL),
    "window_beyond_image": ((2, 2, 3, 3), (5, 7, 3, 4), {"padding": "SAME"}, ALL),
    "image_of_one_pixel": ((2, 1, 1, 3), (3, 3, 3, 4), {"padding": "SAME"}, ALL),
    "one_element": ((1, 1, 1, 1), (3, 3, 1, 1), {"padding": "SAME"}, (FILTER, DATA)),
    "one_dim": ((2, 9, 3), (3, 3, 4), {"padding": "SAME"}, ALL),
    "one_dim_strided": ((2, 8, 3), (3, 3, 4), {"padding": "SAME", "strides": (2,)}, ALL),
    "one_dim_valid": ((2, 9, 3), (4, 3, 4), {"strides": (2,), "dilations": (2,)}, ALL),
    "three_dims": (
        (2, 5, 6, 4, 3), (3, 3, 2, 3, 4), {"padding": "SAME", "strides": (1, 2, 2)}, ALL,
    ),
    "three_dims_valid": ((2, 5, 6, 4, 3), (3, 2, 2, 3, 4), {"dilations": (2, 1, 1)}, ALL),
    "channels_first": (
        (2, 3, 9, 8), (3, 3, 3, 4), {"padding": "SAME", "data_format": "NCHW"}, ALL,
    ),
    "channels_first_valid": ((2, 3, 9, 8), (3, 3, 3, 4), {"data_format": "NCHW"}, ALL),
    # products of matrices, except for guards that always hold
    "window_of_one": ((2, 8, 8, 3), (1, 1, 3, 4), {}, (FORWARD,)),
    "window_of_one_pixel": ((2, 8, 8, 3), (1, 1, 3, 4), {"padding": "SAME"}, (FORWARD,)),
    "window_of_all": ((2, 7, 7, 3), (7, 7, 3, 4), {}, (DATA,)),
}  # fmt: skip


def _find(kernel: Kernel) -> Convolution | None:
    """As a library is asked: products of matrices first."""
    return None if find_product(kernel) else find_convolution(kernel)


def _build(
    image: Sizes, window: Sizes, attrs: dict[str, Any], dtype: Any = gc.float32
) -> list[Any]:
    """A convolution and its gradients."""
    x, w = gc.placeholder(dtype, image), gc.placeholder(dtype, window)
    y = convolution(x, w, **{"data_format": LAYOUTS[len(image)], **attrs})
    g = gc.placeholder(dtype, y.type.static_shape)
    return [y, *gc.gradients(y, [x, w], grad_ys=g)]


def _program(build: Callable[[], Any]) -> Program:
    graph = Graph()
    with graph.as_default():
        fetches = build()
    return compile_fetches(fetches, {}, GPU, Settings(), graph).program


def _dots(program: Program) -> Iterator[Kernel]:
    """The kernels of a dot and its store; another name for the dot is none of its own."""
    for kernel in program.kernels:
        match kernel.body:
            case (Dot(), Store()):
                yield kernel
            case (Dot() as dot, Let(_, Ref(name)), Store() as store) if name == dot.name:
                store = replace(store, value=Ref(name, dot.dtype))
                yield replace(kernel, body=(dot, store))


def _table_dots(name: str, dtype: Any = gc.float32) -> tuple[Program, list[Kernel]]:
    image, window, attrs, _ = TABLE[name]
    program = _program(lambda: _build(image, window, attrs, dtype))
    return program, list(_dots(program))


def _arrays(program: Program, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        b.name: rng.standard_normal(b.size).astype(b.dtype.numpy) for b in program.buffers.values()
    }


def _tensor(array: np.ndarray) -> Any:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _array(tensor: Any) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return cast(np.ndarray, tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return cast(np.ndarray, tensor.numpy())


def _check(kernel: Kernel, found: Convolution, arrays: Arrays) -> None:
    """What is found computes what the kernel means, and writes nothing else."""
    want, got = _both(kernel, found, arrays)
    narrow = {np.dtype(np.float16): 2e-3, np.dtype(ml_dtypes.bfloat16): 1.6e-2}
    for name, array in want.items():
        tolerance = narrow.get(array.dtype, 1e-12 if array.dtype == np.float64 else 1e-4)
        np.testing.assert_allclose(
            got[name].astype(np.float64), array.astype(np.float64), tolerance, tolerance,
            err_msg=f"{format_kernel(kernel)}\n{found}",
        )  # fmt: skip


def _both(kernel: Kernel, found: Convolution, arrays: Arrays) -> tuple[Arrays, Arrays]:
    """All buffers after the kernel, and after the call."""
    want = {name: array.copy() for name, array in arrays.items()}
    with np.errstate(all="ignore"):
        interpret.run_kernel(kernel, want)
    tensors = {name: _tensor(array) for name, array in arrays.items()}
    call = bound_call(found, tensors, tf32=False)
    call.warm_up()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(_array(tensor), arrays[name], "warming up changes nothing")
    call()
    return want, {name: _array(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", TABLE)
def test_table_is_found_and_computed(name: str) -> None:
    program, kernels = _table_dots(name)
    found = [(k, c) for k in kernels if (c := _find(k)) is not None]
    assert tuple(c.computes for _, c in found) == TABLE[name][3]
    for kernel, each in found:
        _check(kernel, each, _arrays(program))


@pytest.mark.parametrize("dtype", [gc.float16, gc.bfloat16, gc.float64])
@pytest.mark.parametrize("name", ["plain", "strided_evenly", "groups", "one_dim_strided"])
def test_dtypes(name: str, dtype: Any) -> None:
    program, kernels = _table_dots(name, dtype)
    assert len(kernels) == 3
    for kernel in kernels:
        found = _find(kernel)
        assert found is not None
        _check(kernel, found, _arrays(program))


def test_sums_of_small_floats_are_wide() -> None:
    """2048 + 1 + 1 + ...: in float16 the ones would be lost one by one."""
    program = _program(lambda: _build((1, 4, 4, 64), (3, 3, 64, 2), {}, gc.float16))
    kernel = next(_dots(program))
    found = _find(kernel)
    assert found is not None
    arrays = {b.name: np.ones(b.size, b.dtype.numpy) for b in program.buffers.values()}
    arrays[found.filter.buffer][:2] = 2048
    got = _both(kernel, found, arrays)[1][found.out.buffer]
    assert set(got.tolist()) == {2624.0}  # 2048 + 9 * 64 - 1, to even


# -- what is found of the numbers


@pytest.mark.parametrize("computes", ALL)
@pytest.mark.parametrize(
    ("name", "stride", "padding", "after", "dilation", "groups"),
    [
        ("plain", (1, 1), (1, 1), (1, 1), (1, 1), 1),
        ("strided", (2, 3), (1, 0), (1, 1), (1, 1), 1),
        ("strided_evenly", (2, 2), (0, 0), (1, 1), (1, 1), 1),
        ("dilated", (1, 1), (3, 2), (3, 2), (3, 2), 1),
        ("explicit", (2, 1), (2, 0), (2, 3), (1, 1), 1),
        ("causal", (1,), (4,), (0,), (2,), 1),
        ("groups", (1, 1), (1, 1), (1, 1), (1, 1), 3),
        ("three_dims", (1, 2, 2), (1, 0, 0), (1, 1, 0), (1, 1, 1), 1),
    ],
)
def test_numbers(
    name: str, stride: Sizes, padding: Sizes, after: Sizes, dilation: Sizes, groups: int,
    computes: str,
) -> None:  # fmt: skip
    found = _found(name, computes)
    assert (found.stride, found.padding, found.after) == (stride, padding, after)
    assert (found.dilation, found.groups) == (dilation, groups)


def _found(name: str, computes: str) -> Convolution:
    found = [_find(k) for k in _table_dots(name)[1]]
    return next(c for c in found if c is not None and c.computes == computes)


@pytest.mark.parametrize("name", [n for n, row in TABLE.items() if row[3] == ALL])
def test_views_are_the_arrays(name: str) -> None:
    """With the sizes that the user gave, in the order of the memory that they lie in."""
    image, window, attrs, _ = TABLE[name]
    first, groups = attrs.get("data_format") == "NCHW", attrs.get("groups", 1)
    for computes in ALL:
        found = _found(name, computes)
        rest = [b - n for b, n in zip(_spatial(image, first), found.image.sizes[2:], strict=True)]
        unread = found.computes != DATA and attrs.get("padding") is None  # a rest without guards
        assert all(r >= 0 if unread else r == 0 for r in rest)
        assert found.image.sizes[:2] == (image[0], image[1 if first else -1])
        assert found.filter.sizes == (window[-1], image[1 if first else -1] // groups, *window[:-2])
        given = [found.filter.strides[i] for i in (*range(2, len(window)), 1, 0)]
        given = [s for s, n in zip(given, window, strict=True) if n > 1]
        assert given == sorted(given, reverse=True)
        if not first:
            assert found.image.strides[1] == 1 and found.result.strides[1] == 1


def _spatial(image: Sizes, first: bool) -> Sizes:
    return image[2:] if first else image[1:-1]


def test_strides_of_dims_of_size_1_are_channels_last() -> None:
    found = _found("one_of_all", FORWARD)
    assert found.image.strides == (72, 1, 8, 1)
    assert found.filter.strides == (9, 1, 3, 1)


def test_operands() -> None:
    by_name = {c: _found("plain", c) for c in ALL}
    forward, data, filter_ = (by_name[c] for c in ALL)
    assert forward.operands == (forward.image, forward.filter) and forward.out == forward.result
    assert data.operands == (data.filter, data.result) and data.out == data.image
    assert filter_.operands == (filter_.image, filter_.result) and filter_.out == filter_.filter


# -- other ways to say a convolution


def _all_are_found(program: Program) -> list[Convolution]:
    found = []
    for kernel in _dots(program):
        each = _find(kernel)
        assert each is not None, format_kernel(kernel)
        _check(kernel, each, _arrays(program))
        found.append(each)
    return found


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_transposed(padding: str, strides: int) -> None:
    def build() -> list[Any]:
        x, w = gc.placeholder(gc.float32, (2, 4, 5, 3)), gc.placeholder(gc.float32, (3, 3, 4, 3))
        more = 0 if padding == "SAME" else max(3 - strides, 0)
        shape = [2, 4 * strides + more, 5 * strides + more, 4]
        y = gc.nn.conv2d_transpose(x, w, shape, strides, padding)
        g = gc.placeholder(gc.float32, shape)
        return [y, *gc.gradients(y, [x, w], grad_ys=g)]

    found = _all_are_found(_program(build))
    assert [c.computes for c in found] == [DATA, FORWARD, FILTER]
    assert {c.stride for c in found} == {(strides, strides)}


def test_gradients_of_gradients() -> None:
    def build() -> list[Any]:
        x, w = gc.placeholder(gc.float32, (2, 6, 5, 3)), gc.placeholder(gc.float32, (3, 3, 3, 4))
        y = gc.nn.conv2d(x, w, 2, "SAME")
        g = gc.placeholder(gc.float32, y.type.static_shape)
        by_data, by_filter = gc.gradients(y, [x, w], grad_ys=g)
        h, v = gc.placeholder(gc.float32, x.type.static_shape), gc.placeholder(gc.float32, w.shape)
        first, second = gc.gradients(by_data, [w, g], grad_ys=h)
        return [first, second, *gc.gradients(by_filter, [x, g], grad_ys=v)]

    assert sorted(c.computes for c in _all_are_found(_program(build))) == [
        DATA, FILTER, FORWARD, FORWARD,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "attrs", "computes"),
    [
        ("Conv", {"pads": [1, 1, 1, 1]}, FORWARD),
        ("Conv", {"pads": [1, 0, 0, 2], "strides": [2, 2], "dilations": [2, 1]}, FORWARD),
        ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, FORWARD),
        ("Conv", {"group": 2, "pads": [1, 1, 1, 1]}, FORWARD),
        ("ConvTranspose", {"pads": [1, 1, 1, 1], "strides": [2, 2]}, DATA),
        ("ConvTranspose", {"output_padding": [1, 1], "strides": [2, 2], "group": 2}, DATA),
    ],
)
def test_onnx(op: str, attrs: dict[str, Any], computes: str) -> None:
    window = [6, 4 // attrs.get("group", 1), 3, 3] if op == "Conv" else [4, 3, 3, 3]
    node = helper.make_node(op, ["x", "w"], ["y"], **attrs)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 4, 7, 8]), ("w", window))
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, list("nchw"))
    graph = helper.make_graph([node], "g", inputs, [output])
    loaded = load(helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]))
    fetches = list(loaded.outputs.values())
    program = compile_fetches(fetches, {}, GPU, Settings(), loaded.graph).program
    assert [c.computes for c in _all_are_found(program)] == [computes]


def test_depthwise_is_no_dot() -> None:
    program = _program(lambda: _build((2, 6, 6, 4), (3, 3, 1, 8), {"groups": 4}))
    assert not list(_dots(program))


@st.composite
def _rows(draw: st.DrawFn) -> tuple[Sizes, Sizes, dict[str, Any]]:
    """Image, filter and attributes of a small convolution; the window may not fit."""
    rank = draw(st.integers(1, 3))

    def sizes(low: int, high: int) -> Sizes:
        return tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    spatial, window = sizes(1, 7 if rank < 3 else 5), sizes(1, 4 if rank < 3 else 3)
    groups, batch, inputs, outputs = (draw(st.integers(1, 3)) for _ in range(4))
    pairs = tuple(zip(sizes(0, 3), sizes(0, 3), strict=True))
    first = draw(st.booleans())
    layout = LAYOUTS[rank + 2]
    attrs = {
        "strides": sizes(1, 3), "dilations": sizes(1, 3), "groups": groups,
        "padding": draw(st.sampled_from(["SAME", "SAME_LOWER", "VALID", pairs])),
        "data_format": f"NC{layout[1:-1]}" if first else layout,
    }  # fmt: skip
    channels = inputs * groups
    image = (batch, channels, *spatial) if first else (batch, *spatial, channels)
    return image, (*window, inputs, outputs * groups), attrs


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(_rows(), st.integers(0, 1000))
def test_what_is_found_is_right(row: tuple[Sizes, Sizes, dict[str, Any]], seed: int) -> None:
    try:
        program = _program(lambda: _build(*row))
    except ShapeError:
        assume(False)
    for kernel in _dots(program):
        found = _find(kernel)
        if found is not None:
            _check(kernel, found, _arrays(program, seed))


# -- what is no convolution


def _first_dot(name: str, computes: str = FORWARD) -> tuple[Program, Kernel]:
    program, kernels = _table_dots(name)
    return program, next(
        k for k in kernels if (c := _find(k)) is not None and c.computes == computes
    )


def _with(kernel: Kernel, **changes: Any) -> Kernel:
    """The kernel with another first operand, or something of its access changed."""
    dot, store = kernel.body
    assert isinstance(dot, Dot) and isinstance(dot.a, Load)
    expr = changes.pop("a", None)
    if expr is None:
        fill = changes.pop("fill", dot.a.fill)
        expr = replace(dot.a, pieces=(replace(dot.a.pieces[0], **changes),), fill=fill)
    return replace(kernel, body=(replace(dot, a=expr), store))


def _walked(kernel: Kernel) -> Access:
    dot = kernel.body[0]
    assert isinstance(dot, Dot) and isinstance(dot.a, Load)
    return dot.a.pieces[0]


def _changed(guard: Guard, offset: int = 0, size: int = 0, step: int = 0) -> Guard:
    value = Linear(guard.value.strides, guard.value.offset + offset)
    return Guard(value, guard.size + size, guard.step + step)


def test_another_fill_is_none() -> None:
    _, kernel = _first_dot("plain")
    assert _find(_with(kernel, fill=1)) is None
    assert _find(_with(kernel, fill=0.0)) is not None


def test_several_pieces_are_none() -> None:
    _, kernel = _first_dot("plain")
    dot = kernel.body[0]
    assert isinstance(dot, Dot) and isinstance(dot.a, Load)
    assert _find(_with(kernel, a=replace(dot.a, pieces=dot.a.pieces * 2))) is None


@pytest.mark.parametrize("side", ["a", "b"])
def test_computed_operands_are_none(side: str) -> None:
    _, kernel = _first_dot("plain")
    dot, store = kernel.body
    assert isinstance(dot, Dot)
    old = getattr(dot, side)
    for new in (Apply("negative", (old,), old.dtype), Const(1.0, old.dtype)):
        changed = replace(dot, a=new) if side == "a" else replace(dot, b=new)
        assert _find(replace(kernel, body=(changed, store))) is None


def test_two_guarded_operands_are_none() -> None:
    _, kernel = _first_dot("plain", FILTER)
    dot, store = kernel.body
    assert isinstance(dot, Dot) and isinstance(dot.b, Load)
    axis = kernel.reduced[-1]
    strides = tuple(int(i == axis) for i in range(len(kernel.axes)))
    guard = Guard(Linear(strides, -1), kernel.axes[axis].size)
    access = replace(dot.b.pieces[0], guards=(guard,))
    changed = replace(dot, b=replace(dot.b, pieces=(access,)))
    assert _find(replace(kernel, body=(changed, store))) is None


@pytest.mark.parametrize("computes", ALL)
def test_guards_that_are_no_window_are_none(computes: str) -> None:
    """Left out, over other axes, with another step, doubled with another size."""
    _, kernel = _first_dot("plain", computes)
    guards = _walked(kernel).guards
    assert len(guards) == 2
    first, second = guards
    both = Linear(
        tuple(a + b for a, b in zip(first.value.strides, second.value.strides, strict=True)),
        first.value.offset,
    )
    for changed in (
        (first,), (second, replace(first, value=both)),
        (_changed(first, step=1), second), (first, second, _changed(first, size=-1)),
    ):  # fmt: skip
        assert _find(_with(kernel, guards=changed)) is None, changed


def test_a_result_elsewhere_is_none() -> None:
    _, kernel = _first_dot("plain")
    dot, store = kernel.body
    assert isinstance(store, Store)
    guard = Guard(Linear((1,) + (0,) * (len(kernel.axes) - 1)), 1)
    backwards = tuple(-s for s in store.access.strides)
    for changed in (
        replace(store, access=replace(store.access, guards=(guard,))),
        replace(store, access=replace(store.access, divisor=2)),
        replace(store, value=Apply("negative", (store.value,), as_dtype("float32"))),
        replace(store, access=replace(store.access, strides=backwards)),
        replace(store, access=replace(store.access, strides=(0, *store.access.strides[1:]))),
    ):  # fmt: skip
        assert _find(replace(kernel, body=(dot, changed))) is None


NO_CONVOLUTIONS: dict[str, Callable[[], Any]] = {
    "product": lambda: gc.matmul(_given(8, 9), _given(9, 7)),
    "batched_product": lambda: gc.einsum("bij,bjk->bik", _given(3, 8, 9), _given(3, 9, 7)),
    "transposed_product": lambda: gc.einsum("btc,co->tbo", _given(3, 8, 9), _given(9, 7)),
    "two_columns": lambda: gc.einsum("nc,cop->npo", _given(3, 9), _given(9, 7, 5)),
    "two_batches": lambda: gc.einsum("abij,abjk->abik", _given(2, 3, 4, 5), _given(2, 3, 5, 6)),
    "own_filters": lambda: gc.einsum("bhc,bcho->bo", _given(3, 4, 5), _given(3, 5, 4, 6)),
    "reversed_filter": lambda: gc.nn.conv2d(
        _given(2, 7, 7, 3), gc.reverse(_given(3, 3, 3, 4), [0, 1]), padding="SAME"
    ),
    "reversed_image": lambda: gc.nn.conv2d(
        gc.reverse(_given(2, 7, 7, 3), [1]), _given(3, 3, 3, 4), padding="SAME"
    ),
    "image_padded_with_ones": lambda: gc.nn.conv2d(
        gc.pad(_given(2, 7, 7, 3), [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1),
        _given(3, 3, 3, 4), padding="VALID",
    ),
    "joined_images": lambda: gc.nn.conv2d(
        gc.concat([_given(2, 7, 7, 3), _given(2, 7, 7, 3)], 3), _given(3, 3, 6, 4), padding="SAME"
    ),
}  # fmt: skip


def _given(*shape: int) -> Value:
    return gc.placeholder(gc.float32, shape)


@pytest.mark.parametrize("name", NO_CONVOLUTIONS)
def test_no_convolutions(name: str) -> None:
    kernels = list(_dots(_program(NO_CONVOLUTIONS[name])))
    assert kernels
    for kernel in kernels:
        assert _find(kernel) is None, format_kernel(kernel)


def test_four_spatial_dims_are_none() -> None:
    _, kernel = _first_dot("three_dims")
    wider = _with_dim(_first_dot("plain")[1])
    assert _find(kernel) is not None
    found = _find(wider)
    assert found is not None and len(found.stride) == 3
    widest = _with_dim(wider)
    assert _find(widest) is None


def _with_dim(kernel: Kernel) -> Kernel:
    """A forward convolution with one more spatial dim, of 3 places under a window of 3."""
    dot, store = kernel.body
    assert isinstance(dot, Dot) and isinstance(store, Store)
    assert isinstance(dot.a, Load) and isinstance(dot.b, Load)
    (image,), (window,) = dot.a.pieces, dot.b.pieces
    far, wide = 3 * max(image.strides), 3 * max(window.strides)
    dim = Guard(Linear((0,) * len(kernel.axes) + (1, 1), -1), 3)
    guards = tuple(
        replace(g, value=Linear((*g.value.strides, 0, 0), g.value.offset)) for g in image.guards
    )
    image = Access(image.buffer, (*image.strides, far, far), image.offset - far, (*guards, dim))
    window = replace(window, strides=(*window.strides, 0, wide))
    out = replace(store.access, strides=(*store.access.strides, 3 * max(store.access.strides), 0))
    places = replace(kernel.axes[0], name="p", size=3)
    inside = replace(kernel.axes[kernel.reduced[0]], name="r", size=3)
    dot = replace(dot, a=replace(dot.a, pieces=(image,)), b=replace(dot.b, pieces=(window,)))
    return replace(
        kernel, axes=(*kernel.axes, places, inside), body=(dot, replace(store, access=out))
    )


# -- a kernel with any number changed is refused, or it is what is computed


def _roomy(kernel: Kernel, program: Program, room: int) -> tuple[Kernel, Arrays]:
    """The kernel over buffers with so much room around their arrays."""

    def moved(access: Access) -> Access:
        return replace(access, offset=access.offset + room * access.divisor)

    dot, store = kernel.body
    assert isinstance(dot, Dot) and isinstance(store, Store)
    assert isinstance(dot.a, Load) and isinstance(dot.b, Load)
    a, b = (replace(e, pieces=(moved(e.pieces[0]),)) for e in (dot.a, dot.b))
    body = replace(dot, a=a, b=b), replace(store, access=moved(store.access))
    rng = np.random.default_rng(1)
    arrays = {
        b.name: rng.standard_normal(b.size + 4 * room).astype(b.dtype.numpy)
        for b in program.buffers.values()
    }
    return replace(kernel, body=body), arrays


def _neighbours(access: Access) -> Iterator[Access]:
    """The access with one of its numbers one more or one less."""
    for change in (-1, 1):
        yield replace(access, offset=access.offset + change)
        yield replace(access, divisor=max(1, access.divisor + change))
        for i, stride in enumerate(access.strides):
            strides = (*access.strides[:i], stride + change, *access.strides[i + 1 :])
            yield replace(access, strides=strides)
        for i, guard in enumerate(access.guards):
            for new in _near_guards(guard, change):
                yield replace(access, guards=(*access.guards[:i], new, *access.guards[i + 1 :]))


def _near_guards(guard: Guard, change: int) -> Iterator[Guard]:
    yield _changed(guard, offset=change)
    yield _changed(guard, size=change)
    yield replace(guard, step=max(1, guard.step + change))
    for i, stride in enumerate(guard.value.strides):
        strides = (*guard.value.strides[:i], stride + change, *guard.value.strides[i + 1 :])
        yield replace(guard, value=Linear(strides, guard.value.offset))


@pytest.mark.parametrize("computes", ALL)
@pytest.mark.parametrize("name", ["plain", "strided_evenly", "valid_dilated", "groups", "one_dim"])
def test_changed_numbers_are_refused_or_computed(name: str, computes: str) -> None:
    program, kernel = _first_dot(name, computes)
    kernel, arrays = _roomy(kernel, program, 2000)
    for access in _neighbours(_walked(kernel)):
        changed = _with(
            kernel, strides=access.strides, offset=access.offset, guards=access.guards,
            divisor=access.divisor,
        )  # fmt: skip
        found = _find(changed)
        if found is not None:
            _check(changed, found, arrays)


# -- the call


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("computes", ALL)
@pytest.mark.parametrize("name", ["plain", "strided_evenly", "explicit", "groups"])
def test_numbers_that_are_not_finite_stay_where_they_are(
    name: str, computes: str, number: float
) -> None:
    """In what windows walk; the other operand meets padding, where libraries need not multiply."""
    program, kernel = _first_dot(name, computes)
    found = _find(kernel)
    assert found is not None
    arrays = _arrays(program)
    walked = arrays[_walked(kernel).buffer]
    walked[[0, len(walked) // 2, -1]] = number
    want, got = (each[found.out.buffer] for each in _both(kernel, found, arrays))
    assert not np.isfinite(want).all() and np.isfinite(want).any()
    np.testing.assert_allclose(got, want, 1e-4, 1e-4)


@pytest.mark.parametrize("computes", [FORWARD, FILTER])
def test_what_is_not_finite_in_the_other_operand(computes: str) -> None:
    program, kernel = _first_dot("valid", computes)
    found = _find(kernel)
    assert found is not None
    arrays = _arrays(program)
    arrays[found.operands[1].buffer][[0, 5]] = np.nan, np.inf
    want, got = (each[found.out.buffer] for each in _both(kernel, found, arrays))
    assert np.isnan(want).any()
    np.testing.assert_allclose(got, want, 1e-4, 1e-4)


def _call(name: str, computes: str, tf32: bool = False) -> Convolve:
    program, kernel = _first_dot(name, computes)
    found = _find(kernel)
    assert found is not None
    tensors = {n: _tensor(a) for n, a in _arrays(program).items()}
    return bound_call(found, tensors, tf32)


def test_views_inside_an_arena() -> None:
    program, kernel = _first_dot("plain")
    found = _find(kernel)
    assert found is not None
    arrays = _arrays(program)
    arena = torch.from_numpy(np.concatenate([np.zeros(7, np.float32), *arrays.values()]))
    starts = np.cumsum([7, *(a.size for a in arrays.values())])
    parts = {n: arena[s : s + a.size] for s, (n, a) in zip(starts, arrays.items(), strict=False)}
    bound_call(found, parts, tf32=False)()
    interpret.run_kernel(kernel, arrays)
    got = parts[found.out.buffer].numpy()
    np.testing.assert_allclose(got, arrays[found.out.buffer], 1e-4, 1e-4)


def test_one_spatial_dim_is_called_as_two() -> None:
    call = _call("one_dim_strided", FORWARD)
    assert call.image.shape == (2, 3, 1, 8) and call.stride == (1, 2)
    for tensor in (call.image, call.result):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["plain", "strided_evenly", "three_dims", "one_dim"])
def test_images_are_dense_with_channels_last(name: str) -> None:
    """So that the GPU's library reads and writes them where they lie."""
    call = _call(name, FORWARD)
    last = torch.channels_last_3d if name == "three_dims" else torch.channels_last
    assert all(t.is_contiguous(memory_format=last) for t in (call.image, call.result))


def test_the_gpu_s_routine_takes_what_it_is_given() -> None:
    """As both versions of torch have it; what is not on a GPU does not get so far."""
    schema = str(torch.ops.aten.cudnn_convolution.out._schema)
    order = ["self", "weight", "padding", "stride", "dilation", "groups", "benchmark"]
    order += ["deterministic", "allow_tf32", "out"]
    places = [schema.index(f" {name}{end}") for name, end in zip(order, ",,,,,,,,,)", strict=True)
              if name != "self"]  # fmt: skip
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["plain", "three_dims_valid", "one_dim"])
def test_the_gpu_s_routine_gets_the_views(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one in its place that is not the GPU's."""
    calls = []

    def convolve(
        x: Any,
        w: Any,
        padding: Any,
        stride: Any,
        dilation: Any,
        groups: int,
        *flags: bool,
        out: Any,
    ) -> None:
        calls.append((flags, out.data_ptr()))
        zeros = [0] * len(stride)
        out.copy_(torch.convolution(x, w, None, stride, padding, dilation, False, zeros, groups))

    monkeypatch.setattr(torch.ops.aten, "cudnn_convolution", SimpleNamespace(out=convolve))
    monkeypatch.setattr(Convolve, "_is_direct", True)
    program, kernel = _first_dot(name)
    found = _find(kernel)
    assert found is not None
    _check(kernel, found, _arrays(program))
    call = _call(name, FORWARD, tf32=True)
    call()
    assert [flags for flags, _ in calls] == 2 * [(False, True, False)] + [(False, True, True)]
    assert calls[-1][1] == call.result.data_ptr() and calls[0][1] != calls[1][1]


@pytest.mark.parametrize("tf32", [False, True])
def test_torch_s_own_flags_stay(tf32: bool) -> None:
    flags = torch.backends.cudnn
    before = flags.benchmark, flags.deterministic, flags.conv.fp32_precision
    with pytest.raises(KeyError), convolution_flags(tf32):
        assert (flags.benchmark, flags.deterministic) == (False, True)
        assert flags.conv.fp32_precision == ("tf32" if tf32 else "ieee")
        raise KeyError
    assert (flags.benchmark, flags.deterministic, flags.conv.fp32_precision) == before


def test_what_users_set_stays() -> None:
    flags = torch.backends.cudnn
    before = flags.benchmark, flags.deterministic, flags.conv.fp32_precision
    flags.benchmark, flags.deterministic, flags.conv.fp32_precision = True, False, "ieee"
    try:
        _call("plain", DATA, tf32=True)()
        assert (flags.benchmark, flags.deterministic) == (True, False)
        assert flags.conv.fp32_precision == "ieee"
    finally:
        flags.benchmark, flags.deterministic, flags.conv.fp32_precision = before
