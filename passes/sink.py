"""sink: what a kernel stores and can be had from what is stored anyway is computed by its readers.

    k1: d = dot ..; y[..] = d; t[..] = d * x[..]        k1: d = dot ..; y[..] = d
    k2: s = reduce sum t[..]                        ->  k2: s = reduce sum y[..] * x[..]

Fusion pulls cheap values into the kernel that makes their operands, and stores them: the products
of a layer norm's backward come to lie behind a matrix product. Here they go to where they are
read, if fewer bytes are moved so and no more are alive at once. Operands are read as they were
stored, so the bits stay the same. Skips values that need a sum or product that is not stored, that
cost more than a few operations, that are read at more points than they have, or that a matrix
product takes as an operand; what commits read.
Cost: per stored value one copy of each of its readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc.ir.loop import Kernel, Program, Store
from graphc.passes.context import Context
from graphc.passes.stored_values import StoredValues, value_of, without

_MOST_FLOPS = 8.0  # per element, of what each reader computes again


def sink(program: Program, ctx: Context) -> Program:
    """The program with stored values computed by their readers where that moves fewer bytes."""
    if not ctx.settings.fuse:
        return program
    sinking = _Sinking(program, ctx)
    sinking.run()
    return sinking.result()


@dataclass(frozen=True)
class _Trial:
    """Kernels by position in the place of others, so that `buffer` is not stored any more."""

    buffer: str
    changed: Mapping[int, Kernel]


class _Sinking(StoredValues):
    def run(self) -> None:
        """Each kernel's stores, the last first: what a later one is made of may sink as well."""
        for i in range(self.start.commit):
            stores = [s for s in self.kernels[i].body if isinstance(s, Store)]
            for store in reversed(stores if len(stores) > 1 else []):
                trial = self.trial(i, store)
                if trial is not None and self.saves(trial):
                    self.put(trial.changed, [trial.buffer])

    def trial(self, i: int, store: Store) -> _Trial | None:
        """The kernels in which the readers of what kernel `i` stores here compute it."""
        if not self.may_go(i, store):
            return None
        value = value_of(self.kernels[i], store, self.buffers)
        rest = without(self.kernels[i], [store])
        if value is None or rest is None:
            return None
        changed = {i: rest}
        refusal = self.put_into_readers(value, changed, _MOST_FLOPS)
        return None if refusal else _Trial(store.access.buffer, changed)

    def saves(self, trial: _Trial) -> bool:
        """Fewer bytes are moved, and no more are alive at any kernel: what the readers read now
        and must be kept for them is no more than what need not be kept."""
        kept = self.kept_bytes(trial.changed)
        saved = self.moved(trial.changed, self.buffers) < 0
        return saved and kept <= self.buffers[trial.buffer].nbytes


__all__ = ["sink"]
