"""Whole programs in files: graph, collections and variables, written and read again.

`train.Saver.save` writes a graph beside its checkpoint, `<path>.meta`; `import_meta_graph` reads
it and gives the saver that restores the variables. A saved model is such a graph with signatures,
in a folder of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from graphc.ir.errors import ModelError
from graphc.ir.graph import Graph, Value, convert, get_default_graph
from graphc.ir.graphdef import NUMBERS, as_meta_graph, fill_shape, proto
from graphc.runtime.checkpoint import Saver

SERVING: Final = "serve"
DEFAULT_SIGNATURE: Final = "serving_default"
_PREDICT: Final = "tensorflow/serving/predict"
_MODEL: Final = "saved_model.pb"
_CHECKPOINT: Final = "variables"


def export_meta_graph(
    filename: str | os.PathLike[str] | None = None,
    meta_info_def: Any = None,
    graph_def: Any = None,
    saver_def: Any = None,
    collection_list: Iterable[str] | None = None,
    as_text: bool = False,
    graph: Graph | None = None,
    export_scope: str | None = None,
    clear_devices: bool = False,
    clear_extraneous_savers: bool = False,
    strip_default_attrs: bool = False,
    save_debug_info: bool = False,
) -> Any:
    """The graph and its collections as a MetaGraphDef, written to the file where one is named."""
    del meta_info_def, saver_def, export_scope, clear_devices, clear_extraneous_savers
    del strip_default_attrs, save_debug_info
    made = as_meta_graph(graph or get_default_graph(), collection_list)
    if graph_def is not None:
        made.graph_def.CopyFrom(graph_def)
    if filename is not None:
        Path(filename).write_bytes(str(made).encode() if as_text else made.SerializeToString())
    return made


def import_meta_graph(
    meta_graph_or_file: Any,
    clear_devices: bool = False,
    import_scope: str | None = None,
    **options: Any,
) -> Saver | None:
    """The nodes and collections of a MetaGraphDef, or of its file, in the current graph.

    Gives a saver of its variables (with the `options` of Saver), None where there are none.
    ModelError where the file is no such thing.
    """
    from graphc.frontend.graphdef import adopt_collections, import_graph_def

    del clear_devices
    meta = _read_meta(meta_graph_or_file)
    graph = get_default_graph()
    import_graph_def(meta.graph_def, name=import_scope or "")
    variables = adopt_collections(graph, meta, import_scope or "")
    start = len(f"{import_scope}/") if import_scope else 0
    return Saver({v.op.name[start:]: v for v in variables}, **options) if variables else None


def _read_meta(given: Any) -> Any:
    if not isinstance(given, (str, os.PathLike)):
        return given
    path = Path(given)
    if not path.is_file():
        raise ModelError(f"there is no meta graph {path}")
    return _parsed(proto("meta_graph_pb2", "MetaGraphDef"), path.read_bytes(), str(path))


def _parsed(kind: Any, data: bytes, where: str) -> Any:
    """A message, from bytes or from protobuf's text."""
    made = kind()
    try:
        made.ParseFromString(data)
    except Exception as error:  # protobuf's own class differs from release to release
        from google.protobuf import text_format

        try:
            text_format.Parse(data.decode(), made)
        except (text_format.ParseError, UnicodeDecodeError):
            raise ModelError(f"{where} is no {kind.DESCRIPTOR.name}: {error}") from None
    return made


# -- saved models: a message of a version (field 1) and MetaGraphDefs (field 2)


def simple_save(
    session: Any,
    export_dir: str | os.PathLike[str],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    legacy_init_op: Any = None,
) -> None:
    """The session's graph and variables as a saved model with one signature."""
    del legacy_init_op
    signature = proto("meta_graph_pb2", "SignatureDef")(method_name=_PREDICT)
    for held, named in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for key, tensor in named.items():
            held[key].CopyFrom(build_tensor_info(tensor))
    save_model(session, export_dir, [SERVING], {DEFAULT_SIGNATURE: signature})


def save_model(
    session: Any,
    export_dir: str | os.PathLike[str],
    tags: Sequence[str],
    signatures: Mapping[str, Any],
) -> None:
    """The session's graph and variables in a new folder, with tags and SignatureDef protos."""
    folder = Path(export_dir)
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty; a saved model gets a new folder")
    (folder / _CHECKPOINT).mkdir(parents=True)
    with session.graph.as_default():
        meta = export_meta_graph(graph=session.graph)
        meta.meta_info_def.tags.extend(tags)
        for key, signature in signatures.items():
            meta.signature_def[key].CopyFrom(signature)
        (folder / _MODEL).write_bytes(b"\x08\x01\x12" + _varint(meta.ByteSize())
                                      + meta.SerializeToString())  # fmt: skip
        if session.graph.get_collection("variables"):
            saver = Saver()
            saver.save(session, folder / _CHECKPOINT / _CHECKPOINT, write_meta_graph=False,
                       write_state=False)  # fmt: skip


def build_tensor_info(tensor: Any) -> Any:
    """A TensorInfo proto: name, dtype and shape."""
    value: Value = convert(tensor)
    made = proto("meta_graph_pb2", "TensorInfo")(name=value.name, dtype=NUMBERS[value.dtype.name])
    fill_shape(made.tensor_shape, value.type.shape)
    return made


def load_saved_model(
    sess: Any,
    tags: Sequence[str],
    export_dir: str | os.PathLike[str],
    import_scope: str | None = None,
    **options: Any,
) -> Any:
    """Read a saved model that graphc wrote into the session's graph; gives its MetaGraphDef."""
    del options
    path = Path(export_dir) / _MODEL
    if not path.is_file():
        raise ModelError(f"there is no saved model {path}")
    for meta in _meta_graphs(path):
        if set(tags) <= set(meta.meta_info_def.tags):
            with sess.graph.as_default():
                saver = import_meta_graph(meta, import_scope=import_scope)
            if saver is not None:
                saver.restore(sess, path.parent / _CHECKPOINT / _CHECKPOINT)
            return meta
    raise ModelError(f"{path} has no graph with the tags {list(tags)}")


def _varint(number: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the least first."""
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _meta_graphs(path: Path) -> list[Any]:
    """The MetaGraphDefs of a SavedModel message."""
    data, at, found = path.read_bytes(), 0, []
    kind = proto("meta_graph_pb2", "MetaGraphDef")
    while at < len(data):
        tag = data[at]
        number, at = _read_varint(data, at + 1, path)
        if tag == 0x12:
            if at + number > len(data):
                raise ModelError(f"{path} is cut off")
            found.append(_parsed(kind, data[at : at + number], str(path)))
            at += number
        elif tag != 0x08:
            raise ModelError(f"{path} is no saved model")
    return found


def _read_varint(data: bytes, at: int, path: Path) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    number = shift = 0
    while at < len(data) and shift < 64:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return number, at
    raise ModelError(f"{path} is cut off")


__all__ = [
    "build_tensor_info",
    "export_meta_graph",
    "import_meta_graph",
    "load_saved_model",
    "save_model",
    "simple_save",
]
