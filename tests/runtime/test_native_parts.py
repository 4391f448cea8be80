"""A translation unit in parts means the same as whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import demo
from graphc.runtime.devices import native_parts
from graphc.runtime.devices.native_parts import LEAST_LINES, PAIR_LINES, split
from tests import control_programs

TEXT = """/* what it is */
#include "graphc.h"

static const float table[] = {
    1.0f,
};

/* first */
GC_KERNEL void k0(gc_buffers b, long first, long last) {
    helper();
}

static void helper(void) {
    table;
}

static int k1(gc_buffers b) {
    return 0;
}

int program(gc_buffers b) {
    k0(b, 0, 1);
    return k1(b);
}
"""


def test_what_others_mention_is_declared_and_exported() -> None:
    hidden = '__attribute__((visibility("hidden")))'
    parts = split(TEXT, 5, 1)
    assert len(parts) > 2 and all(p.count('#include "graphc.h"') == 1 for p in parts)
    text = "\n".join(parts)
    assert (
        f"{hidden} __attribute__((noinline)) void k0(gc_buffers b, long first, long last) {{"
        in text
    )
    assert f"{hidden} void k0(gc_buffers b, long first, long last);" in parts[-1]
    assert f"{hidden} int k1(gc_buffers b) {{" in text
    assert text.count("/* first */") == 1 and text.count("int program(") == 1
    assert sum("    helper();" in p for p in parts) == 1


def test_small_units_stay_whole() -> None:
    assert split(TEXT, 8) == [TEXT]
    assert split(TEXT + "\n" * 10 * LEAST_LINES, 1)[0].startswith(TEXT)
    assert len(split(TEXT + "\n" * PAIR_LINES, 8)) == 2


def _in_parts(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[int]:
    """From now on every program is split into up to four parts; their numbers come in the list."""
    counts: list[int] = []

    def always(text: str, most: int) -> list[str]:
        if most == 1:  # not written by graphc
            return [text]
        parts = split(text, 4, 3)
        counts.append(len(parts))
        return parts

    monkeypatch.setenv("GRAPHC_CACHE", str(cache))  # in which no library lies
    monkeypatch.setattr(native_parts, "split", always)
    return counts


@pytest.mark.parametrize("name", sorted(control_programs.PROGRAMS))
def test_loops_and_branches(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = _in_parts(monkeypatch, tmp_path)
    with gc.Graph().as_default(), gc.Session(device="native") as session:
        program = control_programs.PROGRAMS[name]
        fetches, feeds = control_programs.fetches_and_feeds(program)
        control_programs.check(program, session.run(fetches, feeds))
    assert max(counts) > 1


def _losses(network: Any) -> list[float]:
    rng = np.random.default_rng(0)
    images, labels = rng.random((32, 8, 8), np.float32), rng.integers(0, 10, 32)
    with gc.Graph().as_default(), gc.Session(device="native", threads=2) as session:
        gc.set_random_seed(0)
        built = demo.build(network)
        session.run(gc.global_variables_initializer())
        step = session.make_callable([built.loss, built.step], [built.images, built.labels])
        return [float(step(images, labels)[0]) for _ in range(5)]


@pytest.mark.parametrize("network", demo.NETWORKS, ids=lambda n: n.name)
def test_networks_train_the_same(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _losses(network)
    counts = _in_parts(monkeypatch, tmp_path)
    # what is known of a function's callers changes how its loops are laid out, and so roundings
    np.testing.assert_allclose(_losses(network), whole, rtol=1e-5)
    assert max(counts) == 4
