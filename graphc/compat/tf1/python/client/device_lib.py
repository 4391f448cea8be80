"""`tf.python.client.device_lib`: which devices there are."""

from __future__ import annotations

from typing import NamedTuple

from graphc.compat.symbols import delegate
from graphc.compat.tf1.test import is_gpu_available


class Device(NamedTuple):
    """A device by TensorFlow's name and kind."""

    name: str
    device_type: str


def list_local_devices(session_config: object = None) -> list[Device]:
    """The CPU, and the GPU where there is one."""
    del session_config
    gpu = [Device("/device:GPU:0", "GPU")] if is_gpu_available() else []
    return [Device("/device:CPU:0", "CPU"), *gpu]


__getattr__ = delegate(__name__)
