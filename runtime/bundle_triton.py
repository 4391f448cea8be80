"""The GPU part of a bundle: cubins, how they are started, and for which architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from graphc.codegen.module import Module
from graphc.codegen.triton import emit
from graphc.ir.errors import BundleError, TargetError
from graphc.ir.loop import Program
from graphc.ir.loop_json import Decoder, Encoder
from graphc.ir.settings import Settings
from graphc.runtime.devices.triton_compile import Entry
from graphc.runtime.targets import GpuTarget

_ENTRIES: Final = "kernels/entries.json"
_LAUNCHES: Final = "kernels/launches.json"


def cubin_files(
    program: Program, target: GpuTarget, options: Settings
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A cubin and its PTX per function, the Triton source, and how the functions are launched."""
    from graphc.codegen.triton import Launch, Stage, Workspace
    from graphc.runtime.devices.triton import build, check_compiler
    from graphc.runtime.devices.triton_compile import compile_program, toolchain

    check_compiler()
    module = emit(program, target.options(options))
    compiled = compile_program(program, module, build(module.text), target.arch)
    files = {"kernels/program.py": module.text.encode()}
    entries = {}
    for c in compiled:
        files[f"kernels/{c.function}.cubin"] = c.cubin
        files[f"kernels/{c.function}.ptx"] = c.ptx.encode()
        e = c.entry
        entries[c.function] = [e.symbol, e.shared_bytes, e.threads, e.more_pointers]
    launches = Encoder((Launch, Stage, Workspace)).encode(dict(module.launches))
    files[_LAUNCHES] = json.dumps(launches).encode()
    files[_ENTRIES] = json.dumps(entries).encode()
    about = {"device": "triton", "name": target.name, "arch": target.arch}
    return files, about | toolchain(target.arch)


def open_gpu(about: Mapping[str, Any], device: Any) -> Any:
    """The GPU, if it is one for which the bundle was compiled; else TargetError."""
    from graphc.runtime.devices.triton import TritonDevice

    place = device or TritonDevice(compiles=False)
    import torch

    major, minor = torch.cuda.get_device_capability(place.place)
    if 10 * major + minor != about["arch"]:
        raise TargetError(
            f"the bundle was compiled for {about['name']}, and this GPU is sm_{major}{minor}: "
            f"compile it with --target sm_{major}{minor}"
        )
    return place


def bundled_functions(files: Mapping[str, bytes], decoder: Decoder) -> Any:
    """The functions, as the device takes them; BundleError where one is missing."""
    from graphc.runtime.devices import cuda_driver
    from graphc.runtime.devices.triton import Built

    driver = cuda_driver.Driver()
    try:
        entries = json.loads(files[_ENTRIES])
        functions = {
            name: cuda_driver.CubinFunction(
                driver, name, files[f"kernels/{name}.cubin"], Entry(*told)
            )
            for name, told in entries.items()
        }
        launches = decoder.decode(json.loads(files[_LAUNCHES]))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"the bundle's kernels are damaged: {error!r}") from error
    module = Module(files["kernels/program.py"].decode(), {}, launches)
    return Built(module, functions, is_compiled=True)


__all__ = ["bundled_functions", "cubin_files", "open_gpu"]
