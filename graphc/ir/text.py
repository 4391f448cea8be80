"""The text form of computations: `print_computation`, and `parse`, its inverse.

    computation primitive
      inputs %0
      %0 = placeholder() {dtype=float32, shape=(4, 6)} : float32[4, 6]  # x @ train.py:3 in <module>
      %1 = constant() {value=float32[](2.0)} : float32[]  # mul/y
      %2 = multiply(%0, %1) : float32[4, 6]  # mul
      outputs %2
      update %3 <- %2

Nodes are numbered in their deterministic topological order; `%4.1` is the second output of %4.
Attributes that have their default value are left out. A constant stands as its values, as
`all 2.0` where it is uniform, or, where it is large or holds NaN bits that numbers cannot
spell, as a hash whose bytes stand in base64 after the graph. The bodies of loops and branches
are called `region.0`, `region.1`, ... and follow as sections of their own. So every text parses
back to the same computation, bit for bit; that of a dump is a test case.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from graphc.ir.computation import Computation
from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.errors import GraphcError, ParseError
from graphc.ir.graph import Node, Value
from graphc.ir.literal import Literal
from graphc.ir.location import Location
from graphc.ir.table import OPS
from graphc.ir.types import Shape, TensorType

_INLINE_ELEMENTS: Final = 8
_PLAIN_DIM: Final = re.compile(r"[A-Za-z_?][\w./?>-]*")


# -- printing


def print_computation(
    computation: Computation, locations: bool = True, labels: str = "number"
) -> str:
    """The computation as text.

    `locations=False` leaves the user's files and lines out. `labels="name"` refers to nodes by
    name rather than by number: such a text differs little from that of the pass before, but
    does not parse.
    """
    payloads: dict[str, str] = {}
    regions: list[Computation] = []
    text = _Printer(computation, locations, labels, payloads, regions).text()
    for number, body in enumerate(regions):  # which grows where bodies have bodies
        text += f"region region.{number}\n"
        text += _Printer(body, locations, labels, payloads, regions).text()
    return text + "".join(f"data {digest} {payload}\n" for digest, payload in payloads.items())


class _Printer:
    def __init__(
        self,
        computation: Computation,
        locations: bool,
        labels: str,
        payloads: dict[str, str],
        regions: list[Computation],
    ) -> None:
        self.computation = computation
        self.locations = locations
        self.payloads = payloads
        self.regions = regions
        self.labels: dict[Node, str] = {}
        self.taken: set[str] = set()
        nodes = dict.fromkeys((*computation.nodes, *computation.inputs, *computation.variables))
        for number, node in enumerate(nodes):
            self.labels[node] = self.unique(node) if labels == "name" else f"%{number}"

    def unique(self, node: Node) -> str:
        label, count = f"%{node.name}", 1
        while label in self.taken:
            label, count = f"%{node.name}~{count}", count + 1
        self.taken.add(label)
        return label

    def text(self) -> str:
        c = self.computation
        lines = [f"computation {c.stage}"]
        lines.append("  inputs " + ", ".join(self.labels[n] for n in c.inputs))
        lines += [f"  {self.node(node)}" for node in self.labels]
        lines.append("  outputs " + ", ".join(map(self.value, c.outputs)))
        lines += [f"  update {self.labels[n]} <- {self.value(v)}" for n, v in c.updates]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def value(self, value: Value) -> str:
        label = self.labels[value.node]
        return f"{label}.{value.index}" if value.index else label

    def node(self, node: Node) -> str:
        inputs = ", ".join(map(self.value, node.inputs))
        attrs = ", ".join(
            f"{key}={self.attr(value)}"
            for key, value in node.attrs.items()
            if not _is_default(value, node.op.attrs.get(key))
        )
        braces = f" {{{attrs}}}" if attrs else ""
        types = ", ".join(map(format_type, node.types))
        left = f"{self.labels[node]} = {node.op.name}({inputs}){braces}"
        return f"{left} : {types}  # {self.comment(node)}"

    def comment(self, node: Node) -> str:
        text = node.name
        if node.where and self.locations:
            text += f" @ {node.where.file}:{node.where.line} in {node.where.function}"
        if node.origin != (node.name,):
            text += " from " + " ".join(node.origin)
        return text

    def attr(self, value: Any) -> str:
        if isinstance(value, Literal):
            return self.literal(value.array)
        if isinstance(value, tuple):
            inner = ", ".join(map(self.attr, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        if isinstance(value, DType):
            return value.name
        if isinstance(value, Computation):
            self.regions.append(value)
            return f"region.{len(self.regions) - 1}"
        known = value is None or isinstance(value, (bool, int, float, str))
        assert known, f"an attribute of type {type(value).__name__} has no text form"
        return repr(value)

    def literal(self, array: np.ndarray) -> str:
        head = f"{as_dtype(array.dtype).name}{_format_dims(array.shape)}"
        if array.dtype.kind == "O":  # each byte as the character of its number
            texts = [ascii(text.decode("latin-1")) for text in array.ravel().tolist()]
            return f"{head}({', '.join(texts)})"
        if array.size > 1 and _is_uniform(array) and _spelled(array.reshape(-1)[:1]):
            return f"{head}(all {_spelled(array.reshape(-1)[:1])})"
        values = _spelled(array) if array.size <= _INLINE_ELEMENTS else None
        if values is not None:
            return f"{head}({values})"
        raw = np.ascontiguousarray(array).tobytes()
        digest = "@" + hashlib.blake2b(head.encode() + raw, digest_size=8).hexdigest()
        self.payloads[digest] = base64.b64encode(raw).decode()
        return f"{head}({digest})"


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and repr(value) == repr(default)


def _is_uniform(array: np.ndarray) -> bool:
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, -1)
    return bool((raw == raw[0]).all())


def _spelled(array: np.ndarray) -> str | None:
    """The elements as numbers, or None where these would not give the same bits again."""
    numbers = array.astype(object).ravel().tolist()
    if as_dtype(array.dtype).is_floating:
        numbers = [float(n) for n in array.ravel()]
    spelled = [repr(n) for n in numbers]
    # through the text, for a NaN as a Python float would keep its bits
    again = np.array([_element(text) for text in spelled], dtype=array.dtype)
    return ", ".join(spelled) if again.tobytes() == array.tobytes() else None


def _element(text: str) -> Any:
    return _WORDS[text] if text in _WORDS else _number(text)


def format_type(t: TensorType) -> str:
    """`float32[4, x.0]`; `float32[*]` for an unknown rank. Odd names of dims are quoted."""
    return f"{t.dtype.name}{_format_dims(t.shape)}"


def _format_dims(shape: Iterable[int | str] | None) -> str:
    if shape is None:
        return "[*]"
    dims = (d if isinstance(d, int) or _PLAIN_DIM.fullmatch(d) else repr(d) for d in shape)
    return f"[{', '.join(map(str, dims))}]"


# -- parsing


def parse(text: str) -> Computation:
    """The computation that `print_computation` printed; ParseError names line and column.

    Types are taken as they stand: whether they follow from the type rules, and whether the
    computation is well formed, is for `graphc.ir.verify` to say.
    """
    lines = text.splitlines()
    sections = _sections(lines)
    return _Parser(lines, sections, {}, next(iter(sections.values()))).parse()


def _sections(lines: Sequence[str]) -> dict[str, range]:
    """The rows of the computation itself (under ""), and of each region, by its name."""
    starts = [("", 0)]
    starts += [(x.split()[-1], i + 1) for i, x in enumerate(lines) if x.startswith("region ")]
    ends = [start - 1 for _, start in starts[1:]] + [len(lines)]
    return {name: range(start, end) for (name, start), end in zip(starts, ends, strict=True)}


_TOKEN: Final = re.compile(
    r"\s*(?:(?P<value>%\d+(?:\.\d+)?)"
    r"|(?P<number>[-+]?(?:inf|nan|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.]))"
    r"|(?P<string>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<digest>@[0-9a-f]+)"
    r"|(?P<comment>\#.*)"
    r"|(?P<word>[A-Za-z_?][\w./?>-]*)"
    r"|(?P<mark><-|[()\[\]{},=:*]))"
)
_COMMENT: Final = re.compile(
    r"# (?P<name>\S+)(?: @ (?P<file>.+):(?P<line>\d+) in (?P<function>\S+))?"
    r"(?: from (?P<origin>.+))?"
)
_WORDS: Final = {"True": True, "False": False, "None": None}


class _Parser:
    def __init__(
        self,
        lines: Sequence[str],
        sections: Mapping[str, range],
        regions: dict[str, Computation],
        rows: range,
    ) -> None:
        self.lines = lines
        self.sections = sections
        self.regions = regions  # those that have been read
        self.rows = rows
        self.row = 0
        self.position = 0
        self.values: dict[str, Value] = {}
        self.payloads = self.read_payloads()
        self.inputs: list[str] = []
        self.outputs: list[Value] = []
        self.updates: list[tuple[Node, Value]] = []
        self.stage = ""

    def fail(self, what: str) -> NoReturn:
        raise ParseError(f"line {self.row + 1}, column {self.position + 1}: {what}")

    def read_payloads(self) -> dict[str, bytes]:
        found = {}
        for row, line in enumerate(self.lines):
            self.row = row
            if line.startswith("data "):
                _, _, rest = line.partition(" ")
                digest, _, payload = rest.partition(" ")
                try:
                    found[digest] = base64.b64decode(payload, validate=True)
                except ValueError as error:
                    self.position = len("data ") + len(digest) + 1
                    self.fail(f"no base64: {error}")
        self.row = 0
        return found

    def parse(self) -> Computation:
        for row in self.rows:
            self.row, self.position = row, 0
            line = self.lines[row]
            if line.strip() and not line.startswith(("data ", "#")):
                self.line()
        self.position = 0
        if not self.stage:
            self.fail("the text has no line 'computation <stage>'")
        inputs = [self.lookup(label).node for label in self.inputs]
        return Computation(inputs, self.outputs, self.updates, self.stage)

    # -- tokens

    def peek(self) -> tuple[str, str]:
        match = _TOKEN.match(self.lines[self.row], self.position)
        if match is None:
            rest = self.lines[self.row][self.position :].strip()
            if rest:
                self.fail(f"cannot read {rest[:20]!r}")
            return "end", "the end of the line"
        kind = match.lastgroup
        assert kind is not None, "every alternative of the token pattern is named"
        return kind, match[kind]

    def next(self, *kinds: str) -> str:
        kind, text = self.peek()
        if kind not in kinds:
            self.fail(f"expected {' or '.join(kinds)}, found {text!r}")
        match = _TOKEN.match(self.lines[self.row], self.position)
        assert match is not None, "peek found this token"
        self.position = match.end()
        return text

    def take(self, mark: str) -> bool:
        if self.peek()[1] != mark:
            return False
        self.next("mark", "word")
        return True

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            self.fail(f"expected {mark!r}, found {self.peek()[1]!r}")

    def many(self, close: str, item: Callable[[], Any]) -> list[Any]:
        """Items with commas between, up to `close`, which is taken; a comma may end them."""
        items: list[Any] = []
        while not self.take(close):
            if items:
                self.expect(",")
                if self.take(close):
                    break
            items.append(item())
        return items

    def rest(self, item: Callable[[], Any]) -> list[Any]:
        """Items with commas between, up to the end of the line."""
        items: list[Any] = []
        while self.peek()[0] not in ("end", "comment"):
            if items:
                self.expect(",")
            items.append(item())
        return items

    # -- lines

    def line(self) -> None:
        kind, word = self.peek()
        if kind == "value":
            self.node()
            return
        self.next("word")
        match word:
            case "computation":
                self.stage = self.next("word")
            case "inputs":
                self.inputs = self.rest(lambda: self.next("value"))
            case "outputs":
                self.outputs = self.rest(self.value)
            case "update":
                variable = self.value().node
                self.expect("<-")
                self.updates.append((variable, self.value()))
            case _:
                self.position = 0
                self.fail(f"a line cannot begin with {word!r}")
        if self.peek()[0] not in ("end", "comment"):
            self.fail(f"{self.peek()[1]!r} is left over")

    def value(self) -> Value:
        start = self.position
        label = self.next("value")
        if label not in self.values:
            self.position = start
        return self.lookup(label)

    def lookup(self, label: str) -> Value:
        if label not in self.values:
            self.fail(f"{label} is not defined before")
        return self.values[label]

    def node(self) -> None:
        label = self.next("value")
        if label in self.values:
            self.position = 0
            self.fail(f"{label} is defined twice")
        self.expect("=")
        start = self.position
        op = OPS.get(self.next("word"))
        if op is None:
            self.position = start
            self.fail(f"no op of the table: {self.peek()[1]!r}")
        self.expect("(")
        inputs = tuple(self.many(")", self.value))
        given = dict(self.many("}", self.pair)) if self.take("{") else {}
        try:
            attrs = op.complete_attrs(given)
        except GraphcError as error:
            self.fail(str(error))
        self.expect(":")
        types = tuple(self.rest(self.type))
        name, where, origin = self.comment(label)
        node = Node(op, inputs, attrs, types, name, where, origin)
        for i, value in enumerate(node.outputs):
            self.values[f"{label}.{i}" if i else label] = value

    def comment(self, label: str) -> tuple[str, Location | None, tuple[str, ...]]:
        if self.peek()[0] == "end":
            return label[1:], None, ()
        match = _COMMENT.fullmatch(self.next("comment"))
        if match is None:
            self.fail("the comment must read '# name', '@ file:line in function' or 'from names'")
        where = None
        if match["file"]:
            where = Location(match["file"], int(match["line"]), match["function"])
        return match["name"], where, tuple((match["origin"] or "").split())

    # -- attributes and types

    def pair(self) -> tuple[str, Any]:
        key = self.next("word")
        self.expect("=")
        return key, self.attr()

    def attr(self) -> Any:
        kind, text = self.peek()
        if text == "(":
            self.next("mark")
            return tuple(self.many(")", self.attr))
        self.next("number", "string", "word")
        if kind == "number":
            return _number(text)
        if kind == "string":
            return _unquote(text)
        if text in _WORDS:
            return _WORDS[text]
        if text.startswith("region."):
            return self.region(text)
        dtype = self.dtype(text)
        return self.literal(dtype) if self.peek()[1] == "[" else dtype

    def region(self, name: str) -> Computation:
        if name not in self.regions:
            if name not in self.sections:
                self.fail(f"the text has no section 'region {name}'")
            inner = _Parser(self.lines, self.sections, self.regions, self.sections[name])
            self.regions[name] = inner.parse()
        return self.regions[name]

    def dtype(self, name: str) -> DType:
        try:
            return as_dtype(name)
        except GraphcError as error:
            self.fail(str(error))

    def type(self) -> TensorType:
        dtype = self.dtype(self.next("word"))
        return TensorType(dtype, self.shape())

    def shape(self) -> Shape | None:
        self.expect("[")
        if self.take("*"):
            self.expect("]")
            return None
        return tuple(self.many("]", self.dim))

    def dim(self) -> int | str:
        kind, text = self.peek()
        self.next("number", "word", "string")
        if kind == "number":
            if not text.isdigit():
                self.fail(f"a dim is a size or a name, not {text}")
            return int(text)
        return _unquote(text) if kind == "string" else text

    def literal(self, dtype: DType) -> Literal:
        declared = TensorType(dtype, self.shape())
        if not declared.is_static:
            self.fail("a constant has sizes as dims")
        shape = declared.static_shape
        self.expect("(")
        if dtype.is_string:
            return self.strings(shape)
        if self.peek()[0] == "digest":
            array = self.payload(dtype, shape)
            self.expect(")")
            return Literal(array)
        if self.take("all"):
            filled = np.full(shape, self.element(), dtype.numpy)
            self.expect(")")
            return Literal(filled)
        numbers = self.many(")", self.element)
        try:
            return Literal(np.array(numbers, dtype.numpy).reshape(shape))
        except (ValueError, OverflowError) as error:
            self.fail(f"these are no values of {dtype.name}{list(shape)}: {error}")

    def strings(self, shape: tuple[int, ...]) -> Literal:
        texts = self.many(")", lambda: _unquote(self.next("string")))
        try:
            array = np.empty(len(texts), dtype=object)
            array[:] = [text.encode("latin-1") for text in texts]
            return Literal(array.reshape(shape))
        except ValueError as error:
            self.fail(f"these are no strings of the shape {list(shape)}: {error}")

    def element(self) -> Any:
        kind, text = self.peek()
        self.next("number", "word")
        if kind == "word" and not isinstance(_WORDS.get(text), bool):
            self.fail(f"{text!r} is no number")
        return _number(text) if kind == "number" else _WORDS[text]

    def payload(self, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        digest = self.next("digest")
        if digest not in self.payloads:
            self.fail(f"the text has no line 'data {digest}'")
        try:
            return np.frombuffer(self.payloads[digest], dtype.numpy).reshape(shape)
        except ValueError as error:
            self.fail(f"the data of {digest} do not fit {dtype.name}{list(shape)}: {error}")


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


_ESCAPES: Final[Mapping[str, str]] = {"n": "\n", "t": "\t", "r": "\r"}


def _unquote(text: str) -> str:
    """The string whose repr is `text`."""

    def plain(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) > 1:
            return chr(int(code[1:], 16))
        return _ESCAPES.get(code, code)

    return re.sub(
        r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)", plain, text[1:-1], flags=re.DOTALL
    )
