"""How much of ONNX is offered: `python -m graphc.onnx.coverage docs/onnx.md` writes the table.

It runs the backend tests that the onnx package ships. A test passes; or it is refused: an
`UnsupportedOp` says what graphc lacks; or it fails, which is a defect. With `--passing FILE` the
names of those that pass are added to the file; none is ever taken out.
"""

from __future__ import annotations

import argparse
import re
import unittest
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import onnx
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests

from graphc.ir.errors import UnsupportedOp
from graphc.onnx.backend import GraphcBackend

# The suite's groups, and the classes in which its runner puts them. The group "real" is left out:
# its models are downloaded.
GROUPS: Final = {
    "node": "OnnxBackendNodeModelTest",
    "simple": "OnnxBackendSimpleModelTest",
    "pytorch-converted": "OnnxBackendPyTorchConvertedModelTest",
    "pytorch-operator": "OnnxBackendPyTorchOperatorModelTest",
}
# Floats, ints and bools of 8 bits and more; tensors of other elements graphc has not.
ELEMENTS: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16})
RANDOM: Final = "bernoulli"  # draws cannot be compared
_OF_OTHER_VALUES: Final = re.compile(r"(?<!Reverse)Sequence|Optional|String|Regex")


@dataclass(frozen=True)
class Case:
    """One test: its operators; the foreign domain and kinds of values that it needs, if any."""

    name: str
    group: str
    operators: tuple[str, ...]
    domain: str
    types: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """A test's status (passed, refused or failed); `message` is the error's first line."""

    case: Case
    status: str
    message: str = ""


# -- the tests


def cases() -> list[Case]:
    """All tests of the four groups, save those of random draws."""
    return [
        _case(group, test)
        for group in GROUPS
        for test in load_model_tests(kind=group)
        if RANDOM not in test.name
    ]


def _case(group: str, test: Any) -> Case:
    model = test.model or onnx.load(Path(test.model_dir) / "model.onnx")
    own = {"", "ai.onnx", *(f.domain for f in model.functions)}
    foreign = sorted({n.domain for n in model.graph.node} - own)
    operators = sorted({n.op_type for n in model.graph.node if n.domain not in foreign})
    types = tuple(sorted(set(_other_types(model))))
    return Case(test.name, group, tuple(operators), ", ".join(foreign), types)


def _other_types(model: Any) -> Iterator[str]:
    """Kinds of values besides tensors of floats, ints and bools."""
    for info in (*model.graph.input, *model.graph.output):
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            yield kind
        elif info.type.tensor_type.elem_type not in ELEMENTS:
            yield _element(info.type.tensor_type.elem_type)
    for node in _all_nodes(model.graph):
        if _OF_OTHER_VALUES.search(node.op_type):
            yield node.op_type
        for a in node.attribute:
            if a.type == onnx.AttributeProto.TYPE_PROTO:
                yield "type_proto"
            if a.name == "to" and a.i not in ELEMENTS:
                yield _element(a.i)


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for a in node.attribute:
            if a.HasField("g"):
                yield from _all_nodes(a.g)


def _element(code: int) -> str:
    return str(onnx.TensorProto.DataType.Name(code))


def is_counted(case: Case) -> bool:
    """True for tests of the default domain on floats, ints and bools: those are the aim."""
    return not case.domain and not case.types


@cache
def _classes() -> dict[str, Any]:
    return dict(BackendTest(GraphcBackend, __name__).test_cases)


def outcome(case: Case) -> Outcome:
    """Run one test, by the suite's own runner."""
    test: unittest.TestCase = _classes()[GROUPS[case.group]](f"{case.name}_cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            test.debug()
        except UnsupportedOp as error:
            return Outcome(case, "refused", error.message.splitlines()[0])
        except Exception as error:  # whatever it is, it is the test's result
            lines = str(error).strip().splitlines() or [""]
            return Outcome(case, "failed", f"{type(error).__name__}: {lines[0]}")
    return Outcome(case, "passed")


# -- the table


def report(outcomes: Sequence[Outcome]) -> str:
    """docs/onnx.md as text."""
    counted = [o for o in outcomes if is_counted(o.case)]
    lines = [
        "# ONNX operators",
        "",
        "Made by `python -m graphc.onnx.coverage docs/onnx.md`: the ONNX project's backend tests",
        f"(groups {', '.join(GROUPS)}) of onnx {onnx.__version__}, on the CPU.",
        "",
        f"- of the default domain, on floats, integers and bools: {_counts(counted)};",
        "- with strings, sequences, 8-bit and 4-bit floats and the other domains: "
        f"{_counts(outcomes)}.",
        "",
        "Random draws (Bernoulli) cannot be compared and are left out. A refusal names operator, "
        "opset version and node.",
        "",
        "| operator | passed | of |",
        "|---|---|---|",
        *_by_operator(counted),
        "",
        "## What is refused, and why",
        "",
        *_reasons(counted),
    ]
    return "\n".join(lines) + "\n"


def _counts(outcomes: Sequence[Outcome]) -> str:
    found = Counter(o.status for o in outcomes)
    share = found["passed"] / max(len(outcomes), 1)
    return (
        f"{found['passed']} of {len(outcomes)} pass ({share:.1%}), {found['refused']} are refused, "
        f"{found['failed']} fail"
    )


def _by_operator(outcomes: Iterable[Outcome]) -> Iterator[str]:
    passed, all_ = Counter[str](), Counter[str]()
    for o in outcomes:
        all_.update(o.case.operators)
        passed.update(o.case.operators if o.status == "passed" else ())
    for operator in sorted(all_):
        yield f"| {operator} | {passed[operator]} | {all_[operator]} |"


def _reasons(outcomes: Iterable[Outcome]) -> Iterator[str]:
    found = Counter(o.message for o in outcomes if o.status != "passed")
    for message, count in sorted(found.items()):
        yield f"- {count} x {message}"


def main() -> None:
    """Write the table, say the counts, and add to the list of those that pass."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", nargs="?", default="docs/onnx.md", help="where the table goes")
    parser.add_argument("--passing", metavar="FILE", help="add the names of those that pass here")
    arguments = parser.parse_args()
    outcomes = [outcome(case) for case in cases()]
    Path(arguments.path).write_text(report(outcomes), encoding="utf-8")
    if arguments.passing:
        passed = (o.case.name for o in outcomes if o.status == "passed")
        add_passing(Path(arguments.passing), passed)
    print(f"{_counts([o for o in outcomes if is_counted(o.case)])}: {arguments.path}")
    for o in outcomes:
        if o.status == "failed":
            print(f"{o.case.name}: {o.message}")


def add_passing(path: Path, names: Iterable[str]) -> None:
    """The file then lists these names, too, in order."""
    listed = set(path.read_text(encoding="utf-8").split()) if path.exists() else set()
    path.write_text("".join(f"{n}\n" for n in sorted({*listed, *names})), encoding="utf-8")


if __name__ == "__main__":
    main()
