"""Names of kernels: where they stand, and what they compute.

k07_softmax_loss     the eighth kernel; its first and its last op of the user's
k12_update_W_b       writes variables, from W to b
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from graphc.ir import loop
from graphc.ir.loop import Buffer, Kernel

_LONGEST = 22  # characters of one op's name


def name_kernels(kernels: Iterable[Kernel], buffers: Mapping[str, Buffer]) -> tuple[Kernel, ...]:
    """The kernels under names that say their position and are unique, parts too."""
    return tuple(
        k.renamed(
            f"k{i:02d}_{describe(k, buffers)}",
            tuple(
                p.renamed(f"k{i:02d}p{n:02d}_{describe(p, buffers)}", ())
                for n, p in enumerate(k.parts)
            ),
        )
        for i, k in enumerate(kernels)
    )


def describe(kernel: Kernel, buffers: Mapping[str, Buffer]) -> str:
    """What the kernel computes, as an identifier: the variables it updates, or its ops."""
    written = [buffers[n].source for n in kernel.outputs if buffers[n].role == loop.VARIABLE]
    named = written or kernel.covers or (kernel.form,)
    ends = dict.fromkeys(short(n) for n in (named[0], named[-1]))
    return "_".join((*(["update"] if written else []), *ends))


@lru_cache(maxsize=4096)  # several passes name the kernels, of the same ops
def short(name: str) -> str:
    """The last parts of a scoped name, as an identifier: `model/dense/matmul` -> dense_matmul."""
    words = re.sub(r"\W+", "_", "_".join(name.split("/")[-2:])).strip("_")
    if len(words) > _LONGEST:  # cut before a word, where there is one
        tail = words[-_LONGEST:]
        words = tail.partition("_")[2] or tail
    return words.strip("_") or "op"
