"""Kernels of a bundle on a GPU by the CUDA driver alone: no Triton, no compiler.

Triton's own launcher is C that is compiled where it runs. Here four functions of libcuda are called
through ctypes; in a CUDA graph, which is how a run goes, that costs nothing.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Final

from graphc.ir.errors import DeviceError, TargetError
from graphc.runtime.devices.triton_compile import Entry

_MAX_DYNAMIC_SHARED: Final = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_FREE_SHARED_BYTES: Final = 48 << 10  # what a block may have without asking
# CUresult values by which a driver says that a cubin is not for it or its GPU
_WRONG_IMAGE: Final = {200, 209, 218, 222}
Tensor = Any  # torch is imported late


class Driver:
    """The CUDA driver; by default the machine's."""

    def __init__(self, library: Any = None) -> None:
        self.library = library or ctypes.CDLL("libcuda.so.1")

    def check(self, code: int, what: str) -> None:
        """TargetError where the cubin does not fit, DeviceError for any other code but 0."""
        if not code:
            return
        name = ctypes.c_char_p()
        self.library.cuGetErrorName(code, ctypes.byref(name))
        told = (name.value or b"?").decode()
        if code in _WRONG_IMAGE:
            version = self.version()
            raise TargetError(
                f"{what}: {told}. The GPU or its driver (CUDA {version[0]}.{version[1]}) does not "
                "take this bundle's cubins: compile with --target of the GPU's architecture and a "
                "Triton whose ptxas is no newer than the driver"
            )
        raise DeviceError(f"{what}: CUDA error {code} {told}")

    def version(self) -> tuple[int, int]:
        """The CUDA version that the driver supports."""
        number = ctypes.c_int()
        self.library.cuDriverGetVersion(ctypes.byref(number))
        return number.value // 1000, number.value % 1000 // 10

    def load(self, name: str, cubin: bytes, entry: Entry) -> ctypes.c_void_p:
        """The function's handle in the present context. It stays for the process's life."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        code = self.library.cuModuleLoadData(ctypes.byref(module), cubin)
        self.check(code, f"loading {name}")
        code = self.library.cuModuleGetFunction(
            ctypes.byref(function), module, entry.symbol.encode()
        )
        self.check(code, f"finding {entry.symbol} of {name}")
        if entry.shared_bytes > _FREE_SHARED_BYTES:
            code = self.library.cuFuncSetAttribute(
                function, _MAX_DYNAMIC_SHARED, ctypes.c_int(entry.shared_bytes)
            )
            self.check(code, f"{entry.shared_bytes} bytes of shared memory for {name}")
        return function

    def launch(
        self, name: str, function: ctypes.c_void_p, entry: Entry, grid: int, addresses: list[int]
    ) -> None:
        """Start it on the current stream; `addresses` are its arguments."""
        values = [ctypes.c_void_p(a) for a in (*addresses, *[0] * entry.more_pointers)]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        size = ctypes.c_uint
        code = self.library.cuLaunchKernel(
            function, size(grid), size(1), size(1), size(entry.threads), size(1), size(1),
            size(entry.shared_bytes), ctypes.c_void_p(self.stream()), pointers, None,
        )  # fmt: skip
        self.check(code, f"launching {name}")

    def stream(self) -> int:
        """torch's current stream."""
        import torch

        return int(torch.cuda.current_stream().cuda_stream)


class CubinFunction:
    """A function that is compiled already, where the device expects one of Triton's."""

    def __init__(self, driver: Driver, name: str, cubin: bytes, entry: Entry) -> None:
        self.driver = driver
        self.name = name
        self.cubin = cubin
        self.entry = entry

    def warmup(self, *arguments: Tensor, **options: Any) -> Any:
        """Nothing to compile."""
        del arguments, options
        return self

    @functools.cached_property
    def function(self) -> ctypes.c_void_p:
        """The handle, loaded when it is first wanted."""
        return self.driver.load(self.name, self.cubin, self.entry)

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        """A launch over the grid; the kernel is loaded now."""
        function = self.function

        def launch(*tensors: Tensor) -> None:
            addresses = [t.data_ptr() for t in tensors]
            self.driver.launch(self.name, function, self.entry, grid[0], addresses)

        return launch


__all__ = ["CubinFunction", "Driver"]
