"""`tf.contrib.seq2seq`: decoders, attention, beam search, losses of sequences."""

from __future__ import annotations

from typing import Any

from graphc.compat.symbols import delegate
from graphc.compat.tf1.contrib.seq2seq.attention import (
    AttentionMechanism,
    AttentionWrapper,
    AttentionWrapperState,
    BahdanauAttention,
    LuongAttention,
)
from graphc.compat.tf1.contrib.seq2seq.beam import (
    BeamSearchDecoder,
    BeamSearchDecoderOutput,
    BeamSearchDecoderState,
    FinalBeamSearchDecoderOutput,
    gather_tree,
)
from graphc.compat.tf1.contrib.seq2seq.decoders import (
    BasicDecoder,
    BasicDecoderOutput,
    Decoder,
    dynamic_decode,
)
from graphc.compat.tf1.contrib.seq2seq.helpers import (
    CustomHelper,
    GreedyEmbeddingHelper,
    Helper,
    SampleEmbeddingHelper,
    ScheduledEmbeddingTrainingHelper,
    TrainingHelper,
)
from graphc.frontend import array, nest, nn
from graphc.frontend.arguments import as_value
from graphc.frontend.framework import name_scope
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Value
from graphc.ir.ops.reduce import reduce_sum
from graphc.ir.types import Dim


def sequence_loss(
    logits: Any,
    targets: Any,
    weights: Any,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    softmax_loss_function: Any = None,
    name: str | None = None,
) -> Value:
    """The weighted mean cross entropy of sequences.

    logits: [batch, steps, classes]; targets: [batch, steps] of classes; weights: [batch, steps].
    Summed, not averaged, over what is not averaged across: [batch] or [steps] or both are left.
    """
    x, y, w = as_value(logits), as_value(targets), as_value(weights)
    for what, value, rank in (("logits", x, 3), ("targets", y, 2), ("weights", w, 2)):
        if value.type.rank not in (rank, None):
            raise ShapeError(f"sequence_loss needs {what} of rank {rank}, got {value!r}")
    function = softmax_loss_function or nn.sparse_softmax_cross_entropy_with_logits
    with name_scope(name, "sequence_loss"):
        losses = function(labels=y, logits=x) * w
        small = 1e-12  # against 0 / 0
        if average_across_timesteps and average_across_batch:
            return reduce_sum(losses) / (reduce_sum(w) + small)
        if average_across_timesteps:
            return reduce_sum(losses, axis=(1,)) / (reduce_sum(w, axis=(1,)) + small)
        if average_across_batch:
            return reduce_sum(losses, axis=(0,)) / (reduce_sum(w, axis=(0,)) + small)
        return losses


def tile_batch(t: Any, multiplier: int, name: str | None = None) -> Any:
    """Every row `multiplier` times in a row: [batch, ...] -> [batch * multiplier, ...]."""
    with name_scope(name, "tile_batch"):
        return nest.map_leaves(lambda x: _tiled(as_value(x), multiplier), t)


def _tiled(x: Value, multiplier: int) -> Value:
    dims: tuple[Dim, ...] | None = x.type.shape
    if not dims:
        raise ShapeError(f"tile_batch needs a batch of known rank, got {x!r}")
    wide = array.tile(array.expand_dims(x, 1), [1, multiplier, *([1] * (len(dims) - 1))])
    rest = [d if isinstance(d, int) else array.shape(x)[i + 1] for i, d in enumerate(dims[1:])]
    return array.reshape(wide, [-1, *rest])


__all__ = [
    "AttentionMechanism", "AttentionWrapper", "AttentionWrapperState", "BahdanauAttention",
    "BasicDecoder", "BasicDecoderOutput", "BeamSearchDecoder", "BeamSearchDecoderOutput",
    "BeamSearchDecoderState", "CustomHelper", "Decoder", "FinalBeamSearchDecoderOutput",
    "GreedyEmbeddingHelper", "Helper", "LuongAttention", "SampleEmbeddingHelper",
    "ScheduledEmbeddingTrainingHelper", "TrainingHelper", "dynamic_decode", "gather_tree",
    "sequence_loss", "tile_batch",
]  # fmt: skip
__getattr__ = delegate(__name__)
