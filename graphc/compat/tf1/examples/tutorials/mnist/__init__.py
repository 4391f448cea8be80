"""`tf.examples.tutorials.mnist`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(
    __name__,
    submodules=(
        "input_data",
        "mnist",
    ),
)
