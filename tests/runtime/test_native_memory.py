"""Memory of the CPU devices: alignment, huge pages, and fetched arrays that come back."""

from __future__ import annotations

import mmap
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from graphc.ir.memory import aligned_bytes, touch_beside
from graphc.runtime.devices.memory import OutputPool

MIB = 1 << 20


@pytest.mark.parametrize("count", [1, 63, 4096, 4 * MIB - 1, 4 * MIB, 9 * MIB + 5])
def test_aligned_zeros(count: int) -> None:
    block = aligned_bytes(count)
    assert block.size == count and block.ctypes.data % 64 == 0 and not block.any()
    block[:] = 7  # all of it is there
    if count >= 4 * MIB and hasattr(mmap, "MADV_HUGEPAGE"):
        assert block.ctypes.data % (2 * MIB) == 0


def test_touching_changes_nothing() -> None:
    blocks = [aligned_bytes(n) for n in (1000, 5 * MIB + 3, 16 * MIB)]
    for block in blocks:
        block[::1000] = 3
    touch_beside(blocks)
    touch_beside([])
    for block in blocks:
        block[1::1000] = 4  # while the pages come
    for thread in threading.enumerate():
        if thread.name == "graphc pages":
            thread.join(30)
    for block in blocks:
        assert (block[::1000] == 3).all() and (block[1::1000] == 4).all()
        assert block.astype(int).sum() == 3 * block[::1000].size + 4 * block[1::1000].size


@pytest.mark.skipif(
    not os.path.exists("/sys/kernel/mm/transparent_hugepage/enabled"), reason="needs Linux"
)
def test_large_blocks_ask_for_huge_pages() -> None:
    block = aligned_bytes(16 * MIB)
    block[:] = 1
    flags = ""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if found:
            first, last = (int(x, 16) for x in found.groups())
            inside = first <= block.ctypes.data < last
        elif inside and line.startswith("VmFlags:"):
            flags = line
    assert " hg" in flags, flags


@pytest.mark.parametrize("count", [MIB // 4, MIB, 3 * MIB])
def test_dropped_arrays_come_back(count: int) -> None:
    pool = OutputPool()
    x = pool.take("x", (count,), np.dtype(np.float32))
    address = x.ctypes.data
    view = x[5:].reshape(-1)
    del x
    y = pool.take("x", (count,), np.dtype(np.float32))
    assert y.ctypes.data != address, "a view still refers to the first"
    del view
    z = pool.take("x", (count,), np.dtype(np.float32))
    assert z.ctypes.data == address
    assert not np.may_share_memory(y, z)


def test_small_arrays_are_not_pooled() -> None:
    pool = OutputPool()
    x = pool.take("x", (10,), np.dtype(np.float32))
    assert x.base is None and x.flags.owndata
