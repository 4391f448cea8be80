"""`tf.contrib.seq2seq`: decoders and attention against a recomputation step by step in torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc.compat.tf1 as tf
from graphc.ir.errors import AttributeValueError, GraphcError, ShapeError, UnsupportedOp

BATCH, DEPTH, UNITS, WORDS, MEMORY = 3, 4, 6, 7, 5
RNG = np.random.default_rng(71)


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    """Every test its own graph."""
    with tf.Graph().as_default():
        tf.set_random_seed(5)
        yield


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def values(session: Any) -> dict[str, torch.Tensor]:
    """The trainable variables by the last two parts of their names."""
    found = {}
    for v in tf.trainable_variables():
        key = "/".join(v.op.name.split("/")[-2:])
        found[key] = torch.tensor(session.run(v), requires_grad=True)
    return found


class Lstm:
    """TensorFlow's basic LSTM in torch, from its variables."""

    def __init__(self, kernel: torch.Tensor, bias: torch.Tensor) -> None:
        self.kernel, self.bias = kernel, bias

    def __call__(self, x: torch.Tensor, state: Any) -> Any:
        c, h = state
        i, j, f, o = torch.split(torch.cat([x, h], 1) @ self.kernel + self.bias, UNITS, 1)
        c = c * torch.sigmoid(f + 1.0) + torch.sigmoid(i) * torch.tanh(j)
        h = torch.tanh(c) * torch.sigmoid(o)
        return h, (c, h)


def zero_state() -> Any:
    return torch.zeros(BATCH, UNITS), torch.zeros(BATCH, UNITS)


def test_a_decoder_in_training_and_its_gradients() -> None:
    x, lengths = tf.placeholder(tf.float32, [None, None, DEPTH]), tf.placeholder(tf.int32, [None])
    cell, layer = tf.nn.rnn_cell.BasicLSTMCell(UNITS), tf.layers.Dense(WORDS, name="out")
    decoder = tf.contrib.seq2seq.BasicDecoder(
        cell, tf.contrib.seq2seq.TrainingHelper(x, lengths),
        cell.zero_state(tf.shape(x)[0], tf.float32), layer,
    )  # fmt: skip
    outputs, state, counted = tf.contrib.seq2seq.dynamic_decode(decoder, impute_finished=True)
    loss = tf.reduce_sum(outputs.rnn_output**2) + tf.reduce_sum(state.h)
    grads = tf.gradients(loss, [*tf.trainable_variables(), x])
    data, sizes = floats(BATCH, 6, DEPTH), [2, 5, 1]
    with tf.Session(device="numpy") as session:
        session.run(tf.global_variables_initializer())
        made, last, n, got = session.run(
            [outputs, state.h, counted, grads], {x: data, lengths: sizes}
        )
        weights = values(session)
    step = Lstm(weights["basic_lstm_cell/kernel"], weights["basic_lstm_cell/bias"])
    fed = torch.tensor(data, requires_grad=True)
    h, rows = zero_state(), []
    for t in range(5):
        alive = torch.tensor([[t < n] for n in sizes])
        out, new = step(fed[:, t], h)
        h = tuple(torch.where(alive, a, b) for a, b in zip(new, h, strict=True))
        logits = out @ weights["out/kernel"] + weights["out/bias"]
        rows.append(torch.where(alive, logits, torch.zeros(())))
    expected = torch.stack(rows, 1)
    ((expected**2).sum() + h[1].sum()).backward()
    assert n.tolist() == sizes
    assert made.rnn_output.shape == (BATCH, 5, WORDS)
    np.testing.assert_allclose(made.rnn_output, expected.detach().numpy(), atol=1e-5)
    np.testing.assert_array_equal(made.sample_id, expected.argmax(-1).numpy())
    np.testing.assert_allclose(last, h[1].detach().numpy(), atol=1e-5)
    for mine, theirs in zip(got, [*weights.values(), fed], strict=True):
        np.testing.assert_allclose(mine, theirs.grad.numpy(), atol=2e-4)


def attention_score(kind: str, w: dict[str, torch.Tensor], query: Any, keys: Any) -> Any:
    """The scores of a mechanism, by its paper."""
    if kind.startswith("luong"):
        fit = torch.einsum("bu,btu->bt", query, keys)
        return fit * w["luong_attention/attention_g"] if kind == "luong scaled" else fit
    query = query @ w["query_layer/kernel"]
    v, inner = w["bahdanau_attention/attention_v"], keys + query[:, None]
    if kind == "bahdanau normed":
        v = w["bahdanau_attention/attention_g"] * v / v.norm()
        inner = inner + w["bahdanau_attention/attention_b"]
    return torch.tanh(inner) @ v


@pytest.mark.parametrize("kind", ["luong", "luong scaled", "bahdanau", "bahdanau normed"])
def test_attention_step_by_step(kind: str) -> None:
    s2s = tf.contrib.seq2seq
    x, memory = (
        tf.placeholder(tf.float32, [None, 4, DEPTH]),
        tf.placeholder(tf.float32, [None, None, MEMORY]),
    )
    sizes = tf.placeholder(tf.int32, [None])
    if kind.startswith("luong"):
        mechanism = s2s.LuongAttention(UNITS, memory, sizes, scale="scaled" in kind)
    else:
        mechanism = s2s.BahdanauAttention(UNITS, memory, sizes, normalize="normed" in kind)
    cell = s2s.AttentionWrapper(
        tf.nn.rnn_cell.BasicLSTMCell(UNITS), mechanism, attention_layer_size=5,
        alignment_history=True,
    )  # fmt: skip
    start = cell.zero_state(tf.shape(x)[0], tf.float32)
    helper = s2s.TrainingHelper(x, tf.fill([tf.shape(x)[0]], 4))
    outputs, final, _ = s2s.dynamic_decode(s2s.BasicDecoder(cell, helper, start))
    assert "attention_layer/kernel" in tf.trainable_variables()[-1].name
    history = tf.transpose(final.alignment_history.stack(), [1, 0, 2])
    grads = tf.gradients(tf.reduce_sum(outputs.rnn_output**2), [*tf.trainable_variables(), memory])
    data, held, spans = floats(BATCH, 4, DEPTH), floats(BATCH, 5, MEMORY), [5, 1, 3]
    with tf.Session(device="numpy") as session:
        session.run(tf.global_variables_initializer())
        got, rows, gs = session.run(
            [outputs.rnn_output, history, grads], {x: data, memory: held, sizes: spans}
        )
        w = values(session)
    fed = torch.tensor(held, requires_grad=True)
    mask = torch.tensor([[t < n for t in range(5)] for n in spans])
    kept = torch.where(mask[:, :, None], fed, torch.zeros(()))
    keys = kept @ w["memory_layer/kernel"]
    step = Lstm(w["basic_lstm_cell/kernel"], w["basic_lstm_cell/bias"])
    state, attention, made, aligned = zero_state(), torch.zeros(BATCH, 5), [], []
    for t in range(4):
        out, state = step(torch.cat([torch.tensor(data[:, t]), attention], 1), state)
        fit = attention_score(kind, w, out, keys).masked_fill(~mask, -torch.inf)
        share = torch.softmax(fit, 1)
        context = torch.einsum("bt,btd->bd", share, kept)
        attention = torch.cat([out, context], 1) @ w["attention_layer/kernel"]
        made.append(attention)
        aligned.append(share)
    expected = torch.stack(made, 1)
    (expected**2).sum().backward()
    np.testing.assert_allclose(got, expected.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(rows, torch.stack(aligned, 1).detach().numpy(), atol=1e-5)
    for mine, theirs in zip(gs, [*w.values(), fed], strict=True):
        np.testing.assert_allclose(mine, theirs.grad.numpy(), atol=2e-4)


# -- inference: a small recurrent language model


class Model:
    """A cell, an embedding and logits, and the log-probabilities of the next word in NumPy."""

    def __init__(self, words: int = WORDS) -> None:
        self.words = words
        self.table = tf.constant(floats(words, DEPTH))
        self.cell = tf.nn.rnn_cell.BasicRNNCell(UNITS)
        self.layer = tf.layers.Dense(words, name="out")
        self.start = tf.constant([1] * BATCH)
        self.state = tf.constant(floats(BATCH, UNITS))

    def decoded(self, helper: Any, most: Any = 6) -> Any:
        decoder = tf.contrib.seq2seq.BasicDecoder(self.cell, helper, self.state, self.layer)
        return tf.contrib.seq2seq.dynamic_decode(decoder, maximum_iterations=most)

    def load(self, session: Any) -> None:
        session.run(tf.global_variables_initializer())
        for v in tf.trainable_variables():  # further from one another than they begin
            v.load(3 * session.run(v), session)
        w = {k: t.detach().numpy() for k, t in values(session).items()}
        self.kernel, self.bias = w["basic_rnn_cell/kernel"], w["basic_rnn_cell/bias"]
        self.out = w["out/kernel"], w["out/bias"]
        self.rows, self.h = session.run([self.table, self.state])

    def step(self, word: int, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = np.tanh(np.concatenate([self.rows[word], h]) @ self.kernel + self.bias)
        logits = h @ self.out[0] + self.out[1]
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max(), h


def test_greedy_decoding_ends_at_the_end_token() -> None:
    model = Model()
    helper = tf.contrib.seq2seq.GreedyEmbeddingHelper(model.table, model.start, 2)
    outputs, _, lengths = model.decoded(helper)
    with tf.Session(device="numpy") as session:
        model.load(session)
        ids, counts = session.run([outputs.sample_id, lengths])
    expected = []
    for b in range(BATCH):
        word, h, said = 1, model.h[b], []
        while len(said) < 6 and (not said or said[-1] != 2):
            logits, h = model.step(word, h)
            word = int(logits.argmax())
            said.append(word)
        expected.append(said)
    assert counts.tolist() == [len(said) for said in expected]
    assert ids.shape == (BATCH, max(counts))
    assert [row[:n].tolist() for row, n in zip(ids, counts, strict=True)] == expected


def test_a_decoder_may_end_by_itself() -> None:
    model, s2s = Model(), tf.contrib.seq2seq
    begin = tf.gather(model.table, model.start)

    def following(time: Any, outputs: Any, state: Any, sample_ids: Any) -> Any:
        return tf.reduce_sum(outputs, 1) > limit, tf.gather(model.table, sample_ids) + 0.5, state

    def greedy(time: Any, outputs: Any, state: Any) -> Any:
        return tf.cast(tf.argmax(outputs, -1), tf.int32)

    limit = tf.placeholder(tf.float32, [])
    helper = s2s.CustomHelper(lambda: (tf.zeros([BATCH], tf.bool), begin), greedy, following)
    outputs, _, lengths = model.decoded(helper, None)
    with tf.Session(device="numpy") as session:
        model.load(session)
        sums, counts = session.run([tf.reduce_sum(outputs.rnn_output, 2), lengths], {limit: -8.0})
    assert sums.shape == (BATCH, max(counts))
    for row, n in zip(sums, counts, strict=True):
        assert row[n - 1] > -8.0
        assert (row[: n - 1] <= -8.0).all()


def test_sampling_draws_anew_each_run_and_cold_it_is_greedy() -> None:
    model = Model()
    s2s = tf.contrib.seq2seq
    warm = model.decoded(s2s.SampleEmbeddingHelper(model.table, model.start, 2, 5.0, seed=3))[0]
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        cold = model.decoded(s2s.SampleEmbeddingHelper(model.table, model.start, 2, 1e-4))[0]
        greedy = model.decoded(s2s.GreedyEmbeddingHelper(model.table, model.start, 2))[0]
    with tf.Session(device="numpy") as session:
        model.load(session)
        draws = {session.run(warm.sample_id).tobytes() for _ in range(4)}
        a, b = session.run([cold.sample_id, greedy.sample_id])
    assert len(draws) > 1
    np.testing.assert_array_equal(a, b)


def beams(model: Model, width: int, most: int, weight: float = 0.0) -> Any:
    state = tf.contrib.seq2seq.tile_batch(model.state, width)
    decoder = tf.contrib.seq2seq.BeamSearchDecoder(
        model.cell, model.table, model.start, 2, state, width, model.layer,
        length_penalty_weight=weight,
    )  # fmt: skip
    return tf.contrib.seq2seq.dynamic_decode(decoder, maximum_iterations=most)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_wide_beams_find_the_best_sequences_of_all(weight: float) -> None:
    model, most = Model(words=4), 3
    outputs, state, lengths = beams(model, 40, most, weight)
    with tf.Session(device="numpy") as session:
        model.load(session)
        ids, scores, n, _ = session.run(
            [outputs.predicted_ids, outputs.beam_search_decoder_output.scores, lengths,
             state.log_probs]
        )  # fmt: skip
    assert ids.shape == (BATCH, most, 40)
    for b in range(BATCH):
        best: dict[tuple[int, ...], float] = {}
        for words in itertools.product(range(4), repeat=most):
            said: list[int] = []
            total, word, h = 0.0, 1, model.h[b]
            for following in words:
                if said and said[-1] == 2:
                    break
                logits, h = model.step(word, h)
                total += float(logits[following])
                word = following
                said.append(word)
            # the end token counts from the step after it on
            length = len(said) - (said[-1] == 2 and len(said) == most)
            best[tuple(said)] = total / ((5 + length) / 6) ** weight
        ranked = sorted(best.items(), key=lambda item: -item[1])[:5]
        for k, (said_best, score) in enumerate(ranked):
            assert tuple(ids[b, : len(said_best), k]) == said_best
            assert (ids[b, len(said_best) :, k] == 2).all()
            assert n[b, k] == len(said_best)
            assert scores[b, -1, k] == pytest.approx(score, rel=1e-4)


def test_a_beam_of_one_is_greedy() -> None:
    model = Model()
    greedy, _, counts = model.decoded(
        tf.contrib.seq2seq.GreedyEmbeddingHelper(model.table, model.start, 2)
    )
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        outputs, _, _ = beams(model, 1, 6)
    with tf.Session(device="numpy") as session:
        model.load(session)
        a, n, b = session.run([greedy.sample_id, counts, outputs.predicted_ids])
    for i in range(BATCH):
        assert a[i, : n[i]].tolist() == b[i, : n[i], 0].tolist()


def test_gather_tree_follows_parents() -> None:
    ids = np.array([[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]], [[-1, -1, -1]]], np.int32)
    parents = np.array([[[0, 0, 0]], [[0, 1, 1]], [[2, 1, 2]], [[-1, -1, -1]]], np.int32)
    made = tf.contrib.seq2seq.gather_tree(ids, parents, [3], 10)
    with tf.Session(device="numpy") as session:
        got = session.run(made)
    assert got[:, 0].T.tolist() == [[2, 6, 7, 10], [2, 5, 8, 10], [2, 6, 9, 10]]


def test_scheduled_sampling_at_its_ends_is_training_and_sampling() -> None:
    model = Model()
    x = tf.constant(floats(BATCH, 5, DEPTH))
    helper = tf.contrib.seq2seq.ScheduledEmbeddingTrainingHelper
    never = model.decoded(helper(x, [5, 5, 5], model.table, 0.0), None)[0]
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        training = model.decoded(tf.contrib.seq2seq.TrainingHelper(x, [5, 5, 5]), None)[0]
        always = model.decoded(helper(x, [5, 5, 5], model.table, 1.0), None)[0]
    with tf.Session(device="numpy") as session:
        model.load(session)
        a, b, c = session.run([never, training, always])
    np.testing.assert_array_equal(a.rnn_output, b.rnn_output)
    assert (a.sample_id == -1).all()
    assert (c.sample_id >= 0).all()


def test_what_decoding_refuses() -> None:
    model, s2s = Model(), tf.contrib.seq2seq
    with pytest.raises(ShapeError, match=r"start_tokens are \[batch\]"):
        s2s.GreedyEmbeddingHelper(model.table, 1, 2)
    with pytest.raises(AttributeValueError, match="a function"):
        s2s.GreedyEmbeddingHelper(model.table[0], model.start, 2)
    with pytest.raises(UnsupportedOp, match="coverage"):
        s2s.BeamSearchDecoder(
            model.cell, model.table, model.start, 2, model.state, 3, coverage_penalty_weight=0.5
        )
    with pytest.raises(ShapeError, match=r"\[batch, time, depth\]"):
        s2s.LuongAttention(UNITS, model.table)
    memory = tf.constant(floats(BATCH, 5, MEMORY))
    mechanism = s2s.LuongAttention(UNITS, memory)
    wrapped = s2s.AttentionWrapper(model.cell, mechanism)
    with pytest.raises(AttributeValueError, match="clone"):
        wrapped(tf.zeros([BATCH, DEPTH]), model.state)
    with pytest.raises(AttributeValueError, match="2 attention_layer_size"):
        s2s.AttentionWrapper(model.cell, mechanism, [3, 4])
    with tf.variable_scope("wrong"):
        wrong = s2s.AttentionWrapper(model.cell, s2s.LuongAttention(UNITS + 1, memory))
    with pytest.raises(GraphcError, match="do not fit 7 units"):
        wrong(tf.zeros([BATCH, DEPTH]), wrong.zero_state(BATCH, tf.float32))


# -- sequences as lists of steps


WORD = 0  # the decoder's first input


def legacy(which: str, cell: Any, out: int, **options: Any) -> tuple[list[Any], list[Any], Any]:
    """(inputs, decoder inputs, (outputs, state)) of a model of two sequences of words."""
    taken = [tf.placeholder(tf.int32, [None]) for _ in range(4)]
    given = [tf.placeholder(tf.int32, [None]) for _ in range(3)]
    model = getattr(tf.contrib.legacy_seq2seq, which)
    return taken, given, model(taken, given, cell, WORDS, out, DEPTH, **options)


def torch_gru(w: dict[str, torch.Tensor], x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """TensorFlow's GRU in torch."""
    both = torch.sigmoid(torch.cat([x, h], 1) @ w["gates/kernel"] + w["gates/bias"])
    r, u = torch.split(both, UNITS, 1)
    c = torch.cat([x, r * h], 1) @ w["candidate/kernel"] + w["candidate/bias"]
    return u * h + (1 - u) * torch.tanh(c)


@pytest.mark.parametrize("which", ["embedding_rnn_seq2seq", "embedding_attention_seq2seq"])
@pytest.mark.parametrize("feed_previous", [False, True])
def test_legacy_models(which: str, feed_previous: bool) -> None:
    taken, given, (outputs, _) = legacy(
        which, tf.nn.rnn_cell.GRUCell(UNITS), 5, feed_previous=feed_previous
    )
    words = RNG.integers(0, 5, (7, BATCH))
    feeds = dict(zip([*taken, *given], words, strict=True))
    with tf.Session(device="numpy") as session:
        session.run(tf.global_variables_initializer())
        got = session.run(outputs, feeds)
        w = {v.op.name.split("/", 1)[1]: torch.tensor(session.run(v))
             for v in tf.trainable_variables()}  # fmt: skip
    encoder = {"/".join(k.split("/")[-2:]): v for k, v in w.items() if "embedding_wrapper" in k}
    decoder = {k: v for k, v in w.items() if "embedding_wrapper" not in k}
    gru = {"/".join(k.split("/")[-2:]): v for k, v in decoder.items() if "gru_cell" in k}
    table = next(v for k, v in encoder.items() if k.endswith("embedding"))
    h, held = torch.zeros(BATCH, UNITS), []
    for word in words[:4]:
        h = torch_gru(encoder, table[torch.tensor(word)], h)
        held.append(h)
    reader = Reader(decoder, torch.stack(held, 1)) if "attention" in which else None
    rows = next(v for k, v in decoder.items() if k.endswith("decoder/embedding"))
    attended, before = torch.zeros(BATCH, UNITS), None
    for t, word in enumerate(words[4:]):
        feeds_own = feed_previous and before is not None
        x = rows[before.argmax(1) if feeds_own else torch.tensor(word)]
        before, h, attended = one_step(decoder, gru, x, h, attended, reader)
        np.testing.assert_allclose(got[t], before.numpy(), atol=1e-5)


class Reader:
    """The attention of the old models in torch, one head."""

    def __init__(self, w: dict[str, torch.Tensor], memory: torch.Tensor) -> None:
        self.w = {k.split("attention_decoder/")[-1]: v for k, v in w.items()}
        self.memory = memory
        self.keys = memory @ self.w["AttnW_0"].reshape(UNITS, UNITS)

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        query = h @ self.w["Attention_0/kernel"] + self.w["Attention_0/bias"]
        fit = torch.tanh(self.keys + query[:, None]) @ self.w["AttnV_0"]
        return torch.einsum("bt,btd->bd", torch.softmax(fit, 1), self.memory)


def one_step(w: Any, gru: Any, x: Any, h: Any, attended: Any, reader: Reader | None) -> Any:
    """(logits, state, context) of a decoder's step."""
    projection = {k.split("/")[-1]: v for k, v in w.items() if "output_projection_wrapper/k" in k
                  or "output_projection_wrapper/b" in k}  # fmt: skip
    if reader is None:
        h = torch_gru(gru, x, h)
        return h @ projection["kernel"] + projection["bias"], h, attended
    own = reader.w
    x = torch.cat([x, attended], 1) @ own["kernel"] + own["bias"]
    h = torch_gru(gru, x, h)
    attended = reader(h)
    logits = torch.cat([h @ projection["kernel"] + projection["bias"], attended], 1)
    made = logits @ own["attention_output_projection/kernel"]
    return made + own["attention_output_projection/bias"], h, attended


def test_buckets_share_variables() -> None:
    steps = [tf.placeholder(tf.int32, [None], name=f"w{i}") for i in range(5)]
    weights = [tf.ones([BATCH]) for _ in range(4)]

    def model(x: Any, y: Any) -> Any:
        cell = tf.nn.rnn_cell.GRUCell(UNITS)
        return tf.contrib.legacy_seq2seq.embedding_attention_seq2seq(x, y, cell, 5, 5, DEPTH)

    outputs, losses = tf.contrib.legacy_seq2seq.model_with_buckets(
        steps, steps, steps[1:], weights, [(2, 3), (4, 4)], model
    )
    assert [len(o) for o in outputs] == [3, 4]
    count = len(tf.trainable_variables())
    train = tf.train.GradientDescentOptimizer(0.5).minimize(losses[1])
    words = RNG.integers(0, 5, (5, BATCH))
    feeds = dict(zip(steps, words, strict=True))
    with tf.Session(device="numpy") as session:
        session.run(tf.global_variables_initializer())
        before = session.run(losses, feeds)
        for _ in range(10):
            session.run(train, feeds)
        after = session.run(losses, feeds)
    assert count == len(tf.trainable_variables())
    assert after[1] < before[1]
    assert after[0] != before[0]
    with pytest.raises(AttributeValueError, match="greatest bucket"):
        tf.contrib.legacy_seq2seq.model_with_buckets(
            steps[:3], steps, steps, weights, [(4, 4)], model
        )
    with pytest.raises(AttributeValueError, match="feed_previous"):
        legacy("embedding_rnn_seq2seq", None, 5, feed_previous=tf.constant(True))


def test_nas_cell() -> None:
    cell = tf.contrib.rnn.NASCell(UNITS, use_bias=True)
    x, c, h = floats(BATCH, DEPTH), floats(BATCH, UNITS), floats(BATCH, UNITS)
    output, state = cell(tf.constant(x), (tf.constant(c), tf.constant(h)))
    with tf.Session(device="numpy") as session:
        session.run(tf.global_variables_initializer())
        got, new = session.run([output, state.c])
        w = {k.split("/")[-1]: v.detach().numpy() for k, v in values(session).items()}
    i, m = (np.split(a, 8, 1) for a in (x @ w["kernel"], h @ w["recurrent_kernel"]))

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-z)))

    first = np.tanh(sigmoid(i[0] + m[0]) * np.maximum(i[1] + m[1], 0))
    second = np.tanh(sigmoid(i[2] + m[2]) + np.maximum(i[3] * m[3], 0))
    third = np.tanh(np.tanh(i[4] + m[4]) * sigmoid(i[5] + m[5]))
    fourth = sigmoid(np.tanh(i[6] + m[6]) + sigmoid(i[7] + m[7]))
    expected = np.tanh(first + c) * second
    np.testing.assert_allclose(new, expected, atol=1e-6)
    np.testing.assert_allclose(got, np.tanh(expected * np.tanh(third + fourth)), atol=1e-6)
