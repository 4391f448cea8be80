"""`tf.saved_model`: graph, variables and signatures in a folder.

The folder is TensorFlow's but for the variables, which lie there as graphc's checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphc.compat.symbols import delegate
from graphc.metagraph import (
    SERVING,
    build_tensor_info,
    load_saved_model,
    save_model,
    simple_save,
)

load = load_saved_model


def maybe_saved_model_directory(export_dir: str | os.PathLike[str]) -> bool:
    """True when a saved model lies in the folder."""
    return Path(export_dir, "saved_model.pb").is_file()


contains_saved_model = maybe_saved_model_directory


def build_signature_def(
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    method_name: str | None = None,
) -> Any:
    """A SignatureDef proto of named TensorInfos."""
    from graphc.ir.graphdef import proto

    made = proto("meta_graph_pb2", "SignatureDef")(method_name=method_name or "")
    for held, given in ((made.inputs, inputs), (made.outputs, outputs)):
        for key, info in (given or {}).items():
            held[key].CopyFrom(info)
    return made


def predict_signature_def(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """A SignatureDef for prediction, of named tensors."""
    taken, given = ({k: build_tensor_info(v) for k, v in x.items()} for x in (inputs, outputs))
    return build_signature_def(taken, given, "tensorflow/serving/predict")


class Builder:
    """Writes a saved model of one graph with its signatures."""

    def __init__(self, export_dir: str | os.PathLike[str]) -> None:
        self._folder = export_dir
        self._write: Any = None

    def add_meta_graph_and_variables(
        self,
        sess: Any,
        tags: Sequence[str],
        signature_def_map: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """The session's graph and variables, to be written by `save`."""
        del options
        self._write = lambda: save_model(sess, self._folder, list(tags), signature_def_map or {})

    def save(self, as_text: bool = False) -> str:
        """Write the folder; gives the path of the model's file."""
        from graphc.ir.errors import ModelError

        del as_text
        if self._write is None:
            raise ModelError("nothing to save: call add_meta_graph_and_variables first")
        self._write()
        return os.path.join(os.fspath(self._folder), "saved_model.pb")


__all__ = [
    "SERVING", "Builder", "build_signature_def", "build_tensor_info", "contains_saved_model",
    "load", "maybe_saved_model_directory", "predict_signature_def", "simple_save",
]  # fmt: skip
__getattr__ = delegate(
    __name__,
    submodules=(
        "builder", "loader", "signature_constants", "signature_def_utils", "tag_constants",
        "utils",
    ),
)  # fmt: skip
