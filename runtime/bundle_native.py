"""The native part of a bundle: the libraries that the compiler made, and for which processor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphc.ir.errors import BundleError, TargetError
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.runtime.devices.native_build import build, find_compiler, header_text
from graphc.runtime.devices.native_libraries import libraries_from, library_key, processor

_FOLDER: Final = "kernels"


def native_files(
    program: Program, device: Any, variables: Mapping[str, np.ndarray], options: Settings
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Every library that the program needs, with its C source; made by loading it once."""
    files: dict[str, bytes] = {}

    def recorded(texts: tuple[str, ...], more: tuple[str, ...], parts: int) -> Path:
        with libraries_from(None):
            path = Path(build(texts, more, options, parts)._name)
        key = library_key(texts, more, header_text())
        files[f"{_FOLDER}/{key}.so"] = path.read_bytes()
        files[f"{_FOLDER}/{key}.c"] = "\n".join(texts).encode()
        return path

    with libraries_from(recorded):
        device.want_libraries(program, options)
        device.load(program, dict(variables), options)
    machine, flags = processor()
    about = {"device": "native", "name": "native", "machine": machine, "processor": flags}
    return files, about | {"compiler": Path(find_compiler()[0]).name}


@contextmanager
def bundled_libraries(about: Mapping[str, Any], files: Mapping[str, bytes]) -> Iterator[None]:
    """Inside, libraries come out of the bundle. TargetError where this processor cannot run them,
    BundleError where this graphc would write other C."""
    _check_processor(about)
    with tempfile.TemporaryDirectory(prefix="graphc-bundle-") as folder:

        def found(texts: tuple[str, ...], more: tuple[str, ...], parts: int) -> Path:
            del parts  # which mean the same as the whole
            key = library_key(texts, more, header_text())
            data = files.get(f"{_FOLDER}/{key}.so")
            if data is None:
                raise BundleError(
                    "the bundle was made by another version of graphc: compile the model again"
                )
            path = Path(folder) / f"{key}.so"
            path.write_bytes(data)
            return path

        with libraries_from(found):  # what is loaded stays, without its file
            yield


def _check_processor(about: Mapping[str, Any]) -> None:
    machine, flags = processor()
    if about["machine"] != machine:
        raise TargetError(
            f"the bundle was compiled for {about['machine']}, and this machine is {machine}: "
            "compile it here, or for --target numpy"
        )
    missing = sorted({*about["processor"]} - {*flags})
    if missing:
        raise TargetError(
            f"the bundle was compiled for a processor with {', '.join(missing)}, which this one "
            "has not: compile it here, or for --target numpy"
        )


__all__ = ["bundled_libraries", "native_files"]
