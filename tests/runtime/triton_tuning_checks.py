"""Autotuning: what is measured, kept and used again; run by triton_checks.py like the others.

A timer of the test's own decides what is quickest, so that nothing depends on time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.computation import cut
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices.triton import TritonDevice
from tests.codegen.interpret_runner import difference, expected
from tests.codegen.triton_cases import CASES, Case
from tests.runtime.triton_device_checks import Check, normal, op, placeholder

CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Enter a check under its name."""
    CHECKS[function.__name__] = function
    return function


class Scripted:
    """A timer: launches are of decreasing time, or of increasing; it counts them.

    Only the first of a test is run: the interpreter is slow, and what is chosen runs afterwards.
    """

    def __init__(self, later_is_quicker: bool) -> None:
        self.step = -0.01 if later_is_quicker else 0.01
        self.count = 0

    def __call__(self, launch: Callable[[], None]) -> float:
        if not self.count:
            launch()
        self.count += 1
        return 1.0 + self.count * self.step


@contextmanager
def tuning(device: TritonDevice, timer: Scripted) -> Iterator[Settings]:
    """Settings that tune into an empty folder, by the timer."""
    before, device.timer = device.timer, timer
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Settings(autotune=True, libraries=False, native_cache=folder)
    finally:
        device.timer = before


def softmax_program(device: TritonDevice) -> Any:
    x = placeholder(96, 64)
    return compile_program(cut([op("softmax")(x, axis=-1)], [], [x]), Context(target=device.target))


def runs_right(case: Case, device: TritonDevice, settings: Settings) -> None:
    """The program's outputs under these settings are the oracle's."""
    got = device.load(case.program, {}, settings).run(case.feeds, case.run)
    for g, w in zip(got, expected(case), strict=True):
        assert difference(g, w) <= 1.0


@check
def the_quickest_is_kept_and_used_again(device: TritonDevice) -> None:
    program, x = softmax_program(device), normal(96, 64)
    with tuning(device, Scripted(later_is_quicker=True)) as settings:
        first = device.load(program, {}, settings)
        measured = device.timer.count
        assert measured >= 3
        file = Path(settings.native_cache or "") / "tuning.json"
        (kept,) = json.loads(file.read_text())[device.label].values()
        assert kept["seconds"] < kept["rule_seconds"] and kept["kernel"] == program.kernels[0].name
        again = device.load(program, {}, settings)
        assert device.timer.count == measured, "measured twice"
        (stage,) = again.built.module.launches[program.kernels[0].name].stages
        assert stage.num_warps == kept["schedule"]["num_warps"]
        (source,) = device.sources(program, settings).values()
        assert "measured " in source and "by rule 990000.0 us" in source
    e = np.exp(x - x.max(1, keepdims=True))
    for executable in (first, again):
        np.testing.assert_allclose(executable.run([x], 0)[0], e / e.sum(1, keepdims=True), 1e-5)


@check
def the_rule_stays_where_it_is_quickest(device: TritonDevice) -> None:
    program = softmax_program(device)
    with tuning(device, Scripted(later_is_quicker=False)) as settings:
        tuned = device.sources(program, settings)
        assert device.timer.count >= 3
    assert tuned == device.sources(program, Settings())


@check
def a_schedule_that_is_no_candidate_is_not_taken(device: TritonDevice) -> None:
    program = softmax_program(device)
    with tuning(device, Scripted(later_is_quicker=True)) as settings:
        device.load(program, {}, settings)
        file = Path(settings.native_cache or "") / "tuning.json"
        kept = json.loads(file.read_text())
        for choice in kept[device.label].values():
            choice["schedule"]["x"] = 7
        file.write_text(json.dumps(kept))
        measured = device.timer.count
        device.load(program, {}, settings)
        assert device.timer.count > measured


@check
def a_damaged_file_is_made_anew(device: TritonDevice) -> None:
    program = softmax_program(device)
    with tuning(device, Scripted(later_is_quicker=True)) as settings:
        file = Path(settings.native_cache or "") / "tuning.json"
        for text in ("{", "[]", json.dumps({device.label: {"other": 1}})):
            file.write_text(text)
            device.load(program, {}, settings)
            assert device.timer.count
            device.timer.count = 0
        assert len(json.loads(file.read_text())[device.label]) == 2  # what others wrote stays


@check
def small_kernels_are_not_measured(device: TritonDevice) -> None:
    x = placeholder(7, 9)
    program = compile_program(cut([gc.exp(x)], [], [x]), Context(target=device.target))
    with tuning(device, Scripted(later_is_quicker=True)) as settings:
        device.load(program, {}, settings)
        assert device.timer.count == 0


def _tuned(name: str) -> Check:
    def run(device: TritonDevice) -> None:
        case = CASES[name]()
        with tuning(device, Scripted(later_is_quicker=True)) as settings:
            runs_right(case, device, settings)
            assert device.timer.count > 1

    return run


# One case of each recipe: the candidate measured last, which is the farthest from the rule's.
CHECKS |= {
    f"tuned_{n}": _tuned(n)
    for n in (
        "aligned_chain", "transposed", "matmul_plain", "sines_in_rows", "softmax_long",
        "reduce_columns_split",
    )
}  # fmt: skip
