"""`tf.contrib.tensorboard`: plugins of TensorBoard."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, submodules=("plugins",))
