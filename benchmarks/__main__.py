"""All benchmarks, or those named: `python -m benchmarks [--device gpu] [name ...]`."""

from __future__ import annotations

import argparse
import importlib
import sys

CPU = ("softmax_regression", "kernels", "compile_time")


def main() -> int:
    """Run the benchmarks one after another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CPU)}; default: all")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(CPU))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(CPU)}")
    if options.device == "gpu":
        print("there are no benchmarks for a GPU yet", file=sys.stderr)
        return 2
    for name in options.names or CPU:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
