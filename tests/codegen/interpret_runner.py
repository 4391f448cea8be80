"""Run cases on the Triton device; as `python -m`, in the interpreter, one line of JSON per case.

A process of its own, because Triton reads TRITON_INTERPRET when it is imported:
`TRITON_INTERPRET=1 python -m tests.codegen.interpret_runner [case ...]`.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.codegen.triton import Launch, emit
from graphc.ir import loop
from graphc.ir.interpret import run_program
from graphc.ir.settings import Settings
from graphc.runtime.devices.triton import TritonDevice
from tests.codegen.triton_cases import CASES, Case, pointwise_cases, pointwise_names


def expected(case: Case) -> list[np.ndarray]:
    """The outputs by the program oracle."""
    program = case.program
    buffers = {n: a.ravel().copy() for n, a in zip(program.inputs, case.feeds, strict=True)}
    for b in program.buffers.values():
        if b.role == loop.COUNTER:
            buffers[b.name] = np.array([case.run], np.int64)
    run_program(program, buffers)
    return [buffers[n].reshape(program.buffers[n].shape) for n in program.outputs]


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """The largest error over tolerance: at most 1 is right. Integers and NaN must be equal."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return float("inf")
    if got.size == 0 or want.dtype.kind in "biu":
        return 0.0 if np.array_equal(got, want) else float("inf")
    tolerance = {"float64": 1e-11, "float32": 2e-5, "float16": 2e-3}.get(want.dtype.name, 1.6e-2)
    a, b = got.astype(np.float64), want.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    same = (a == b) | np.isnan(a)
    with np.errstate(all="ignore"):
        error = np.where(same, 0.0, np.abs(a - b) / (tolerance * (0.3 + np.abs(b))))
    return float(error.max())


def run(case: Case, device: TritonDevice) -> dict[str, Any]:
    """The case's recipes and its errors; with libraries too, where they compute something."""
    recipes, errors = set[str](), []
    for libraries in (False, True):
        options = replace(device.options, libraries=libraries)
        launches = emit(case.program, options).launches
        found = {x.recipe for x in launches.values() if isinstance(x, Launch)}
        if libraries and "library" not in found:
            break
        recipes |= found
        executable = device.load(case.program, {}, Settings(libraries=libraries))
        got = executable.run(case.feeds, case.run)
        errors += [difference(g, w) for g, w in zip(got, expected(case), strict=True)]
    return {"recipes": sorted(recipes), "errors": errors}


def run_op(name: str, device: TritonDevice) -> dict[str, Any]:
    """A pointwise op on all its samples."""
    results = [run(c, device) for c in pointwise_cases(name)]
    return {"recipes": ["flat"], "errors": [e for r in results for e in r["errors"]]}


def outcome(name: str, device: TritonDevice) -> dict[str, Any]:
    """The result of a case or of an op, or the traceback of its failure."""
    try:
        if name.startswith("op:"):
            return run_op(name.removeprefix("op:"), device)
        return run(CASES[name](), device)
    except Exception:
        return {"failure": traceback.format_exc()}


def main(names: list[str]) -> None:
    """Run the named cases, or all; `op:NAME` is a pointwise op of the table."""
    device = TritonDevice(interpret=True)
    for name in names or [*CASES, *(f"op:{n}" for n in pointwise_names())]:
        print(json.dumps({"case": name, **outcome(name, device)}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1:])
