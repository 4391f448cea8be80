"""One model from Python to kernel: every artefact of docs/architecture.md, printed.

python examples/tour.py [--device numpy|triton]
"""

from __future__ import annotations

import argparse

import numpy as np

import graphc as gc
from graphc.ir.computation import cut
from graphc.ir.interpret import evaluate
from graphc.ir.loop_text import format_program
from graphc.ir.settings import Settings
from graphc.ir.text import print_computation
from graphc.passes.context import Context
from graphc.passes.pipeline import PIPELINE
from graphc.runtime.devices import open_device


def heading(text: str) -> None:
    """A line that says what comes next."""
    print(f"\n{'-' * 8} {text} {'-' * max(0, 80 - len(text))}\n")


def main() -> None:
    """Walk the pipeline step by step over a layer with softmax, and run what comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="numpy")
    options = parser.parse_args()

    with gc.Graph().as_default() as graph:
        x = gc.placeholder(gc.float32, [None, 6], name="x")
        weights = gc.placeholder(gc.float32, [6, 3], name="weights")
        y = gc.nn.softmax(gc.nn.relu(gc.matmul(x, weights) + 1.0), name="y")

    heading("1. the graph, as it was built")
    for node in graph.nodes:
        print(f"{node.op.name:12} {node.name:12} {', '.join(map(str, node.types)):20} {node.where}")

    feeds = [np.ones((4, 6), np.float32), np.linspace(-1, 1, 18, dtype=np.float32).reshape(6, 3)]
    computation = cut([y], [], [x, weights])
    shapes = dict(zip(computation.inputs, (f.shape for f in feeds), strict=True))
    unit = computation
    context = Context(Settings(), feed_shapes=shapes)
    for number, compiler_pass in enumerate(PIPELINE, start=2):
        changed = compiler_pass(unit, context)  # type: ignore[operator]
        if changed is not unit:
            heading(f"{number}. after {compiler_pass.__name__}")
            is_graph = hasattr(changed, "nodes")
            print(print_computation(changed) if is_graph else format_program(changed))
        unit = changed

    heading("what was not fused, and why")
    for decision in context.decisions:
        print(f"{decision.producer} -> {decision.consumer}: {decision.reason} {decision.numbers}")

    device = open_device(options.device)
    heading(f"the kernels' source on {device.name}")
    for source in device.sources(unit, Settings()).values():
        print(source)

    heading("a run, against the definition")
    with gc.Session(graph=graph, device=options.device) as session:
        result = session.run(y, {x: feeds[0], weights: feeds[1]})
    expected = evaluate([y], dict(zip((x.node, weights.node), feeds, strict=True)))[0]
    print(result)
    print("largest difference from the graph's definition:", np.abs(result - expected).max())


if __name__ == "__main__":
    main()
