"""Runs programs whose C is built with sanitizers: every op's samples, and random graphs.

Started by test_native_sanitized.py in a process of its own: the sanitizers' library must be the
first that is loaded, and what it finds ends the process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.computation import cut
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Graph, Value
from graphc.ir.settings import Settings
from graphc.ir.table import OPS
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.passes.target import CPU, Target
from graphc.runtime.devices.native import NativeDevice
from graphc.runtime.devices.native_build import build
from tests.ir.test_op_table import NAMES
from tests.passes.test_sweep import EAGER, column_sums
from tests.random_graphs import chooser, random_graph

BATCH = 30  # ops per program: one compiler run for all of them


def run(
    outputs: Sequence[Value], given: dict[Any, np.ndarray], threads: int, target: Target = CPU
) -> None:
    """Compile and run twice, so that memory is used again."""
    device, settings = NativeDevice(), Settings.from_environment(threads=threads)
    computation = cut(outputs, (), [n.outputs[0] for n in given])
    shapes = {n: np.shape(a) for n, a in given.items()}
    context = Context(settings, target, shapes, dict(given))
    executable = device.load(compile_program(computation, context), {}, settings)
    for number in range(2):
        # copies on the heap of exactly this size, whose ends are guarded
        executable.run([np.array(given[n]) for n in computation.inputs], number)


def ops(names: Sequence[str]) -> None:
    """The samples of some ops."""
    with Graph().as_default():
        outputs: list[Value] = []
        given: dict[Any, np.ndarray] = {}
        for name in names:
            for sample in OPS[name].samples():
                arrays = [np.asarray(a) for a in sample.inputs]
                inputs = [gc.placeholder(as_dtype(a.dtype), a.shape) for a in arrays]
                given |= {v.node: a for v, a in zip(inputs, arrays, strict=True)}
                outputs += OPS[name].outputs(*inputs, **sample.attrs)
        run(outputs, given, 2)


def windows() -> None:
    """Convolutions by Winograd's filters at images that end within a tile, NaN among the pixels,
    and gradients."""
    rng = np.random.default_rng(3)
    for shape, columns, padding in (((1, 9, 11, 16), 20, "SAME"), ((2, 7, 13, 32), 70, "VALID")):
        with Graph().as_default():
            image = gc.placeholder(gc.float32, shape)
            filters = gc.placeholder(gc.float32, [3, 3, shape[3], columns])
            y = gc.nn.conv2d(image, filters, strides=[1, 1, 1, 1], padding=padding)
            given = {
                v.node: rng.standard_normal(v.shape.as_list()).astype(np.float32)
                for v in (image, filters)
            }
            given[image.node][0, -1, -1, -1] = np.nan
            run([y, *gc.gradients(y, [image, filters])], given, 2)


def main(what: str, first: int, last: int) -> None:
    """`ops`, `graphs` or `folds`, by number; `windows`; `overrun` writes behind an array."""
    if what == "overrun":
        array = np.ones(last, np.float32)
        build("void overrun(float *x, long i) { x[i] = 0; }").overrun(array.ctypes, last)
    elif what == "windows":
        windows()
    elif what == "graphs":
        for seed in range(first, last):
            outputs, given = random_graph(chooser(seed), steps=24, backward=seed % 2 == 1)
            run(outputs, given, 2)
    elif what == "folds":
        for seed in range(first, last):
            with Graph().as_default():
                run(*column_sums(seed), 2, replace(CPU, folding=EAGER))
    else:
        names = [n for n in NAMES][first:last]
        for i in range(0, len(names), BATCH):
            ops(names[i : i + BATCH])
    print("clean")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
