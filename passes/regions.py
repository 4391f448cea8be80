"""regions: loops and branches keep what is read of them, and their bodies go through the passes.

    loop gives (h, ys, saved h, saved products), of which h is read  ->  loop gives (h)

What a loop saves for its gradient goes where there is no gradient, and with it what is only
carried for its own sake. Then each body is put through the graph passes by itself, and products
of a slice with something captured move out of the loop, as one product over all steps:

    loop: c = c @ w + x[t] @ v   ->   p = x @ v;  loop: c = c @ w + p[t]

Cost: a walk per nesting level; the passes on each body. `specialize_control` is the part of
specialize that fixes the shapes of bodies.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from graphc.ir.computation import Computation, clone, cut, rewrite, topological_order
from graphc.ir.errors import ShapeError
from graphc.ir.graph import CONSTANT, Node, Value, apply
from graphc.ir.ops.contract import contract, parse_spec
from graphc.ir.ops.control import LoopView, branch, loop, trip_count
from graphc.ir.ops.slicing import concat
from graphc.ir.table import OPS, Kind
from graphc.passes.context import Context

Host = Callable[[Value], np.ndarray]
Specialize = Callable[[Computation, Context], Computation]


# -- shapes


def specialize_control(
    node: Node, inputs: tuple[Value, ...], host: Host, specialize: Specialize, ctx: Context
) -> Sequence[Value] | None:
    """The loop or branch with static bodies; a branch is taken at once where it must be."""
    if node.op is trip_count:
        return None
    if node.op is loop:
        return _specialize_loop(node, inputs, host, specialize, ctx)
    return _specialize_branch(node, inputs, host, specialize, ctx)


def _specialize_loop(
    node: Node, inputs: tuple[Value, ...], host: Host, specialize: Specialize, ctx: Context
) -> Sequence[Value]:
    attrs = dict(node.attrs)
    if attrs["trips"] is None:
        attrs["trips"] = max(int(host(inputs[0])), 0)
        inputs = inputs[1:]
    first, last = attrs["carried"], attrs["carried"] + attrs["scanned"]
    body = attrs["body"]
    shapes: dict[Node, tuple[int, ...]] = {body.inputs[0]: ()}
    for i, (param, value) in enumerate(zip(body.inputs[1:], inputs, strict=True)):
        shape = value.type.static_shape
        shapes[param] = shape[1:] if first <= i < last else shape
    captured = dict(zip(body.inputs[1 + last :], inputs[last:], strict=True))
    attrs["body"] = specialize(body, ctx.inside(shapes, captured, host))
    return apply(loop, inputs, attrs, node.name).outputs


def _specialize_branch(
    node: Node, inputs: tuple[Value, ...], host: Host, specialize: Specialize, ctx: Context
) -> Sequence[Value]:
    predicate, *given = inputs
    attrs = dict(node.attrs)
    if predicate.node.op is CONSTANT:
        return _taken(attrs, bool(host(predicate)), given, host, specialize, ctx)
    for which in ("then", "otherwise"):
        attrs[which] = _static_body(attrs[which], given, host, specialize, ctx)
    types = ([v.type for v in attrs[which].outputs] for which in ("then", "otherwise"))
    if all(a == b for a, b in zip(*types, strict=True)):
        return apply(branch, inputs, attrs, node.name).outputs
    try:  # the shapes depend on the condition: so must the program
        return _taken(attrs, bool(host(predicate)), given, host, specialize, ctx)
    except ShapeError as error:
        raise ShapeError(
            f"the branches of {node.name!r} give different shapes, and the condition is not "
            f"known before the run: {error.message}"
        ) from None


def _static_body(
    body: Computation, given: Sequence[Value], host: Host, specialize: Specialize, ctx: Context
) -> Computation:
    shapes = {p: v.type.static_shape for p, v in zip(body.inputs, given, strict=True)}
    outer = dict(zip(body.inputs, given, strict=True))
    return specialize(body, ctx.inside(shapes, outer, host))


def _taken(
    attrs: Mapping[str, Computation],
    predicate: bool,
    given: Sequence[Value],
    host: Host,
    specialize: Specialize,
    ctx: Context,
) -> list[Value]:
    """The branch that is known to run, in the place of the node."""
    body = attrs["then" if predicate else "otherwise"]
    return inlined(_static_body(body, given, host, specialize, ctx), given)


def inlined(body: Computation, given: Sequence[Value]) -> list[Value]:
    """The body's outputs, computed of the given values."""
    mapping = {n.outputs[0]: v for n, v in zip(body.inputs, given, strict=True)}
    for node in body.nodes:
        if node.outputs and node.outputs[0] not in mapping:
            inputs = tuple([mapping.get(v, v) for v in node.inputs])
            new = node if inputs == node.inputs else clone(node, inputs)
            mapping.update(zip(node.outputs, new.outputs, strict=True))
    return [mapping.get(v, v) for v in body.outputs]


# -- what is read


def regions(computation: Computation, ctx: Context) -> Computation:
    """Prune loops and branches, put their bodies through the passes, and hoist products."""
    computation = _pruned(computation)
    computation = rewrite(computation, lambda node, inputs: _improved(node, inputs, ctx))
    hoisted = rewrite(computation, _hoisted)
    return computation if hoisted is computation else _pruned(hoisted)


def _pruned(computation: Computation) -> Computation:
    """Until nothing changes: what one loop does not read any more, another need not give."""
    while True:
        pruned = rewrite(computation, _Pruning(computation).visit)
        if pruned is computation:
            return computation
        computation = pruned


class _Pruning:
    def __init__(self, computation: Computation) -> None:
        self.read = {v for node in computation.nodes for v in node.inputs}
        self.read |= set(computation.roots)

    def visit(self, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if node.op is branch:
            return self.branch(node, inputs)
        return self.loop(node, inputs) if node.op is loop else None

    def branch(self, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        keep = [i for i, v in enumerate(node.outputs) if v in self.read]
        bodies = [node.attrs[which] for which in ("then", "otherwise")]
        bodies = [b.replace(outputs=[b.outputs[i] for i in keep]) for b in bodies]
        used = [i for i in range(len(inputs) - 1)
                if any(b.inputs[i] in b.nodes for b in bodies)]  # fmt: skip
        if len(keep) == len(node.outputs) and len(used) == len(inputs) - 1:
            return None
        then, otherwise = (b.replace(inputs=[b.inputs[i] for i in used]) for b in bodies)
        given = (inputs[0], *(inputs[i + 1] for i in used))
        new = apply(branch, given, {"then": then, "otherwise": otherwise}, node.name)
        return _spread(node, keep, new.outputs)

    def loop(self, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        view = LoopView(node)
        carried = self.live(view)
        results, slices = view.results
        count = len(results)
        stacked = [j for j in range(len(slices)) if node.outputs[count + j] in self.read]
        outs = [results[i] for i in carried] + [slices[j] for j in stacked]
        reached = {v for n in topological_order(v.node for v in outs) for v in n.outputs}
        params = [p for group in view.params for p in group]
        first, last = count, count + len(view.params[1])
        kept = [i for i, p in enumerate(params)
                if (i in carried if i < first else p in reached)]  # fmt: skip
        if len(outs) == len(view.body.outputs) and len(kept) == len(params):
            return None
        body = view.body.replace(
            inputs=[view.body.inputs[0], *(params[i].node for i in kept)], outputs=outs
        )
        scanned = sum(first <= i < last for i in kept)
        attrs = {**node.attrs, "body": body, "carried": len(carried), "scanned": scanned}
        new = apply(loop, [inputs[i] for i in kept], attrs, node.name)
        return _spread(node, [*carried, *(count + j for j in stacked)], new.outputs)

    def live(self, view: LoopView) -> list[int]:
        """The carried values that what is read depends on."""
        results, slices = view.results
        count = len(results)
        outputs = view.node.outputs
        live = {i for i in range(count) if outputs[i] in self.read}
        live |= {0} if view.node.attrs["conditional"] else set()
        roots = [slices[j] for j in range(len(slices)) if outputs[count + j] in self.read]
        index = {p.node: i for i, p in enumerate(view.params[0])}
        while True:
            values = [*roots, *(results[i] for i in live)]
            found = {index[n] for n in topological_order(v.node for v in values) if n in index}
            if found <= live:
                return sorted(live)
            live |= found


def _spread(node: Node, kept: Sequence[int], values: Sequence[Value]) -> list[Value]:
    """One value per output of the node; what nothing reads stands for itself."""
    result = list(node.outputs)
    for i, value in zip(kept, values, strict=True):
        result[i] = value
    return result


# -- the bodies


def _improved(node: Node, inputs: tuple[Value, ...], ctx: Context) -> Sequence[Value] | None:
    names = {branch: ("then", "otherwise"), loop: ("body",)}.get(node.op, ())
    if not names:
        return None
    attrs = {**node.attrs, **{name: _passed(node.attrs[name], ctx) for name in names}}
    return apply(node.op, inputs, attrs, node.name).outputs


def _passed(body: Computation, ctx: Context) -> Computation:
    """The body after the graph passes."""
    assert ctx.pipeline is not None, "a pipeline says what the bodies of loops go through"
    shapes = {n: n.types[0].static_shape for n in body.inputs}
    return ctx.pipeline.graph(body, ctx.inside(shapes))


def _hoisted(node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
    """The loop with its products of scanned and fixed values made before it."""
    if node.op is not loop:
        return None
    return _Hoisting(node if inputs == node.inputs else clone(node, inputs)).run()


class _Hoisting:
    def __init__(self, node: Node) -> None:
        self.view = view = LoopView(node)
        self.scanned = dict(zip(view.params[1], view.outer[1], strict=True))
        self.outside = dict(zip(view.params[2], view.outer[2], strict=True))  # fixed values

    def run(self) -> Sequence[Value] | None:
        view = self.view
        body = rewrite(view.body, self.split)
        pairs = ((n, self.over_steps(n)) for n in body.nodes)
        found = {n.outputs[0]: product for n, product in pairs if product is not None}
        if not found:
            return None
        step, (carried, scanned, captured) = view.body.inputs[0].outputs[0], view.params
        feeds = [step, *carried, *scanned, *found, *captured]
        new = cut(body.outputs, (), feeds).replace(stage=body.stage)
        given = (*view.outer[0], *view.outer[1], *found.values(), *view.outer[2])
        count = len(scanned) + len(found)
        attrs = {**view.node.attrs, "body": new, "scanned": count}
        return apply(loop, given, attrs, view.node.name).outputs

    def is_fixed(self, value: Value) -> bool:
        """True for what is the same in all steps; it is then known outside, too."""
        if value in self.outside:
            return True
        node = value.node
        movable = node.kind is Kind.MOVEMENT or node.op is CONSTANT
        if not movable or not all(map(self.is_fixed, node.inputs)):
            return False
        inputs = tuple([self.outside[v] for v in node.inputs])
        new = node if inputs == node.inputs else clone(node, inputs)
        self.outside.update(zip(node.outputs, new.outputs, strict=True))
        return True

    def over_steps(self, node: Node) -> Value | None:
        """All steps' products at once, where one operand is a slice and the other fixed."""
        if node.op is not contract:
            return None
        a, b = node.inputs
        left, right, out = parse_spec(node.attrs["spec"])
        step = next(c for c in string.ascii_letters if c not in left + right)
        if a in self.scanned and self.is_fixed(b):
            spec = f"{step}{left},{right}->{step}{out}"
            return contract(self.scanned[a], self.outside[b], spec=spec)
        if b in self.scanned and self.is_fixed(a):
            spec = f"{left},{step}{right}->{step}{out}"
            return contract(self.outside[a], self.scanned[b], spec=spec)
        return None

    def split(self, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        """concat(x[t], h) @ w  ->  x[t] @ w1 + h @ w2, so that the first can leave the loop."""
        if node.op is not contract:
            return None
        labels = parse_spec(node.attrs["spec"])
        for side in (0, 1):
            parts, other = inputs[side].node, inputs[1 - side]
            if parts.op is not concat or not any(v in self.scanned for v in parts.inputs):
                continue
            label = labels[side][parts.attrs["axis"]]
            if label not in labels[2] and self.is_fixed(other):
                return [self.sum_of(node, parts, other, side, labels[1 - side].index(label))]
        return None

    def sum_of(self, node: Node, parts: Node, other: Value, side: int, axis: int) -> Value:
        total, start = None, 0
        for part in parts.inputs:
            size = part.type.static_shape[parts.attrs["axis"]]
            shape = other.type.static_shape
            piece = OPS["slice"](
                other,
                start=tuple(start if i == axis else 0 for i in range(len(shape))),
                size=tuple(size if i == axis else d for i, d in enumerate(shape)),
                step=(1,) * len(shape),
            )
            pair = (piece, part) if side else (part, piece)
            product = contract(*pair, spec=node.attrs["spec"])
            total = product if total is None else total + product
            start += size
        assert total is not None
        return total
