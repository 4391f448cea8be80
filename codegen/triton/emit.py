"""Programs to Triton source: one function per kernel (or per pass of a split one)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from graphc.codegen.axes import simplified
from graphc.codegen.module import Module
from graphc.codegen.triton.attention import emit_attention
from graphc.codegen.triton.candidates import tuning_key
from graphc.codegen.triton.contraction import Divided, divided, divided_sums, prepared
from graphc.codegen.triton.dot import emit_dot
from graphc.codegen.triton.flat import emit_flat, emit_tiled
from graphc.codegen.triton.fold import emit_fold
from graphc.codegen.triton.function import Function
from graphc.codegen.triton.launch import Launch, Options, Stage, Workspace
from graphc.codegen.triton.levels import passes_of
from graphc.codegen.triton.library import library_call
from graphc.codegen.triton.prelude import HEADER, prelude
from graphc.codegen.triton.row import emit_row, emit_row_looped, emit_split, split_workspaces
from graphc.codegen.triton.scan import emit_scan
from graphc.codegen.triton.schedule import Schedule, schedule
from graphc.ir import loop
from graphc.ir.loop import Buffer, Call, Kernel, Program

_ONE_PASS = {
    "flat": emit_flat, "tiled": emit_tiled, "row": emit_row, "row_looped": emit_row_looped,
    "fold": emit_fold, "dot": emit_dot,
}  # fmt: skip
_ROUTINES = {"attention": emit_attention, "scan": emit_scan}


@dataclass(frozen=True, slots=True)
class _Emitted:
    """A kernel's functions and how they are launched."""

    text: str
    launch: Launch


def emit(program: Program, options: Options | None = None) -> Module:
    """The program's Triton source. Library calls have a Launch but no text."""
    options = options or Options()
    kernels: dict[str, str] = {}
    launches: dict[str, Launch] = {}
    texts = []
    for kernel in program.kernels:
        emitted = emit_kernel(kernel, program.buffers, options)
        launches[kernel.name] = emitted.launch
        kernels[kernel.name] = (
            _module_text(emitted.text, options) if emitted.text else _call_text(kernel)
        )
        texts.append(emitted.text)
    scratch = max((sum(w.nbytes for w in x.workspaces) for x in launches.values()), default=0)
    text = _module_text("\n\n".join(filter(None, texts)), options)
    return Module(text, kernels, launches, scratch)


def _module_text(text: str, options: Options) -> str:
    helpers = prelude(text, options.interpret)
    return "\n\n".join(filter(None, [HEADER, helpers and helpers + "\n", text]))


def emit_kernel(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> _Emitted:
    """One kernel's functions (without the prelude) and its launch."""
    if kernel.form == "call":
        return _emit_call(kernel, buffers, options)
    if kernel.programs:
        return _emit_control(kernel, buffers, options)
    if kernel.form == "group":
        return _emit_group(kernel, buffers, options)
    ready = prepared(kernel)
    plan = _plan(ready, buffers, options)
    if plan.recipe == "split":
        return _emit_split(kernel, ready, plan, buffers, options)
    if plan.recipe == "library":
        return _emit_library(kernel, ready, plan, buffers, options)
    if plan.recipe == "dot" and plan.chunks > 1:
        return _emit_split_dot(kernel, ready, plan, buffers, options)
    function = Function(ready, buffers, options)
    grid = _ONE_PASS[plan.recipe](function, plan)
    stage = _stage(kernel.name, grid, function, plan)
    text = _header(kernel, buffers, _summary(plan)) + function.text(kernel.name)
    return _Emitted(text, Launch(kernel.name, plan.recipe, (stage,)))


def _emit_call(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> _Emitted:
    """A library routine: kernels of its own, or a call of the host's."""
    (stmt,) = kernel.body
    assert isinstance(stmt, Call), stmt
    for recipe, emit_routine in _ROUTINES.items():
        made = emit_routine(stmt, kernel.name, buffers, options)
        if made is not None:
            text, stages = made
            sizes = f"{recipe}: {stages[0].grid} blocks, {stages[0].num_warps} warps"
            header = _header(kernel, buffers, sizes)
            return _Emitted(header + text, Launch(kernel.name, recipe, stages))
    return _Emitted("", Launch(kernel.name, "call"))


def _plan(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> Schedule:
    """The schedule by measurement where there is one, else by rule."""
    if options.schedules:
        chosen = options.schedules.get(tuning_key(kernel, buffers, options))
        if chosen is not None:
            return cast(Schedule, chosen)
    return schedule(kernel, buffers, options)


def _stage(name: str, grid: int, function: Function, plan: Schedule) -> Stage:
    return Stage(name, grid, tuple(function.arguments), plan.num_warps, plan.num_stages)


def _emit_split(
    kernel: Kernel, ready: Kernel, plan: Schedule, buffers: Mapping[str, Buffer], options: Options
) -> _Emitted:
    passes = passes_of(ready)
    texts, stages = [], []
    spaces: tuple[Workspace, ...] = ()
    for level in range(passes.last + 1):
        function = Function(ready, buffers, options)
        spaces = split_workspaces(function, plan)
        for space in spaces:
            function.workspace(space)
        name = f"{kernel.name}_pass{level}"
        grid = emit_split(function, plan, passes, level)
        stages.append(_stage(name, grid, function, plan))
        texts.append(function.text(name))
    header = _header(kernel, buffers, _summary(plan))
    return _Emitted(
        header + "\n\n".join(texts), Launch(kernel.name, "split", tuple(stages), spaces)
    )


# -- products in two


def _emit_library(
    kernel: Kernel, ready: Kernel, plan: Schedule, buffers: Mapping[str, Buffer], options: Options
) -> _Emitted:
    """A library's product or convolution, and a kernel for what is computed of it, if anything."""
    parts = divided(ready, buffers)
    call = parts and library_call(parts.product)
    assert parts and call, kernel
    header = _header(kernel, buffers, f"library: {call}{_note(plan)}")
    if parts.space is None:
        return _Emitted(header, Launch(kernel.name, "library", library=call))
    text, stages = _emit_rest(kernel, parts, buffers, options)
    launch = Launch(kernel.name, "library", stages, (parts.space,), library=call)
    return _Emitted(header + text, launch)


def _emit_split_dot(
    kernel: Kernel, ready: Kernel, plan: Schedule, buffers: Mapping[str, Buffer], options: Options
) -> _Emitted:
    """Chunks of the sums side by side; then their totals, and what is computed of them."""
    parts = divided_sums(ready, buffers, plan.chunks)
    assert parts.space is not None
    function = Function(parts.product, _with_space(buffers, parts), options)
    name = f"{kernel.name}_sums"
    stage = _stage(name, emit_dot(function, plan), function, plan)
    text, stages = _emit_rest(kernel, parts, buffers, options)
    header = _header(kernel, buffers, _summary(plan))
    launch = Launch(kernel.name, "split_dot", (stage, *stages), (parts.space,))
    return _Emitted(f"{header}{function.text(name)}\n\n{text}", launch)


def _emit_rest(
    kernel: Kernel, parts: Divided, buffers: Mapping[str, Buffer], options: Options
) -> tuple[str, tuple[Stage, ...]]:
    """The kernel of what is computed of the sums, whose schedule is by rule, in one launch."""
    assert parts.rest is not None
    name, known = f"{kernel.name}_rest", _with_space(buffers, parts)
    function, plan, grid = _emit_one(simplified(parts.rest), known, options)
    return f"# {_summary(plan)}\n{function.text(name)}", (_stage(name, grid, function, plan),)


def _with_space(buffers: Mapping[str, Buffer], parts: Divided) -> Mapping[str, Buffer]:
    """The buffers, and the workspace as one of them."""
    space = parts.space
    assert space is not None
    return {**buffers, space.name: Buffer(space.name, space.dtype, (space.size,), loop.TEMPORARY)}


# -- loops and branches


def _emit_control(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> _Emitted:
    """The kernels inside a loop or branch; what runs them is the loader's."""
    texts, programs = [_header(kernel, buffers, kernel.form)], []
    for number, program in enumerate(kernel.programs):
        launches = {}
        for part in program.kernels:
            named = replace(part, name=f"{kernel.name}_{number}_{part.name}")
            emitted = emit_kernel(named, program.buffers, options)
            launches[part.name] = emitted.launch
            texts.append(emitted.text)
        programs.append(launches)
    text = "\n\n".join(filter(None, texts))
    return _Emitted(text, Launch(kernel.name, kernel.form, programs=tuple(programs)))


# -- groups


def _emit_group(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> _Emitted:
    """Independent kernels in one launch: each part has a range of the programs."""
    texts, lines, first, warps = [], [], 0, 1
    arguments = list(dict.fromkeys((*kernel.inputs, *kernel.outputs)))
    for number, part in enumerate(kernel.parts):
        name = f"{kernel.name}_part{number}"
        ready = prepared(part)
        function, plan, grid = _emit_one(ready, buffers, options, is_part=True)
        warps = max(warps, plan.num_warps)
        header = _header(part, buffers, _summary(plan))
        texts.append(header + function.text(name))
        own_pid = f"pid - {first}" if first else "pid"
        given = ", ".join([own_pid, *(f"p_{a}" for a in function.arguments)])
        word = "if" if not number else "elif"
        lines += [f"    {word} pid < {first + grid}:", f"        {name}({given})"]
        first += grid
    parameters = ", ".join(f"p_{a}" for a in arguments)
    own = "\n".join(
        ["@triton.jit", f"def {kernel.name}({parameters}):", "    pid = tl.program_id(0)", *lines]
    )
    texts.append(_header(kernel, buffers, f"{len(kernel.parts)} independent parts") + own + "\n")
    stage = Stage(kernel.name, first, tuple(arguments), warps)
    return _Emitted("\n\n".join(texts), Launch(kernel.name, "group", (stage,)))


def _emit_one(
    ready: Kernel, buffers: Mapping[str, Buffer], options: Options, is_part: bool = False
) -> tuple[Function, Schedule, int]:
    """A kernel in one launch, of which it may be a part: what is split by rule becomes a loop."""
    plan = schedule(ready, buffers, replace(options, libraries=False))
    recipe = "row_looped" if plan.recipe == "split" else plan.recipe
    plan = replace(plan, recipe=recipe, chunks=1)
    function = Function(ready, buffers, options, is_part)
    return function, plan, _ONE_PASS[plan.recipe](function, plan)


# -- comments


def _summary(plan: Schedule) -> str:
    sizes = {
        "flat": f"blocks of {plan.x}", "tiled": f"tiles of {plan.y} x {plan.x}",
        "row": f"{plan.x} rows of {plan.y} lanes",
        "fold": f"{plan.x} rows of {plan.y} lanes a step",
        "row_looped": f"{plan.x} rows, steps of {plan.y}",
        "split": f"{plan.x} rows, steps of {plan.y}",
        "dot": f"tiles of {plan.x} x {plan.y} x {plan.k}",
    }  # fmt: skip
    chunks = f", {plan.chunks} chunks" if plan.chunks > 1 else ""
    return f"{plan.recipe}: {sizes[plan.recipe]}{chunks}, {plan.num_warps} warps{_note(plan)}"


def _note(plan: Schedule) -> str:
    return f"; {plan.note}" if plan.note else ""


def _header(kernel: Kernel, buffers: Mapping[str, Buffer], summary: str) -> str:
    reads = sum(buffers[n].nbytes for n in kernel.inputs)
    writes = sum(buffers[n].nbytes for n in kernel.outputs)
    lines = [f"# {', '.join(kernel.covers) or kernel.name}  ({summary})"]
    lines.append(f"# reads {reads:,} bytes, writes {writes:,} bytes")
    lines.extend(f"# {where}" for where in kernel.where[:4])
    return "\n".join(lines) + "\n"


def _call_text(kernel: Kernel) -> str:
    calls = ", ".join(s.op for s in kernel.body if hasattr(s, "op"))
    return f"# {kernel.name}: library routine {calls}\n"


__all__ = ["emit", "emit_kernel"]
