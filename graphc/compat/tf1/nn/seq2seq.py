"""`tf.nn.seq2seq`: where `tf.contrib.legacy_seq2seq` stood before 1.0."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.contrib.legacy_seq2seq")
