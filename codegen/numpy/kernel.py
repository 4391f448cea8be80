"""One kernel as NumPy calls: its schedule, walked with the statements' text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphc.codegen.numpy.frame import Frame
from graphc.codegen.numpy.routines import ROUTINES
from graphc.codegen.numpy.schedule import Chunks, Phases, Shared, Tiles, schedule
from graphc.codegen.numpy.spelling import attributes_text
from graphc.codegen.numpy.statements import Statements
from graphc.ir import loop
from graphc.ir.loop import Kernel, Program


class KernelText(NamedTuple):
    """`bound` are the lines that run once, `lines` those of each launch.

    `walks` are functions over a range that threads share, which `shared` describes, and `own` what
    each thread binds for them.
    """

    bound: list[str]
    lines: list[str]
    own: Sequence[str] = ()
    walks: Sequence[list[str]] = ()
    shared: Shared | None = None
    scratch_bytes: int = 0


def emit_kernel(kernel: Kernel, program: Program, arguments: Sequence[str]) -> KernelText:
    """The text of a kernel; `arguments` are the buffers that its launch takes."""
    frame = Frame(kernel, program, arguments)
    if kernel.form == "call":
        _call(frame)
        return KernelText(frame.bound, frame.lines)
    statements, shared = Statements(frame), None
    match schedule(kernel):
        case None:
            statements.emit(kernel.body)
        case Tiles() as tiles:
            shared = tiles.shared(frame.sizes)
            _tiles(frame, statements, tiles)
        case Phases() as phases:
            chunks = phases.chunks(kernel)
            shared = Shared(chunks.number, 1, chunks.threads)
            _phases(frame, statements, phases, chunks)
    nbytes = statements.registers.nbytes
    return KernelText(frame.bound, frame.lines, frame.own, frame.walks, shared, nbytes)


def _tiles(frame: Frame, statements: Statements, tiles: Tiles) -> None:
    statements.loads.preload(frame.kernel.body)
    with frame.walk(), frame.loops((tiles.axis, tiles.size), tiles.outer):
        statements.emit(frame.kernel.body)


def _phases(frame: Frame, statements: Statements, phases: Phases, chunks: Chunks) -> None:
    statements.loads.preload(frame.kernel.body)
    tile = phases.tiles.axis, phases.tiles.size
    for phase in phases.phases:
        if phase.inside:
            totals = statements.totals(phase.inside, chunks.number)
            with frame.walk(over_chunks=True):
                statements.start(totals)
                with frame.loops(tile, chunk=chunks.size):
                    statements.emit(phase.inside, accumulate=True)
            statements.finish(totals)
        statements.emit(phase.after, keep=True)


def _call(frame: Frame) -> None:
    """A library call on shaped arrays: a routine of the back end's, or the op's own meaning."""
    (stmt,) = frame.kernel.body
    assert isinstance(stmt, loop.Call), "a call is alone in its kernel"
    attrs = dict(stmt.attrs)
    shapes = attrs.pop("shapes")
    frame.bound.append(f"attrs = {attributes_text(attrs)}")
    inputs = ", ".join(_shaped(frame, n, s) for n, s in zip(stmt.inputs, shapes, strict=True))
    if stmt.op in ROUTINES:
        outputs = ", ".join(_shaped(frame, n, frame.program.buffers[n].shape) for n in stmt.outputs)
        frame.line(f'ROUTINES["{stmt.op}"](mem, attrs, ({inputs},), ({outputs},))')
        return
    frame.bound.append(f'function = OPS["{stmt.op}"].numpy')
    frame.line(f"results = function(attrs, {inputs})")
    if len(stmt.outputs) == 1:
        frame.line("results = (results,)")
    for i, name in enumerate(stmt.outputs):
        frame.line(f"{frame.flat(name)}[...] = np.asarray(results[{i}]).ravel()")


def _shaped(frame: Frame, name: str, shape: Sequence[int]) -> str:
    return f"{frame.flat(name)}.reshape({tuple(shape)})"
