"""`tf.contrib.tensorboard.plugins.projector`: what TensorBoard shows of embeddings.

The configuration is written as TensorFlow writes it. TensorBoard reads the embeddings themselves
from `tensor_path` files of tab-separated numbers: it cannot read graphc's checkpoints.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from graphc.compat.symbols import delegate
from graphc.ir.errors import AttributeValueError, UnsupportedOp

_others = delegate(__name__)


def __getattr__(name: str) -> Any:
    if name in ("EmbeddingInfo", "ProjectorConfig", "SpriteMetadata"):
        return getattr(_protos(), name)
    return _others(name)


def _protos() -> Any:
    try:
        return importlib.import_module("tensorboard.plugins.projector.projector_config_pb2")
    except ImportError as error:
        raise UnsupportedOp(
            "the projector needs the package tensorboard: pip install graphc[tensorboard]"
        ) from error


def visualize_embeddings(summary_writer: Any, config: Any) -> None:
    """Write the configuration into the folder of a FileWriter, or the one named."""
    from google.protobuf import text_format

    given = summary_writer
    folder = given.get_logdir() if hasattr(given, "get_logdir") else given
    if not isinstance(folder, (str, os.PathLike)):
        raise AttributeValueError(f"visualize_embeddings needs a FileWriter, got {given!r}")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "projector_config.pbtxt"), "w") as file:
        file.write(text_format.MessageToString(config))


__all__ = ["visualize_embeddings"]
