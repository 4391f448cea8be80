"""All benchmarks, or those named: `python -m benchmarks [--device gpu] [--quick] [name ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

OTHERS = ("compile_time", "memory_planning")


def _run_others(names: Sequence[str]) -> None:
    """Benchmarks that have no contenders."""
    if "compile_time" in names:
        from benchmarks import compile_time

        compile_time.main(())
    if "memory_planning" in names:
        from benchmarks import memory_planning

        memory_planning.main(())


def _cpu(options: argparse.Namespace) -> int:
    from benchmarks import cpu

    names = [n for n in options.names if n not in OTHERS]
    _run_others(options.names)
    if options.names and not names:
        return 0
    return cpu.main(names, options.only or (), options.quick)


def _known(device: str) -> list[str]:
    if device == "gpu":
        from benchmarks import gpu_rows

        return [*gpu_rows.ROWS, *gpu_rows.GROUPS]
    from benchmarks.cpu import GROUPS
    from benchmarks.workloads import ROWS

    return [*ROWS, *GROUPS, *OTHERS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks one after another; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds (CPU)")
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="some contenders (CPU)")
    parser.add_argument("names", nargs="*", help="rows and groups, by default all")
    options = parser.parse_args(arguments)
    known = _known(options.device)
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are: {', '.join(known)}")
    if options.device == "gpu":
        from benchmarks import gpu

        return gpu.main(options.names)
    from benchmarks.peers import CONTENDERS

    strangers = sorted(set(options.only or ()) - set(CONTENDERS))
    if strangers:
        parser.error(f"no contender {strangers[0]!r}; there are: {', '.join(CONTENDERS)}")
    return _cpu(options)


if __name__ == "__main__":
    sys.exit(main())
