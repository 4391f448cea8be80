"""Loops and branches as Python functions around the kernels of the programs inside.

def k03_while(mem):
    inner = mem.programs["k03_while"]         # the memories of the programs inside
    launch0_k00_tanh = k03_while_0_k00_tanh(inner[0])
    def body0(step, h, x, tanh):              # what differs from step to step
        launch0_k00_tanh(h, x, tanh)
    def launch(x_all, y_all):
        s.repeat(body0, 5, ...)
    return launch
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.loop import Branch, Kernel, Program, Repeat


def inner_dynamic(
    stmt: Repeat | Branch, program: Program, dynamic: Sequence[str]
) -> dict[str, str]:
    """The buffers inside whose arrays differ from launch to launch or step to step.

    Maps those that stand for a captured buffer to its name outside, the others to nothing.
    """
    given = program.inputs[len(program.inputs) - len(stmt.captured) :]
    fixed = {n for n, outer in zip(given, stmt.captured, strict=True) if outer not in dynamic}
    outer = dict(zip(given, stmt.captured, strict=True))
    names = dict.fromkeys((*program.inputs, *program.outputs))
    return {n: outer.get(n, "") for n in names if n not in fixed}


def emit_body(number: int, program: Program, prefix: str, parameters: Sequence[str]) -> list[str]:
    """The function that launches the kernels of a program inside, in order."""
    taken = set(parameters)
    lines = [f"    launch{number}_{k.name} = {prefix}{k.name}(inner[{number}])"
             for k in program.kernels]  # fmt: skip
    lines += [f"    def body{number}({', '.join(parameters)}):"]
    for kernel in program.kernels:
        touched = {*kernel.inputs, *kernel.outputs} & taken
        arguments = ", ".join(n for n in parameters if n in touched)
        lines.append(f"        launch{number}_{kernel.name}({arguments})")
    return lines if program.kernels else [*lines, "        pass"]


def emit_launch(
    kernel: Kernel, arguments: Sequence[str], inside: Sequence[dict[str, str]]
) -> list[str]:
    """The launch of the loop or branch, after its bodies."""
    (stmt,) = kernel.body
    known = set(arguments)

    def place(name: str) -> str:
        return name if name in known else f'mem["{name}"]'

    assert isinstance(stmt, (Repeat, Branch))
    counter = f", counter={place(stmt.counter)}" if stmt.counter else ""
    lines = [f"    def launch({', '.join(arguments)}):"]
    if isinstance(stmt, Branch):
        calls = []
        for number, (names, program) in enumerate(zip(inside, stmt.programs, strict=True)):
            result = dict(zip(program.outputs, stmt.results, strict=True))
            given = ", ".join(place(names[n] or result[n]) for n in names)
            calls.append(f"lambda: body{number}({given})")
        chosen = f"{place(stmt.predicate)}, inner, [{', '.join(calls)}]"
        return [*lines, f"        s.branch({chosen}{counter})"]
    captured = [place(outer) for outer in inside[0].values() if outer]
    carried = [f"({place(c.initial)}, {place(c.result)}, {place(c.spare) if c.spare else None})"
               for c in stmt.carried]  # fmt: skip
    return [
        *lines,
        "        s.repeat(",
        f"            body0, {stmt.trips},",
        f"            carried=[{', '.join(carried)}],",
        f"            scanned=[{', '.join(map(place, stmt.scanned))}],",
        f"            captured=[{', '.join(captured)}],",
        f"            stacked=[{', '.join(map(place, stmt.stacked))}],",
        f"            conditional={stmt.conditional}, reverse={stmt.reverse},",
        f"            inner=inner[0]{counter},",
        "        )",
    ]


def parameters(stmt: Repeat | Branch, program: Program, inside: dict[str, str]) -> list[str]:
    """The body's parameters, in the order in which `s.repeat` gives them."""
    if isinstance(stmt, Branch):
        return list(inside)
    count = len(stmt.carried)
    moving = program.inputs[: 1 + count + len(stmt.scanned)]
    captured = [n for n, outer in inside.items() if outer]
    return [*moving, *captured, *program.outputs]


__all__ = ["emit_body", "emit_launch", "inner_dynamic", "parameters"]
