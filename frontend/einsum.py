"""einsum: Einstein's sums of products, with `...` and repeated labels, as contractions of two."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from graphc.frontend.arguments import same_dtype
from graphc.frontend.framework import name_scope
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value
from graphc.ir.ops import diagonals
from graphc.ir.ops import movement as mv
from graphc.ir.ops import reduce as red
from graphc.ir.ops.contract import contract


def einsum(equation: str, *inputs: Any, name: str | None = None) -> Value:
    """Einstein's sum of products of one or more tensors, from left to right.

    A label that repeats in a tensor means its diagonal; `...` the dims that have no label, which
    broadcast. Without `->` the result has `...` and the labels that stand once, in their order.
    """
    values = same_dtype(inputs)
    terms, out = _parsed(equation, values)
    values, terms = _broadcast(*_without_repetitions(values, terms))
    with name_scope(name, "einsum") as scope:
        labels, result = terms[0], values[0]
        for i, (term, value) in enumerate(zip(terms[1:], values[1:], strict=True), start=2):
            later = out + "".join(terms[i:])
            result, labels = _summed(result, labels, later + term)
            value, term = _summed(value, term, later + labels)
            kept = "".join(c for c in dict.fromkeys(labels + term) if c in later)
            kept = out if not terms[i:] else kept
            result = contract(result, value, spec=f"{labels},{term}->{kept}")
            labels = kept
        result, labels = _summed(result, labels, out)
        perm = tuple(labels.index(c) for c in out)
        return mv.transpose(result, perm=perm, name=scope)


def _parsed(equation: str, values: Sequence[Value]) -> tuple[list[str], str]:
    """The labels of each tensor and of the result; those of `...` are letters as well."""
    text = equation.replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(values):
        raise AttributeValueError(
            f"einsum {equation!r} is of {len(terms)} tensors, got {len(values)}"
        )
    own = left.replace("...", "").replace(",", "")
    if not arrow:
        out = "..." * ("..." in left) + "".join(sorted(c for c in set(own) if own.count(c) == 1))
    letters = out.replace("...", "")
    wrong = not all(c in string.ascii_letters for c in own + letters)
    if wrong or len(set(letters)) < len(letters) or not set(letters) <= set(own):
        raise AttributeValueError(
            f"einsum {equation!r}: labels are letters, the result's from the tensors, once each"
        )
    spare = [c for c in string.ascii_letters if c not in own]
    ranks = [_hidden_rank(equation, t, v) for t, v in zip(terms, values, strict=True)]
    most = "".join(spare[: max(ranks)])
    terms = [t.replace("...", most[len(most) - r :]) for t, r in zip(terms, ranks, strict=True)]
    if most and "..." not in out:
        raise AttributeValueError(f"einsum {equation!r}: the result needs the tensors' '...'")
    return terms, out.replace("...", most)


def _hidden_rank(equation: str, term: str, value: Value) -> int:
    """How many dims `...` stands for."""
    count = len(term.replace("...", ""))
    rank = value.type.rank
    if rank is None:
        raise ShapeError(f"einsum needs tensors of known rank, got {value!r}")
    if "..." in term and rank >= count:
        return rank - count
    if rank != count:
        raise ShapeError(f"einsum {equation!r}: {value!r} has not the {count} dims {term!r}")
    return 0


def _without_repetitions(
    values: Sequence[Value], terms: Sequence[str]
) -> tuple[list[Value], list[str]]:
    """Each tensor's diagonal along the dims of one label."""
    results = []
    for value, term in zip(values, terms, strict=True):
        while repeated := next((c for c in term if term.count(c) > 1), None):
            i = term.index(repeated)
            j = term.index(repeated, i + 1)
            rest = [k for k in range(len(term)) if k not in (i, j)]
            sizes = [value.type.shape[k] for k in (i, j)] if value.type.shape else []
            if len(set(sizes)) > 1 and all(isinstance(s, int) for s in sizes):
                raise ShapeError(f"einsum: no diagonal of the dims {sizes} of {value!r}")
            value = diagonals.diagonal(mv.transpose(value, perm=(*rest, i, j)))
            term = "".join(term[k] for k in rest) + repeated
        results.append((value, term))
    return [v for v, _ in results], [t for _, t in results]


def _broadcast(values: list[Value], terms: list[str]) -> tuple[list[Value], list[str]]:
    """Without the dims of 1 that another tensor has in full: products broadcast by themselves."""
    wide = {
        c for v, t in zip(values, terms, strict=True)
        for c, d in zip(t, v.type.shape or (), strict=True) if d != 1
    }  # fmt: skip
    for n, (value, term) in enumerate(zip(values, terms, strict=True)):
        dims = zip(term, value.type.shape or (), strict=True)
        axes = tuple(i for i, (c, d) in enumerate(dims) if d == 1 and c in wide)
        if axes:
            values[n] = mv.squeeze(value, axis=axes)
            terms[n] = "".join(c for i, c in enumerate(term) if i not in axes)
    return values, terms


def _summed(x: Value, labels: str, needed: str) -> tuple[Value, str]:
    """`x` summed over the labels that nothing else needs."""
    axes = tuple(i for i, c in enumerate(labels) if c not in needed)
    kept = "".join(c for c in labels if c in needed)
    return (red.reduce_sum(x, axis=axes) if axes else x), kept
