"""The GPU part of a bundle: cubins, how they are started, and for which architecture."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from graphc.codegen.module import Module
from graphc.codegen.triton import LAUNCH_CLASSES, Options, emit
from graphc.ir.errors import BundleError, DeviceError, TargetError
from graphc.ir.loop import Program
from graphc.ir.loop_json import Decoder, Encoder
from graphc.ir.settings import Settings
from graphc.runtime.devices.triton import Built, TritonDevice, build, check_compiler
from graphc.runtime.devices.triton_compile import Entry, compile_program, toolchain
from graphc.runtime.targets import GpuTarget

_log = logging.getLogger("graphc")
_ENTRIES: Final = "kernels/entries.json"
_LAUNCHES: Final = "kernels/launches.json"


def cubin_files(
    program: Program, target: GpuTarget, options: Settings
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A cubin and its PTX per function, the Triton source, and how the functions are launched."""
    check_compiler()
    module = emit(program, _options(program, target, options))
    compiled = compile_program(program, module, build(module.text), target.arch)
    files = {"kernels/program.py": module.text.encode()}
    entries = {}
    for c in compiled:
        files[f"kernels/{c.function}.cubin"] = c.cubin
        files[f"kernels/{c.function}.ptx"] = c.ptx.encode()
        e = c.entry
        entries[c.function] = [e.symbol, e.shared_bytes, e.threads, e.more_pointers]
    launches = Encoder(LAUNCH_CLASSES).encode(dict(module.launches))
    files[_LAUNCHES] = json.dumps(launches).encode()
    files[_ENTRIES] = json.dumps(entries).encode()
    about = {"device": "triton", "name": target.name, "arch": target.arch}
    return files, about | toolchain(target.arch)


def _options(program: Program, target: GpuTarget, settings: Settings) -> Options:
    """What is emitted: by measurement where that is asked for and such a GPU is here."""
    if settings.autotune:
        try:
            place = TritonDevice()
            if _arch(place) == target.arch:
                return place.options_for(settings, program)
            why = f"this GPU is sm_{_arch(place)}"
        except DeviceError as error:
            why = str(error)
        _log.warning("schedules for %s are by rule, not measured: %s", target.name, why)
    return target.options(settings)


def _arch(place: TritonDevice) -> int:
    """The GPU's architecture: 90 for sm_90."""
    import torch

    major, minor = torch.cuda.get_device_capability(place.place)
    return int(10 * major + minor)


def open_gpu(about: Mapping[str, Any], device: Any) -> Any:
    """The GPU, if it is one for which the bundle was compiled; else TargetError."""
    place = device or TritonDevice(compiles=False)
    arch = _arch(place)
    if arch != about["arch"]:
        raise TargetError(
            f"the bundle was compiled for {about['name']}, and this GPU is sm_{arch}: "
            f"compile it with --target sm_{arch}"
        )
    return place


def bundled_functions(files: Mapping[str, bytes], decoder: Decoder) -> Any:
    """The functions, as the device takes them; BundleError where one is missing."""
    from graphc.runtime.devices import cuda_driver

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
