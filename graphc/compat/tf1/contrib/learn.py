"""`tf.contrib.learn`: only the names of its modes, which programs use by themselves."""

from graphc.compat.symbols import delegate


class ModeKeys:
    """What a model is built for."""

    TRAIN, EVAL, INFER = "train", "eval", "infer"


__getattr__ = delegate(__name__)
