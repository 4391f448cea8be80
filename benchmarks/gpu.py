"""The benchmarks of a GPU: `python -m benchmarks --device gpu [row ...]`.

Per row the median seconds of graphc, of torch eager and of torch.compile, and the least time that
the measured limits of the GPU allow. Inputs and outputs are larger than the caches and change
from call to call; results are compared before anything is timed. The figures are added to
benchmarks/results/<gpu>.json row by row, so that rows may be measured in several runs.
"""

from __future__ import annotations

import gc as collector
import json
import math
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import graphc as gc
from benchmarks.gpu_timing import Call, EventTimer, Limits, measured_limits, medians, working
from benchmarks.measure import RESULTS
from graphc.ir.computation import cut
from graphc.ir.graph import convert
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices.triton import TritonDevice, TritonExecutable
from graphc.runtime.fetches import feed_key

KERNEL_ROWS: Final = (
    "pointwise_chain", "gelu_chain", "softmax", "layer_norm", "layer_norm_with_gradient",
    "cross_entropy_with_gradient", "sum_all", "sum_rows", "sum_columns", "transposed_add",
    "matmul_bias_gelu_bfloat16", "matmul_bias_gelu_tf32", "matmul_bias_gelu_float32",
)  # fmt: skip
TRAINING_ROWS: Final = ("step_softmax_regression", "step_perceptron", "step_lenet")
ROWS: Final = (*KERNEL_ROWS, "adam", *TRAINING_ROWS)
CONTENDERS: Final = ("graphc", "torch", "compile")


# -- one row


def loaded(
    device: TritonDevice, workload: Any, arrays: Sequence[np.ndarray], sets: int
) -> list[TritonExecutable]:
    """The workload's program, several times, each with memory and inputs of its own."""
    settings = Settings(tf32=workload.kind == "tf32")
    with gc.Graph().as_default() as graph:
        inputs = [gc.placeholder(a.dtype, a.shape) for a in arrays]
        outputs = [convert(y) for y in workload.outputs(inputs)]
        keys = [feed_key(x, graph) for x in inputs]
        computation = cut(outputs, [], keys)
        program = compile_program(computation, Context(settings, device.target))
    given = {k.node: a for k, a in zip(keys, arrays, strict=True)}
    executables = [device.load(program, {}, settings) for _ in range(sets)]
    for executable in executables:
        for name, node in zip(program.inputs, computation.inputs, strict=True):
            dtype = program.buffers[name].dtype
            executable.tensor(name).copy_(device.to_tensor(given[node], dtype))
    return executables


def results(executable: TritonExecutable) -> list[Any]:
    """The outputs of a run, as tensors on the device."""
    executable.launch()
    program = executable.program
    return [executable.tensor(n).reshape(program.buffers[n].shape) for n in program.outputs]


def difference(got: Sequence[Any], want: Sequence[Any]) -> float:
    """The largest error of any output, over the largest value of that output."""
    assert len(got) == len(want)
    errors = [0.0]
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape, f"shapes {tuple(g.shape)} and {tuple(w.shape)}"
        scale = max(float(w.detach().abs().max()), 1e-30)
        errors.append(float((g.float() - w.detach().float()).abs().max()) / scale)
    return max(errors)


def kernel_row(name: str, limits: Limits) -> dict[str, Any]:
    """The row of a workload."""
    import torch

    from benchmarks.gpu_workloads import WORKLOADS

    workload = WORKLOADS[name]
    torch._dynamo.reset()
    torch.set_float32_matmul_precision("high" if workload.kind == "tf32" else "highest")
    arrays = workload.arrays()
    traffic = sum(a.nbytes for a in arrays)
    sets = 2 + math.ceil(cache_bytes() / traffic)
    executables = loaded(TritonDevice(), workload, arrays, sets)
    program = executables[0].program
    traffic += sum(program.buffers[n].nbytes for n in program.outputs)
    tensors = [workload.tensors(arrays, "cuda") for _ in range(sets)]
    error = difference(results(executables[0]), workload.torch_call(workload.torch, tensors[0]))
    assert error <= workload.tolerance, f"{name}: {error} away from torch"
    compiled = torch.compile(workload.torch, dynamic=False)
    calls: dict[str, Call] = {
        "graphc": lambda i: executables[i % sets].launch(),
        "torch": lambda i: workload.torch_call(workload.torch, tensors[i % sets]),
        "compile": lambda i: workload.torch_call(compiled, tensors[i % sets]),
    }
    seconds = medians(working(calls), EventTimer())
    limit = limits.seconds(traffic, workload.flops, workload.kind)
    return {
        **seconds, "limit": limit, "bytes": traffic, "flops": workload.flops, "error": error,
        "kernels": len(program.kernels),
    }  # fmt: skip


def cache_bytes() -> int:
    """The second-level cache of the GPU."""
    import torch

    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def measure_row(name: str, limits: Limits) -> dict[str, Any]:
    """The figures of one row."""
    if name in KERNEL_ROWS:
        return kernel_row(name, limits)
    from benchmarks import gpu_training

    if name == "adam":
        return gpu_training.adam(limits)
    return gpu_training.training_step(gpu_training.TWINS[name])


# -- the table and the file


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows in Markdown: microseconds, how many times torch's time, share of the limit."""
    lines = [
        "| row | kernels | graphc us | torch us | compile us | torch / graphc | compile / graphc "
        "| of the limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if "failure" in row:
            lines.append(f"| {name} | failed: {row['failure']} |||||||")
            continue
        ours = row["graphc"]
        cells = [name, str(row.get("kernels", ""))]
        cells += [f"{row[c] * 1e6:.1f}" if c in row else "" for c in CONTENDERS]
        cells += [f"{row[c] / ours:.2f}" if c in row else "" for c in CONTENDERS[1:]]
        cells.append(f"{row['limit'] / ours:.0%}" if "limit" in row else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def result_path(gpu: str, folder: Path = RESULTS) -> Path:
    """Where the figures of a GPU of that name are kept."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-')}.json"


def add_row(path: Path, facts: Mapping[str, Any], name: str, row: Mapping[str, Any]) -> None:
    """Write one row into the file, in the order of `ROWS`; the others stay."""
    before = json.loads(path.read_text())["rows"] if path.exists() else {}
    rows = {**before, name: dict(row)}
    ordered = {n: rows[n] for n in ROWS if n in rows}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**facts, "rows": ordered}, indent=2) + "\n")


def measure(
    names: Sequence[str],
    path: Path,
    facts: Mapping[str, Any],
    one: Callable[[str], Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
    """Measure the rows one after the other; what fails is said, and the others go on."""
    rows: dict[str, Mapping[str, Any]] = {}
    for name in names:
        print(f"-- {name}", flush=True)
        try:
            rows[name] = one(name)
        except Exception as error:
            traceback.print_exc()
            message = str(error).strip() or type(error).__name__
            rows[name] = {"failure": message.splitlines()[0]}
        else:
            add_row(path, facts, name, rows[name])
        collector.collect()
    return rows


def has_gpu() -> bool:
    """True where torch finds one."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def main(names: Sequence[str] = ()) -> int:
    """Measure the rows, print the table; 2 where there is no GPU, 1 when a row failed."""
    if not has_gpu():
        print("benchmarks: no NVIDIA GPU here, or no torch that finds it", file=sys.stderr)
        return 2
    import torch
    import triton

    gpu = torch.cuda.get_device_name(0)
    limits = measured_limits(EventTimer())
    facts = {
        "gpu": gpu, "torch": torch.__version__, "triton": triton.__version__,
        "limits": {"bytes_per_s": limits.bytes_per_s, "flops_per_s": dict(limits.flops_per_s)},
    }  # fmt: skip
    path = result_path(gpu)
    rows = measure(names or ROWS, path, facts, lambda name: measure_row(name, limits))
    print(f"\n{gpu}: copy {limits.bytes_per_s / 1e12:.2f} TB/s, products " + ", ".join(
        f"{kind} {flops / 1e12:.0f} TFLOP/s" for kind, flops in limits.flops_per_s.items()
    ))  # fmt: skip
    print(table(rows))
    print("saved", path)
    return 1 if any("failure" in row for row in rows.values()) else 0
