"""Checkpoints: variables in a safetensors file, written atomically and restored bit for bit.

One file per checkpoint, `<path>[-<step>].safetensors`, and beside them a `checkpoint` file that
lists them in TensorFlow's text form, newest first. bfloat16 is stored as uint16 and said to be
so in the metadata, since NumPy's side of safetensors does not know it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from graphc.ir.dtypes import as_dtype, bfloat16
from graphc.ir.errors import CheckpointError
from graphc.ir.graph import get_default_graph
from graphc.ir.types import format_shape

_SUFFIX = ".safetensors"
_LIST = "checkpoint"


@dataclass(frozen=True)
class CheckpointState:
    """The newest checkpoint of a folder, and all that are kept, oldest first."""

    model_checkpoint_path: str
    all_model_checkpoint_paths: tuple[str, ...]


class Saver:
    """Saves and restores variables: all global ones, a list, or a dict of names to variables.

    `max_to_keep` checkpoints are kept (None or 0: all); older ones are deleted.
    """

    def __init__(
        self,
        var_list: Mapping[str, Any] | Sequence[Any] | None = None,
        max_to_keep: int | None = 5,
        **ignored: Any,
    ) -> None:
        del ignored  # TensorFlow's sharding and naming options have no counterpart
        if var_list is None:
            var_list = get_default_graph().get_collection("variables")
        if not isinstance(var_list, Mapping):
            var_list = {v.op.name: v for v in var_list}
        if not var_list:
            raise CheckpointError("there are no variables to save")
        self._variables = dict(var_list)
        self._max_to_keep = max_to_keep or 0
        self._kept: list[str] = []

    @property
    def last_checkpoints(self) -> list[str]:
        """The checkpoints that this saver wrote and has not deleted, oldest first."""
        return list(self._kept)

    def save(
        self, sess: Any, save_path: str | os.PathLike[str], global_step: Any = None, **ignored: Any
    ) -> str:
        """Write the variables' values; gives the path to restore from.

        The path is `save_path`, and `-<global_step>` where a step (number, tensor, variable)
        is given. UninitializedError when a variable has no value.
        """
        del ignored
        path = os.fspath(save_path)
        if global_step is not None:
            step = global_step if isinstance(global_step, int) else int(sess.run(global_step))
            path = f"{path}-{step}"
        arrays = {name: sess.read_variable(v) for name, v in self._variables.items()}
        _write(path + _SUFFIX, arrays)
        self._keep(path)
        return path

    def _keep(self, path: str) -> None:
        self._kept = [p for p in self._kept if p != path] + [path]
        while self._max_to_keep and len(self._kept) > self._max_to_keep:
            Path(self._kept.pop(0) + _SUFFIX).unlink(missing_ok=True)
        _write_list(path, self._kept)

    def restore(self, sess: Any, save_path: str | os.PathLike[str]) -> None:
        """Set the variables from a checkpoint: all of them, or none when anything is wrong."""
        path = os.fspath(save_path)
        file = path if path.endswith(_SUFFIX) else path + _SUFFIX
        arrays = _read(file)
        missing = sorted(set(self._variables) - set(arrays))
        if missing:
            raise CheckpointError(
                f"{file} has no variable {', '.join(missing[:5])}; it has "
                f"{', '.join(sorted(arrays)[:8])}. Give Saver a dict of the names in the file"
            )
        values = {}
        for name, variable in self._variables.items():
            _check_fits(file, name, variable.node.types[0], arrays[name])
            values[variable] = arrays[name]
        sess.write_variables(values)


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


def _write_list(newest: str, kept: Sequence[str]) -> None:
    folder = os.path.dirname(newest) or "."
    lines = [f'model_checkpoint_path: "{os.path.basename(newest)}"']
    lines += [f'all_model_checkpoint_paths: "{os.path.basename(p)}"' for p in kept]
    path = Path(folder, _LIST)
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
