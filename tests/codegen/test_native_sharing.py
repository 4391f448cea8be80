"""Kernels of one form: what counts, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphc.codegen.native.sharing import form_of
from graphc.ir import loop
from graphc.ir.dtypes import float32, float64
from graphc.ir.loop import Access, Apply, Axis, Buffer, Const, Kernel, Let, Load, Ref, Store

BUFFERS = {
    **{n: Buffer(n, float32, (4, 3), loop.TEMPORARY) for n in ("a", "b", "c", "d")},
    "wide": Buffer("wide", float64, (4, 3), loop.TEMPORARY),
    "long": Buffer("long", float32, (4, 4), loop.TEMPORARY),
    "flat": Buffer("flat", float32, (12,), loop.OUTPUT),
}


def scaled(source: str, target: str, factor: float | int = 2.0, name: str = "v1") -> Kernel:
    """target = source * factor"""
    value = Load((Access(source, (3, 1)),), float32)
    product = Apply("multiply", (value, Const(factor, float32)), float32)
    body = (Let(name, product), Store(Access(target, (3, 1)), Ref(name, float32)))
    return Kernel("k", (Axis("i0", 4), Axis("i1", 3)), body)


def test_names_do_not_count() -> None:
    first = form_of(scaled("a", "b"), BUFFERS)
    second = form_of(scaled("d", "flat", name="other"), BUFFERS)
    assert first.key == second.key and hash(first.key) == hash(second.key)
    assert (first.buffers, second.buffers) == (("a", "b"), ("d", "flat"))


@pytest.mark.parametrize(
    "other",
    [
        scaled("a", "a"),
        scaled("wide", "b"),
        scaled("long", "b"),
        scaled("a", "b", 2),
        scaled("a", "b", -2.0),
        replace(scaled("a", "b"), axes=(Axis("i0", 4), Axis("i1", 2))),
        replace(scaled("a", "b"), axes=(Axis("i0", 4), Axis("i1", 3, loop.FOLD))),
        replace(scaled("a", "b"), body=scaled("a", "b").body[:1]),
    ],
)
def test_all_else_counts(other: Kernel) -> None:
    assert form_of(scaled("a", "b"), BUFFERS).key != form_of(other, BUFFERS).key


def test_numbers_that_are_equal_but_not_the_same() -> None:
    keys = {form_of(scaled("a", "b", x), BUFFERS).key for x in (0.0, -0.0, 0, False)}
    assert len(keys) == 4
