"""The loop IR as text, as dumps and reports show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from graphc.ir.dtypes import bool_
from graphc.ir.loop import (
    FOLD,
    PARALLEL,
    REDUCE,
    UNBOUNDED,
    Access,
    Axis,
    Branch,
    Call,
    Const,
    Dot,
    Expr,
    Fold,
    Gather,
    Index,
    Kernel,
    Let,
    Linear,
    Load,
    Program,
    Reduce,
    Ref,
    Repeat,
    Store,
)

_MARKS: Final[Mapping[str, str]] = {PARALLEL: "", REDUCE: "+", FOLD: "~"}  # after an axis's size


def format_linear(value: Linear, axes: Sequence[Axis]) -> str:
    """`3*i + j + 2`."""
    terms = [
        a.name if s == 1 else f"{s}*{a.name}" for a, s in zip(axes, value.strides, strict=True) if s
    ]
    if value.offset or not terms:
        terms.append(str(value.offset))
    return " + ".join(terms)


def format_access(access: Access, axes: Sequence[Axis]) -> str:
    """`x[3*i + j] if 0 <= i < 5`."""
    text = format_linear(Linear(access.strides, access.offset), axes)
    if access.divisor != 1:
        text = f"({text}) / {access.divisor}"
    conditions = [
        f"0 <= {format_linear(g.value, axes)} < {g.size * g.step}"
        + (f" step {g.step}" if g.step != 1 else "")
        for g in access.guards
    ]
    guard = " if " + " and ".join(conditions) if conditions else ""
    return f"{access.buffer}[{text}]{guard}"


def format_expr(expr: Expr, axes: Sequence[Axis]) -> str:
    """The expression as text."""
    match expr:
        case Load(pieces, _, fill):
            text = " | ".join(format_access(p, axes) for p in pieces)
            return text if expr.is_plain else f"({text} else {fill})"
        case Gather(access, index, stride, size, _, fill):
            inner = f"{stride}*clip({format_expr(index, axes)}, {size})"
            return f"{format_access(access, axes)}@({inner} else {fill})"
        case Const(value, dtype):
            return f"{value}" if dtype is not bool_ else str(bool(value))
        case Index(value):
            return f"index({format_linear(value, axes)})"
        case Ref(name):
            return name
    inside = [format_expr(a, axes) for a in expr.args] + [f"{k}={v}" for k, v in expr.attrs]
    suffix = f"<{expr.dtype}>" if expr.op == "cast" else ""
    return f"{expr.op}{suffix}({', '.join(inside)})"


def format_kernel(kernel: Kernel) -> str:
    """The kernel as text: a header with the axes, then one statement a line."""
    axes = kernel.axes
    header = ", ".join(f"{a.name}:{a.size}{_MARKS[a.kind]}" for a in axes)
    lines = [f"kernel {kernel.name}({header})  # {', '.join(kernel.covers)}"]
    for stmt in kernel.body:
        match stmt:
            case Let(name, value):
                lines.append(f"  {name} = {format_expr(value, axes)}")
            case Reduce(name, op, value, _):
                lines.append(f"  {name} = reduce {op} {format_expr(value, axes)}")
            case Fold(name, op, value, _):
                lines.append(f"  {name} = fold {op} {format_expr(value, axes)}")
            case Dot(name, a, b, _):
                lines.append(f"  {name} = dot {format_expr(a, axes)}, {format_expr(b, axes)}")
            case Store(access, value):
                lines.append(f"  {format_access(access, axes)} = {format_expr(value, axes)}")
            case Repeat() | Branch():
                lines += format_whole(stmt)
            case Call(op, inputs, outputs, attrs):
                given = ", ".join([*inputs, *(f"{k}={v}" for k, v in attrs)])
                lines.append(f"  {', '.join(outputs)} = call {op}({given})")
    for part in kernel.parts:
        lines.extend("  " + line for line in format_kernel(part).splitlines())
    return "\n".join(lines)


def format_whole(stmt: Repeat | Branch) -> list[str]:
    """A loop or branch, with its programs indented."""
    if isinstance(stmt, Branch):
        head = [
            f"  {', '.join(stmt.results)} = branch {stmt.predicate}({', '.join(stmt.captured)})"
        ]
    else:
        trips = "while " + stmt.carried[0].result if stmt.conditional else ""
        count = "" if stmt.trips == UNBOUNDED else f"{stmt.trips} steps"
        order = "backwards" if stmt.reverse else ""
        head = [f"  repeat {' '.join(w for w in (trips, count, order) if w)}"]
        head += [f"    carry {c.initial} -> {c.result}" for c in stmt.carried]
        head += [f"    scan {n}" for n in stmt.scanned] + [f"    stack {n}" for n in stmt.stacked]
        head += [f"    take {n}" for n in stmt.captured]
    return head + ["    " + line for p in stmt.programs for line in format_program(p).splitlines()]


def format_program(program: Program) -> str:
    """The whole program as text: buffers, kernels, memory."""
    lines = []
    for b in program.buffers.values():
        at = program.plan.offsets.get(b.name) if program.plan else None
        place = f" @ {at}" if at is not None else ""
        lines.append(f"buffer {b.name}: {b.dtype}{list(b.shape)} {b.role}{place}  # {b.source}")
    lines.append(f"inputs {', '.join(program.inputs)}")
    lines.append(f"outputs {', '.join(program.outputs)}")
    for position, kernel in enumerate(program.kernels):
        if position == program.commit and program.updates:
            lines.append("# from here on variables change")
        lines.append(format_kernel(kernel))
    return "\n".join(lines) + "\n"


__all__ = [
    "format_access", "format_expr", "format_kernel", "format_linear", "format_program",
    "format_whole",
]  # fmt: skip
