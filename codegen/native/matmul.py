"""Products of float32 or float64 matrices: what comes before and after the product, as functions.

The product itself is computed by matmul.c or winograd.c, which call back for the addresses of
rows, for packed columns, and to finish sums; see gc_matmul in graphc.h. A factor may be any
expression: what is not a plain run of memory is computed first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from graphc.codegen.axes import strides_of
from graphc.codegen.native.body import MOST_FILL, Body, pointers, zeroed
from graphc.codegen.native.product import Product, extent
from graphc.codegen.native.spelling import VALUE, literal, loaded
from graphc.codegen.native.text import KernelText, Place
from graphc.codegen.native.winograd import EDGE, POINTS, Images, images_of
from graphc.ir import loop
from graphc.ir.dtypes import float64
from graphc.ir.loop import Buffer, Kernel

GROUP = 64  # GC_GROUP of graphc.h
_LEAST_RUN = 8  # numbers of a row that lie side by side, for rows to be read where they are
_MOST_LINES = 1024  # cache lines of a few rows that lie across them, and stay in the cache
_COLLIDING_BYTES = 1 << 12  # apart, lines push each other out of the first cache
_MOST_PARTIAL = 1 << 17  # GC_MOST_PARTIAL of graphc.h


def packed_bytes(kernel: Kernel, product: Product, buffers: Mapping[str, Buffer]) -> int:
    """Bytes of the packed second factor."""
    wide = -(-extent(kernel, product.columns) // GROUP) * GROUP
    taps = product.dot.dtype.itemsize * wide * extent(kernel, product.depth)
    images = images_of(kernel, product, buffers)
    return taps // images.window**2 * POINTS if images else taps


def emit_product(kernel: Kernel, product: Product, place: Place) -> KernelText:
    """The functions around the product, and its launch."""
    return _Emitter(kernel, product, place).emit()


class _Emitter:
    def __init__(self, kernel: Kernel, product: Product, place: Place) -> None:
        self.kernel = kernel
        self.product = product
        self.place = place
        self.body = self._new_body()
        self.functions: list[str] = []
        self.number = VALUE[product.dot.dtype]
        self.ending = "_f64" if product.dot.dtype is float64 else ""  # of names in graphc.h
        self.panel = f"GC_PANEL{self.ending.upper()}"

    def emit(self) -> KernelText:
        """All functions, and the plan that names them."""
        kernel, p, name = self.kernel, self.product, self.place.name
        depth, units = extent(kernel, p.depth), kernel.sizes[p.depth[0]]
        step = self._step_in_place()
        across = False
        if step:
            self._rows_in_place()
        else:
            across = self._computed_rows()
        images = images_of(kernel, p, self.place.buffers)
        if images:
            self._patch(images)
        self._pack()
        self._finish()
        m, n = extent(kernel, p.rows), extent(kernel, p.columns)
        one = len(p.depth) == 1
        segments = 0 if one else extent(kernel, p.depth[1:-1])
        length = 1 if one else kernel.sizes[p.depth[-1]]
        windows = (
            f"    .high = {images.high}, .wide = {images.wide}, .channels = {images.channels}, "
            f".window = {images.window}, .flipped = {int(images.flipped)}, "
            f".patch = {name}_patch,\n"
            if images else ""
        )  # fmt: skip
        plan = (
            f"static const gc_matmul{self.ending} {name} = {{\n"
            f"    .batch = {extent(kernel, p.batch)}, .m = {m}, .n = {n}, .k = {depth}, "
            f".units = {units},\n"
            f"    .segments = {segments}, .length = {length}, .step = {step}, "
            f".computed = {int(not step)}, .across = {int(across)}, .kept = {self.place.kept},\n"
            f"{windows}"
            f"    .rows = {name}_rows, .pack = {name}_pack, .finish = {name}_finish,\n}};"
        )
        wide = -(-n // GROUP) * GROUP
        partial = 8 * m * wide if m * wide <= _MOST_PARTIAL else 0
        nbytes = p.dot.dtype.itemsize * partial
        scratch = max(packed_bytes(kernel, p, self.place.buffers), nbytes)
        call = f"GC_MATMUL{self.ending.upper()}"
        if images:
            call = "GC_CONVOLVE_KEPT" if self.place.kept else "GC_CONVOLVE"
        launch = f"{call}(&{name}, b);"
        return KernelText([*self.functions, plan], [launch], scratch)

    # -- the first factor

    def _step_in_place(self) -> int:
        """How far apart the numbers of a row's runs lie in memory; 0: they must be computed."""
        a, last = self.product.dot.a, self.product.depth[-1]
        if not isinstance(a, loop.Load) or len(a.pieces) != 1:
            return 0
        (access,) = a.pieces
        step = access.strides[last]
        plain = self.place.buffers[access.buffer].dtype is self.product.dot.dtype
        bounded = any(g.value.strides[last] for g in access.guards)
        zeros = not access.guards or (a.fill == 0 and self.kernel.sizes[last] <= MOST_FILL)
        one = len(self.product.depth) == 1
        near = step == 1 or (
            one and self.kernel.sizes[last] <= _MOST_LINES
            and access.strides[self.product.rows[-1]] == 1
            and step * self.product.dot.dtype.itemsize % _COLLIDING_BYTES
        )  # fmt: skip
        runs = one or self.kernel.sizes[last] >= _LEAST_RUN
        return (
            step if plain and access.divisor == 1 and near and runs and zeros and not bounded else 0
        )

    def _rows_in_place(self) -> None:
        kernel, p, text = self.kernel, self.product, self.body.text
        a, last = p.dot.a, p.depth[-1]
        assert isinstance(a, loop.Load)
        self._decode("batch", p.batch)
        with ExitStack() as stack:
            stack.enter_context(text.block("for (long m = m0; m < m1; m++)", p.rows))
            self._decode("m", p.rows)
            self._depth_loops(stack, p.depth[:-1])
            one = len(p.depth) == 1
            if one:
                text.line(f"const long {kernel.axes[last].name} = d0;")
            text.blocks[-1].axes |= {last}  # at the run's first number
            access = (
                a.pieces[0]
                if one
                else replace(a.pieces[0], strides=zeroed(a.pieces[0].strides, last))
            )
            place, conditions = self.body.place(access)
            when = f"&{place}"
            if conditions:
                zeros = self.body.fill(self.number, a, kernel.sizes[last])
                when = f"{' && '.join(conditions)} ? {when} : {zeros}"
            index = self._depth_index(p.depth[:-1])
            at = "m - m0" if one else f"({index}) * (m1 - m0) + m - m0"
            text.line(f"rows[{at}] = {when};")
        self._rows_function()

    def _patch(self, images: Images) -> None:
        """The addresses of pixels of the first factor, from some pixel on."""
        kernel, p, text = self.kernel, self.product, self.body.text
        assert isinstance(p.dot.a, loop.Load)
        y, x = (kernel.axes[i].name for i in p.rows[-2:])
        start = 1 - images.window if images.flipped else 0  # a tap back is a pixel ahead
        self._decode("image", p.rows[:-2])
        taps = [f"const long {kernel.axes[i].name} = 0;" for i in p.depth]
        rows = [*taps, f"const long {y} = m + i + {start};"]
        columns = [f"const long {x} = n + j + {start};"]
        with (
            text.block(f"for (long i = 0; i < {EDGE}; i++)", (*p.depth, p.rows[-2]), rows),
            text.block(f"for (long j = 0; j < {EDGE}; j++)", p.rows[-1:], columns),
        ):
            place, conditions = self.body.place(p.dot.a.pieces[0])
            when = " && ".join(["i < high", "j < wide", *conditions])
            text.line(f"at[{EDGE} * i + j] = {when} ? &{place} : zeros;")
        self._function(
            "patch",
            "const float **at, const float *zeros, long image, long m, long n, long high, "
            "long wide",
        )

    def _computed_rows(self) -> bool:
        """Any first factor, computed into the space; True when rows lie side by side there."""
        p, text, a = self.product, self.body.text, self.product.dot.a
        inner = self._dense_axis(a, (*p.rows[-1:], *p.depth[-1:]))
        across = inner is not None and inner in p.rows
        self._decode("batch", p.batch)
        text.line(
            "const long count = m1 - m0;" if across else f"const long depth = {self._slab()};"
        )
        with text.block("for (long m = m0; m < m1; m++)"):
            text.line(f"rows[m - m0] = space + (m - m0){'' if across else ' * depth'};")
        with ExitStack() as stack:
            if across:
                self._depth_loops(stack, p.depth)
                axis, index = p.rows[-1], self._depth_index(p.depth)
                self._runs_of_rows(stack)
                self._run(a, axis, f"space + ({index}) * count + (m - m0)")
            else:
                stack.enter_context(text.block("for (long m = m0; m < m1; m++)", p.rows))
                self._decode("m", p.rows)
                axis, index = p.depth[-1], self._depth_index(p.depth[:-1], p.depth[-1])
                self._depth_loops(stack, p.depth[:-1])
                first = "d0" if len(p.depth) == 1 else "0"
                end = "d1 - d0" if first == "d0" else self.kernel.sizes[axis]
                text.line(f"const long begin = {first}, run = {end};")
                self._run(a, axis, f"space + (m - m0) * depth + {index}")
        self._rows_function()
        return across

    def _runs_of_rows(self, stack: ExitStack) -> None:
        """A loop over the rows, in runs along their last axis."""
        p, text, size = self.product, self.body.text, self.kernel.sizes[self.product.rows[-1]]
        header = "for (long m = m0, run; m < m1; m += run)"
        stack.enter_context(text.block(header, p.rows[:-1]))
        if len(p.rows) > 1:
            text.line(f"const long outer = m / {size}, begin = m % {size};")
            self._decode("outer", p.rows[:-1])
        else:
            text.line("const long begin = m;")
        text.line(f"run = {size} - begin < m1 - m ? {size} - begin : m1 - m;")

    def _run(self, a: loop.Expr, axis: int, target: str) -> None:
        """A run of the first factor along an axis, from `begin`, to the target."""
        text, name = self.body.text, self.kernel.axes[axis].name
        text.line(f"{self.number} *restrict target = {target};")
        limits = _limits(a, axis)
        if limits is None:
            header = "#pragma omp simd\nfor (long j = 0; j < run; j++)"
            with text.block(header, (axis,), [f"const long {name} = begin + j;"]):
                self._lets(a)
                text.line(f"target[j] = {self.body.value(a)};")
            return
        assert isinstance(a, loop.Load)
        (access,), conditions = a.pieces, []
        text.line(f"const long {name} = begin;")
        text.blocks[-1].axes |= {axis}
        text.line("long lo = 0, hi = run;")
        for guard in access.guards:
            if guard.value.strides[axis]:
                at = self.body.linear(guard.value)
                text.line(f"if (lo < -({at})) lo = -({at});")
                text.line(f"if (hi > {guard.size} - ({at})) hi = {guard.size} - ({at});")
            else:
                conditions += self.body.place(replace(access, guards=(guard,)))[1]
        if conditions:
            text.line(f"if (!({' && '.join(conditions)})) hi = lo;")
        text.line("lo = lo < run ? lo : run;")
        text.line("hi = hi > lo ? hi : lo;")
        place, _ = self.body.place(replace(access, guards=()))
        step = access.strides[axis]
        fill, value = literal(a.fill, a.dtype), loaded(_stepped(place, step), a.dtype)
        text.line(f"for (long j = 0; j < lo; j++) target[j] = {fill};")
        text.line("#pragma omp simd")
        text.line(f"for (long j = lo; j < hi; j++) target[j] = {value};")
        text.line(f"for (long j = hi; j < run; j++) target[j] = {fill};")

    def _rows_function(self) -> None:
        self._function(
            "rows",
            f"const {self.number} **rows, {self.number} *space, long batch, long m0, long m1, "
            "long d0, long d1",
        )

    # -- the second factor

    def _pack(self) -> None:
        kernel, p, text = self.kernel, self.product, self.body.text
        size = extent(kernel, p.columns)
        self._decode("batch", p.batch)
        text.line(f"const long depth = {self._slab()};")
        inner = self._dense_axis(p.dot.b, (*p.columns[-1:], *p.depth[-1:]))
        along_depth = inner is not None and inner in p.depth
        width = self.panel
        panel = text.block(
            f"for (long start = n0; start < n1; start += {width})", (),
            [f"{self.number} *panel = to + (start - n0) * depth;",
             f"const long width = n1 - start < {width} ? n1 - start : {width};",
             f"if (width < {width}) memset(panel, 0, sizeof(*panel) * depth * {width});"],
        )  # fmt: skip
        target = f"panel[{width} * ({self._depth_index(p.depth)}) + j]"
        with ExitStack() as stack:
            stack.enter_context(panel)
            if along_depth:
                self._columns(stack, p, size, simd=False)
                self._depth_loops(stack, p.depth, simd=True)
            else:
                self._depth_loops(stack, p.depth)
                self._columns(stack, p, size, simd=True)
            self._lets(p.dot.b)
            text.line(f"{target} = {self.body.value(p.dot.b)};")
        self._function("pack", f"{self.number} *to, long batch, long n0, long n1, long d0, long d1")

    def _columns(self, stack: ExitStack, p: Product, size: int, simd: bool) -> None:
        limit = self.panel if size % GROUP == 0 else "width"
        pragma = "#pragma omp simd\n" if simd else ""
        header = f"{pragma}for (long j = 0; j < {limit}; j++)"
        stack.enter_context(self.body.text.block(header, p.columns, ["const long n = start + j;"]))
        self._decode("n", p.columns)

    def _dense_axis(self, expr: loop.Expr, axes: Sequence[int]) -> int | None:
        """Which of the axes the expression's largest load walks element by element."""
        loads = list(loop.accesses(expr))
        for name in loop.refs(expr):
            for stmt in self.product.before:
                if isinstance(stmt, loop.Let) and stmt.name == name:
                    loads += loop.accesses(stmt.value)
        best = max(loads, key=lambda x: sum(map(bool, x.strides)), default=None)
        return next((i for i in axes if best is not None and abs(best.strides[i]) == 1), None)

    # -- the depth

    def _slab(self) -> str:
        unit = extent(self.kernel, self.product.depth[1:])
        return "d1 - d0" if unit == 1 else f"(d1 - d0) * {unit}"

    def _depth_index(self, axes: Sequence[int], last: int | None = None) -> str:
        """The position within the wanted units; `last` is left out, but counts."""
        kernel, terms = self.kernel, []
        stride = 1 if last is None else kernel.sizes[last]
        for i in reversed(axes):
            first = i == self.product.depth[0]
            if kernel.sizes[i] > 1:
                name = kernel.axes[i].name
                at = f"({name} - d0)" if first else name
                terms.append(at if stride == 1 else f"{stride} * {at}")
            stride *= kernel.sizes[i]
        return " + ".join(reversed(terms)) or "0"

    def _depth_loops(self, stack: ExitStack, axes: Sequence[int], simd: bool = False) -> None:
        for i in axes:
            name, size = self.kernel.axes[i].name, self.kernel.sizes[i]
            first, last = ("d0", "d1") if i == self.product.depth[0] else ("0", str(size))
            pragma = "#pragma omp simd\n" if simd and i == axes[-1] else ""
            header = f"{pragma}for (long {name} = {first}; {name} < {last}; {name}++)"
            stack.enter_context(self.body.text.block(header, (i,)))

    # -- what comes after

    def _finish(self) -> None:
        p, kernel = self.product, self._merged_rows()
        self.body = Body(kernel, self.place.names, self.place.buffers)
        text = self.body.text
        self._decode("batch", p.batch)
        with ExitStack() as stack:
            stack.enter_context(text.block("for (long m = m0; m < m1; m++)", p.rows))
            self._decode("m", p.rows, kernel)
            text.line(f"const {self.number} *row = sums + (m - m0) * stride;")
            if extent(kernel, p.columns) % GROUP == 0:  # a loop of known length
                header = "for (long start = n0; start < n1; start += GC_GROUP)"
                stack.enter_context(text.block(header))
                header = "#pragma omp simd\nfor (long j = 0; j < GC_GROUP; j++)"
                first = ["const long n = start + j;"]
            else:
                header, first = "#pragma omp simd\nfor (long n = n0; n < n1; n++)", []
            stack.enter_context(text.block(header, p.columns, first))
            self._decode("n", p.columns)
            text.blocks[-1].names[p.dot.name] = "row[n - n0]"
            reduced = set(self.kernel.reduced)
            for stmt in (*p.before, *p.after):
                if isinstance(stmt, loop.Store):
                    self.body.store(stmt)
                elif isinstance(stmt, loop.Let) and not self.body.scope[stmt.name] & reduced:
                    self.body.let(stmt)
        self._function(
            "finish",
            f"const {self.number} *sums, long stride, long batch, long m0, long m1, long n0, "
            "long n1",
        )

    def _lets(self, expr: loop.Expr) -> None:
        """The lets that an expression needs, also through one another."""
        lets = {s.name: s for s in self.product.before if isinstance(s, loop.Let)}
        needed: set[str] = set()
        stack = list(loop.refs(expr))
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                stack += loop.refs(lets[name].value)
        for name, stmt in lets.items():
            if name in needed:
                self.body.let(stmt)

    # -- text

    def _merged_rows(self) -> Kernel:
        """The kernel with the rows' axes as one, where what comes after walks them as one."""
        kernel, p = self.kernel, self.product
        reduced, scope = set(kernel.reduced), self.body.scope
        own = [s for s in (*p.before, *p.after)
               if not isinstance(s, loop.Let) or not scope[s.name] & reduced]  # fmt: skip
        strides = strides_of(replace(kernel, body=tuple(own)))
        pairs = list(zip(p.rows, p.rows[1:], strict=False))
        if any(s[i] != s[j] * kernel.sizes[j] for s in strides for i, j in pairs):
            return kernel
        axes = list(kernel.axes)
        for i in p.rows:
            size = extent(kernel, p.rows) if i == p.rows[-1] else 1
            axes[i] = replace(axes[i], size=size)
        return replace(kernel, axes=tuple(axes))

    def _decode(self, index: str, axes: Sequence[int], kernel: Kernel | None = None) -> None:
        """Variables for axes that one index walks, in the innermost block."""
        kernel, text = kernel or self.kernel, self.body.text
        text.blocks[-1].axes |= frozenset(axes)
        size = 1
        for i in reversed(axes):
            if kernel.sizes[i] > 1:
                at = index if size == 1 else f"{index} / {size}"
                first = i == next(j for j in axes if kernel.sizes[j] > 1)
                name = kernel.axes[i].name
                text.line(f"const long {name} = {at}{'' if first else f' % {kernel.sizes[i]}'};")
            size *= kernel.sizes[i]

    def _new_body(self) -> Body:
        return Body(self.kernel, self.place.names, self.place.buffers)

    def _function(self, what: str, parameters: str) -> None:
        place = self.place
        lines = self.body.text.blocks[0].lines
        lines = [*pointers(self.kernel, place, lines), *lines]
        header = f"static void {place.name}_{what}(gc_buffers b, {parameters}) {{"
        self.functions.append("\n".join([header, *("    " + line for line in lines), "}"]))
        self.body = self._new_body()


def _limits(expr: loop.Expr, axis: int) -> tuple[loop.Guard, ...] | None:
    """The guards that bound a run along the axis; None where it is no copy with such bounds."""
    if not isinstance(expr, loop.Load) or len(expr.pieces) != 1 or expr.pieces[0].divisor != 1:
        return None
    guards = tuple(g for g in expr.pieces[0].guards if g.value.strides[axis])
    plain = all(g.value.strides[axis] == 1 and g.step == 1 for g in guards)
    return guards if plain and all(g.step == 1 for g in expr.pieces[0].guards) else None


def _stepped(place: str, step: int) -> str:
    """The element j steps after a place."""
    name, _, offset = place.partition("[")
    return f"{name}[{offset[:-1]} + {'j' if step == 1 else f'{step} * j'}]"
