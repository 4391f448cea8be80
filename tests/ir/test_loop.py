"""What kernels and statements know of themselves, and bodies over other axes."""

from __future__ import annotations

from graphc.ir.derived import Deriving, derived
from graphc.ir.dtypes import float32, int64
from graphc.ir.loop import (
    Access,
    Apply,
    AxesMap,
    Axis,
    Gather,
    Guard,
    Index,
    Kernel,
    Let,
    Linear,
    Load,
    Reduce,
    Ref,
    Store,
    numbered_axis,
)

X = Load((Access("x", (3, 1)), Access("y", (0, 1), 2, (Guard(Linear((1, 0)), 4),))), float32)
TAKEN = Gather(Access("t", (0, 1)), Index(Linear((2, 0)), int64), 3, 5, float32)
LET = Let("v", Apply("add", (X, Apply("multiply", (TAKEN, Ref("u", float32)), float32)), float32))


def test_what_is_derived_is_worked_out_once() -> None:
    asked: list[object] = []

    class Owner(Deriving):
        __slots__ = ()

        @derived
        def fact(self) -> int:
            """A fact."""
            asked.append(self)
            return len(asked)

    first, second = Owner(), Owner()
    assert (first.fact, first.fact, second.fact) == (1, 1, 2)
    assert asked == [first, second]
    assert Owner.fact.__doc__ == "A fact."


def test_one_walk_finds_all_that_a_statement_holds() -> None:
    contents = LET.contents
    assert contents.leaves == [X, TAKEN, TAKEN.index]
    assert contents.accesses == [*X.pieces, TAKEN.access]
    assert (contents.gathered, contents.names) == (["t"], {"u"})
    assert LET.reads == {"x", "y", "t"}
    assert LET.own_axes == {0, 1}


def test_a_kernel_has_what_its_statements_have() -> None:
    first = Reduce("u", "sum", Load((Access("z", (1, 1)),), float32), float32)
    store = Store(Access("o", (1, 0)), Ref("v", float32))
    kernel = Kernel("k", (Axis("i", 4), Axis("j", 3, "reduce")), (first, LET, store))
    assert [a.buffer for a in kernel.loads] == ["z", "x", "y", "t"]
    assert (kernel.inputs, kernel.outputs) == (("z", "x", "y", "t"), ("o",))
    assert kernel.gathered == {"t"}
    assert kernel.scopes == {"u": {0}, "v": {0, 1}}
    assert kernel.levels == (0, 1, 1)
    assert kernel.stores == (store,)
    assert kernel.renamed("other", ()).scopes is kernel.scopes


def test_equal_statements_are_equal_whatever_has_been_asked_of_them() -> None:
    other = Let("v", LET.value)
    assert LET.contents
    assert (other == LET, hash(other) == hash(LET), repr(other) == repr(LET)) == (True,) * 3


def test_bodies_over_other_axes() -> None:
    """Axis 0 is 2 * new axis 0 + new axis 2, axis 1 is new axis 1."""
    over = AxesMap([[(0, 2), (2, 1)], [(1, 1)]], 3)
    plain = Let("w", Apply("exp", (Ref("v", float32),), float32))
    store = Store(Access("o", (3, 1), 7), Ref("w", float32))
    changed, same, stored = over.body((LET, plain, store))
    assert same is plain
    assert stored == Store(Access("o", (6, 1, 3), 7), Ref("w", float32))
    guard = Guard(Linear((2, 0, 1)), 4)
    assert changed.contents.accesses == [
        Access("x", (6, 1, 3)), Access("y", (0, 1, 0), 2, (guard,)), Access("t", (0, 1, 0)),
    ]  # fmt: skip
    assert changed.contents.leaves[2] == Index(Linear((4, 0, 2)), int64)


def test_axes_of_one_number_and_size_are_one_object() -> None:
    assert numbered_axis(1, 5) == Axis("i1", 5)
    assert numbered_axis(1, 5) is numbered_axis(1, 5)
    assert numbered_axis(1, 5, "reduce") == Axis("i1", 5, "reduce")
