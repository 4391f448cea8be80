"""Results whose size depends on values: against NumPy, from feeds, variables and random numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import graphc as gc
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.passes.stages import stages

RNG = np.random.default_rng(17)


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    """Every test its own graph."""
    with gc.Graph().as_default():
        yield


@pytest.fixture
def session() -> Iterator[gc.Session]:
    with gc.Session(device="numpy") as made:
        yield made


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


# -- masks


MASKS = [((7,), 1, 0), ((6, 3), 1, 0), ((6, 3), 2, 0), ((2, 5, 3), 1, 1), ((2, 3, 4, 2), 2, 1)]


@pytest.mark.parametrize(("shape", "width", "axis"), MASKS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_boolean_mask_and_its_gradient_are_numpys(
    shape: tuple[int, ...], width: int, axis: int, share: float
) -> None:
    x = floats(*shape)
    mask = RNG.random(shape[axis : axis + width]) < share
    fed, test = (
        gc.placeholder(gc.float32, [None] * len(shape)),
        gc.placeholder(gc.bool, [None] * width),
    )
    y = gc.boolean_mask(fed, test, axis=axis)
    (g,) = gc.gradients(gc.reduce_sum(y * y), [fed])
    with gc.Session(device="numpy") as session:
        got, grad = session.run([y, g], {fed: x, test: mask})
    lead = (slice(None),) * axis
    np.testing.assert_array_equal(got, x[(*lead, mask)])
    expected = np.zeros_like(x)
    expected[(*lead, mask)] = 2 * x[(*lead, mask)]
    np.testing.assert_array_equal(grad, expected)


def test_a_mask_that_holds_nan_elements_takes_them_as_they_are(session: gc.Session) -> None:
    x = np.array([np.nan, np.inf, -1.0, np.nan], np.float32)
    value = gc.constant(x)
    got = session.run(gc.boolean_mask(value, gc.is_nan(value)))
    assert got.shape == (2,)
    assert np.isnan(got).all()


def test_where_with_one_argument_gives_positions(session: gc.Session) -> None:
    fed = gc.placeholder(gc.float32, [None, 4])
    at = gc.where(fed > 0)
    for rows in (3, 0, 1):
        x = floats(rows, 4)
        np.testing.assert_array_equal(session.run(at, {fed: x}), np.argwhere(x > 0))
    numbers = gc.where(gc.constant([0, 3, 0, 1]))
    assert session.run(numbers).tolist() == [[1], [3]]
    with pytest.raises(AttributeValueError, match="x and y, or neither"):
        gc.where(fed > 0, fed)


def test_masks_of_variables_follow_training(session: gc.Session) -> None:
    start = np.linspace(-0.4, 1.5, 18, dtype=np.float32).reshape(9, 2)
    w = gc.Variable(start)
    chosen = gc.boolean_mask(w, gc.reduce_sum(w, 1) > 0)
    loss = gc.reduce_mean(chosen * chosen) + 0.2 * gc.reduce_sum(w)
    train = gc.train.GradientDescentOptimizer(0.5).minimize(loss)
    session.run(w.initializer)
    theirs = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.SGD([theirs], 0.5)
    for _ in range(4):
        expected = (theirs[theirs.sum(1) > 0] ** 2).mean() + 0.2 * theirs.sum()
        assert session.run(loss) == pytest.approx(expected.item(), rel=1e-5)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        session.run(train)
    np.testing.assert_allclose(session.run(w), theirs.detach().numpy(), rtol=1e-5)


def test_masks_of_random_numbers_see_the_numbers_of_the_run(session: gc.Session) -> None:
    r = gc.random_uniform([50])
    chosen = gc.boolean_mask(r, r > 0.5)
    for _ in range(3):
        whole, part = session.run([r, chosen])
        np.testing.assert_array_equal(part, whole[whole > 0.5])


def test_programs_are_kept_by_the_count_and_not_by_the_mask(session: gc.Session) -> None:
    fed = gc.placeholder(gc.bool, [6])
    at = gc.where(fed)[:, 0]
    for mask in np.eye(6, dtype=bool):
        assert session.run(at, {fed: mask}).tolist() == [int(mask.argmax())]
    (prepared,) = session._prepared.values()
    assert len(prepared.main.by_shape) == 1


def test_a_mask_inside_of_a_mask_is_counted_after_it(session: gc.Session) -> None:
    x = floats(20)
    w = gc.Variable(x)
    some = gc.boolean_mask(w, w > -0.5)
    fewer = gc.boolean_mask(some, some < gc.reduce_mean(some))
    session.run(w.initializer)
    kept = x[x > -0.5]
    np.testing.assert_array_equal(session.run(fewer), kept[kept < kept.mean()])


def test_boolean_mask_refuses() -> None:
    x = gc.placeholder(gc.float32, [4, 3])
    with pytest.raises(DTypeError, match="bool mask"):
        gc.boolean_mask(x, [1, 0, 1, 0])
    with pytest.raises(ShapeError, match="known rank"):
        gc.boolean_mask(x, True)
    with pytest.raises(ShapeError, match="mask"):
        gc.boolean_mask(x, [True, False])


def test_inside_a_loop_a_size_cannot_depend_on_what_is_carried(session: gc.Session) -> None:
    final = gc.while_loop(
        lambda i, a: i < 3,
        lambda i, a: (i + 1, a + gc.reduce_sum(gc.boolean_mask(a, a > 0))),
        [0, gc.ones([3])],
    )
    with pytest.raises(ShapeError, match=r"loop or branch.*multiply by a mask"):
        session.run(final)


def test_inside_a_loop_a_mask_from_outside_is_counted_outside(session: gc.Session) -> None:
    w = gc.Variable([1.0, -2.0, 3.0])
    session.run(w.initializer)
    _, total = gc.while_loop(
        lambda i, a: i < 3, lambda i, a: (i + 1, a + gc.reduce_sum(gc.boolean_mask(w, w > 0))),
        [0, 0.0],
    )  # fmt: skip
    assert session.run(total) == 12.0


# -- distinct elements


@pytest.mark.parametrize("x", [[3, 1, 3, 2, 1], [5], [], [7, 7, 7]])
def test_unique_gives_elements_in_their_first_order(x: list[int], session: gc.Session) -> None:
    fed = gc.placeholder(gc.int32, [None])
    y, idx, count = session.run(gc.unique_with_counts(fed), {fed: np.array(x, np.int32)})
    assert y.tolist() == list(dict.fromkeys(x))
    assert [y[i] for i in idx] == x
    assert count.tolist() == [x.count(v) for v in y]


def test_unique_of_words_goes_into_an_embedding(session: gc.Session) -> None:
    table = floats(9, 4)
    words = np.array([3, 3, 8, 0], np.int32)
    fed, w = gc.placeholder(gc.int32, [None]), gc.constant(table)
    distinct = gc.unique(fed)
    rows = gc.gather(gc.gather(w, distinct.y), distinct.idx)
    np.testing.assert_array_equal(session.run(rows, {fed: words}), table[words])


def test_setdiff1d(session: gc.Session) -> None:
    fed = gc.placeholder(gc.int32, [None])
    out, idx = session.run(gc.setdiff1d(fed, [1, 9]), {fed: [3, 1, 3, 9, 4]})
    assert out.tolist() == [3, 3, 4]
    assert idx.tolist() == [0, 2, 4]


# -- partitions


def test_partition_and_stitch_are_inverse_with_gradients(session: gc.Session) -> None:
    fed, numbers = gc.placeholder(gc.float32, [None, 3]), gc.placeholder(gc.int32, [None])
    parts = gc.dynamic_partition(fed, numbers, 3)
    places = gc.dynamic_partition(gc.range(gc.shape(fed)[0]), numbers, 3)
    scaled = [p * (i + 1.0) for i, p in enumerate(parts)]
    whole = gc.dynamic_stitch(places, scaled)
    (g,) = gc.gradients(gc.reduce_sum(whole * whole), [fed])
    x, n = floats(7, 3), np.array([0, 2, 2, 0, 1, 0, 2], np.int32)
    got, grad, last = session.run([whole, g, parts[2]], {fed: x, numbers: n})
    np.testing.assert_allclose(got, x * (n + 1.0)[:, None], rtol=1e-6)
    np.testing.assert_allclose(grad, 2 * x * ((n + 1.0) ** 2)[:, None], rtol=1e-6)
    np.testing.assert_array_equal(last, x[n == 2])


def test_stitch_takes_the_last_and_leaves_zeros(session: gc.Session) -> None:
    y = gc.dynamic_stitch([[0, 4], [[4]]], [[1.0, 2.0], [[3.0]]])
    assert session.run(y).tolist() == [1.0, 0.0, 0.0, 0.0, 3.0]
    with pytest.raises(ShapeError, match="do not fit"):
        gc.dynamic_stitch([[0]], [[1.0], [2.0]])


# -- computed bounds and sizes


def test_indices_and_bounds_may_be_tensors(session: gc.Session) -> None:
    x = floats(6, 5)
    fed, n = gc.placeholder(gc.float32, [None, 5]), gc.placeholder(gc.int32, [])
    cases = [
        (fed[:n], x[:2]), (fed[n], x[2]), (fed[n:, n], x[2:, 2]), (fed[..., n], x[..., 2]),
        (fed[-n:, None], x[-2:, None]), (fed[..., -n, :], x[-2, :]), (fed[n:5:n], x[2:5:2]),
        (gc.slice(fed, [n, 0], [2, -1]), x[2:4]), (gc.slice(fed, [n, 1], [n, n]), x[2:4, 1:3]),
        (gc.strided_slice(fed, [0, n], [4, 5]), x[0:4, 2:5]),
    ]  # fmt: skip
    for got, (value, expected) in zip(
        session.run([v for v, _ in cases], {fed: x, n: 2}), cases, strict=True
    ):
        np.testing.assert_array_equal(got, expected, err_msg=repr(value))


def test_computed_bounds_have_gradients(session: gc.Session) -> None:
    x = floats(6, 5)
    fed, n = gc.placeholder(gc.float32, [None, 5]), gc.placeholder(gc.int32, [])
    loss = gc.reduce_sum(fed[n:, 1:n] ** 2) + gc.reduce_sum(fed[n] ** 2)
    expected = np.zeros_like(x)
    expected[3:, 1:3] += 2 * x[3:, 1:3]
    expected[3] += 2 * x[3]
    got = session.run(gc.gradients(loss, [fed])[0], {fed: x, n: 3})
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_an_index_that_is_a_mask_is_refused() -> None:
    x = gc.placeholder(gc.float32, [4])
    with pytest.raises(AttributeValueError, match="boolean_mask"):
        x[x > 0]


def test_sizes_may_be_variables(session: gc.Session) -> None:
    sizes = gc.Variable(np.array([2, 5], np.int32))
    session.run(sizes.initializer)
    made = [gc.range(sizes[1]), gc.fill(sizes, 1.5), gc.reshape(gc.range(10), sizes)]
    count, filled, shaped = session.run(made)
    assert count.tolist() == [0, 1, 2, 3, 4]
    assert filled.tolist() == [[1.5] * 5] * 2
    assert shaped.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    session.run(sizes.assign([1, 3]))
    assert session.run(made[0]).tolist() == [0, 1, 2]


def test_sequence_mask_finds_its_length(session: gc.Session) -> None:
    fed = gc.placeholder(gc.int32, [None])
    got = session.run(gc.sequence_mask(fed, dtype=gc.float32), {fed: [1, 3, 0]})
    assert got.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_non_max_suppression_gives_as_many_as_there_are(session: gc.Session) -> None:
    boxes = gc.Variable([[0.0, 0, 1, 1], [0, 0, 1, 0.95], [2, 2, 3, 3]])
    session.run(boxes.initializer)
    assert session.run(gc.image.non_max_suppression(boxes, [0.5, 0.9, 0.7], 3)).tolist() == [1, 2]


def test_explain_says_that_it_cannot_run(session: gc.Session) -> None:
    w = gc.Variable([1.0, 2.0])
    with pytest.raises(ShapeError, match="run before the run"):
        gc.explain(gc.boolean_mask(w, w > 1), device="numpy")


def test_what_needs_no_run_before_is_one_stage() -> None:
    from graphc.ir.computation import cut

    fed, shape = gc.placeholder(gc.float32, [None, 2]), gc.placeholder(gc.int32, [2])
    y = gc.reshape(fed, shape) + gc.zeros(gc.shape(fed)[::-1])
    feeds = [fed, shape]
    assert len(stages(cut([y], (), feeds))) == 1
    masked = gc.boolean_mask(fed, fed[:, 0] > 0)
    assert [len(s.outputs) for s in stages(cut([masked, y], (), feeds))] == [1, 2]
