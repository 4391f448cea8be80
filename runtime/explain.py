"""`explain`: what the compiler made of some fetches, without running them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc.ir import loop
from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import FeedError, UnsupportedOp
from graphc.ir.graph import Graph, Node, Value, get_default_graph
from graphc.ir.loop import Program
from graphc.ir.loop_text import format_kernel
from graphc.ir.settings import Settings
from graphc.passes.context import Context, Decision
from graphc.passes.costs import kernel_flops
from graphc.passes.hosting import is_on_host
from graphc.passes.pipeline import compile_program
from graphc.passes.rematerialize import Rematerialized
from graphc.passes.target import Target
from graphc.runtime.devices import Device, open_device
from graphc.runtime.dump import write_dump
from graphc.runtime.fetches import FetchPlan, feed_array, feed_key
from graphc.runtime.targets import GpuTarget, find_target


@dataclass(frozen=True)
class KernelReport:
    """One kernel: what it covers, the bytes it moves at least, its source on the device."""

    name: str
    form: str
    covers: tuple[str, ...]
    reads_bytes: int
    writes_bytes: int
    flops: float
    where: tuple[str, ...]
    source: str
    loops: str

    def __str__(self) -> str:
        return f"{self.name} ({self.form}): {', '.join(self.covers)}"


@dataclass(frozen=True)
class Unfused:
    """An edge between two kernels that stayed: the value in memory, and why."""

    edge: tuple[str, str]
    buffer: str
    reason: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class PeakBuffer:
    """A temporary in memory at the peak: the user's op whose value it holds, and the line.

    `place_of` names the op whose value lay there before; the two take the bytes once.
    """

    name: str
    op: str
    nbytes: int
    shape: str
    where: str
    place_of: str = ""

    def __str__(self) -> str:
        shared = f"  in the place of {self.place_of}" if self.place_of else ""
        return f"{self.nbytes:>14,}  {self.shape}  {self.op}{shared}  {self.where}".rstrip()


@dataclass(frozen=True)
class Report:
    """What the compiler did; prints as a table."""

    kernels: tuple[KernelReport, ...]
    unfused: tuple[Unfused, ...]
    arena_bytes: int
    arena_lower_bound: int
    naive_bytes: int
    nodes_before: int
    nodes_after: int
    seconds: Mapping[str, float]
    device: str
    program: Program = field(repr=False)
    peak_kernel: str = ""
    peak: tuple[PeakBuffer, ...] = ()  # what lies in the arena when it is fullest, largest first
    rematerialized: Rematerialized | None = None  # with the setting memory_budget

    def __str__(self) -> str:
        rows = [("kernel", "form", "reads", "writes", "covers")]
        rows += [
            (k.name, k.form, f"{k.reads_bytes:,}", f"{k.writes_bytes:,}", _short(k.covers))
            for k in self.kernels
        ]
        widths = [max(len(r[i]) for r in rows) for i in range(4)]
        lines = [_row(r, widths) for r in rows]
        lines.insert(1, "-" * (sum(widths) + 14))
        edges = [
            f"  {u.edge[0]} -> {u.edge[1]}: {u.reason} {_numbers(u.numbers)}" for u in self.unfused
        ]
        return "\n".join(
            [
                f"{self.device}: {self.nodes_before} ops -> {self.nodes_after} after the passes -> "
                f"{len(self.kernels)} kernels",
                *lines,
                f"arena {self.arena_bytes:,} bytes (lower bound {self.arena_lower_bound:,}, "
                f"without sharing {self.naive_bytes:,})",
                *([str(self.rematerialized)] if self.rematerialized else []),
                *self._peak_lines(),
                *(["not fused:", *edges] if edges else []),
            ]
        )

    def _peak_lines(self, most: int = 8) -> list[str]:
        """The kernel at which most is alive, and the largest buffers there."""
        if not self.peak:
            return []
        more = len(self.peak) - most
        return [
            f"fullest at {self.peak_kernel}, with",
            *(f"  {b}" for b in self.peak[:most]),
            *([f"  and {more} more"] if more > 0 else []),
        ]


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    name, form, reads, writes, covers = cells
    return (
        f"{name:<{widths[0]}}  {form:<{widths[1]}}  {reads:>{widths[2]}}  "
        f"{writes:>{widths[3]}}  {covers}"
    ).rstrip()


def _short(names: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def _numbers(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in numbers.items())


@dataclass(frozen=True)
class Compilation:
    """A compiled program, and what it was made of."""

    program: Program
    computation: Computation
    ctx: Context


def compile_fetches(
    fetches: Any, feeds: Mapping[Any, Any], target: Target, options: Settings, graph: Graph | None
) -> Compilation:
    """The program of the fetches on a target; `feeds` as in `explain`.

    The program's outputs are the distinct tensors fetched, in order, its inputs the feeds.
    """
    graph = graph or graph_of(fetches) or get_default_graph()
    plan = FetchPlan(fetches, graph)
    given = {feed_key(k, graph): v for k, v in feeds.items()}
    computation = cut(plan.values, plan.nodes, _all_feeds(plan, given))
    _check_compiled(computation)
    ctx = Context(options, target)
    for node, value in zip(computation.inputs, _all_feeds(plan, given), strict=True):
        _set_feed(ctx, node, value, given.get(value))
    return Compilation(compile_program(computation, ctx), computation, ctx)


def explain(
    fetches: Any,
    feeds: Mapping[Any, Any] | None = None,
    device: str = "auto",
    graph: Graph | None = None,
    **settings: Any,
) -> Report:
    """Compile the fetches and report kernels, unfused edges and memory, without running.

    Shapes come from the graph, or from `feeds`: per placeholder an array, or a shape as a
    tuple. FeedError where a shape stays unknown. `device` may also be a GPU that is not here:
    "sm_80", "sm_90", "sm_100".
    """
    place: Device | GpuTarget | None = find_target(device) if device.startswith("sm_") else None
    place = place or open_device(device)
    options = Settings.from_environment(**settings)
    made = compile_fetches(fetches, feeds or {}, place.target, options, graph)
    sources = place.sources(made.program, options)
    write_dump(made.program, made.ctx, sources)
    return _report(made.program, made.computation, made.ctx, sources, place.name)


def _check_compiled(computation: Computation) -> None:
    """UnsupportedOp where the host computes a part: what follows has shapes that a run finds."""
    for node in computation.nodes:
        if is_on_host(node):
            raise UnsupportedOp(
                f"op {node.name!r} is computed by the host, between compiled parts; explain those "
                "by giving arrays or shapes of what it computes in feeds="
            )


def graph_of(fetches: Any) -> Graph | None:
    """The graph of the first fetch."""
    while isinstance(fetches, (list, tuple, dict)) and fetches:
        fetches = next(iter(fetches.values() if isinstance(fetches, dict) else fetches))
    to_value = getattr(fetches, "__graphc_value__", None)
    element = to_value() if to_value is not None else fetches
    if isinstance(element, Value):
        element = element.node
    return element.graph if isinstance(element, Node) else None


def _all_feeds(plan: FetchPlan, given: Mapping[Value, Any]) -> list[Value]:
    """The fed values, and the placeholders that the fetches need besides."""
    feeds = list(given)
    needed = cut(plan.values, plan.nodes, feeds).nodes
    inputs = {v.node for v in feeds}
    return feeds + [
        n.outputs[0] for n in needed if n.op.name == "placeholder" and n.graph and n not in inputs
    ]


def _set_feed(ctx: Context, node: Node, value: Value, data: Any) -> None:
    if data is None:
        if not value.type.is_static:
            raise FeedError(
                f"the shape of placeholder {value.node.name!r}, {value.type}, is not known: give "
                "an array or a shape for it in feeds="
            )
        return
    if isinstance(data, tuple) and all(isinstance(d, (int, np.integer)) for d in data):
        ctx.feed_shapes[node] = tuple(int(d) for d in data)
        return
    array = feed_array(value, data)
    ctx.feed_shapes[node] = array.shape
    ctx.feed_values[node] = array


def _report(
    program: Program,
    computation: Computation,
    ctx: Context,
    sources: Mapping[str, str],
    device: str,
) -> Report:
    plan = program.plan or loop.MemoryPlan()
    return Report(
        kernels=tuple(_kernel_report(k, program, sources) for k in program.kernels),
        unfused=tuple(_unfused(d) for d in ctx.decisions),
        arena_bytes=plan.arena_bytes,
        arena_lower_bound=plan.lower_bound,
        naive_bytes=plan.naive_bytes,
        nodes_before=len(computation.nodes),
        nodes_after=int(ctx.notes.get("nodes_after", len(computation.nodes))),
        seconds=dict(ctx.notes.get("seconds", {})),
        device=device,
        program=program,
        peak_kernel=plan.peak_kernel,
        peak=_peak_buffers(program, plan),
        rematerialized=ctx.notes.get("rematerialized"),
    )


def _peak_buffers(program: Program, plan: loop.MemoryPlan) -> tuple[PeakBuffer, ...]:
    """What is alive at the peak. Of buffers at one offset, each lies in the place of the last."""
    found: list[PeakBuffer] = []
    held: dict[int, str] = {}
    for name in plan.peak:
        buffer = program.buffers[name]
        if buffer.nbytes:
            offset = plan.offsets[name]
            found.append(replace(_peak_buffer(name, program), place_of=held.get(offset, "")))
            held[offset] = buffer.source or name
    return tuple(found)


def _peak_buffer(name: str, program: Program) -> PeakBuffer:
    buffer = program.buffers[name]
    lines = (k.where[-1] for k in program.kernels if name in k.outputs and k.where)
    where = next((str(w) for w in lines), "")
    shape = f"{buffer.dtype}{list(buffer.shape)}"
    return PeakBuffer(name, buffer.source, buffer.nbytes, shape, where)


def _unfused(decision: Decision) -> Unfused:
    return Unfused(
        (decision.producer, decision.consumer), decision.buffer, decision.reason, decision.numbers
    )


def _kernel_report(
    kernel: loop.Kernel, program: Program, sources: Mapping[str, str]
) -> KernelReport:
    return KernelReport(
        name=kernel.name,
        form=kernel.form,
        covers=kernel.covers,
        reads_bytes=sum(program.buffers[n].nbytes for n in kernel.inputs),
        writes_bytes=sum(program.buffers[n].nbytes for n in kernel.outputs),
        flops=kernel_flops(kernel),
        where=tuple(str(w) for w in kernel.where),
        source=sources.get(kernel.name, ""),
        loops=format_kernel(kernel),
    )


__all__ = [
    "Compilation",
    "KernelReport",
    "PeakBuffer",
    "Report",
    "Unfused",
    "as_dtype",
    "compile_fetches",
    "explain",
    "graph_of",
]
