"""`tf.contrib`: of it layers, recurrent cells, seq2seq basics, and what goes with them."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(
    __name__,
    submodules=(
        "framework",
        "layers",
        "learn",
        "legacy_seq2seq",
        "lookup",
        "rnn",
        "seq2seq",
        "slim",
        "tensorboard",
        "training",
    ),
)
