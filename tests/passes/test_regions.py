"""The pass `regions`: what is pruned, what leaves a loop, and what the verifier says of bodies."""

from __future__ import annotations

from typing import Any

import pytest

import graphc as gc
from graphc.ir.computation import Computation, cut
from graphc.ir.errors import VerificationError
from graphc.ir.graph import Node, Value
from graphc.ir.ops.control import LoopView, branch, loop
from graphc.ir.verify import verify_computation
from graphc.passes.context import Context
from graphc.passes.pipeline import Bodies
from graphc.passes.regions import inlined, regions
from graphc.passes.specialize import specialize


def after(outputs: list[Value], feeds: list[Value] | None = None) -> Computation:
    ctx = Context(pipeline=Bodies())
    return regions(specialize(cut(outputs, (), feeds or []), ctx), ctx)


def loops(computation: Computation) -> list[LoopView]:
    return [LoopView(n) for n in computation.nodes if n.op is loop]


def x_(*shape: int) -> Any:
    return gc.placeholder(gc.float32, shape)


def test_what_is_not_read_is_not_carried() -> None:
    with gc.Graph().as_default():
        x = x_(3)
        outs = gc.while_loop(
            lambda i, a, b: i < 5, lambda i, a, b: (i + 1, a * 2.0, b + a), [0, x, x]
        )
        (view,) = loops(after([outs[1]], [x]))  # b needs a, but nobody reads b; the step counts
        assert [v.type.shape for v in view.node.outputs] == [(3,)]
        (view,) = loops(after([outs[2]], [x]))
        assert len(view.params[0]) == 2


def test_one_loop_less_makes_another_give_less() -> None:
    """The forward loop saves for the backward one; of that only the state's gradient is read."""
    with gc.Graph().as_default():
        x, w = x_(4, 2, 3), x_(3, 3)
        h = gc.foldl(lambda h, t: gc.tanh(gc.matmul(h, w) + t), x, gc.zeros([2, 3]))
        (dx, dw) = gc.gradients(h, [x, w])
        forward = loops(after([h], [x, w]))[0]
        assert len(forward.node.outputs) == 1
        both = loops(after([dx, dw], [x, w]))
        assert len(both) == 2
        kinds = [v.op.name for v in after([dx, dw], [x, w]).nodes]
        assert kinds.count("contract") == 1  # the weights' gradient, over all steps


def test_products_of_slices_with_what_is_fixed_leave_the_loop() -> None:
    with gc.Graph().as_default():
        x, w = x_(6, 2, 3), x_(3, 4)
        y = gc.scan(lambda a, t: a + gc.matmul(t, w), x, gc.zeros([2, 4]))
        computation = after([y], [x, w])
        (view,) = loops(computation)
        assert [n.op.name for n in computation.nodes].count("contract") == 1
        assert all(n.op.name != "contract" for n in view.body.nodes)
        assert view.outer[2] == ()  # w is not read inside any more


def test_products_of_what_is_carried_stay() -> None:
    with gc.Graph().as_default():
        x, w = x_(6, 3, 3), x_(3, 3)
        y = gc.scan(lambda a, t: gc.matmul(a + t, w), x, gc.zeros([3, 3]))
        computation = after([y], [x, w])
        assert all(n.op.name != "contract" for n in computation.nodes)
        assert any(n.op.name == "contract" for n in loops(computation)[0].body.nodes)


def test_a_branch_gives_only_what_is_read() -> None:
    with gc.Graph().as_default():
        x, y = x_(3), x_(2)
        first, _ = gc.cond(gc.reduce_sum(x) > 0.0, lambda: (x * 2.0, y * 3.0), lambda: (x, y))
        (node,) = (n for n in after([first], [x, y]).nodes if n.op is branch)
        assert len(node.outputs) == 1
        assert len(node.inputs) == 2  # the condition and x


def test_inlined() -> None:
    with gc.Graph().as_default():
        x, y = x_(3), x_(3)
        body = cut([gc.sin(x) * 2.0, x], (), [x])
        product, same = inlined(body, [y])
        assert same is y
        assert product.node.inputs[0].node.inputs == (y,)


def test_nothing_to_do_leaves_the_computation() -> None:
    with gc.Graph().as_default():
        x = x_(3)
        computation = specialize(cut([gc.exp(x)], (), [x]), Context())
        assert regions(computation, Context(pipeline=Bodies())) is computation


# -- the verifier


def broken(change: Any) -> Computation:
    """A computation whose loop has another body."""
    x = x_(3)
    y = gc.map_fn(lambda r: r * 2.0, x)
    node = y.node
    attrs = {**node.attrs, "body": change(node.attrs["body"])}
    new = Node(node.op, node.inputs, attrs, node.types, "bad")
    return cut([y], (), [x]).replace(outputs=new.outputs)


def test_a_body_reads_its_inputs_alone() -> None:
    with gc.Graph().as_default():
        stray = gc.placeholder(gc.float32, [], name="stray")
        computation = broken(lambda b: b.replace(outputs=[b.outputs[0] + stray]))
        with pytest.raises(VerificationError, match=r"in the body of 'bad'.*'stray'.*no input"):
            verify_computation(computation, "a pass")


def test_a_body_gives_what_the_loop_says() -> None:
    with gc.Graph().as_default():
        computation = broken(lambda b: b.replace(outputs=[gc.constant(1)]))
        with pytest.raises(VerificationError, match="'bad' has type"):
            verify_computation(computation, "a pass")
