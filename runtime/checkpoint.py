"""Checkpoints: variables in a safetensors file, written atomically and restored bit for bit.

One file per checkpoint, `<path>[-<step>].safetensors`, and beside them a `checkpoint` file that
lists them in TensorFlow's text form, newest first. bfloat16 is stored as uint16 and said to be
so in the metadata, since NumPy's side of safetensors does not know it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from graphc.ir.dtypes import DType, as_dtype, bfloat16
from graphc.ir.errors import CheckpointError
from graphc.ir.graph import Graph, get_default_graph
from graphc.ir.graphdef import as_meta_graph, can_write
from graphc.ir.types import format_shape

_log = logging.getLogger("graphc")
_SUFFIX = ".safetensors"
_LIST = "checkpoint"


@dataclass(frozen=True)
class CheckpointState:
    """The newest checkpoint of a folder, and all that are kept, oldest first."""

    model_checkpoint_path: str
    all_model_checkpoint_paths: tuple[str, ...]


class Saver:
    """Saves and restores variables: all global ones, a list, or a dict of names to variables.

    `max_to_keep` checkpoints are kept (None or 0: all); older ones are deleted, but for one in
    every `keep_checkpoint_every_n_hours`. `pad_step_number` writes the step with 8 digits, so that
    names sort. TensorFlow's options of sharding and formats have no counterpart.
    """

    def __init__(
        self,
        var_list: Mapping[str, Any] | Sequence[Any] | None = None,
        reshape: bool = False,
        sharded: bool = False,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000.0,
        name: str | None = None,
        restore_sequentially: bool = False,
        saver_def: Any = None,
        builder: Any = None,
        defer_build: bool = False,
        allow_empty: bool = False,
        write_version: Any = None,
        pad_step_number: bool = False,
        save_relative_paths: bool = False,
        filename: str | None = None,
    ) -> None:
        del sharded, name, restore_sequentially, saver_def, builder, write_version
        del save_relative_paths, filename
        self._reshape = reshape
        self._variables: dict[str, Any] = {}
        self._given = var_list
        self._allow_empty = allow_empty
        if not defer_build:
            self.build()
        self._max_to_keep = max_to_keep or 0
        self._pad = pad_step_number
        self._kept: list[str] = []
        self._hours = keep_checkpoint_every_n_hours
        self._times: dict[str, float] = {}
        self._graph: tuple[Any, bytes] | None = None  # as it was last written, and of what
        self._next_kept_for_good = time.time() + self._hours * 3600

    def build(self) -> None:
        """Choose the variables, where `defer_build` put that off."""
        chosen = self._given
        if chosen is None:
            chosen = get_default_graph().get_collection("variables")
        self._variables = dict(chosen) if isinstance(chosen, Mapping) else _by_name(chosen)
        if not self._variables and not self._allow_empty:
            raise CheckpointError("there are no variables to save")

    @property
    def last_checkpoints(self) -> list[str]:
        """The checkpoints that this saver wrote and has not deleted, oldest first."""
        return list(self._kept)

    def set_last_checkpoints(self, last_checkpoints: Sequence[str]) -> None:
        """Take these for the ones written so far, oldest first."""
        self._kept = list(last_checkpoints)

    def recover_last_checkpoints(self, checkpoint_paths: Sequence[str]) -> None:
        """Take those of the paths that exist for the ones written so far, oldest first."""
        self._kept = [p for p in checkpoint_paths if checkpoint_exists(p)]

    def save(
        self,
        sess: Any,
        save_path: str | os.PathLike[str],
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        save_debug_info: bool = False,
    ) -> str:
        """Write the variables' values; gives the path to restore from.

        The path is `save_path`, and `-<global_step>` where a step (number, tensor, variable)
        is given. `latest_filename` names the folder's list of checkpoints, which is not written
        with `write_state=False`. Beside the values lies the graph, `<path>.meta`, where the package
        tensorboard is installed. UninitializedError when a variable has no value.
        """
        del strip_default_attrs, save_debug_info
        path = os.fspath(save_path)
        if global_step is not None:
            step = int(_step_value(sess, global_step))
            path = f"{path}-{step:08d}" if self._pad else f"{path}-{step}"
        arrays = {name: sess.read_variable(v) for name, v in self._variables.items()}
        _write(path + _SUFFIX, arrays)
        if write_meta_graph:
            self._write_graph(sess.graph, f"{path}.{meta_graph_suffix}")
        if write_state:
            self._keep(path, latest_filename)
        return path

    def _write_graph(self, graph: Graph, file: str) -> None:
        """The graph and its collections, which are spelled out only when they have grown."""
        if not can_write():
            _log.info("no graph is written to %s: that needs the package tensorboard", file)
            return
        key = graph, len(graph.nodes), tuple((k, len(v)) for k, v in graph.collections.items())
        if self._graph is None or self._graph[0] != key:
            self._graph = key, bytes(as_meta_graph(graph).SerializeToString())
        _replace_file(file, self._graph[1])

    def _keep(self, path: str, latest_filename: str | None) -> None:
        self._kept = [p for p in self._kept if p != path] + [path]
        self._times[path] = time.time()
        while self._max_to_keep and len(self._kept) > self._max_to_keep:
            self._drop(self._kept.pop(0))
        _write_list(path, self._kept, latest_filename)

    def _drop(self, path: str) -> None:
        """Delete a checkpoint, but keep one in every so many hours for good."""
        written = self._times.pop(path, 0.0)
        if written > self._next_kept_for_good:
            self._next_kept_for_good += self._hours * 3600
            return
        remove_checkpoint(path)

    def restore(self, sess: Any, save_path: str | os.PathLike[str]) -> None:
        """Set the variables from a checkpoint: all of them, or none when anything is wrong."""
        if save_path is None:
            raise CheckpointError("there is no checkpoint to restore: the path given is None")
        file = _file_of(os.fspath(save_path))
        arrays = _read(file)
        missing = sorted(set(self._variables) - set(arrays))
        if missing:
            raise CheckpointError(
                f"{file} has no variable {', '.join(missing[:5])}; it has "
                f"{', '.join(sorted(arrays)[:8])}. Give Saver a dict of the names in the file"
            )
        values = {}
        for name, variable in self._variables.items():
            declared, array = variable.node.types[0], arrays[name]
            if self._reshape and array.size == int(np.prod(declared.static_shape)):
                array = array.reshape(declared.static_shape)
            _check_fits(file, name, declared, array)
            values[variable] = array
        sess.write_variables(values)


def _by_name(variables: Sequence[Any]) -> dict[str, Any]:
    return {v.op.name: v for v in variables}


def _step_value(sess: Any, step: Any) -> Any:
    return step if isinstance(step, (int, np.integer)) else sess.run(step)


def _file_of(path: str) -> str:
    return path if path.endswith(_SUFFIX) else path + _SUFFIX


# -- looking into checkpoints


def checkpoint_exists(checkpoint_prefix: str | os.PathLike[str]) -> bool:
    """True when there is a checkpoint of that path."""
    return os.path.exists(_file_of(os.fspath(checkpoint_prefix)))


def remove_checkpoint(checkpoint_prefix: str | os.PathLike[str]) -> None:
    """Delete a checkpoint's files, where they exist."""
    for file in (_file_of(os.fspath(checkpoint_prefix)), f"{os.fspath(checkpoint_prefix)}.meta"):
        Path(file).unlink(missing_ok=True)


class CheckpointReader:
    """The variables of a checkpoint, by name. `path` may be a folder: then its newest one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = os.fspath(path)
        newest = latest_checkpoint(given) if os.path.isdir(given) else given
        if newest is None:
            raise CheckpointError(f"the folder {given} lists no checkpoint")
        self._arrays = _read(_file_of(newest))

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        """Names and shapes."""
        return {name: list(a.shape) for name, a in self._arrays.items()}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        """Names and dtypes."""
        return {name: as_dtype(a.dtype) for name, a in self._arrays.items()}

    def has_tensor(self, name: str) -> bool:
        """True when the checkpoint has the variable."""
        return name in self._arrays

    def get_tensor(self, name: str) -> np.ndarray:
        """The variable's value; CheckpointError with the names there are when it has none."""
        if name not in self._arrays:
            some = ", ".join(sorted(self._arrays)[:8])
            raise CheckpointError(f"the checkpoint has no variable {name!r}; it has {some}")
        return self._arrays[name]


def load_checkpoint(ckpt_dir_or_file: str | os.PathLike[str]) -> CheckpointReader:
    """A reader of a checkpoint, or of a folder's newest one."""
    return CheckpointReader(ckpt_dir_or_file)


def load_variable(ckpt_dir_or_file: str | os.PathLike[str], name: str) -> np.ndarray:
    """One variable's value in a checkpoint."""
    return CheckpointReader(ckpt_dir_or_file).get_tensor(name)


def list_variables(ckpt_dir_or_file: str | os.PathLike[str]) -> list[tuple[str, list[int]]]:
    """Names and shapes in a checkpoint, sorted by name."""
    return sorted(CheckpointReader(ckpt_dir_or_file).get_variable_to_shape_map().items())


def _check_fits(file: str, name: str, declared: Any, array: np.ndarray) -> None:
    found = f"{as_dtype(array.dtype)}{format_shape(array.shape)}"
    if found != str(declared):
        raise CheckpointError(f"{file} has {name!r} as {found}, but the variable is {declared}")


def _write(file: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Under another name first: a reader sees a whole file or none."""
    stored, wide = {}, []
    for name, array in arrays.items():
        if as_dtype(array.dtype) is bfloat16:
            wide.append(name)
            array = array.view(np.uint16)
        stored[name] = np.array(array, order="C", copy=True)
    folder = os.path.dirname(file) or "."
    if not os.path.isdir(folder):
        raise CheckpointError(f"cannot save {file}: there is no folder {folder}")
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    os.close(handle)
    try:
        save_file(stored, temporary, {"graphc": json.dumps({"bfloat16": wide})})
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _replace_file(file: str, data: bytes) -> None:
    """The file with new content: a reader sees all of the old one or of the new one."""
    temporary = Path(file + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, file)


def _read(file: str) -> dict[str, np.ndarray]:
    if not os.path.exists(file):
        raise CheckpointError(f"there is no checkpoint {file}")
    try:
        with safe_open(file, framework="numpy") as reader:
            notes = json.loads((reader.metadata() or {}).get("graphc", "{}"))
            arrays = {name: reader.get_tensor(name) for name in list(reader.keys())}
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
    for name in notes.get("bfloat16", ()):
        arrays[name] = arrays[name].view(bfloat16.numpy)
    return arrays


# -- the list of a folder's checkpoints


def _write_list(newest: str, kept: Sequence[str], list_name: str | None = None) -> None:
    folder = os.path.dirname(newest) or "."
    lines = [f'model_checkpoint_path: "{os.path.basename(newest)}"']
    lines += [f'all_model_checkpoint_paths: "{os.path.basename(p)}"' for p in kept]
    path = Path(folder, list_name or _LIST)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(lines) + "\n")
    os.replace(temporary, path)


def get_checkpoint_state(
    checkpoint_dir: str | os.PathLike[str], latest_filename: str | None = None
) -> CheckpointState | None:
    """What the folder's list says, None when there is no list."""
    folder = os.fspath(checkpoint_dir)
    path = Path(folder, latest_filename or _LIST)
    if not path.exists():
        return None
    entries = re.findall(r'^(\w+): "(.*)"$', path.read_text(), re.MULTILINE)
    paths = [(key, os.path.join(folder, name)) for key, name in entries]
    newest = next((p for key, p in paths if key == "model_checkpoint_path"), None)
    if newest is None:
        raise CheckpointError(f"{path} names no checkpoint")
    return CheckpointState(newest, tuple(p for key, p in paths if key.startswith("all_")))


def latest_checkpoint(
    checkpoint_dir: str | os.PathLike[str], latest_filename: str | None = None
) -> str | None:
    """The path of the folder's newest checkpoint, None when there is none."""
    state = get_checkpoint_state(checkpoint_dir, latest_filename)
    return state.model_checkpoint_path if state else None
