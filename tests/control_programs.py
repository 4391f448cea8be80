"""Programs with loops and branches: what each computes, in graphc and again in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import graphc as gc

Array = Any
rng = np.random.default_rng(17)


@dataclass(frozen=True)
class Program:
    """`build(*placeholders)` gives the fetches; `meaning(*arrays)` what they should be.

    With `gradients`, d sum of the first fetch / d inputs is compared with finite differences.
    """

    build: Callable[..., Any]
    meaning: Callable[..., Any]
    inputs: tuple[Array, ...]
    gradients: bool = True


def _array(*shape: int) -> Array:
    return rng.standard_normal(shape)


def _f64(value: float) -> Any:
    return gc.constant(value, gc.float64)


def _scan_rnn(x: Any, w: Any, v: Any) -> Any:
    start = gc.zeros([2, 4], gc.float64)
    return gc.scan(lambda h, t: gc.tanh(gc.matmul(h, w) + gc.matmul(t, v)), x, start)


def _scan_rnn_meaning(x: Array, w: Array, v: Array) -> Array:
    h, hs = np.zeros((2, 4)), []
    for t in x:
        h = np.tanh(h @ w + t @ v)
        hs.append(h)
    return np.stack(hs)


def _concat_rnn(x: Any, w: Any) -> Any:
    start = gc.zeros([2, 4], gc.float64)
    return gc.foldl(lambda h, t: gc.tanh(gc.matmul(gc.concat([t, h], 1), w)), x, start)


def _concat_rnn_meaning(x: Array, w: Array) -> Array:
    h = np.zeros((2, 4))
    for t in x:
        h = np.tanh(np.concatenate([t, h], 1) @ w)
    return h


def _power(x: Any) -> Any:
    return gc.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, y * x), [0, x])[1]


def _doubled(x: Any) -> Any:
    """Until the sum of squares is large, at most 5 times."""
    return gc.while_loop(
        lambda y: gc.reduce_sum(gc.square(y)) < 50.0, lambda y: y * 2.0, [x], maximum_iterations=5
    )


def _doubled_meaning(x: Array) -> Array:
    for _ in range(5):
        if (x**2).sum() >= 50:
            break
        x = x * 2
    return x


def _branches(x: Any, y: Any) -> Any:
    positive = gc.reduce_sum(x) > 0.0
    return gc.cond(positive, lambda: gc.sin(x) * y, lambda: gc.reduce_sum(x * x) + y)


def _branches_meaning(x: Array, y: Array) -> Array:
    return np.sin(x) * y if x.sum() > 0 else (x * x).sum() + y


def _rows_by_sign(x: Any, w: Any) -> Any:
    """A branch in a loop."""
    return gc.map_fn(
        lambda r: gc.cond(gc.reduce_sum(r) > 0.0, lambda: r * w, lambda: gc.exp(r) - w), x
    )


def _nested(x: Any, w: Any) -> Any:
    """A loop in a loop."""
    return gc.map_fn(lambda row: gc.scan(lambda a, b: a * b + w, row, _f64(0.5)), x)


def _nested_meaning(x: Array, w: Array) -> Array:
    result = np.zeros_like(x)
    for i, row in enumerate(x):
        a = 0.5
        for j, b in enumerate(row):
            a = result[i, j] = a * b + w
    return result


def _structures(x: Any, y: Any) -> Any:
    made = gc.map_fn(lambda e: {"p": e[0] * e[1], "s": gc.reduce_sum(e[1])}, (x, y))
    return [made["p"], made["s"]]


def _swapped(x: Any, y: Any) -> Any:
    """Carried values that change places: none may be overwritten before it is read."""
    return gc.while_loop(lambda i, a, b: i < 5, lambda i, a, b: (i + 1, b, a + b), [0, x, y])[1:]


def _swapped_meaning(x: Array, y: Array) -> list[Array]:
    for _ in range(5):
        x, y = y, x + y
    return [x, y]


def _no_step(x: Any) -> Any:
    return gc.while_loop(lambda i, y: i < 0, lambda i, y: (i + 1, y * 3.0), [0, x])[1]


def _steps_of_a_slice(x: Any) -> Any:
    """The step's number is read, and the slices are of one element."""
    return gc.scan(lambda a, b: a * 0.5 + b, gc.reshape(x, [-1]), _f64(1.0))


def _steps_of_a_slice_meaning(x: Array) -> Array:
    a, result = 1.0, []
    for b in x.ravel():
        a = a * 0.5 + b
        result.append(a)
    return np.array(result)


PROGRAMS: Final[dict[str, Program]] = {
    "scan_rnn": Program(
        _scan_rnn, _scan_rnn_meaning, (_array(5, 2, 3), _array(4, 4) * 0.5, _array(3, 4))
    ),
    "concat_rnn": Program(_concat_rnn, _concat_rnn_meaning, (_array(3, 2, 3), _array(7, 4) * 0.5)),
    "power": Program(_power, lambda x: x**5, (_array(3),)),
    "doubled": Program(_doubled, _doubled_meaning, (_array(4),)),
    "doubled_never": Program(_doubled, _doubled_meaning, (_array(4) * 100,)),
    "doubled_to_the_bound": Program(_doubled, _doubled_meaning, (_array(2) * 1e-6,)),
    "branch_taken": Program(_branches, _branches_meaning, (np.abs(_array(3)), _array(3))),
    "branch_not_taken": Program(_branches, _branches_meaning, (-np.abs(_array(3)), _array(3))),
    "branch_in_loop": Program(
        _rows_by_sign,
        lambda x, w: np.stack([r * w if r.sum() > 0 else np.exp(r) - w for r in x]),
        (_array(5, 3), _array(3)),
    ),
    "loop_in_loop": Program(_nested, _nested_meaning, (_array(3, 4), np.array(0.7))),
    "structures": Program(
        _structures, lambda x, y: [x * y, y.sum(-1)], (_array(4, 3), _array(4, 3))
    ),
    "swapped": Program(_swapped, _swapped_meaning, (_array(3), _array(3))),
    "no_step": Program(_no_step, lambda x: x, (_array(3),)),
    "one_step": Program(_steps_of_a_slice, _steps_of_a_slice_meaning, (_array(1),)),
    "slices_of_one": Program(_steps_of_a_slice, _steps_of_a_slice_meaning, (_array(2, 3),)),
    "no_slice": Program(
        lambda x: gc.map_fn(lambda r: r * 2.0, x), lambda x: x * 2, (_array(0, 3),)
    ),
    "reverse": Program(
        lambda x: gc.scan(lambda a, b: a * b, x, gc.ones([2], gc.float64), reverse=True),
        lambda x: np.cumprod(x[::-1], 0)[::-1], (_array(4, 2),),
    ),
    "foldr": Program(
        lambda x: gc.foldr(lambda a, b: a - b * b, x), lambda x: x[2] - x[1] ** 2 - x[0] ** 2,
        (_array(3, 2),),
    ),
    "case": Program(
        lambda x: gc.case(
            [(x[0] > 9.0, lambda: x), (x[1] > -9.0, lambda: x * 2.0)], lambda: x * 3.0
        ),
        lambda x: x * 2, (_array(3),),
    ),
}  # fmt: skip


def fetches_and_feeds(program: Program) -> tuple[list[Any], dict[Any, Array]]:
    """The program in the default graph: its fetches, then the gradients."""
    inputs = [gc.placeholder(gc.float64, x.shape) for x in program.inputs]
    made = program.build(*inputs)
    fetches = list(made) if isinstance(made, (list, tuple)) else [made]
    if program.gradients:
        loss = gc.add_n([gc.reduce_sum(gc.sin(f)) for f in fetches])
        fetches += gc.gradients(loss, inputs)
    return fetches, dict(zip(inputs, program.inputs, strict=True))


def expected(program: Program) -> list[Array]:
    """The meaning's values, then gradients of the sum of their sines by central differences."""
    made = program.meaning(*program.inputs)
    values = list(made) if isinstance(made, list) else [made]
    if program.gradients:
        values += [_differences(program, i) for i in range(len(program.inputs))]
    return values


def _differences(program: Program, which: int) -> Array:
    step, x = 1e-6, program.inputs[which]
    result = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        sides = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * step
            inputs = [moved if i == which else y for i, y in enumerate(program.inputs)]
            made = program.meaning(*inputs)
            sides.append(sum(np.sin(v).sum() for v in (made if isinstance(made, list) else [made])))
        result[at] = (sides[0] - sides[1]) / (2 * step)
    return result


def check(program: Program, results: list[Array]) -> None:
    """AssertionError unless the results are what is expected."""
    for got, want in zip(results, expected(program), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
