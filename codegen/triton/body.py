"""Statements and expressions of the loop IR as Triton text over one tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc.codegen.expressions import bare, title
from graphc.codegen.triton.names import Namer, literal, triton_type, typed_literal
from graphc.codegen.triton.tile import Tile, Writer
from graphc.ir import loop
from graphc.ir.dtypes import DType
from graphc.ir.errors import UnsupportedOp
from graphc.ir.loop import Access, Buffer, Expr, Linear
from graphc.ir.table import OPS


@dataclass(frozen=True, slots=True)
class Term:
    """A text and the tile's dims along which its value varies (its shape is 1 elsewhere)."""

    text: str
    dims: frozenset[int] = frozenset()
    is_name: bool = False


class Body:
    """Emits statements in order into a writer; values and loads get names once.

    `names` are the values defined outside: a scope inside a loop starts from those around it.
    """

    def __init__(
        self,
        writer: Writer,
        tile: Tile,
        namer: Namer,
        buffers: Mapping[str, Buffer],
        names: Mapping[str, Term] | None = None,
        titles: Mapping[str, str] | None = None,
    ) -> None:
        self.writer = writer
        self.tile = tile
        self.namer = namer
        self.buffers = buffers
        self.names: dict[str, Term] = dict(names or {})
        self.titles = titles or {}
        self.loaded: dict[Expr, Term] = {}
        self.fills = False  # loads give their fill also outside of the space

    # -- statements

    def let(self, stmt: loop.Let) -> None:
        """name = value."""
        base = self.titles.get(stmt.name) or title(stmt.value)
        self.names[stmt.name] = self.named(self.expr(stmt.value), base)

    def named(self, term: Term, base: str) -> Term:
        """The term under a name of its own."""
        if term.is_name:
            return term
        name = self.namer.fresh(base)
        self.writer.line(f"{name} = {bare(term.text)}")
        return Term(name, term.dims, True)

    def store(self, stmt: loop.Store) -> None:
        """buffer[access] = value, where the guards hold and the tile is inside the space."""
        value = self.expr(stmt.value)
        if isinstance(stmt.value, loop.Const):
            value = Term(typed_literal(stmt.value.value, stmt.value.dtype))
        pointer, dims, conditions = self.place(stmt.access, value.dims)
        text = value.text
        if stmt.value.dtype.is_bool:
            text = f"({text}).to(tl.int8)"
        masks = [*self.tile.masks(dims), *conditions]
        mask = f", mask={' & '.join(masks)}" if masks else ""
        self.writer.line(f"tl.store({pointer}, {text}{mask})")
        self.loaded = {
            e: t for e, t in self.loaded.items()
            if stmt.access.buffer not in {a.buffer for a in loop.accesses(e)}
        }  # fmt: skip

    # -- accesses

    def place(
        self, access: Access, also: frozenset[int] = frozenset(), extra: str = ""
    ) -> tuple[str, frozenset[int], list[str]]:
        """The pointer of an access, the dims of its shape, and its conditions.

        The shape covers those of the conditions and of `also`, as Triton wants it. `extra` is
        added to the offset (a gathered index).
        """
        conditions, dims = [], set(also)
        for guard in access.guards:
            for text, used in self.tile.conditions(guard):
                conditions.append(text)
                dims |= used
        offset, used = self.tile.linear(Linear(access.strides, access.offset))
        if access.divisor != 1:
            # where nothing moves the access, the guards decide, and the number may be any
            fixed = str(access.offset // access.divisor)
            offset = f"({offset}) // {access.divisor}" if used else fixed
        missing = frozenset(dims) - used
        if extra:
            offset = extra if offset == "0" else f"{offset} + {extra}"
        elif missing:
            scalar = f"tl.full({self.tile.shape(frozenset(dims))}, {offset}, tl.int32)"
            wider = f"tl.broadcast_to({offset}, {self.tile.shape(frozenset(dims | used))})"
            offset = wider if used or not offset.lstrip("-").isdigit() else scalar
        pointer = f"p_{access.buffer}" if offset == "0" else f"p_{access.buffer} + {offset}"
        return pointer, frozenset(dims | used), list(dict.fromkeys(conditions))

    def load(self, expr: loop.Load) -> Term:
        """The first piece whose guards hold, else the fill: a chain of `other=` from the last."""
        if expr in self.loaded:
            return self.loaded[expr]
        base = expr.pieces[0].buffer
        fill = str(int(expr.fill)) if expr.dtype.is_bool else literal(expr.fill, expr.dtype)
        result = Term("")
        for piece in reversed(expr.pieces):
            result = self.load_piece(piece, result, fill, base)
        if expr.dtype.is_bool:
            result = self.named(Term(f"{result.text} != 0", result.dims), base)
        self.loaded[expr] = result
        return result

    def load_piece(self, piece: Access, rest: Term, fill: str, base: str) -> Term:
        pointer, dims, conditions = self.place(piece, rest.dims)
        masks = [*self.tile.masks(dims), *conditions]
        arguments = [pointer]
        if masks:
            arguments.append(f"mask={' & '.join(masks)}")
        if conditions or (masks and self.fills):
            arguments.append(f"other={rest.text or fill}")
        return self.named(Term(f"tl.load({', '.join(arguments)})", dims), base)

    def gather(self, expr: loop.Gather) -> Term:
        """The element at a computed position; the fill where that is out of range."""
        if expr in self.loaded:
            return self.loaded[expr]
        index = self.expr(expr.index)
        if not index.dims and self.tile.rank:  # masks are blocks, and combine with blocks only
            index = Term(f"tl.broadcast_to({index.text}, {self.tile.shape(frozenset())})")
        index = self.named(index, "at")
        inside = f"({index.text} >= 0) & ({index.text} < {expr.size})"
        if expr.index.dtype.is_unsigned:
            inside = f"({index.text} < {expr.size})"
        position = index.text if self.tile.wide else f"{index.text}.to(tl.int32)"
        extra = position if expr.stride == 1 else f"{expr.stride} * {position}"
        pointer, dims, conditions = self.place(expr.access, index.dims, extra)
        masks = [*self.tile.masks(dims), *conditions, inside]
        fill = str(int(expr.fill)) if expr.dtype.is_bool else literal(expr.fill, expr.dtype)
        text = f"tl.load({pointer}, mask={' & '.join(masks)}, other={fill})"
        text = f"{text} != 0" if expr.dtype.is_bool else text
        self.loaded[expr] = self.named(Term(text, dims), expr.access.buffer)
        return self.loaded[expr]

    # -- expressions

    def expr(self, expr: Expr) -> Term:
        """The expression's text; loads on the way become lines of their own."""
        match expr:
            case loop.Load():
                return self.load(expr)
            case loop.Gather():
                return self.gather(expr)
            case loop.Const(value, dtype):
                return Term(typed_literal(value, dtype))
            case loop.Index(value, dtype):
                return self.index(value, dtype)
            case loop.Ref(name):
                return self.names[name]
        return self.apply(expr)

    def index(self, value: Linear, dtype: DType) -> Term:
        text, dims = self.tile.linear(value)
        if not dims and text.lstrip("-").isdigit():
            return Term(typed_literal(int(text), dtype))
        if not dims:
            text = f"tl.full([], 0, tl.int32) + {text}"
        return Term(f"({text}).to({triton_type(dtype)})", dims)

    def apply(self, expr: loop.Apply) -> Term:
        if expr.op == "cast":
            return self.cast(expr)
        template = OPS[expr.op].spell.get("triton")
        if template is None:
            raise UnsupportedOp(f"op {expr.op!r} has no spelling for Triton in the op table")
        terms = [self.argument(a, expr, template) for a in expr.args]
        text = template.format(*(t.text for t in terms), **dict(expr.attrs))
        return Term(text, frozenset().union(*(t.dims for t in terms)))

    def argument(self, arg: Expr, expr: loop.Apply, template: str) -> Term:
        """A constant beside a variable in an infix expression needs no dtype: Triton gives it
        that of the other."""
        infix = template.startswith("(") or template.startswith("tl.where(")
        others = [a for a in expr.args if not isinstance(a, loop.Const) and a.dtype is arg.dtype]
        if isinstance(arg, loop.Const) and infix and others:
            return Term(literal(arg.value, arg.dtype))
        term = self.expr(arg)
        position = expr.args.index(arg)
        return self.named(term, "v") if template.count(f"{{{position}}}") > 1 else term

    def cast(self, expr: loop.Apply) -> Term:
        (arg,) = expr.args
        inner = self.expr(arg)
        if arg.dtype is expr.dtype:
            return inner
        text = inner.text if inner.is_name or inner.text.endswith(")") else f"({inner.text})"
        if expr.dtype.is_bool:
            return Term(f"({text} != 0)", inner.dims)
        return Term(f"{text}.to({triton_type(expr.dtype)})", inner.dims)

    def whole(self, term: Term, dims: frozenset[int] | None = None) -> str:
        """The term's text, broadcast to the full tile (or along `dims`)."""
        wanted = self.tile.every if dims is None else dims
        if term.dims == wanted:
            return term.text
        return f"tl.broadcast_to({term.text}, {self.tile.shape(wanted)})"


def titles_of(kernel: loop.Kernel, buffers: Mapping[str, Buffer]) -> dict[str, str]:
    """For the names of the body, the buffers that they are stored to: what users call them."""
    result: dict[str, str] = {}
    for stmt in kernel.body:
        if isinstance(stmt, loop.Store) and isinstance(stmt.value, loop.Ref):
            result[stmt.value.name] = stmt.access.buffer
    return result
