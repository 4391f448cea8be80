"""Values: expressions as calls that put their results into registers or given arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from graphc.codegen.numpy.frame import Frame
from graphc.codegen.numpy.loads import Loads
from graphc.codegen.numpy.registers import Operand, Registers
from graphc.codegen.numpy.spelling import call_text, literal, numpy_name
from graphc.ir import loop
from graphc.ir.dtypes import int64
from graphc.ir.loop import Apply
from graphc.ir.table import OPS


class Values:
    """Expressions as operands. `names` holds what the statements so far have named."""

    def __init__(self, frame: Frame, registers: Registers, loads: Loads) -> None:
        self._frame = frame
        self._registers = registers
        self._loads = loads
        self._uses: Counter[str] = Counter()
        self.names: dict[str, Operand] = {}

    def count_uses(self, stmts: Sequence[loop.Stmt]) -> None:
        """How often the statements read each name: with the last time its register is free."""
        parts = (e for s in stmts for x in s.exprs for e in loop.walk(x))
        self._uses = Counter(e.name for e in parts if isinstance(e, loop.Ref))

    def emit(self, e: loop.Expr, out: Operand | None = None) -> Operand:
        """The operand that holds the expression; in `out` if that is given."""
        match e:
            case loop.Const(value, dtype):
                operand = Operand(literal(value, dtype), dtype, frozenset(), scalar=True)
            case loop.Ref(name):
                operand = self._named(name)
            case loop.Load():
                operand = self._loads.load(e)
            case loop.Index():
                operand = self._loads.index(e)
            case loop.Gather():
                return self._gather(e, out)
            case Apply():
                return self._apply(e, out)
        return self._copied(operand, out)

    def _named(self, name: str) -> Operand:
        self._uses[name] -= 1
        operand = self.names[name]
        # read again later: whoever takes it must not free it
        return replace(operand, slot=None) if self._uses[name] > 0 else operand

    def _copied(self, operand: Operand, out: Operand | None) -> Operand:
        if out is None:
            return operand
        self._frame.line(f"{out.text}[...] = {operand.text}")
        self._registers.drop(operand)
        return out

    def _apply(self, e: Apply, out: Operand | None) -> Operand:
        args = [self.emit(a) for a in e.args]
        texts = [a.text for a in args]
        if e.op == "cast" and args[0].scalar:
            texts[0] = f"np.asarray({texts[0]})"
        elif all(a.scalar for a in args):
            texts[0] = f"np.asarray({texts[0]}, np.{numpy_name(args[0].dtype)})"
        self._registers.drop(*args)  # the result may overwrite an operand
        result = out or self._registers.take(e.dtype, frozenset().union(*(a.span for a in args)))
        attrs = () if e.op == "cast" else e.attrs
        self._frame.line(call_text(OPS[e.op].spell["numpy"], texts, attrs, result.text))
        return result

    def _gather(self, e: loop.Gather, out: Operand | None) -> Operand:
        index = self.emit(e.index)
        base = self._loads.index(loop.Index(loop.Linear(e.access.strides, e.access.offset), int64))
        result = out or self._registers.take(e.dtype, index.span | base.span)
        at = f"np.asarray({index.text})" if index.scalar else index.text
        self._frame.line(
            f"s.gather({self._frame.flat(e.access.buffer)}, {base.text}, {at}, {e.stride}, "
            f"{e.size}, {literal(e.fill, e.dtype)}, {result.text})"
        )
        self._registers.drop(index, base)
        return result
