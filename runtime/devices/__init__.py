"""The devices there are, and the choice of one.

`auto` takes the first of the list that works; a named device that is missing is an error.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Final

from graphc.ir.errors import DeviceError
from graphc.runtime.devices.base import Device

_log = logging.getLogger("graphc")


def _open_triton() -> Device:
    try:
        from graphc.runtime.devices.triton import TritonDevice
    except ImportError as error:
        raise DeviceError(
            f"the triton device needs torch and triton ({error}): pip install graphc[gpu]"
        ) from error
    return TritonDevice()


def _open_native() -> Device:
    from graphc.runtime.devices.native_team import team

    team()  # the compiler works while the rest is imported
    from graphc.runtime.devices.native import NativeDevice

    return NativeDevice()


def _open_numpy() -> Device:
    from graphc.runtime.devices.numpy import NumPyDevice

    return NumPyDevice()


DEVICES: Final[dict[str, Callable[[], Device]]] = {
    "triton": _open_triton,
    "native": _open_native,
    "numpy": _open_numpy,
}


@functools.cache
def _say_slower(reason: str) -> None:
    """Once per process and reason: the machine could do better."""
    _log.warning("programs run on NumPy, which is slower than compiled C: %s", reason)


def open_device(name: str) -> Device:
    """The device called `name`; for "auto" the first that works, which the log names."""
    if name != "auto":
        opener = DEVICES.get(name)
        if opener is None:
            raise DeviceError(f"no device {name!r}; there are: auto, {', '.join(DEVICES)}")
        return opener()
    reasons = []
    for candidate, opener in DEVICES.items():
        try:
            device = opener()
        except DeviceError as error:
            reasons.append(f"{candidate}: {error.message}")
            if candidate == "native":
                _say_slower(error.message)
        else:
            _log.info(
                "device auto takes %s%s", candidate, f" ({'; '.join(reasons)})" * bool(reasons)
            )
            return device
    raise DeviceError("no device works: " + "; ".join(reasons))


__all__ = ["DEVICES", "Device", "open_device"]
