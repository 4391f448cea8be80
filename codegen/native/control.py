"""Loops and branches as C functions around the functions of the programs inside.

static int k03_while(gc_buffers b) {
    void *t[9] = {b[0]};                    the table of the body's buffers
    ...                                     what stays the same in all steps
    void *state[] = {b[2]};                 the carried values
    for (long done = 0; done < 5; done++) {
        ...                                 what moves with the steps
        if (k03_while_0(t)) return 1;
    }
    ...
}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from graphc.codegen.native.text import Place
from graphc.ir import loop
from graphc.ir.loop import Branch, Kernel, Program, Repeat


class Table(NamedTuple):
    """A program inside and the slots of its buffers."""

    program: Program
    slots: Mapping[str, int]

    @property
    def size(self) -> int:
        """Number of slots."""
        return len(self.slots) + 1


def emit(kernel: Kernel, place: Place, tables: list[Table]) -> str:
    """The function of a loop or branch."""
    (stmt,) = kernel.body
    if isinstance(stmt, Repeat):
        lines = _repeat(kernel, stmt, place, tables[0])
    else:
        assert isinstance(stmt, Branch)
        lines = _branch(kernel, stmt, place, tables)
    header = f"static int {place.name}(gc_buffers b) {{"
    return "\n".join([header, *("    " + line for line in lines), "}"])


def _fixed(
    kernel: Kernel, stmt: Repeat | Branch, place: Place, number: int, table: Table, t: str
) -> list[str]:
    """The slots that stay the same: constants, temporaries in the arena, what is captured."""
    program, lines = table.program, [f"{t}[0] = b[0];"]
    outer = {**place.slots}
    prefix = f"{kernel.name}/{number}/"
    for name, slot in table.slots.items():
        buffer = program.buffers.get(name)
        if buffer is None and name.endswith("/packed"):  # what was packed for other runs is old
            lines.append(f"t[{slot}] = memset(b[{outer[prefix + name]}], 0, sizeof(long));")
        elif buffer is None or buffer.role == loop.CONSTANT:
            lines.append(f"{t}[{slot}] = b[{outer[prefix + name]}];")
        elif buffer.role == loop.TEMPORARY:
            assert program.plan is not None
            at = program.plan.offsets[name]
            lines.append(f"{t}[{slot}] = (char *)b[{outer[stmt.arena]}] + {at};")
        elif buffer.role == loop.COUNTER:
            lines.append(f"{t}[{slot}] = &counter;")
    given = program.inputs[len(program.inputs) - len(stmt.captured) :]
    for name, captured in zip(given, stmt.captured, strict=True):
        lines.append(f"{t}[{table.slots[name]}] = b[{outer[captured]}];")
    return lines


def _repeat(kernel: Kernel, stmt: Repeat, place: Place, table: Table) -> list[str]:
    program, slots, outer = table.program, table.slots, place.slots
    count, trips = len(stmt.carried), stmt.trips
    inputs, outputs = program.inputs, program.outputs
    carried_in, scanned = inputs[1 : 1 + count], inputs[1 + count : 1 + count + len(stmt.scanned)]
    lines = [f"void *t[{table.size}];", "int64_t step = 0, counter = 0;", "(void)counter;"]
    lines += _fixed(kernel, stmt, place, 0, table, "t")
    lines.append(f"t[{slots[inputs[0]]}] = &step;")
    states = ", ".join(f"b[{outer[c.initial]}]" for c in stmt.carried)
    lines.append(f"void *state[] = {{{states or 'NULL'}}};")
    if stmt.conditional:
        lines += [f"memset(b[{outer[n]}], 0, {place.buffers[n].nbytes});" for n in stmt.stacked]
    lines.append(f"for (long done = 0; {f'done < {trips}' if trips >= 0 else ''}; done++) {{")
    inside = [f"step = {f'{trips - 1} - done' if stmt.reverse else 'done'};"]
    if stmt.conditional:
        inside.append("if (!*(const uint8_t *)state[0]) break;")
    if stmt.counter:
        inside.append(f"counter = *(const int64_t *)b[{outer[stmt.counter]}] + ((step + 1) << 40);")
    # so that the last of a known number of steps writes the results themselves
    inside.append(f"const int side = ({trips - 1} - done) & 1;")
    for i, (name, c) in enumerate(zip(carried_in, stmt.carried, strict=True)):
        inside.append(f"t[{slots[name]}] = state[{i}];")
        spare = outer[c.spare or c.result]
        inside.append(f"t[{slots[outputs[i]]}] = side ? b[{spare}] : b[{outer[c.result]}];")
    moving = [*zip(scanned, stmt.scanned, strict=True)]
    moving += zip(outputs[count:], stmt.stacked, strict=True)
    for name, whole in moving:
        nbytes = program.buffers[name].nbytes
        inside.append(f"t[{slots[name]}] = (char *)b[{outer[whole]}] + {nbytes} * step;")
    inside.append(f"if ({place.name}_0(t)) return 1;")
    inside += [f"state[{i}] = t[{slots[outputs[i]]}];" for i in range(count)]
    lines += ["    " + line for line in inside] + ["}"]
    for i, c in enumerate(stmt.carried):
        result, nbytes = f"b[{outer[c.result]}]", place.buffers[c.result].nbytes
        lines.append(f"if (state[{i}] != {result}) memcpy({result}, state[{i}], {nbytes});")
    return [*lines, "return 0;"]


def _branch(kernel: Kernel, stmt: Branch, place: Place, tables: list[Table]) -> list[str]:
    outer = place.slots
    lines = ["int64_t counter = 0;", "(void)counter;"]
    if stmt.counter:
        lines.append(f"counter = *(const int64_t *)b[{outer[stmt.counter]}];")
    for number, table in enumerate(tables):
        condition = "" if number == 0 else "else "
        if number == 0:
            condition = f"if (*(const uint8_t *)b[{outer[stmt.predicate]}]) "
        inside = [f"void *t[{table.size}];"]
        inside += _fixed(kernel, stmt, place, number, table, "t")
        for name, result in zip(table.program.outputs, stmt.results, strict=True):
            inside.append(f"t[{table.slots[name]}] = b[{outer[result]}];")
        inside.append(f"return {place.name}_{number}(t);")
        lines += [f"{condition}{{", *("    " + line for line in inside), "}"]
    return lines
