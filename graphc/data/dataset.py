"""`data.Dataset`: elements one after the other, and what can be made of them.

A dataset is a recipe. An iterator (graphc.data.iterators) carries it out: each beginning is a
`Run`, with the values of the tensors that the recipe was given. Elements are computed on the
host by NumPy, one at a time; `prefetch`, `num_parallel_calls` and the like change nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from graphc.data import elements as el
from graphc.data.elements import Element, Spec
from graphc.data.functions import Traced, traced_map
from graphc.frontend.arguments import is_tensor
from graphc.ir.dtypes import bool_, int64
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, convert, get_default_graph
from graphc.ir.ops.random import random_key
from graphc.ir.table import OPS
from graphc.ir.types import UNKNOWN, Shape, TensorType, as_shape

AUTOTUNE: Final = -1
_MOST_FILES: Final = 1 << 20  # that are shuffled at once


class Run:
    """One beginning of an iterator: the values of tensors, and what datasets remember in it."""

    def __init__(self, values: Mapping[Value, np.ndarray], number: int = 0) -> None:
        self.values = values
        self.number = number  # how often the iterator has begun before
        self.memory: dict[Any, Any] = {}

    def value(self, x: Any) -> Any:
        """A tensor's value; anything else is its own."""
        return self.values[x] if isinstance(x, Value) else x

    def integer(self, x: Any) -> int:
        """A number that may be a tensor."""
        return int(self.value(x))

    def count(self, key: Any) -> int:
        """How often this was asked for the key before."""
        self.memory[key] = self.memory.get(key, -1) + 1
        number: int = self.memory[key]
        return number


Make = Callable[[Run], Iterator[Element]]


class Dataset(el.Specified):
    """Elements of one specification; `make(run)` begins to give them.

    `needs`: the graph's tensors whose values a run must know.
    """

    def __init__(
        self, spec: Spec, make: Make, sources: Iterable[Dataset] = (), needs: Iterable[Any] = ()
    ) -> None:
        inherited = itertools.chain.from_iterable(s.needs for s in sources)
        own = (x for x in needs if isinstance(x, Value))
        self.element_spec = spec
        self.needs: tuple[Value, ...] = tuple(dict.fromkeys([*inherited, *own]))
        self.iterate = make

    def __iter__(self) -> Iterator[Element]:
        """The elements as NumPy arrays, without a session; for datasets made of constants."""
        if self.needs:
            raise AttributeValueError(
                f"the dataset depends on the tensor {self.needs[0].name!r}; iterate over it in a "
                "session by make_initializable_iterator()"
            )
        return (el.map_leaves(el.plain, x) for x in self.iterate(Run({})))

    as_numpy_iterator = __iter__

    def __repr__(self) -> str:
        return f"<Dataset of {self.element_spec}>"

    # -- sources

    @staticmethod
    def from_tensors(tensors: Any) -> Dataset:
        """One element: the tensors."""
        leaves = el.as_leaves(tensors)

        def make(run: Run) -> Iterator[Element]:
            yield el.map_leaves(run.value, leaves)

        return Dataset(el.map_leaves(el.spec_of, leaves), make, needs=el.flatten(leaves))

    @staticmethod
    def from_tensor_slices(tensors: Any) -> Dataset:
        """The slices of the tensors along their first dim, which all share."""
        leaves = el.as_leaves(tensors)
        spec = el.map_leaves(lambda leaf: _without_first(el.spec_of(leaf)), leaves)
        _common_length([el.spec_of(leaf).shape for leaf in el.flatten(leaves)])

        def make(run: Run) -> Iterator[Element]:
            arrays = [run.value(leaf) for leaf in el.flatten(leaves)]
            length = _common_length([a.shape for a in arrays])
            slices = ([el.slice_of(a, i) for a in arrays] for i in range(length or 0))
            return (el.pack(leaves, s) for s in slices)

        return Dataset(spec, make, needs=el.flatten(leaves))

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable[Any]],
        output_types: Any,
        output_shapes: Any = None,
        args: Sequence[Any] = (),
    ) -> Dataset:
        """What the iterable that `generator(*args)` makes at each beginning gives."""
        if not callable(generator):
            raise AttributeValueError(f"from_generator takes a function, got {generator!r}")
        spec = el.given_spec(output_types, output_shapes)
        types = el.flatten(spec)
        given = [el.as_leaves(a) for a in args or ()]

        def make(run: Run) -> Iterator[Element]:
            for item in generator(*(run.value(a) for a in given)):
                yield el.pack(spec, _checked_leaves(item, spec, types))

        return Dataset(spec, make, needs=given)

    @staticmethod
    def list_files(file_pattern: Any, shuffle: bool | None = None, seed: Any = None) -> Dataset:
        """The names of the files that fit glob patterns, in random order unless shuffle=False."""
        names = OPS["matching_files"](convert(file_pattern))
        dataset = Dataset.from_tensor_slices(names)
        if shuffle is not None and not shuffle:
            return dataset
        return dataset.shuffle(_MOST_FILES, seed)

    @staticmethod
    def range(*args: Any) -> Dataset:
        """The integers of Python's range, as int64."""
        ends = [convert(a) if is_tensor(a) else a for a in args]

        def make(run: Run) -> Iterator[Element]:
            return (np.asarray(i, np.int64) for i in range(*map(run.integer, ends)))

        return Dataset(TensorType(int64, ()), make, needs=ends)

    @staticmethod
    def zip(datasets: Any) -> Dataset:
        """Elements of a nest of datasets side by side, until one of them ends."""
        parts: list[Dataset] = el.flatten(datasets)
        wrong = [p for p in parts if not isinstance(p, Dataset)]
        if wrong or not parts:
            raise AttributeValueError(f"zip takes a tuple or dict of datasets, got {datasets!r}")

        def make(run: Run) -> Iterator[Element]:
            for items in zip(*(p.iterate(run) for p in parts), strict=False):
                yield el.pack(datasets, items)

        return Dataset(el.pack(datasets, [p.element_spec for p in parts]), make, parts)

    # -- elementwise

    def map(
        self,
        map_func: Callable[..., Any],
        num_parallel_calls: Any = None,
        deterministic: Any = None,
    ) -> Dataset:
        """The function of every element; a function over graph tensors, built once."""
        del num_parallel_calls, deterministic
        spec, function = traced_map(map_func, self.element_spec)

        def make(run: Run) -> Iterator[Element]:
            return map(function(), self.iterate(run))

        return Dataset(spec, make, [self])

    def filter(self, predicate: Callable[..., Any]) -> Dataset:
        """The elements of which the predicate, a function to a scalar bool, is true."""
        spec, function = traced_map(predicate, self.element_spec)
        if not isinstance(spec, TensorType) or spec.dtype is not bool_ or spec.shape != ():
            raise DTypeError(f"a filter's predicate gives one bool, not {spec}")

        def make(run: Run) -> Iterator[Element]:
            holds = function()
            return (x for x in self.iterate(run) if holds(x))

        return Dataset(self.element_spec, make, [self])

    def flat_map(self, map_func: Callable[..., Any]) -> Dataset:
        """The elements of the datasets that the function makes of each element, in turn."""
        return self.interleave(map_func, 1, 1)

    def interleave(
        self,
        map_func: Callable[..., Any],
        cycle_length: int = 1,
        block_length: int = 1,
        num_parallel_calls: Any = None,
    ) -> Dataset:
        """`cycle_length` of the datasets that the function makes, by blocks in turn."""
        del num_parallel_calls
        traced = Traced(map_func, self.element_spec, "interleave")
        inner = traced.result
        if not isinstance(inner, Dataset):
            raise AttributeValueError(f"the function must make a Dataset, it gave {inner!r}")

        def make(run: Run) -> Iterator[Element]:
            values = traced.callable(list(inner.needs))

            def begin(x: Element) -> Iterator[Element]:
                return inner.iterate(Run(dict(zip(inner.needs, values(x), strict=True))))

            return _interleaved(map(begin, self.iterate(run)), cycle_length, block_length)

        return Dataset(inner.element_spec, make, [self])

    # -- which elements, how often, in what order

    def take(self, count: Any) -> Dataset:
        """The first `count` elements; -1: all."""
        return self._cut(count, lambda n: (0, None if n < 0 else n))

    def skip(self, count: Any) -> Dataset:
        """All but the first `count` elements; -1: none."""
        return self._cut(count, lambda n: (None, None) if n < 0 else (n, None))

    def _cut(self, count: Any, ends: Callable[[int], tuple[int | None, int | None]]) -> Dataset:
        count = convert(count) if is_tensor(count) else count

        def make(run: Run) -> Iterator[Element]:
            first, last = ends(run.integer(count))
            if first is None:
                return iter(())
            return itertools.islice(self.iterate(run), first, last)

        return Dataset(self.element_spec, make, [self], [count])

    def shard(self, num_shards: Any, index: Any) -> Dataset:
        """Every num_shards-th element, from `index` on."""
        given = [convert(v) if is_tensor(v) else v for v in (num_shards, index)]

        def make(run: Run) -> Iterator[Element]:
            step, first = map(run.integer, given)
            if not 0 <= first < step:
                raise AttributeValueError(f"shard {first} of {step}")
            return itertools.islice(self.iterate(run), first, None, step)

        return Dataset(self.element_spec, make, [self], given)

    def repeat(self, count: Any = None) -> Dataset:
        """All elements `count` times; without end for None or -1."""
        count = -1 if count is None else convert(count) if is_tensor(count) else count

        def make(run: Run) -> Iterator[Element]:
            times = run.integer(count)
            rounds: Iterable[int] = itertools.count() if times < 0 else range(times)
            for _ in rounds:
                empty = True
                for x in self.iterate(run):
                    empty = False
                    yield x
                if empty:
                    return

        return Dataset(self.element_spec, make, [self], [count])

    def concatenate(self, dataset: Dataset) -> Dataset:
        """These elements, then the other dataset's."""
        spec = el.map_leaves(
            lambda a, b: el.common_spec(a, b, "concatenate"),
            self.element_spec, dataset.element_spec,
        )  # fmt: skip

        def make(run: Run) -> Iterator[Element]:
            yield from self.iterate(run)
            yield from dataset.iterate(run)

        return Dataset(spec, make, [self, dataset])

    def shuffle(
        self, buffer_size: Any, seed: Any = None, reshuffle_each_iteration: bool | None = None
    ) -> Dataset:
        """A random one of the next `buffer_size` elements at a time.

        Each repetition in another order unless reshuffle_each_iteration is False. A new beginning
        of the iterator gives the same orders again where there is a seed, and other ones where
        not; for the same graph seed, always the same.
        """
        graph = get_default_graph()
        key = random_key(graph.seed, seed, graph.unique_name("ShuffleDataset"))
        size = convert(buffer_size) if is_tensor(buffer_size) else buffer_size

        def make(run: Run) -> Iterator[Element]:
            again = reshuffle_each_iteration is None or reshuffle_each_iteration
            number = run.count(key) if again else 0
            rng = np.random.default_rng((key, number, 0 if seed is not None else run.number))
            return _shuffled(self.iterate(run), run.integer(size), rng)

        return Dataset(self.element_spec, make, [self], [size])

    def cache(self, filename: Any = "") -> Dataset:
        """The elements, kept in memory the first time that all of them were given."""
        del filename
        key = object()

        def make(run: Run) -> Iterator[Element]:
            if key in run.memory:
                yield from run.memory[key]
                return
            kept = []
            for x in self.iterate(run):
                kept.append(x)
                yield x
            run.memory[key] = kept

        return Dataset(self.element_spec, make, [self])

    def enumerate(self, start: int = 0) -> Dataset:
        """(number, element) pairs."""
        return Dataset.zip((Dataset.range(start, 2**63 - 1), self))

    # -- batches

    def batch(self, batch_size: Any, drop_remainder: Any = False) -> Dataset:
        """`batch_size` elements each, along a new first dim; the last may have fewer."""
        return self._batched(
            batch_size, drop_remainder, self.element_spec, lambda chunk: el.stack(chunk)
        )

    def padded_batch(
        self,
        batch_size: Any,
        padded_shapes: Any = None,
        padding_values: Any = None,
        drop_remainder: Any = False,
    ) -> Dataset:
        """Batches of elements padded at their ends to one shape, unknown sizes to the largest."""
        types: list[TensorType] = el.flatten(self.element_spec)
        shapes = _padded_shapes(self.element_spec, types, padded_shapes)
        spec = el.pack(
            self.element_spec, [t.with_shape(s) for t, s in zip(types, shapes, strict=True)]
        )
        fills = [0] * len(types) if padding_values is None else el.flatten(padding_values)
        fills = fills * len(types) if len(fills) == 1 else fills
        if len(fills) != len(types):
            raise AttributeValueError(f"{len(fills)} padding values for {len(types)} tensors")
        return self._batched(
            batch_size, drop_remainder, spec, lambda chunk: el.padded_stack(chunk, shapes, fills)
        )

    def _batched(
        self, batch_size: Any, drop_remainder: Any, spec: Spec, join: Callable[[Any], Element]
    ) -> Dataset:
        size = convert(batch_size) if is_tensor(batch_size) else int(batch_size)
        if isinstance(size, int) and size < 1:
            raise AttributeValueError(f"a batch has 1 element or more, got batch_size={size}")
        known = size if drop_remainder and isinstance(size, int) else UNKNOWN

        def make(run: Run) -> Iterator[Element]:
            source, count = self.iterate(run), run.integer(size)
            while chunk := list(itertools.islice(source, count)):
                if len(chunk) == count or not drop_remainder:
                    yield join(chunk)

        def batched(t: TensorType) -> TensorType:
            return t if t.shape is None else t.with_shape((known, *t.shape))

        return Dataset(el.map_leaves(batched, spec), make, [self], [size])

    def unbatch(self) -> Dataset:
        """The slices of every element along its first dim."""
        spec = el.map_leaves(_without_first, self.element_spec)

        def make(run: Run) -> Iterator[Element]:
            for x in self.iterate(run):
                arrays = el.flatten(x)
                for i in range(_common_length([a.shape for a in arrays]) or 0):
                    yield el.pack(spec, [el.slice_of(a, i) for a in arrays])

        return Dataset(spec, make, [self])

    # -- what changes nothing here

    def prefetch(self, buffer_size: Any = AUTOTUNE) -> Dataset:
        """The same elements: they are computed when they are asked for."""
        del buffer_size
        return self

    def with_options(self, options: Any) -> Dataset:
        """The same elements."""
        del options
        return self

    def apply(self, transformation_func: Callable[[Dataset], Dataset]) -> Dataset:
        """The function of the dataset."""
        result = transformation_func(self)
        if not isinstance(result, Dataset):
            raise AttributeValueError(f"apply() takes a function to a Dataset, it gave {result!r}")
        return result

    def make_one_shot_iterator(self) -> Any:
        """An iterator that begins by itself; for datasets made of constants."""
        from graphc.data.iterators import make_one_shot_iterator  # built on this module

        return make_one_shot_iterator(self)

    def make_initializable_iterator(self, shared_name: str | None = None) -> Any:
        """An iterator that begins when its `initializer` is run."""
        from graphc.data.iterators import make_initializable_iterator  # built on this module

        return make_initializable_iterator(self, shared_name)


def _without_first(t: TensorType) -> TensorType:
    if t.shape == ():
        raise ShapeError("a scalar has no slices; use from_tensors()")
    return t if t.shape is None else t.with_shape(t.shape[1:])


def _common_length(shapes: Sequence[Shape | None]) -> int | None:
    """The first dim of all, None where it is unknown."""
    sizes = {s[0] for s in shapes if s and isinstance(s[0], int)}
    if len(sizes) > 1:
        raise ShapeError(f"slices of tensors of different lengths: {sorted(sizes)}")
    return next(iter(sizes), None)


def _checked_leaves(item: Any, spec: Spec, types: Sequence[TensorType]) -> list[np.ndarray]:
    if isinstance(spec, tuple) and isinstance(item, list):
        item = tuple(item)
    leaves = el.flatten(item)
    if len(leaves) != len(types):
        raise ShapeError(f"the generator gave {len(leaves)} items where {len(types)} were declared")
    arrays = [el.as_leaf(x, t.dtype) for x, t in zip(leaves, types, strict=True)]
    for array, t in zip(arrays, types, strict=True):
        el.check_fits(array, t, "what the generator gave")
    return arrays


def _shuffled(source: Iterator[Element], size: int, rng: np.random.Generator) -> Iterator[Element]:
    if size < 1:
        raise AttributeValueError(f"a shuffle buffer has 1 element or more, got {size}")
    buffer = list(itertools.islice(source, size))
    for x in source:
        at = int(rng.integers(len(buffer)))
        yield buffer[at]
        buffer[at] = x
    yield from (buffer[i] for i in rng.permutation(len(buffer)))


def _interleaved(
    sources: Iterator[Iterator[Element]], cycle_length: int, block_length: int
) -> Iterator[Element]:
    """TensorFlow's order: a slot whose source has ended is refilled when its turn comes again."""
    if cycle_length < 1 or block_length < 1:
        raise AttributeValueError(f"interleave by {cycle_length} and blocks of {block_length}")
    slots: list[Iterator[Element] | None] = [None] * cycle_length
    at, given, more = 0, 0, True
    while more or any(slots):
        source = slots[at]
        if source is None and more:
            slots[at] = next(sources, None)
            more = slots[at] is not None
            continue
        try:
            if source is not None and given < block_length:
                yield next(source)
                given += 1
                continue
        except StopIteration:
            slots[at] = None
        at, given = (at + 1) % cycle_length, 0


def _padded_shapes(spec: Spec, types: Sequence[TensorType], given: Any) -> list[Shape]:
    if given is None:
        shapes = [t.shape for t in types]
    else:
        shapes = [as_shape(s) for s in el.shapes_like(spec, given)]
    for t, s in zip(types, shapes, strict=True):
        if s is None or (t.shape is not None and len(s) != len(t.shape)):
            raise ShapeError(f"padded_batch of {t} to the shape {s}: the ranks must be known")
    return [s for s in shapes if s is not None]


__all__ = ["AUTOTUNE", "Dataset", "Run"]
