"""All benchmarks, or those named: `python -m benchmarks [--device gpu] [name ...]`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from benchmarks import gpu

CPU = ("softmax_regression", "kernels", "compile_time")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks one after another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    names = f"for a CPU: {', '.join(CPU)}; for a GPU: {', '.join(gpu.ROWS)}; default: all"
    parser.add_argument("names", nargs="*", help=names)
    options = parser.parse_args(arguments)
    known = CPU if options.device == "cpu" else gpu.ROWS
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(known)}")
    if options.device == "gpu":
        return gpu.main(options.names)
    del sys.argv[1:]  # benchmarks that run alone take arguments of their own
    for name in options.names or CPU:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
