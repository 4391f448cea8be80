"""The operators of ai.onnx.ml that work on numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.frontend import math as m
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS


@converter("ai.onnx.ml.Binarizer")
def binarizer(call: Call) -> Value:
    """1 above the threshold, else 0."""
    x = call.x()
    return m.cast(x > convert(call.attr("threshold", 0.0), like=x.dtype), x.dtype)


@converter("ai.onnx.ml.ArrayFeatureExtractor")
def array_feature_extractor(call: Call) -> Value:
    """Columns by their numbers."""
    x, columns = call.x(0), mv.reshape(call.x(1), shape=(-1,))
    picked = OPS["gather"](x, columns, axis=-1)
    return mv.expand_dims(picked, axis=(0,)) if call.rank(x) == 1 else picked


_MEMBER = 6
_COMPARE: list[Any] = [m.less_equal, m.less, m.greater_equal, m.greater, m.equal, m.not_equal]


@converter("ai.onnx.ml.TreeEnsemble")
def tree_ensemble(call: Call) -> Value:
    """[rows, features] -> [rows, targets]: what the trees' leaves say, combined.

    All rows go down all trees at once, one level after the other; leaves lead to themselves.
    """
    if call.attr("post_transform", 0) != 0:
        raise call.refused(f"post_transform {call.attr('post_transform')}")
    x, trees = call.x(), _Trees(call)
    rows = call.dims(x)[0]
    at = convert(np.broadcast_to(trees.roots, (rows, len(trees.roots))).copy())
    for _ in range(trees.depth):
        at = trees.below(x, at)
    leaf = at - trees.inner
    targets = OPS["gather"](trees.array("leaf_targetids", np.int64), leaf, axis=0)
    weights = OPS["gather"](convert(trees.weights), leaf, axis=0)
    return _combined(call, targets, weights)


class _Trees:
    """The nodes of all trees as tables; leaf i is number `inner` + i."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.modes = np.asarray(call.attr("nodes_modes")).astype(np.int64)
        self.inner = len(self.modes)
        self.weights = np.asarray(call.attr("leaf_weights"))
        self.yes = self.targets("true")
        self.no = self.targets("false")
        self.roots = self.array_of("tree_roots")
        self.depth = self.levels()
        self.members = self.sets()

    def array_of(self, name: str) -> np.ndarray:
        return np.asarray(self.call.attr(name, [0] * self.inner), np.int64)

    def array(self, name: str, dtype: Any) -> Value:
        return convert(np.asarray(self.call.attr(name), dtype))

    def targets(self, way: str) -> np.ndarray:
        """Where a node leads: leaves are numbered behind the inner nodes, and lead nowhere."""
        to = self.array_of(f"nodes_{way}nodeids")
        to = np.where(self.array_of(f"nodes_{way}leafs") != 0, to + self.inner, to)
        end = self.inner + len(self.weights)
        if ((to < 0) | (to >= end)).any():
            raise self.call.refused("a node leads to no other")
        return np.concatenate([to, np.arange(self.inner, end)])

    def levels(self) -> int:
        """How many steps lead from the roots to leaves, at most."""
        reached, count = np.unique(self.roots), 0
        while (reached < self.inner).any():
            reached = np.unique([self.yes[reached], self.no[reached]])
            count += 1
            if count > self.inner:
                raise self.call.refused("a tree is a cycle")
        return count

    def sets(self) -> list[np.ndarray]:
        """The numbers that each node of membership holds; NaN ends one set in the list."""
        values = np.asarray(self.call.attr("membership_values", np.zeros(0)))
        ends = np.flatnonzero(np.isnan(values))
        parts = np.split(values, ends)
        return [p[~np.isnan(p)] for p in parts[: len(ends)]]

    def below(self, x: Value, at: Value) -> Value:
        """The nodes to which the rows go from these."""
        is_leaf = at >= self.inner
        inner = pw.where(is_leaf, mv.zeros_like(at), at)
        feature = OPS["gather"](self.array("nodes_featureids", np.int64), inner, axis=0)
        value = OPS["take_pairs"](x, feature, axis=1)
        split = OPS["gather"](self.array("nodes_splits", x.dtype.numpy), inner, axis=0)
        holds = self.tracked(value, inner)
        mode = OPS["gather"](convert(self.modes), inner, axis=0)
        for code in np.unique(self.modes):
            found = self.member(value, inner) if code == _MEMBER else _COMPARE[code](value, split)
            holds = m.logical_or(holds, m.logical_and(m.equal(mode, int(code)), found))
        yes, no = (OPS["gather"](convert(t), at, axis=0) for t in (self.yes, self.no))
        return pw.where(holds, yes, no)

    def tracked(self, value: Value, inner: Value) -> Value:
        """NaN, where a node says that it holds for what is missing."""
        tracks = convert(self.array_of("nodes_missing_value_tracks_true") != 0)
        return m.logical_and(m.is_nan(value), OPS["gather"](tracks, inner, axis=0))

    def member(self, value: Value, inner: Value) -> Value:
        nodes = np.flatnonzero(self.modes == _MEMBER)
        result = m.not_equal(inner, inner)
        for node, numbers in zip(nodes, self.members, strict=False):
            for number in numbers:
                same = m.equal(value, convert(number, like=value.dtype))
                result = m.logical_or(result, m.logical_and(m.equal(inner, int(node)), same))
        return result


def _combined(call: Call, targets: Value, weights: Value) -> Value:
    """Per target the sum, mean, least or greatest weight over the trees; 0 without any."""
    count, trees = call.attr("n_targets"), call.dims(weights)[1]
    how = call.attr("aggregate_function", 1)
    numbers = convert(np.arange(count, dtype=np.int64))
    hit = m.equal(mv.expand_dims(targets, axis=(2,)), numbers)  # [rows, trees, targets]
    wide = mv.expand_dims(weights, axis=(2,))
    if how in (0, 1):
        total = m.reduce_sum(pw.where(hit, wide, mv.zeros_like(wide)), axis=1)
        return total / trees if how == 0 else total
    far = convert(np.inf if how == 2 else -np.inf, like=weights.dtype)
    chosen = pw.where(hit, wide, far)
    best = m.reduce_min(chosen, axis=1) if how == 2 else m.reduce_max(chosen, axis=1)
    return pw.where(OPS["reduce_any"](hit, axis=1), best, mv.zeros_like(best))
