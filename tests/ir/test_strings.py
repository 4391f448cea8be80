"""Tensors of strings: what they hold, which ops take them, and how runs fall apart around them."""

from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.computation import Computation, cut
from graphc.ir.interpret import evaluate
from graphc.ir.literal import as_array
from graphc.ir.ops.functions import function_of, hold
from graphc.ir.ops.strings import pieces
from graphc.ir.table import OPS, Kind
from graphc.ir.text import parse, print_computation
from graphc.passes.hosting import divide, is_on_host

ODD = [b"", b"a\0", b"\xff\xfe", "h\u00e9llo".encode(), b"two words", b'"quoted", it\'s\n']


@pytest.fixture
def session() -> Any:
    with gc.Graph().as_default(), gc.Session(device="numpy") as s:
        yield s


def strings(shape: Any = (None,)) -> gc.Tensor:
    return gc.placeholder(gc.string, shape, name="texts")


def listed(x: Any) -> Any:
    return np.asarray(x).tolist()


# -- the dtype


def test_what_becomes_strings() -> None:
    for given in ("h\u00e9llo", "h\u00e9llo".encode(), np.array("h\u00e9llo")):
        array = as_array(given)
        assert array.dtype == object and array.shape == () and array[()] == "h\u00e9llo".encode()
    assert as_array(["a\0", b"b"]).tolist() == [b"a\0", b"b"]
    assert as_array(np.array([["a"], ["bc"]])).shape == (2, 1)
    assert as_array([], gc.string).dtype == object
    for name in ("string", str, bytes, np.object_, np.dtype("S3"), "U5"):
        assert gc.as_dtype(name) is gc.string
    assert gc.string.is_string and not gc.float32.is_string


@pytest.mark.parametrize("bad", [[1, "a"], ["a", None], [b"a", 2.0], ["a", ["b"]], [2**70]])
def test_what_is_no_tensor_of_strings(bad: Any) -> None:
    with pytest.raises((gc.errors.DTypeError, gc.errors.ShapeError)):
        as_array(bad)


def test_dtypes_do_not_mix() -> None:
    with gc.Graph().as_default():
        for build in (
            lambda: gc.constant("a", gc.float32), lambda: gc.constant(1.0, gc.string),
            lambda: gc.Variable("a"), lambda: gc.string.max,
        ):  # fmt: skip
            with pytest.raises(gc.errors.DTypeError):
                build()


@pytest.mark.parametrize("op", ["subtract", "multiply", "less", "maximum", "add"])
def test_arithmetic_is_refused(op: str) -> None:
    with gc.Graph().as_default(), pytest.raises(gc.errors.DTypeError, match="takes no strings"):
        OPS[op](strings(), strings())


def test_every_op_that_is_not_for_strings_says_so() -> None:
    with gc.Graph().as_default():
        x = strings((2, 2))
        for op in (gc.reduce_sum, gc.exp, gc.argmax, gc.nn.softmax, gc.cumsum, gc.to_float):
            with pytest.raises(gc.errors.DTypeError, match="strings"):
                op(x)


def test_feeding(session: gc.Session) -> None:
    x = strings((2,))
    for given in (["a", b"b"], np.array(["a", "b"]), np.array([b"a", "b"], object)):
        assert listed(session.run(x, {x: given})) == [b"a", b"b"]
    for bad in (["a"], [1, 2], np.array([1, None], object), "ab"):
        with pytest.raises(gc.errors.FeedError):
            session.run(x, {x: bad})
    with pytest.raises(gc.errors.FeedError, match="must be fed"):
        session.run(x)


def test_constants_are_told_apart_by_content() -> None:
    with gc.Graph().as_default():
        keys = [gc.constant(v).node.attrs["value"] for v in (["a", "b"], ["ab", ""], ["a", "b"])]
    assert keys[0] == keys[2] != keys[1]


def test_text_form_holds_every_byte() -> None:
    with gc.Graph().as_default():
        x = strings()
        every = gc.constant([*ODD, bytes(range(256)), *[b"x"] * 20])
        made = cut([gc.strings.upper(gc.concat([x, every], 0)), gc.constant("0-d")], [], [x])
    again = parse(print_computation(made))
    assert print_computation(again) == print_computation(made)
    given = {c.inputs[0]: as_array(["q"]) for c in (made, again)}
    for a, b in zip(evaluate(made.outputs, given), evaluate(again.outputs, given), strict=True):
        assert a.tolist() == b.tolist()


def test_text_that_is_damaged() -> None:
    text = "computation user\n  inputs\n  %0 = constant() {value=string[2](X)} : string[2]\n"
    assert parse(text.replace("X", "'a', 'b'") + "  outputs %0\n").outputs
    for bad in ("'a'", "'a', 3", "'a', 'b', 'c'", "'\\u0100', 'a'"):
        with pytest.raises(gc.errors.ParseError):
            parse(text.replace("X", bad) + "  outputs %0\n")


# -- movements


def test_movements_against_numpy(session: gc.Session) -> None:
    x = strings((2, 3))
    a = np.array([[b"a", b"b\0", b""], [b"d", b"", b"\xff"]], object)
    cases = {
        "identity": (gc.identity(x), a), "reshape": (gc.reshape(x, [-1]), a.ravel()),
        "transpose": (gc.transpose(x), a.T), "slice": (x[:, 1:], a[:, 1:]),
        "element": (x[0, 1], a[0, 1]), "flip": (x[::-1], a[::-1]),
        "stack": (gc.stack([x, x], 1), np.stack([a, a], 1)),
        "concat": (gc.concat([x, x], 1), np.concatenate([a, a], 1)),
        "expand": (gc.expand_dims(x, 0), a[None]), "tile": (gc.tile(x, [2, 1]), np.tile(a, (2, 1))),
        "squeeze": (gc.squeeze(x[:1]), a[0]), "gather": (gc.gather(x, [1, 1]), a[[1, 1]]),
        "gather_nd": (gc.gather_nd(x, [[1, 0], [0, 1]]), a[[1, 0], [0, 1]]),
        "where": (gc.where(gc.equal(x, ""), gc.fill([2, 3], "-"), x), np.where(a == b"", b"-", a)),
        "equal": (gc.equal(x, "a"), a == b"a"), "unequal": (gc.not_equal(x, x), a != a),
        "pad": (gc.pad(x, [[0, 0], [1, 0]]), np.pad(a, ((0, 0), (1, 0)), constant_values=b"")),
        "zeros": (gc.zeros_like(x), np.full((2, 3), b"", object)),
        "shape": (gc.shape(x), np.array([2, 3])), "size": (gc.size(x), 6),
    }  # fmt: skip
    got = session.run({k: v for k, (v, _) in cases.items()}, {x: a})
    for name, (_, want) in cases.items():
        assert listed(got[name]) == listed(want), name


def test_control_flow_runs_on_the_host(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [])
    chosen = gc.cond(x > 0, lambda: gc.constant("up"), lambda: gc.as_string(x))
    lengths = gc.map_fn(gc.strings.length, gc.constant(["a", "bcd"]), dtype=gc.int32)
    assert session.run([chosen, lengths[1]], {x: 1.0}) == [b"up", 3]
    assert session.run(chosen, {x: -1.0}) == b"-1.000000"


# -- functions of each element


def test_functions_of_each_element(session: gc.Session) -> None:
    x = strings()
    s = gc.strings
    made = {
        "length": s.length(x), "chars": s.length(x, unit="UTF8_CHAR"), "upper": s.upper(x),
        "unicode": s.upper(x, encoding="utf-8"), "lower": s.lower(s.upper(x)), "strip": s.strip(x),
        "match": s.regex_full_match(x, ".*o.*"), "base": gc.encode_base64(x),
        "padded": gc.encode_base64(x, pad=True), "back": gc.decode_base64(gc.encode_base64(x)),
        "join": x + "!" + x,
    }  # fmt: skip
    got = {k: listed(v) for k, v in session.run(made, {x: ODD}).items()}
    assert got["length"] == [len(t) for t in ODD]
    assert got["chars"][3] == 5 and got["upper"] == [t.upper() for t in ODD]
    assert got["unicode"][3] == "H\u00c9LLO".encode() and got["lower"] == [t.lower() for t in ODD]
    assert got["strip"] == [t.strip() for t in ODD]
    assert got["match"] == [re.fullmatch(rb".*o.*", t) is not None for t in ODD]
    assert got["padded"] == [base64.urlsafe_b64encode(t) for t in ODD]
    assert got["base"] == [t.rstrip(b"=") for t in got["padded"]] and got["back"] == ODD
    assert got["join"] == [t + b"!" + t for t in ODD]


def test_patterns(session: gc.Session) -> None:
    replaced = gc.regex_replace(["abcabc", "x"], "(b)(c)", r"<\2\1\\\0>")
    once = gc.regex_replace("aaa", "a", "b", replace_global=False)
    assert listed(session.run(replaced)) == [b"a<cb\\bc>a<cb\\bc>", b"x"]
    assert session.run(once) == b"baa"
    with pytest.raises(gc.errors.AttributeValueError, match="no regular expression"):
        gc.regex_replace("a", "(", "")
    with pytest.raises(gc.errors.AttributeValueError, match="group 2 of 1"):
        session.run(gc.regex_replace("a", "(a)", r"\2"))


def test_numbers(session: gc.Session) -> None:
    assert listed(session.run(gc.string_to_number(["1.5", " 2 ", "-inf"]))) == [1.5, 2, -np.inf]
    whole = session.run(gc.string_to_number(["7", "-8"], gc.int64))
    assert listed(whole) == [7, -8] and whole.dtype == np.int64
    for bad, dtype in (
        ("a", "float32"),
        ("1_0", "int32"),
        ("1.5", "int32"),
        ("3000000000", "int32"),
    ):
        with pytest.raises(gc.errors.InputError, match=re.escape(bad)):
            session.run(gc.string_to_number(bad, dtype))
    assert listed(session.run(gc.as_string([1, -2]))) == [b"1", b"-2"]
    assert session.run(gc.as_string(True)) == b"true"
    assert session.run(gc.as_string(2.5)) == b"2.500000"
    assert session.run(gc.as_string(2.5, shortest=True)) == b"2.5"
    assert session.run(gc.as_string(2.5, precision=2, width=7, fill="0")) == b"0002.50"
    assert session.run(gc.as_string(1234.5, scientific=True, precision=1)) in (b"1.2e+03",)


def test_parts(session: gc.Session) -> None:
    assert session.run(gc.substr("hello", 1, 3)) == b"ell"
    assert listed(session.run(gc.substr(["hello", "worlds"], [1, -3], [9, 2]))) == [b"ello", b"ld"]
    assert session.run(gc.substr("h\u00e9llo", 1, 1, unit="UTF8_CHAR")) == "\u00e9".encode()
    for at in (6, -6):
        with pytest.raises(gc.errors.InputError, match="outside"):
            session.run(gc.substr("hello", at, 1))


def test_splitting(session: gc.Session) -> None:
    made = gc.string_split(["a b  c", "", "d"])
    got = session.run(made)
    assert listed(got.indices) == [[0, 0], [0, 1], [0, 2], [2, 0]]
    assert listed(got.values) == [b"a", b"b", b"c", b"d"] and listed(got.dense_shape) == [3, 3]
    dense = gc.sparse_tensor_to_dense(made, default_value="-")
    assert listed(session.run(dense))[2] == [b"d", b"-", b"-"]
    assert listed(session.run(gc.string_split(["a,,b"], ",", skip_empty=False).values)) == [
        b"a", b"", b"b",
    ]  # fmt: skip
    assert listed(session.run(gc.strings.split(["a<>b<c"], "<>").values)) == [b"a", b"b<c"]
    assert pieces(b"a-b,c", b",-", "any") == [b"a", b"b", b"c"]
    assert pieces(b"abc", b"", "any") == [b"a", b"b", b"c"]
    with pytest.raises(gc.errors.UnsupportedOp, match="sparse_tensor_to_dense"):
        gc.strings.split(["a"], result_type="RaggedTensor")
    with pytest.raises(gc.errors.ShapeError):
        gc.string_split("a b")


def test_joining(session: gc.Session) -> None:
    joined = gc.string_join(["x", ["a", "b"], strings()], separator="/")
    assert listed(session.run(joined, {"texts": ["1", "2"]})) == [b"x/a/1", b"x/b/2"]
    grid = [["a", "b"], ["c", "d"]]
    assert session.run(gc.reduce_join(grid)) == b"abcd"
    assert session.run(gc.reduce_join(grid, [1, 0])) in (b"acbd", b"abcd")
    assert listed(session.run(gc.reduce_join(grid, 0, separator="-"))) == [b"a-c", b"b-d"]
    assert session.run(gc.reduce_join(grid, -1, keep_dims=True)).shape == (2, 1)
    with pytest.raises(gc.errors.ShapeError):
        gc.string_join([["a", "b"], ["a", "b", "c"]])


def test_formatting(session: gc.Session) -> None:
    text = gc.strings.format("{} and {}", (gc.range(10), "q"))
    assert session.run(text) == b"[0 1 2 ... 7 8 9] and q"
    pair = gc.strings.format("{}", gc.constant([[1.5, 2.0], [3.0, 4.0]]))
    assert session.run(pair) == b"[[1.5 2] [3 4]]"
    with pytest.raises(gc.errors.AttributeValueError, match="1 placeholders for 0"):
        gc.strings.format("{}", [])


def test_bytes_as_numbers(session: gc.Session) -> None:
    x = strings()
    numbers = gc.decode_raw(x, gc.int16)
    assert listed(numbers.shape.as_list()) == [None, None]
    assert listed(session.run(numbers, {x: [b"\1\0\2\0", b"\3\0\4\0"]})) == [[1, 2], [3, 4]]
    assert listed(session.run(numbers, {x: []})) == []
    for bad in ([b"abc"], [b"ab", b"abcd"]):
        with pytest.raises(gc.errors.ShapeError):
            session.run(numbers, {x: bad})
    with pytest.raises(gc.errors.InputError, match="base64"):
        session.run(gc.decode_base64("a+b/"))


# -- how runs fall apart


def parts_of(*values: gc.Tensor, feeds: Any = (), nodes: Any = ()) -> Any:
    return divide(cut(list(values), list(nodes), list(feeds)))


def test_a_run_without_strings_is_one_part() -> None:
    with gc.Graph().as_default():
        x = gc.placeholder(gc.float32, [2])
        (part,) = parts_of(x * 2.0, feeds=[x]).parts
    assert part.takes is None and not part.on_host


def test_parts_alternate_between_host_and_device(session: gc.Session) -> None:
    x = strings()
    y = gc.exp(gc.string_to_number(x))
    z = gc.string_to_number(gc.as_string(y)) * 2.0
    division = parts_of(z, x, feeds=[x])
    assert [p.on_host for p in division.parts] == [True, False, True, False]
    for part in division.parts:
        assert all(is_on_host(n) == part.on_host for n in part.computation.nodes
                   if n.kind is not Kind.SOURCE)  # fmt: skip
    np.testing.assert_allclose(session.run(z, {x: ["0", "1"]}), 2 * np.exp([0, 1]), rtol=1e-5)


def test_no_compiled_part_sees_a_string() -> None:
    with gc.Graph().as_default():
        x, y = strings(), gc.placeholder(gc.float32, [None])
        made = parts_of(gc.where(gc.equal(x, "a"), y, -y), gc.shape(x), gc.constant("c"),
                        feeds=[x, y])  # fmt: skip
    for part in made.parts:
        values = [v for n in part.computation.nodes for v in n.outputs]
        assert part.on_host or not any(v.dtype.is_string for v in values)


def test_updates_come_last_and_see_the_old_values(session: gc.Session) -> None:
    v = gc.Variable(3.0)
    session.run(v.initializer)
    z = gc.py_func(lambda x: x + 1, [v * 2.0], gc.float32)
    z.set_shape([])
    division = parts_of(z, nodes=[v.assign(z * 2.0).op])
    assert [bool(p.computation.updates) for p in division.parts] == [False, False, True]
    assert session.run([z, v.assign(z * 2.0), gc.as_string(v)]) == [7, 14, b"3.000000"]
    assert session.run(v) == 14


def test_what_fails_on_the_host_leaves_variables_alone(session: gc.Session) -> None:
    v = gc.Variable(3.0)
    session.run(v.initializer)
    number = gc.string_to_number(strings(()))
    update = v.assign_add(number)
    session.run(update, {"texts": "2"})
    with pytest.raises(gc.errors.InputError, match="'x'"):
        session.run([update, v.assign(0.0)], {"texts": "x"})
    assert session.run(v) == 5


def test_random_numbers_are_those_of_the_whole_run(session: gc.Session) -> None:
    x = gc.random_uniform([3])
    near = gc.string_to_number(gc.as_string(x, precision=9))
    plain, read = session.run([x, near])
    np.testing.assert_allclose(plain, read, atol=1e-6)


def test_an_intermediate_tensor_can_be_fed(session: gc.Session) -> None:
    text = gc.read_file(gc.placeholder(gc.string, [], name="file"))
    assert session.run(gc.strings.length(text), {text: "abc"}) == 3


def test_explain_names_what_the_host_computes(session: gc.Session) -> None:
    y = gc.string_to_number(strings()) * 2.0
    with pytest.raises(gc.errors.UnsupportedOp, match="StringToNumber"):
        gc.explain(y, feeds={"texts": (2,)}, device="numpy")


def test_gradients_stop_at_strings(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [2])
    y = x * gc.string_to_number(gc.as_string(x))
    (slope,) = gc.gradients(y, x)
    assert listed(session.run(slope, {x: [2, 3]})) == [2, 3]


# -- Python functions


def test_python_functions(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None])
    y = gc.py_func(lambda a: a[a > 0], [x], gc.float32)
    assert y.shape is None
    y.set_shape([None])
    assert session.run(gc.reduce_sum(y * 2.0), {x: [1, -2, 3]}) == 8
    a, b = gc.py_func(lambda s, n: (s + b"!", np.int64(n)), ["q", 3], [gc.string, gc.int64])
    assert session.run([a, b]) == [b"q!", 3]
    assert session.run(gc.py_func(lambda: [3.0], [], gc.float32)) == 3
    assert listed(session.run(gc.py_func(lambda: [3.0, 4.0], [], gc.float32))) == [3, 4]
    (one,) = gc.numpy_function(lambda: [np.float32(2)], [], [gc.float32])
    assert session.run(one) == 2


def test_python_functions_that_act(session: gc.Session) -> None:
    seen: list[float] = []
    node = gc.py_func(lambda a: seen.append(float(a)), [gc.constant(2.0)], [])
    session.run(node)
    with gc.control_dependencies([node]):
        x = gc.identity(gc.constant(1.0))
    assert session.run(x) == 1 and seen == [2, 2]


def test_python_functions_held_to_what_they_declare(session: gc.Session) -> None:
    for function, tout, kind in (
        (lambda: np.float64(1), gc.float32, gc.errors.DTypeError),
        (lambda: (1, 2, 3), [gc.int32, gc.int32], gc.errors.InputError),
        (lambda: object(), gc.float32, gc.errors.InputError),
    ):
        with pytest.raises(kind, match="lambda"):
            session.run(gc.py_func(function, [], tout))
    y = gc.py_func(lambda: np.zeros(3, np.float32), [], gc.float32)
    y.set_shape([4])
    with pytest.raises(gc.errors.ShapeError, match=r"string|float32\[4\].*\[3\]"):
        session.run(y)
    with pytest.raises(ZeroDivisionError):
        session.run(gc.py_func(lambda: 1 / 0, [], gc.float32))


def test_functions_by_name() -> None:
    held = hold(len)
    assert function_of(str(held)) is len
    name = str(held)
    del held
    with pytest.raises(gc.errors.UnsupportedOp, match="gone"):
        function_of(name)


def test_set_shape(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32)
    x.set_shape([None, 3])
    assert x.shape.as_list() == [None, 3]
    x.set_shape([2, None])
    assert x.shape.as_list() == [2, 3] and session.run(x, {x: np.ones((2, 3))}).shape == (2, 3)
    for bad in ([3, 3], [2], [2, 3, 1]):
        with pytest.raises(gc.errors.ShapeError, match="set_shape"):
            x.set_shape(bad)
    with pytest.raises(gc.errors.FeedError):
        session.run(x, {x: np.ones((3, 3))})


# -- checks


def test_assert(session: gc.Session) -> None:
    v = gc.Variable(1.0)
    session.run(v.initializer)
    check = gc.Assert(v < 3.0, ["v is", v, "now"])
    with gc.control_dependencies([check]):
        update = v.assign_add(1.0)
    session.run([update])
    session.run(update)
    with pytest.raises(gc.errors.NumericsError, match=r"\[v is\] \[3.0\] \[now\]"):
        session.run(update)
    assert session.run(v) == 3
    with pytest.raises(gc.errors.NumericsError):
        session.run(check)
    with pytest.raises(gc.errors.NumericsError, match="never"):
        gc.Assert(False, ["never"])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("equal", ([1, 2], [1, 2]), ([1, 2], [1, 3])), ("less", (1, 2), (2, 2)),
        ("less_equal", (2, 2), (3, 2)), ("greater", (3, 2), (2, 2)),
        ("greater_equal", (2, 2), (1, 2)), ("none_equal", (1, 2), ([1, 2], [0, 2])),
        ("positive", ([1],), ([0],)), ("negative", ([-1],), ([0],)),
        ("non_negative", ([0],), ([-1],)), ("non_positive", ([0],), ([1],)),
    ],
)  # fmt: skip
def test_assertions(session: gc.Session, name: str, good: Any, bad: Any) -> None:
    check = getattr(gc, f"assert_{name}")
    x = gc.placeholder(gc.int32)
    session.run(check(x, *good[1:]), {x: good[0]})
    with pytest.raises(gc.errors.NumericsError, match="said"):
        session.run(check(x, *bad[1:], message="said"), {x: bad[0]})


def test_computations_of_strings_are_no_computations_to_compile() -> None:
    with gc.Graph().as_default():
        made: Computation = cut([gc.strings.upper("a")])
    assert all(map(is_on_host, made.nodes))


def test_fetched_arrays_are_the_callers(session: gc.Session) -> None:
    x, fixed = strings((1,)), gc.constant(["a"])
    given = np.array([b"q"], object)
    for value in (fixed, x, gc.identity(x)):
        session.run(value, {x: given})[0] = b"changed"
    assert listed(session.run(fixed)) == [b"a"] and given[0] == b"q"


def test_errors_of_a_run_name_the_op_and_its_line(session: gc.Session) -> None:
    with pytest.raises(gc.errors.InputError) as caught:
        session.run(gc.read_file("/nothing", name="mine"))
    assert re.search(r"op 'mine', .*test_strings.py:\d+\)$", str(caught.value))


def test_values_that_say_sizes(session: gc.Session) -> None:
    """Sizes given as tensors, for ops that the host evaluates."""
    x, n = strings(), gc.placeholder(gc.int32, [])
    made = [gc.reshape(x, [n, -1]), gc.tile(x, [n]), x[:n], gc.fill([n], "q"), gc.unique(x).y,
            gc.boolean_mask(x, gc.equal(x, "a")), x[n - 1]]  # fmt: skip
    got = session.run(made, {x: ["a", "b", "a", "c"], n: 2})
    assert listed(got[0]) == [[b"a", b"b"], [b"a", b"c"]] and len(got[1]) == 8
    assert [listed(g) for g in got[2:]] == [
        [b"a", b"b"], [b"q", b"q"], [b"a", b"b", b"c"], [b"a", b"a"], b"b",
    ]  # fmt: skip


def test_loops_that_count_around_strings(session: gc.Session) -> None:
    n = gc.placeholder(gc.int32, [])
    _, text = gc.while_loop(
        lambda i, t: i < n, lambda i, t: (i + 1, t + "!"), [gc.constant(0), gc.constant("")]
    )
    assert session.run(text, {n: 3}) == b"!!!" and session.run(text, {n: 0}) == b""
    marks = gc.map_fn(lambda t: t + "\0", gc.constant(["a\0", "b"]))
    assert listed(session.run(marks)) == [b"a\0\0", b"b\0"]
