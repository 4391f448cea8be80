"""How the compiler's own time grows: training graphs of perceptrons with more and more layers.

    python -m benchmarks.compile_time [layers ...]

Per network the number of ops and the seconds of every stage; then the exponent p of seconds =
c * ops^p, fitted over the networks (1: linear). The steps are Adam's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np

import graphc as gc
from benchmarks.measure import save
from graphc.codegen.numpy.emit import emit
from graphc.ir.computation import Computation, cut
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.fetches import FetchPlan, feed_key

LAYERS = (5, 20, 50, 100, 200)
WIDTH, BATCH = 32, 64


def network(layers: int) -> Computation:
    """One training step of a perceptron, cut out of its graph."""
    with gc.Graph().as_default() as graph:
        x = gc.placeholder(gc.float32, [BATCH, WIDTH])
        labels = gc.placeholder(gc.float32, [BATCH, WIDTH])
        h = x
        for _ in range(layers):
            kernel = gc.Variable(gc.zeros([WIDTH, WIDTH]))
            h = gc.nn.relu(gc.matmul(h, kernel) + gc.Variable(gc.zeros([WIDTH])))
        losses = gc.nn.softmax_cross_entropy_with_logits(labels=labels, logits=h)
        loss = gc.reduce_mean(losses)
        plan = FetchPlan([loss, gc.train.AdamOptimizer().minimize(loss)], graph)
        return cut(plan.values, plan.nodes, [feed_key(v, graph) for v in (x, labels)])


def measure(layers: int) -> dict[str, float]:
    """Seconds per stage, and the counts, for one network."""
    start = time.perf_counter()
    computation = network(layers)
    result = {"layers": layers, "ops": len(computation.nodes), "build": -start}
    result["build"] += time.perf_counter()
    ctx = Context(Settings())
    start = time.perf_counter()
    program = compile_program(computation, ctx)
    result |= ctx.notes["seconds"]
    result["verify"] = sum(p.verify_s for p in ctx.notes["passes"])
    result["compile"] = time.perf_counter() - start
    start = time.perf_counter()
    emit(program)
    result["emit"] = time.perf_counter() - start
    result["total"] = result["compile"] + result["emit"]
    result["kernels"] = len(program.kernels)
    assert program.plan is not None
    result["arena_over_bound"] = program.plan.arena_bytes / max(program.plan.lower_bound, 1)
    return result


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """p of seconds = c * sizes^p, by least squares of the logarithms."""
    usable = [(n, s) for n, s in zip(sizes, seconds, strict=True) if s > 0]
    if len(usable) < 2:
        return float("nan")
    logs = np.log(np.array(usable))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def table(rows: Sequence[Mapping[str, float]]) -> str:
    """One line per stage, one column per network, and the exponents."""
    counts = ("layers", "ops", "kernels", "arena_over_bound")
    ops = [r["ops"] for r in rows]
    lines = [f"{name:18}" + "".join(f"{r[name]:10.4g}" for r in rows) for name in counts]
    for name in (n for n in rows[-1] if n not in counts):
        seconds = [r.get(name, 0.0) for r in rows]
        cells = "".join(f"{s:10.4f}" for s in seconds)
        lines.append(f"{name:18}{cells}   ^{exponent(ops, seconds):.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and save."""
    layers = [int(a) for a in arguments] or LAYERS
    measure(2)  # what is imported and cached on the first use is not what is measured
    rows = [measure(n) for n in layers]
    print(table(rows))
    exponents = {n: exponent([r["ops"] for r in rows], [r[n] for r in rows]) for n in ("total",)}
    print(save("compile_time", {"networks": rows, "exponents": exponents}))


if __name__ == "__main__":
    main(sys.argv[1:])
