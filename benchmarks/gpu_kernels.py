"""Rows of kernels on a GPU: contenders take turns in one process.

Inputs and outputs together are larger than the second cache and change from call to call; results
are compared with torch's before anything is timed. torch and graphc are timed by CUDA events, JAX
by the clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import graphc as gc
from benchmarks import gpu_jax
from benchmarks.gpu_jax import Timed
from benchmarks.gpu_timing import Call, EventTimer, Timer, medians, working
from benchmarks.gpu_workload import Workload
from benchmarks.gpu_workloads import WORKLOADS
from graphc.ir.computation import cut
from graphc.ir.graph import convert
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices.triton import TritonDevice, TritonExecutable
from graphc.runtime.fetches import feed_key

Figures = dict[str, dict[str, Any]]


def loaded(
    device: TritonDevice, workload: Workload, arrays: Sequence[np.ndarray], sets: int
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


def cache_bytes() -> int:
    """The second-level cache of the GPU."""
    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def kernel_row(name: str) -> dict[str, Any]:
    """The figures of a workload. AssertionError where graphc's results are not torch's."""
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
    wanted = workload.torch_call(workload.torch, tensors[0])
    error = difference(results(executables[0]), wanted)
    assert error <= workload.tolerance, f"{name}: {error} away from torch"
    compiled = torch.compile(workload.torch, dynamic=False)
    calls: dict[str, Call] = {
        "graphc": lambda i: executables[i % sets].launch(),
        "torch": lambda i: workload.torch_call(workload.torch, tensors[i % sets]),
        "torch.compile": lambda i: workload.torch_call(compiled, tensors[i % sets]),
    }
    in_jax = gpu_jax.offered(lambda: jax_calls(workload, arrays, sets, wanted))
    return {
        "title": titled(name, [tuple(a.shape) for a in arrays]), "precision": workload.kind,
        "traffic": traffic, "flops": workload.flops, "tolerance": workload.tolerance,
        "difference": error, "kernels": len(program.kernels),
        "contenders": raced(calls, in_jax),
    }  # fmt: skip


def titled(name: str, shapes: Sequence[tuple[int, ...]]) -> str:
    """What the row is, by its name and its inputs' shapes."""
    sizes = ", ".join("x".join(map(str, s)) for s in dict.fromkeys(shapes))
    return f"{name.replace('_', ' ')} of {sizes}"


def jax_calls(
    workload: Workload, arrays: Sequence[np.ndarray], sets: int, wanted: Sequence[Any],
    on_gpu: bool = True,
) -> Timed:  # fmt: skip
    """JAX's calls. AssertionError where their results are not `wanted`."""
    jax = gpu_jax.jax_for(workload.kind, on_gpu)
    calls = gpu_jax.workload_calls(jax, workload, arrays, sets)
    got = [torch.from_numpy(y.copy()) for y in gpu_jax.results(jax, workload, calls)]
    error = difference(got, [w.detach().cpu() for w in wanted])
    assert error <= workload.tolerance, f"{error} away from torch"
    return calls


def raced(
    calls: dict[str, Call], in_jax: Timed | dict[str, str], timer: Timer | None = None
) -> Figures:
    """The figures of all contenders: `step_s`, `error` or `absent`; `timer` is by events, or
    another one."""
    timers = {}
    if isinstance(in_jax, Timed):
        calls, timers["jax"] = {**calls, "jax": in_jax.call}, in_jax.timer
    kept, failures = working(calls)
    seconds = medians(kept, timer or EventTimer(), timers=timers)
    figures: Figures = {n: {"step_s": s} for n, s in seconds.items()}
    figures |= {n: {"error": message} for n, message in failures.items()}
    return figures if isinstance(in_jax, Timed) else {**figures, "jax": dict(in_jax)}


__all__ = ["difference", "jax_calls", "kernel_row", "raced"]
