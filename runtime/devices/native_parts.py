"""A large translation unit in parts, which as many compilers take side by side.

Cut between top-level definitions; what one part defines and another mentions gets external (but
hidden) linkage, and is declared where it is mentioned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEAST_LINES: Final = 300  # of a part: each one costs the compiler's start and the header
PAIR_LINES: Final = 150  # of a unit that is cut in two, where two compilers are soon done
_BLOCK_LINES: Final = 20  # which take the compiler as long as a function or a loop in itself
_HIDDEN: Final = '__attribute__((visibility("hidden")))'
_FUNCTION: Final = re.compile(r"^(?:GC_KERNEL|static|int) (?:\w+ )?\**(\w+)\(.*\) \{$")
_CONSTANT: Final = re.compile(r"^static const (\w+) (\w+)((?:\[\d*\])*) = \{$")


@dataclass(frozen=True)
class _Definition:
    """A function or constant: its name, its lines with the comments before, its declaration."""

    name: str
    text: str
    declaration: str
    words: frozenset[str]

    def exported(self) -> str:
        """The same, for other parts to see."""
        linkage = {"GC_KERNEL": f"{_HIDDEN} __attribute__((noinline))", "static": _HIDDEN}
        return re.sub(r"^(GC_KERNEL|static)\b", lambda m: linkage[m[1]], self.text, flags=re.M)


def split(text: str, most: int, least_lines: int = LEAST_LINES) -> list[str]:
    """At most that many translation units that mean the same."""
    lines = text.count("\n")
    count = min(most, max(lines // least_lines, 2 if lines >= PAIR_LINES else 1))
    if count < 2:
        return [text]
    head, definitions = _parsed(text)
    groups = _groups(definitions, count)
    return [_part(head, group, groups) for group in groups]


def _parsed(text: str) -> tuple[str, list[_Definition]]:
    """What all parts begin with, and the definitions in their order."""
    head: list[str] = []
    definitions: list[_Definition] = []
    waiting: list[str] = []  # lines since the last definition
    lines = iter(text.splitlines())
    for line in lines:
        waiting.append(line)
        function, constant = _FUNCTION.match(line), _CONSTANT.match(line)
        if function or constant:
            while line not in ("}", "};"):
                line = next(lines)
                waiting.append(line)
            definitions.append(_definition(waiting, function, constant))
            waiting = []
        elif line and not line.startswith("/*"):
            head += waiting
            waiting = []
    return "\n".join(head), definitions


def _definition(
    lines: Sequence[str], function: re.Match[str] | None, constant: re.Match[str] | None
) -> _Definition:
    text = "\n".join(lines)
    words = frozenset(re.findall(r"\w+", text))
    if function:
        declared = re.sub(r"^(GC_KERNEL|static) ", "", function[0].removesuffix(" {"))
        return _Definition(function[1], text, f"{_HIDDEN} {declared};", words)
    assert constant is not None
    kind, name, dims = constant.groups()
    return _Definition(name, text, f"extern {_HIDDEN} const {kind} {name}{dims};", words)


def _groups(definitions: Sequence[_Definition], count: int) -> list[list[_Definition]]:
    """Neighbours, in groups over which the compiler is about equally long."""
    costs = [d.text.count("\n") + _BLOCK_LINES * d.text.count(") {\n") for d in definitions]
    total = max(sum(costs), 1)
    groups: list[list[_Definition]] = [[] for _ in range(count)]
    before = 0
    for d, own in zip(definitions, costs, strict=True):
        groups[min((before + own // 2) * count // total, count - 1)].append(d)
        before += own
    return [g for g in groups if g]


def _part(head: str, group: Sequence[_Definition], groups: Sequence[Sequence[_Definition]]) -> str:
    others = [d for g in groups if g is not group for d in g]
    mentioned = frozenset().union(*(d.words for d in group))
    elsewhere = frozenset().union(*(d.words for d in others))
    declared = [d.declaration for d in others if d.name in mentioned]
    own = [d.exported() if d.name in elsewhere else d.text for d in group]
    return "\n\n".join([head, *declared, *own]) + "\n"


__all__ = ["LEAST_LINES", "PAIR_LINES", "split"]
