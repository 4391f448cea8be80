"""Library routines whose work the threads share; the others are their op's meaning in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from graphc.codegen.numpy.support import Memory, shared
from graphc.ir.attention import Heads

Arrays = Sequence[np.ndarray]


def _each(mem: Memory, count: int, work: Callable[[int], None]) -> None:
    """work(0), ..., work(count - 1), shared among the threads."""

    def walk(first: int, last: int) -> None:
        for i in range(first, last):
            work(i)

    (run,) = shared(lambda _: (walk,), mem, count, 1, count)
    run()


def _attention(mem: Memory, attrs: Mapping[str, Any], inputs: Arrays, outputs: Arrays) -> None:
    """Threads take blocks of rows."""
    heads = Heads(attrs, *inputs)
    count = len(heads.places)
    out, lse = (x.reshape(count, heads.rows, *x.shape[inputs[0].ndim - 1 :]) for x in outputs)
    tasks = [(head, *rows) for head in range(count) for rows in heads.blocks()]
    _each(mem, len(tasks), lambda i: heads.attend(*tasks[i], out, lse))


def _attention_grad(mem: Memory, attrs: Mapping[str, Any], inputs: Arrays, outputs: Arrays) -> None:
    """Threads take heads, in which the blocks follow one another."""
    q, k, v, g, lse, delta, *mask = inputs
    heads = Heads(attrs, q, k, v, *mask)
    count = len(heads.places)
    rows = (heads.flat(g), *(x.reshape(count, heads.rows) for x in (lse, delta)))
    grads = [x.reshape(count, *x.shape[-2:]) for x in outputs]
    _each(mem, count, lambda head: heads.attend_grad(head, *rows, *grads))


Routine = Callable[[Memory, Mapping[str, Any], Arrays, Arrays], None]
ROUTINES: Final[Mapping[str, Routine]] = {
    "scaled_dot_product_attention": _attention,
    "scaled_dot_product_attention_grad": _attention_grad,
}

__all__ = ["ROUTINES"]
