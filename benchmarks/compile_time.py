"""The compiler's own time over growing training graphs: it should grow about linearly.

    python -m benchmarks.compile_time

Perceptrons of more and more layers with Adam; passes, fusion, plan and NumPy code. Aims: under
1 s at 1,000 nodes, under 10 s at 10,000.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import graphc as gc
from benchmarks.measure import save
from graphc.codegen.numpy.emit import emit
from graphc.ir.computation import Computation, cut
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program

LAYERS = (6, 12, 25, 60, 120, 235)


def training_graph(layers: int, units: int = 16) -> Computation:
    """Forward, backward and Adam updates of a perceptron."""
    with gc.Graph().as_default():
        x = first = gc.placeholder(gc.float32, [8, units])
        for _ in range(layers):
            kernel = gc.Variable(gc.random_normal([units, units], seed=1))
            x = gc.nn.relu(gc.matmul(x, kernel) + gc.Variable(gc.zeros([units])))
        step: Any = gc.train.AdamOptimizer().minimize(gc.reduce_mean(gc.square(x)))
        return cut([], [step], [first])


def measure_one(layers: int) -> dict[str, float]:
    """Nodes, and seconds of the passes (with each of the largest) and of code generation."""
    computation = training_graph(layers)
    ctx = Context(Settings())
    start = time.perf_counter()
    program = compile_program(computation, ctx)
    middle = time.perf_counter()
    emit(program)
    end = time.perf_counter()
    return {
        "nodes": len(computation.nodes),
        "kernels": len(program.kernels),
        "passes_s": middle - start,
        "code_s": end - middle,
        "total_s": end - start,
        "fuse_s": ctx.notes["seconds"]["fuse"],
    }


def main() -> None:
    """Measure, print a table and the exponent of the growth, save."""
    measure_one(2)
    rows = [measure_one(layers) for layers in LAYERS]
    print(f"{'nodes':>7}{'kernels':>9}{'passes s':>10}{'fuse s':>9}{'code s':>9}{'total s':>9}")
    for r in rows:
        print(
            f"{r['nodes']:7.0f}{r['kernels']:9.0f}{r['passes_s']:10.2f}{r['fuse_s']:9.2f}"
            f"{r['code_s']:9.2f}{r['total_s']:9.2f}"
        )
    large = rows[2:]
    logs = np.log([[r["nodes"], r["total_s"]] for r in large])
    exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    print(f"total time grows as nodes^{exponent:.2f}")
    print("saved", save("compile_time", {"rows": rows, "exponent": exponent}))


if __name__ == "__main__":
    main()
