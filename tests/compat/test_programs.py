"""Programs in the style of the public ones, from first line to last."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

import graphc.compat.tf1 as tf
from graphc.compat.tf1.examples.tutorials.mnist import input_data

TEXT = "the quick brown fox jumped over the lazy dog and the fox slept"


def test_mnist_softmax(mnist_folder: Path) -> None:
    mnist = input_data.read_data_sets(str(mnist_folder), one_hot=True, validation_size=100)
    sess = tf.InteractiveSession()
    x = tf.placeholder(tf.float32, [None, 784])
    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    y = tf.nn.softmax(tf.matmul(x, W) + b)
    y_ = tf.placeholder(tf.float32, [None, 10])
    cross_entropy = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), reduction_indices=[1]))
    train_step = tf.train.GradientDescentOptimizer(0.5).minimize(cross_entropy)
    tf.initialize_all_variables().run()
    for _ in range(150):
        batch_xs, batch_ys = mnist.train.next_batch(100)
        train_step.run({x: batch_xs, y_: batch_ys})
    correct_prediction = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))
    assert accuracy.eval({x: mnist.test.images, y_: mnist.test.labels}) > 0.85
    sess.close()


def test_linear_regression() -> None:
    rng = np.random.RandomState(0)
    train_X = rng.rand(17).astype("f") * 10
    train_Y = 0.25 * train_X + 0.8
    X, Y = tf.placeholder("float"), tf.placeholder("float")
    W = tf.Variable(rng.randn(), name="weight")
    b = tf.Variable(rng.randn(), name="bias")
    pred = tf.add(tf.multiply(X, W), b)
    cost = tf.reduce_sum(tf.pow(pred - Y, 2)) / (2 * train_X.shape[0])
    optimizer = tf.train.GradientDescentOptimizer(learning_rate=0.05).minimize(cost)
    init = tf.global_variables_initializer()
    with tf.Session() as sess:
        sess.run(init)
        for _ in range(300):
            for a, c in zip(train_X, train_Y, strict=True):
                sess.run(optimizer, feed_dict={X: a, Y: c})
        assert sess.run(cost, feed_dict={X: train_X, Y: train_Y}) < 1e-3
        assert abs(sess.run(W) - 0.25) < 0.05


def _dense(input_tensor: Any, size: int, layer_name: str, act: Any = tf.nn.relu) -> Any:
    """A layer of the tutorial mnist_with_summaries."""
    with tf.name_scope(layer_name):
        with tf.name_scope("weights"):
            shape = [input_tensor.get_shape()[1].value, size]
            weights = tf.Variable(tf.truncated_normal(shape, stddev=0.1))
            mean = tf.reduce_mean(weights)
            tf.summary.scalar("mean", mean)
            tf.summary.histogram("histogram", weights)
        with tf.name_scope("biases"):
            biases = tf.Variable(tf.constant(0.1, shape=[size]))
        return act(tf.matmul(input_tensor, weights) + biases, name="activation")


def test_perceptron_with_summaries_and_saver(mnist_folder: Path, tmp_path: Path) -> None:
    mnist = input_data.read_data_sets(mnist_folder, one_hot=True, validation_size=0)
    with tf.name_scope("input"):
        x = tf.placeholder(tf.float32, [None, 784], name="x-input")
        y_ = tf.placeholder(tf.float32, [None, 10], name="y-input")
    tf.summary.image("input", tf.reshape(x, [-1, 28, 28, 1]), 2)
    hidden = _dense(x, 64, "layer1")
    keep_prob = tf.placeholder(tf.float32)
    y = _dense(tf.nn.dropout(hidden, keep_prob), 10, "layer2", act=tf.identity)
    with tf.name_scope("cross_entropy"):
        diff = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y)
        cross_entropy = tf.reduce_mean(diff)
    tf.summary.scalar("cross_entropy", cross_entropy)
    global_step = tf.Variable(0, name="global_step", trainable=False)
    train_step = tf.train.AdamOptimizer(0.003).minimize(cross_entropy, global_step=global_step)
    correct = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))
    merged = tf.summary.merge_all()
    saver = tf.train.Saver(max_to_keep=2)
    test_feed = {x: mnist.test.images, y_: mnist.test.labels, keep_prob: 1.0}
    with tf.Session() as sess:
        writer = tf.summary.FileWriter(str(tmp_path / "logs"), sess.graph)
        sess.run(tf.global_variables_initializer())
        for i in range(100):
            xs, ys = mnist.train.next_batch(100)
            feed = {x: xs, y_: ys, keep_prob: 0.9}
            if i % 25 == 0:
                options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
                run_metadata = tf.RunMetadata()
                summary, _ = sess.run([merged, train_step], feed, options, run_metadata)
                writer.add_run_metadata(run_metadata, f"step{i:03d}")
                writer.add_summary(summary, i)
                saver.save(sess, str(tmp_path / "model.ckpt"), global_step=global_step)
            else:
                sess.run(train_step, feed)
        assert sess.run(accuracy, test_feed) > 0.9
        writer.close()
        path = saver.save(sess, str(tmp_path / "model.ckpt"), global_step=global_step)
        before = sess.run(y, test_feed)
    assert path == tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-100")
    ckpt = tf.train.get_checkpoint_state(str(tmp_path))
    assert [os.path.basename(p) for p in ckpt.all_model_checkpoint_paths] == [
        "model.ckpt-76", "model.ckpt-100"
    ]  # fmt: skip
    assert not tf.train.checkpoint_exists(str(tmp_path / "model.ckpt-1"))
    with tf.Session() as sess:
        saver.restore(sess, ckpt.model_checkpoint_path)
        np.testing.assert_array_equal(sess.run(y, test_feed), before)
    _check_events(tmp_path / "logs")


def _check_events(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"histograms": 0})
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {
        "layer1/weights/mean", "layer2/weights/mean", "cross_entropy_1"
    }  # fmt: skip
    assert tags["images"] == ["input_1/image/0", "input_1/image/1"]
    assert tags["run_metadata"] == ["step000", "step025", "step050", "step075"]
    losses = [e.value for e in events.Scalars("cross_entropy_1")]
    assert [e.step for e in events.Scalars("cross_entropy_1")] == [0, 25, 50, 75]
    assert losses[-1] < losses[0] / 2
    assert sum(events.Histograms("layer1/weights/histogram")[0].histogram_value.bucket) == 784 * 64
    assert "layer1/weights/Variable" in {n.name for n in events.Graph().node}


def test_convolutional_network_with_layers_and_metrics(mnist_folder: Path) -> None:
    mnist = input_data.read_data_sets(mnist_folder, validation_size=0)
    tf.set_random_seed(1)
    x = tf.placeholder(tf.float32, [None, 784])
    labels = tf.placeholder(tf.int32, [None])
    is_training = tf.placeholder(tf.bool)
    image = tf.reshape(x, [-1, 28, 28, 1])
    conv = tf.layers.conv2d(
        inputs=image, filters=8, kernel_size=5, strides=2, padding="same", activation=tf.nn.relu
    )
    pool = tf.layers.max_pooling2d(conv, pool_size=2, strides=2)
    flat = tf.reshape(pool, [-1, int(np.prod(pool.get_shape().as_list()[1:]))])
    drop = tf.layers.dropout(flat, rate=0.2, training=is_training)
    logits = tf.layers.dense(drop, 10, name="output")
    loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    train_op = tf.train.AdamOptimizer(0.005).minimize(loss)
    accuracy = tf.metrics.accuracy(labels=labels, predictions=tf.argmax(logits, axis=1))[1]
    names = [v.name for v in tf.trainable_variables()]
    assert names == ["conv2d/kernel:0", "conv2d/bias:0", "output/kernel:0", "output/bias:0"]
    with tf.Session() as sess:
        sess.run(tf.group(tf.global_variables_initializer(), tf.local_variables_initializer()))
        for _ in range(60):
            xs, ys = mnist.train.next_batch(64)
            sess.run(train_op, {x: xs, labels: ys, is_training: True})
        test = {x: mnist.test.images, labels: mnist.test.labels, is_training: False}
        assert sess.run(accuracy, test) > 0.85


def test_autoencoder(mnist_folder: Path) -> None:
    mnist = input_data.read_data_sets(mnist_folder, one_hot=True, validation_size=0)
    tf.set_random_seed(2)
    X = tf.placeholder("float", [None, 784])
    weights = {
        "encoder": tf.Variable(tf.random_normal([784, 32], stddev=0.1)),
        "decoder": tf.Variable(tf.random_normal([32, 784], stddev=0.1)),
    }
    biases = {
        "encoder": tf.Variable(tf.zeros([32])),
        "decoder": tf.Variable(tf.zeros([784])),
    }
    code = tf.nn.sigmoid(tf.add(tf.matmul(X, weights["encoder"]), biases["encoder"]))
    y_pred = tf.nn.sigmoid(tf.add(tf.matmul(code, weights["decoder"]), biases["decoder"]))
    cost = tf.reduce_mean(tf.pow(X - y_pred, 2))
    optimizer = tf.train.RMSPropOptimizer(0.01).minimize(cost)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        first = sess.run(cost, {X: mnist.test.images})
        for _ in range(250):  # slow at first: TensorFlow starts the mean square at 1
            batch_xs, _unused = mnist.train.next_batch(128)
            _, c = sess.run([optimizer, cost], feed_dict={X: batch_xs})
        assert c < first / 3


def test_word2vec() -> None:
    words = TEXT.split() * 20
    vocabulary = sorted(set(words))
    data = np.array([vocabulary.index(w) for w in words])
    batch, context = data[1:], data[:-1].reshape(-1, 1)
    train_inputs = tf.placeholder(tf.int32, shape=[None])
    train_labels = tf.placeholder(tf.int32, shape=[None, 1])
    size, dims = len(vocabulary), 16
    with tf.device("/cpu:0"):
        embeddings = tf.Variable(tf.random_uniform([size, dims], -1.0, 1.0, seed=1))
        embed = tf.nn.embedding_lookup(embeddings, train_inputs)
        nce_weights = tf.Variable(tf.truncated_normal([size, dims], stddev=0.25, seed=2))
        nce_biases = tf.Variable(tf.zeros([size]))
    loss = tf.reduce_mean(
        tf.nn.nce_loss(
            weights=nce_weights, biases=nce_biases, labels=train_labels, inputs=embed,
            num_sampled=4, num_classes=size,
        )
    )  # fmt: skip
    optimizer = tf.train.GradientDescentOptimizer(1.0).minimize(loss)
    norm = tf.sqrt(tf.reduce_sum(tf.square(embeddings), 1, keep_dims=True))
    normalized = embeddings / norm
    similarity = tf.matmul(normalized, normalized, transpose_b=True)
    with tf.Session() as session:
        tf.global_variables_initializer().run()
        losses = [
            session.run([optimizer, loss], {train_inputs: batch, train_labels: context})[1]
            for _ in range(150)
        ]
        assert np.mean(losses[-20:]) < np.mean(losses[:5]) * 0.6
        np.testing.assert_allclose(np.diag(similarity.eval()), 1, rtol=1e-5)


def test_generative_adversarial_network() -> None:
    tf.set_random_seed(3)
    rng = np.random.default_rng(0)

    def generator(z: Any) -> Any:
        with tf.variable_scope("gen"):
            h = tf.layers.dense(z, 16, activation=tf.nn.tanh)
            return tf.layers.dense(h, 2)

    def discriminator(x: Any, reuse: bool = False) -> Any:
        with tf.variable_scope("disc", reuse=reuse):
            h = tf.layers.dense(x, 16, activation=tf.nn.leaky_relu, name="hidden")
            return tf.layers.dense(h, 1, name="logit")

    real = tf.placeholder(tf.float32, [None, 2])
    noise = tf.placeholder(tf.float32, [None, 4])
    fake = generator(noise)
    on_real, on_fake = discriminator(real), discriminator(fake, reuse=True)
    cross = tf.nn.sigmoid_cross_entropy_with_logits
    d_loss = tf.reduce_mean(
        cross(logits=on_real, labels=tf.ones_like(on_real))
        + cross(logits=on_fake, labels=tf.zeros_like(on_fake))
    )
    g_loss = tf.reduce_mean(cross(logits=on_fake, labels=tf.ones_like(on_fake)))
    gen_vars = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, scope="gen")
    disc_vars = [v for v in tf.trainable_variables() if v.name.startswith("disc")]
    assert len(gen_vars) == len(disc_vars) == 4
    d_step = tf.train.AdamOptimizer(0.01, beta1=0.5).minimize(d_loss, var_list=disc_vars)
    g_step = tf.train.AdamOptimizer(0.01, beta1=0.5).minimize(g_loss, var_list=gen_vars)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run(gen_vars)
        for i in range(150):
            feed = {
                real: rng.standard_normal((64, 2)) * 0.1 + [3.0, -2.0],
                noise: rng.uniform(-1, 1, (64, 4)),
            }
            sess.run(d_step, feed)
            if i == 0:  # the discriminator's step leaves the generator alone
                for a, b in zip(before, sess.run(gen_vars), strict=True):
                    np.testing.assert_array_equal(a, b)
            sess.run(g_step, feed)
        made = sess.run(fake, {noise: rng.uniform(-1, 1, (256, 4))})
        assert np.abs(made.mean(0) - [3.0, -2.0]).max() < 1.5


def test_a_program_from_before_1_0(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = tf.placeholder("float", [None, 4]), tf.placeholder("float", [None, 2])
    first, second = tf.split(1, 2, x)
    joined = tf.concat(1, [second, first])
    w = tf.Variable(tf.random_normal([4, 2], stddev=0.1, seed=1))
    out = tf.sub(tf.mul(tf.matmul(joined, w), 2.0), 1.0)
    stacked = tf.unpack(tf.pack([out, tf.neg(out)]))
    cost = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(out, y))
    loss_summary = tf.scalar_summary("loss", cost)
    tf.histogram_summary("w", w)
    merged = tf.merge_all_summaries()
    step = tf.train.AdamOptimizer(learning_rate=0.1).minimize(cost)
    xs = rng.standard_normal((50, 4))
    ys = np.eye(2)[(xs[:, 0] > 0).astype(int)]
    with tf.Session() as sess:
        sess.run(tf.initialize_all_variables())
        writer = tf.train.SummaryWriter(str(tmp_path), graph_def=sess.graph_def)
        for i in range(60):
            _, text = sess.run([step, merged], feed_dict={x: xs, y: ys})
            writer.add_summary(text, i)
        a, b = sess.run(stacked, {x: xs})
        np.testing.assert_array_equal(a, -b)
        assert sess.run(cost, {x: xs, y: ys}) < 0.3
        proto = tf.Summary()
        proto.ParseFromString(sess.run(loss_summary, {x: xs, y: ys}))
        assert proto.value[0].tag == "loss" and proto.value[0].simple_value < 0.3
    writer.close()
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1


def test_a_dataset_feeds_training() -> None:
    rng = np.random.default_rng(0)
    xs = rng.standard_normal((64, 3)).astype("f")
    ys = (xs @ [1.0, -2.0, 0.5]).astype("f")
    dataset = tf.data.Dataset.from_tensor_slices((xs, ys)).shuffle(64, seed=1).batch(16).repeat(20)
    iterator = dataset.make_initializable_iterator()
    x, y = iterator.get_next()
    prediction = tf.squeeze(tf.layers.dense(x, 1, use_bias=False), axis=1)
    loss = tf.losses.mean_squared_error(labels=y, predictions=prediction)
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    count = 0
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), iterator.initializer])
        while True:
            try:
                _, last = sess.run([step, loss])
                count += 1
            except tf.errors.OutOfRangeError:
                break
        kernel = sess.run(tf.trainable_variables()[0])
    assert count == 80 and last < 1e-3
    np.testing.assert_allclose(kernel[:, 0], [1.0, -2.0, 0.5], atol=0.05)


def test_contrib_layers_with_scopes_and_decay(mnist_folder: Path) -> None:
    mnist = input_data.read_data_sets(mnist_folder, validation_size=0)
    slim = tf.contrib.slim
    tf.set_random_seed(4)
    x, y = tf.placeholder(tf.float32, [None, 784]), tf.placeholder(tf.int64, [None])
    training = tf.placeholder_with_default(True, [])
    with slim.arg_scope(
        [slim.fully_connected],
        weights_regularizer=slim.l2_regularizer(1e-4),
        normalizer_fn=slim.batch_norm,
        normalizer_params={"is_training": training, "decay": 0.9},
    ):
        net = slim.fully_connected(x, 32, scope="fc1")
    assert [v.op.name for v in tf.contrib.framework.get_variables("fc1")] == [
        "fc1/weights", "fc1/BatchNorm/beta", "fc1/BatchNorm/moving_mean",
        "fc1/BatchNorm/moving_variance",
    ]  # fmt: skip
    logits = slim.fully_connected(net, 10, activation_fn=None, scope="logits")
    tf.losses.sparse_softmax_cross_entropy(y, logits)
    total = tf.losses.get_total_loss()
    step = tf.train.get_or_create_global_step()
    rate = tf.train.exponential_decay(0.01, step, 50, 0.5, staircase=True)
    train_op = tf.contrib.training.create_train_op(total, tf.train.AdamOptimizer(rate))
    assert len(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == 1
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == 2
    hits = tf.reduce_mean(tf.to_float(tf.nn.in_top_k(logits, y, 1)))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(100):
            xs, ys = mnist.train.next_batch(64)
            sess.run(train_op, {x: xs, y: ys})
        test = {x: mnist.test.images, y: mnist.test.labels, training: False}
        assert sess.run(hits, test) > 0.85
        assert sess.run([step, rate]) == [100, np.float32(0.0025)]


def test_monitored_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    w = tf.Variable(5.0)
    step = tf.train.get_or_create_global_step()
    loss = tf.square(w)
    tf.summary.scalar("loss", loss)
    train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=step)
    for last in (5, 12):
        hooks = [tf.train.StopAtStepHook(last_step=last), tf.train.NanTensorHook(loss)]
        with tf.train.MonitoredTrainingSession(
            checkpoint_dir=str(tmp_path), hooks=hooks, save_summaries_steps=2
        ) as sess:
            while not sess.should_stop():
                sess.run(train_op)
        found = tf.train.latest_checkpoint(str(tmp_path))
        assert found == str(tmp_path / f"model.ckpt-{last}")
        np.testing.assert_allclose(
            tf.train.load_variable(found, "Variable"), 5.0 * 0.8**last, rtol=1e-5
        )


def test_moving_averages_are_restored_as_the_variables(tmp_path: Path) -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    ema = tf.train.ExponentialMovingAverage(0.5)
    change = w.assign_add([1.0, 1.0])
    with tf.control_dependencies([change]):
        train_op = ema.apply([w])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            sess.run(train_op)
        average = sess.run(ema.average(w))
        path = tf.train.Saver().save(sess, str(tmp_path / "m"))
    np.testing.assert_allclose(average, [3.125, 4.125])
    with tf.Session() as sess:
        tf.train.Saver(ema.variables_to_restore()).restore(sess, path)
        np.testing.assert_array_equal(sess.run(w), average)


def test_threads_stop_when_asked() -> None:
    import threading

    coord = tf.train.Coordinator()
    seen: list[int] = []

    def work(number: int) -> None:
        with coord.stop_on_exception():
            while not coord.should_stop():
                seen.append(number)
                if number == 1 and len(seen) > 50:
                    raise ZeroDivisionError("enough")
                coord.wait_for_stop(0.001)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    assert tf.train.start_queue_runners(coord=coord) == []
    try:
        coord.join(threads)
    except ZeroDivisionError as error:
        assert str(error) == "enough"
    else:
        raise AssertionError("the error was lost")
    assert set(seen) == {0, 1} and not any(t.is_alive() for t in threads)


def test_recurrent_classifier_of_image_rows(mnist_folder: Path) -> None:
    mnist = input_data.read_data_sets(mnist_folder, one_hot=True, validation_size=0)
    tf.set_random_seed(5)
    x, y = tf.placeholder("float", [None, 28, 28]), tf.placeholder("float", [None, 10])
    weights = {"out": tf.Variable(tf.random_normal([24, 10], stddev=0.1))}
    biases = {"out": tf.Variable(tf.zeros([10]))}
    cell = tf.contrib.rnn.BasicLSTMCell(24, forget_bias=1.0)
    outputs, states = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    logits = tf.matmul(outputs[:, -1], weights["out"]) + biases["out"]
    cost = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(logits=logits, labels=y))
    train = tf.train.AdamOptimizer(0.02)
    grads, variables = zip(*train.compute_gradients(cost), strict=True)
    clipped, _ = tf.clip_by_global_norm(grads, 5.0)
    step = train.apply_gradients(zip(clipped, variables, strict=True))
    hits = tf.reduce_mean(tf.cast(tf.nn.in_top_k(logits, tf.argmax(y, 1), 1), tf.float32))
    assert [v.name for v in tf.trainable_variables()][2:] == [
        "rnn/basic_lstm_cell/kernel:0", "rnn/basic_lstm_cell/bias:0"
    ]  # fmt: skip
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(80):
            xs, ys = mnist.train.next_batch(64)
            sess.run(step, {x: xs.reshape(-1, 28, 28), y: ys})
        test = {x: mnist.test.images.reshape(-1, 28, 28), y: mnist.test.labels}
        accuracy, last = sess.run([hits, states.h], test)
        assert accuracy > 0.6 and last.shape == (len(mnist.test.labels), 24)


def test_records_of_fixed_length_are_decoded_by_a_dataset(tmp_path: Path) -> None:
    images = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6)
    path = tmp_path / "images"
    path.write_bytes(b"HEAD" + images.tobytes())

    def decode(record: Any) -> Any:
        image = tf.io.decode_raw(record, tf.uint8)
        return tf.reshape(tf.cast(image, tf.float32), [6]) / 255.0

    dataset = tf.data.FixedLengthRecordDataset([str(path)], 6, header_bytes=4).map(decode).batch(3)
    batch = dataset.make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(batch), images[:3] / 255.0, rtol=1e-6)
        np.testing.assert_allclose(sess.run(batch), images[3:] / 255.0, rtol=1e-6)


def test_nearest_neighbour(mnist_folder: Path) -> None:
    mnist = input_data.read_data_sets(mnist_folder, one_hot=True, validation_size=0)
    train_x, train_y = mnist.train.next_batch(400)
    test_x, test_y = mnist.test.next_batch(40)
    xtr, xte = tf.placeholder("float", [None, 784]), tf.placeholder("float", [784])
    distance = tf.reduce_sum(tf.abs(tf.add(xtr, tf.negative(xte))), reduction_indices=1)
    pred = tf.arg_min(distance, 0)
    with tf.Session() as sess:
        found = [sess.run(pred, {xtr: train_x, xte: x}) for x in test_x]
    assert (train_y[found].argmax(1) == test_y.argmax(1)).mean() > 0.85
