"""Literals: equal by content, bit for bit, whatever is hashed of it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphc.ir.literal import Literal

ARRAYS = {
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.float32(2.5),
    "bool": np.array([True, False]),
    "bfloat16": np.array([1.0, -2.0], ml_dtypes.bfloat16),
    "nan": np.array([[np.nan, 1.0]], np.float32),
    "large": np.arange(5000, dtype=np.int64).reshape(50, 100),
    "strings": np.array([b"a", b"bc"], dtype=object),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_the_same_content_is_the_same_literal(name: str) -> None:
    array = np.asarray(ARRAYS[name])
    a, b = Literal(array), Literal(array.copy())
    assert a == b and hash(a) == hash(b)
    others = [Literal(x) for other, x in ARRAYS.items() if other != name]
    assert all(a != other for other in others)
    assert a != Literal(array.reshape(*array.shape, 1))


@pytest.mark.parametrize("position", [0, 70, 2500, 4999])
def test_one_other_element_makes_another_literal(position: int) -> None:
    changed = ARRAYS["large"].copy()
    changed.flat[position] += 1
    assert Literal(changed) != Literal(ARRAYS["large"])


def test_zeros_of_either_sign_and_types_differ() -> None:
    zeros = [np.zeros(3, np.float32), -np.zeros(3, np.float32), np.zeros(3, np.int32)]
    assert len({Literal(x) for x in zeros}) == 3


def test_a_literal_is_a_copy_unless_the_array_is_given_away() -> None:
    array = np.arange(4)
    copied, given = Literal(array), Literal(array.copy().reshape(2, 2).T, copy=False)
    array[0] = 9
    assert copied.array[0] == 0 and given.array.flags.c_contiguous
    for literal in (copied, given):
        with pytest.raises(ValueError, match="read-only"):
            literal.array[...] = 1
    own = np.arange(4)
    assert Literal(own, copy=False).array is own


def test_uniform_means_bit_for_bit() -> None:
    uniform = [np.full(300, np.nan), np.zeros((2, 3), np.int8), np.array(7.0), np.array([True])]
    assert all(Literal(x).is_uniform for x in uniform)
    ends = np.zeros(300)
    ends[150] = 1
    several = [ends, np.array([0.0, -0.0]), np.zeros((0, 2)), np.array([b"a", b"a"], dtype=object)]
    assert not any(Literal(x).is_uniform for x in several)


@pytest.mark.parametrize("shape", [(), (0, 3), (5, 7), (200, 100), (300, 3000), (1100, 1100)])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.bool_, np.int64])
def test_what_a_literal_holds_is_its_own(shape: tuple[int, ...], dtype: type) -> None:
    source = np.random.default_rng(0).integers(0, 2, shape[::-1]).astype(dtype).T
    literals = [Literal(source) for _ in range(2)]
    kept = source.copy()
    source[...] = 0
    for literal in literals:
        array = literal.array
        assert array.dtype == kept.dtype and array.shape == shape
        assert array.flags.c_contiguous and array.flags.aligned and not array.flags.writeable
        assert np.array_equal(array, kept)
    assert not np.shares_memory(literals[0].array, literals[1].array)
