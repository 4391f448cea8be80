"""CTC against torch, bags of embeddings and pixel moves against NumPy, sparse feeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import graphc as gc
from graphc.frontend import sparse
from graphc.ir.graph import Graph
from tests.ir.nn_checks import check, check_differences

RNG = np.random.default_rng(9)
LOGITS = RNG.standard_normal((8, 4, 6)).astype(np.float32)
LABELS = [[1, 1, 3], [0], [], [2, 4, 2, 2]]
LENGTHS = np.array([8, 3, 5, 6], np.int32)


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def run(x: Any, feeds: Any = None) -> Any:
    return gc.get_default_session().run(x, feeds)


def sparse_labels(labels: list[list[int]]) -> sparse.SparseTensorValue:
    indices = [[b, i] for b, row in enumerate(labels) for i in range(len(row))]
    values = [v for row in labels for v in row]
    shape = np.array([len(labels), max(map(len, labels))], np.int64)
    at = np.array(indices, np.int64).reshape(-1, 2)
    return sparse.SparseTensorValue(at, np.array(values, np.int32), shape)


def test_ctc_loss_and_gradient_against_torch() -> None:
    labels = gc.sparse_placeholder(gc.int32)
    x = gc.placeholder(gc.float32, [None, None, 6])
    loss = gc.nn.ctc_loss(labels, x, LENGTHS)
    weight = RNG.standard_normal(4).astype(np.float32)
    (slope,) = gc.gradients(gc.reduce_sum(loss * weight), [x])
    got = run([loss, slope], {labels: sparse_labels(LABELS), x: LOGITS})
    t = torch.tensor(LOGITS.astype(np.float64), requires_grad=True)
    want = F.ctc_loss(
        torch.log_softmax(t, -1), torch.tensor([v for row in LABELS for v in row]),
        torch.tensor(LENGTHS.tolist()), torch.tensor([len(r) for r in LABELS]), blank=5,
        reduction="none",
    )  # fmt: skip
    np.testing.assert_allclose(got[0], want.detach(), rtol=1e-5)
    (want * torch.tensor(weight)).sum().backward()
    assert t.grad is not None
    np.testing.assert_allclose(got[1], t.grad, atol=1e-5)
    assert not got[1][3:, 1].any()  # behind a sequence's length there is no gradient


def test_ctc_loss_of_batch_major_logits() -> None:
    labels = sparse_labels(LABELS)
    a = gc.nn.ctc_loss(labels, LOGITS, LENGTHS)
    b = gc.nn.ctc_loss(labels, LOGITS.transpose(1, 0, 2), LENGTHS, time_major=False)
    np.testing.assert_array_equal(*run([a, b]))


def test_ctc_decoding() -> None:
    best = np.array([[1, 1, 5, 1, 2, 2, 5, 0], [5, 5, 5, 0, 0, 0, 0, 0], [3] * 8, [4, 5] * 4]).T
    logits = np.eye(6, dtype=np.float32)[best] * 2
    decoded, score = gc.nn.ctc_greedy_decoder(logits, LENGTHS)
    (value,), total = run([decoded, score])
    rows = [value.values[value.indices[:, 0] == b].tolist() for b in range(4)]
    assert rows == [[1, 1, 2, 0], [], [3], [4, 4, 4]] and value.dense_shape.tolist() == [4, 4]
    assert total.ravel().tolist() == [-16, -6, -10, -12]
    dense = run(gc.sparse_tensor_to_dense(decoded[0], default_value=-7))
    assert dense.shape == (4, 8) and dense[0, :5].tolist() == [1, 1, 2, 0, -7]
    many, _ = gc.nn.ctc_greedy_decoder(logits, LENGTHS, merge_repeated=False)
    values = run(many[0])
    assert values.values[values.indices[:, 0] == 0].tolist() == [1, 1, 1, 2, 2, 0]


def test_sparse_to_dense_and_feeds() -> None:
    x = gc.sparse_placeholder(gc.int32, [4, 4])
    feeds = {x: sparse_labels(LABELS)}
    want = np.full((4, 4), -1)
    for b, row in enumerate(LABELS):
        want[b, : len(row)] = row
    np.testing.assert_array_equal(run(gc.sparse_tensor_to_dense(x, -1), feeds), want)
    np.testing.assert_array_equal(run(gc.sparse_tensor_to_dense(x), feeds), np.maximum(want, 0))
    back = run(x, feeds)
    np.testing.assert_array_equal(back.values, [1, 1, 3, 0, 2, 4, 2, 2])
    with pytest.raises(gc.errors.FeedError, match="2 arrays are fed for 3"):
        run(x.values, {x: (1, 2)})


# -- embeddings

TABLE = RNG.standard_normal((10, 3)).astype(np.float32)


def test_partitioned_embeddings() -> None:
    ids = np.array([[0, 9], [4, 5]])
    mod = [TABLE[0::3], TABLE[1::3], TABLE[2::3]]
    div = [TABLE[:4], TABLE[4:7], TABLE[7:]]
    np.testing.assert_array_equal(run(gc.nn.embedding_lookup(mod, ids)), TABLE[ids])
    np.testing.assert_array_equal(run(gc.nn.embedding_lookup(div, ids, "div")), TABLE[ids])
    short = run(gc.nn.embedding_lookup(TABLE, ids, max_norm=0.5))
    norms = np.linalg.norm(TABLE[ids], axis=-1, keepdims=True)
    np.testing.assert_allclose(short, TABLE[ids] * np.minimum(1, 0.5 / norms), rtol=1e-5)

    def build(*tables: Any) -> Any:
        known = [gc.reshape(t, m.shape) for t, m in zip(tables, mod, strict=True)]
        return gc.nn.embedding_lookup(known, ids)

    check_differences(build, [m.copy() for m in mod], order=1)


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
@pytest.mark.parametrize("weighted", [False, True])
def test_bags_of_embeddings(combiner: str, weighted: bool) -> None:
    ids = sparse_labels(LABELS)
    weights = RNG.uniform(0.5, 2, ids.values.size).astype(np.float32)
    given = ids._replace(values=weights) if weighted else None
    got = run(gc.nn.embedding_lookup_sparse(TABLE, ids, given, combiner=combiner))
    start = 0
    for row, labels in zip(got, LABELS, strict=True):
        w = weights[start : start + len(labels)] if weighted else np.ones(len(labels))
        start += len(labels)
        total = (TABLE[labels] * w[:, None]).sum(0)
        size = {"sum": 1.0, "mean": w.sum(), "sqrtn": np.sqrt((w**2).sum())}[combiner]
        np.testing.assert_allclose(row, total / (size or 1), rtol=1e-5, atol=1e-6)


# -- space, depth and batch

IMAGE = RNG.standard_normal((2, 4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_depth_and_space(data_format: str) -> None:
    x = IMAGE if data_format == "NHWC" else np.moveaxis(IMAGE, -1, 1)
    deep = run(gc.nn.space_to_depth(x, 2, data_format=data_format))
    last = deep if data_format == "NHWC" else np.moveaxis(deep, 1, -1)
    assert last.shape == (2, 2, 3, 32)
    np.testing.assert_array_equal(last[1, 1, 2], IMAGE[1, 2:4, 4:6].ravel())
    np.testing.assert_array_equal(run(gc.nn.depth_to_space(deep, 2, data_format=data_format)), x)
    check(lambda v: gc.nn.depth_to_space(gc.nn.space_to_depth(v, 2), 2), lambda v: v * 1, (IMAGE,))


def test_batch_and_space() -> None:
    # the third example of tf.space_to_batch's documentation
    x = np.arange(1, 17).reshape(1, 4, 4, 1)
    got = run(gc.nn.space_to_batch(x, [[0, 0], [0, 0]], 2))
    assert got.reshape(4, 4).tolist() == [[1, 3, 9, 11], [2, 4, 10, 12], [5, 7, 13, 15],
                                          [6, 8, 14, 16]]  # fmt: skip
    np.testing.assert_array_equal(run(gc.nn.batch_to_space(got, [[0, 0], [0, 0]], 2)), x)
    y = gc.placeholder(gc.float32, [None, 5, 6, 2])
    split = gc.nn.space_to_batch_nd(y, [3, 2], [[1, 0], [2, 0]])
    assert split.shape == (None, 2, 4, 2)
    back = gc.nn.batch_to_space_nd(split, [3, 2], [[1, 0], [2, 0]])
    value = RNG.standard_normal((3, 5, 6, 2)).astype(np.float32)
    a, b = run([split, back], {y: value})
    assert a.shape == (18, 2, 4, 2)
    np.testing.assert_array_equal(b, value)
    padded = np.pad(value, ((0, 0), (1, 0), (2, 0), (0, 0)))
    np.testing.assert_array_equal(a[3 * 5 + 1], padded[1, 2::3, 1::2])
    line = gc.nn.space_to_batch_nd(np.arange(6).reshape(1, 6), [3], [[0, 0]])
    assert run(line).tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_morphology(padding: str) -> None:
    x = RNG.standard_normal((2, 6, 7, 2)).astype(np.float32)
    w = RNG.standard_normal((2, 3, 2)).astype(np.float32)
    args: tuple[Any, ...] = ([1, 2, 1, 1], [1, 1, 2, 1], padding)
    up, down = run([gc.nn.dilation2d(x, w, *args), gc.nn.erosion2d(x, w, *args)])
    pads = ((0, 0), (0, 0), (2, 2), (0, 0)) if padding == "SAME" else ((0, 0),) * 4
    p = np.pad(x, pads, constant_values=-np.inf)
    views = np.stack([p[:, i : i + 5 : 2, 2 * j : 2 * j + p.shape[2] - 4] + w[i, j]
                      for i in range(2) for j in range(3)])  # fmt: skip
    np.testing.assert_allclose(up, views.max(0), rtol=1e-6)
    p = np.pad(x, pads, constant_values=np.inf)
    views = np.stack([p[:, i : i + 5 : 2, 2 * j : 2 * j + p.shape[2] - 4] - w[1 - i, 2 - j]
                      for i in range(2) for j in range(3)])  # fmt: skip
    np.testing.assert_allclose(down, views.min(0), rtol=1e-6)
    check_differences(lambda a, b: gc.nn.dilation2d(a, gc.reshape(b, [2, 3, 2]), *args), (x, w),
                      order=1)  # fmt: skip


BAD = sparse_labels([[9]])
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "label": (
        lambda: run(gc.nn.ctc_loss(BAD, LOGITS[:, :1], LENGTHS[:1])),
        gc.errors.ShapeError, r"labels are 0 to 4.*\[9\]",
    ),
    "too_short": (
        lambda: run(gc.nn.ctc_loss(sparse_labels([[1, 1]]), LOGITS[:2, :1], [2])),
        gc.errors.ShapeError, "2 steps are too few for the 2 labels",
    ),
    "dense_labels": (
        lambda: gc.nn.ctc_loss(np.array([[1]]), LOGITS, LENGTHS),
        gc.errors.AttributeValueError, "SparseTensor",
    ),
    "option": (
        lambda: gc.nn.ctc_loss(BAD, LOGITS, LENGTHS, preprocess_collapse_repeated=True),
        gc.errors.AttributeValueError, "defaults",
    ),
    "lengths": (
        lambda: gc.nn.ctc_loss(BAD, LOGITS, LENGTHS[:2]), gc.errors.ShapeError, "one length",
    ),
    "strategy": (
        lambda: gc.nn.embedding_lookup([TABLE, TABLE], [1], "hash"),
        gc.errors.AttributeValueError, "hash",
    ),
    "unknown_rows": (
        lambda: gc.nn.embedding_lookup([gc.placeholder(gc.float32, [None, 3])] * 2, [1]),
        gc.errors.ShapeError, "known numbers of rows",
    ),
    "combiner": (
        lambda: gc.nn.embedding_lookup_sparse(TABLE, BAD, combiner="max"),
        gc.errors.AttributeValueError, "max",
    ),
    "block": (lambda: gc.nn.space_to_depth(IMAGE, 4), gc.errors.ShapeError, "4 x 6"),
    "depth": (lambda: gc.nn.depth_to_space(IMAGE, 3), gc.errors.ShapeError, "8 channels"),
    "batch_blocks": (
        lambda: gc.nn.space_to_batch_nd(IMAGE, [3, 1], [[0, 0], [0, 0]]),
        gc.errors.ShapeError, r"\(3, 1\)",
    ),
    "crops": (
        lambda: gc.nn.batch_to_space_nd(IMAGE, [2, 1], [[5, 5], [0, 0]]),
        gc.errors.ShapeError, "leave nothing",
    ),
    "pairs": (
        lambda: gc.nn.space_to_batch(IMAGE, [[0, 0]], 2),
        gc.errors.AttributeValueError, "2 known pairs",
    ),
    "filter": (
        lambda: gc.nn.dilation2d(IMAGE, np.zeros((2, 2), np.float32), 1, 1, "VALID"),
        gc.errors.ShapeError, "filter",
    ),
    "dense": (
        lambda: gc.sparse_tensor_to_dense(IMAGE), gc.errors.AttributeValueError, "sparse tensor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    make, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        make()
