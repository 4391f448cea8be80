"""`tf.contrib.tensorboard.plugins`: of them the projector."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, submodules=("projector",))
