"""Whether there is a GPU, and the marks of tests that need one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest


def has_gpu() -> bool:
    """True where an NVIDIA driver is installed and torch finds a device."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    torch = pytest.importorskip("torch")
    return bool(torch.cuda.is_available())


def on_gpu(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test of `make test-gpu`, skipped where there is no GPU."""
    skip = pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU")
    marked: Callable[..., Any] = pytest.mark.gpu(skip(test))
    return marked
