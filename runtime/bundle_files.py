"""The files of a bundle: a folder or a zip archive, with a manifest that has a checksum of each.

manifest.json        what it is: format, target, inputs, outputs, checksums
program.json, .txt   the compiled program, for loading and for reading
weights.safetensors  constants and the values of variables
kernels/             cubins and PTX with the Triton source, or libraries with their C source
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import BundleError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights.safetensors"
_PLAIN: Final = {"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
                 "float16", "float32", "float64"}  # fmt: skip
_RAW: Final = "raw."  # arrays of other dtypes are stored as bytes; their names say dtype and shape


# -- writing


def write_files(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a bundle, all or nothing; an archive where the path ends in .zip, else a folder.

    A bundle that is there is replaced. BundleError where something else is there.
    """
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    told = json.dumps({**manifest, "format": FORMAT, "files": sums}, indent=1)
    every = {MANIFEST: told.encode(), **files}
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".bundle-") as folder:
        made, old = Path(folder) / "new", Path(folder) / "old"
        _write_archive(made, every) if path.suffix == ".zip" else _write_folder(made, every)
        if path.is_dir():
            os.replace(path, old)  # a folder with files in it cannot be replaced in one step
        os.replace(made, path)
        shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(path: Path) -> None:
    is_bundle = (path / MANIFEST).exists() if path.is_dir() else path.suffix == ".zip"
    if path.exists() and not is_bundle:
        raise BundleError(f"{path} is there and is no bundle: name another place")


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _write_archive(file: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


# -- reading


def read_files(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest, and the files that it names, each as its checksum says; else BundleError."""
    if not path.exists():
        raise BundleError(f"there is no bundle {path}")
    try:
        manifest, files = _read_folder(path) if path.is_dir() else _read_archive(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} is no bundle, or damaged: {error}") from error
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{path} has format {manifest.get('format')}, and this graphc reads {FORMAT}: compile "
            "the model again"
        )
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != manifest["files"][name]:
            raise BundleError(f"{path}: {name} is damaged (its checksum differs); copy it again")
    return manifest, files


def _read_folder(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    manifest = _manifest((path / MANIFEST).read_bytes())
    return manifest, {n: (path / n).read_bytes() for n in manifest["files"]}


def _read_archive(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        manifest = _manifest(archive.read(MANIFEST))
        return manifest, {n: archive.read(n) for n in manifest["files"]}


def _manifest(data: bytes) -> dict[str, Any]:
    manifest = json.loads(data)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ValueError(f"{MANIFEST} is not one of a bundle")
    if any(Path(n).is_absolute() or ".." in Path(n).parts for n in manifest["files"]):
        raise ValueError(f"{MANIFEST} names files outside")
    return manifest


# -- arrays


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as a safetensors file."""
    stored: dict[str, np.ndarray] = {}
    raw = {"format": str(FORMAT)}  # without any entry a header would not parse
    for name, array in arrays.items():
        dtype = as_dtype(array.dtype).name
        stored[name] = np.ascontiguousarray(array).reshape(array.shape)
        if dtype not in _PLAIN:
            raw[_RAW + name] = json.dumps([dtype, list(array.shape)])
            stored[name] = stored[name].reshape(-1).view(np.uint8)
    return save_tensors(stored, raw)


def unpack_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of such a file; BundleError when it is none."""
    try:
        arrays = load_tensors(data)
        for key, told in _metadata(data).items():
            name, (dtype, shape) = key.removeprefix(_RAW), json.loads(told)
            arrays[name] = arrays[name].view(as_dtype(dtype).numpy).reshape(shape)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{WEIGHTS} is damaged: {error}") from error
    return arrays


def _metadata(data: bytes) -> dict[str, str]:
    """A safetensors file begins with its header: eight bytes of its length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return {k: v for k, v in found.items() if k.startswith(_RAW)}


__all__ = ["FORMAT", "MANIFEST", "WEIGHTS", "pack_arrays", "read_files", "unpack_arrays",
           "write_files"]  # fmt: skip
