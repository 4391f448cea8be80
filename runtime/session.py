"""Sessions: they keep the variables, compile what is fetched, and run it.

The first run of some fetches with feeds of some shapes compiles; later ones find the executable
by (fetches, feed shapes, and the values of feeds on which shapes depend). One run at a time per
session: a lock lets several threads share one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from graphc.ir.computation import Computation, cut
from graphc.ir.errors import FeedError, SessionError, SettingError, UninitializedError
from graphc.ir.graph import Graph, Node, Value, get_default_graph, session_stack
from graphc.ir.host import check_result, effects, host_parts
from graphc.ir.interpret import MissingValue, evaluate
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.hosting import Part, divide
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices import Device, open_device
from graphc.runtime.devices.base import Executable, Storage
from graphc.runtime.dump import make_dump_folder, write_dump
from graphc.runtime.fetches import FetchPlan, feed_array, feed_key, flat_feeds
from graphc.runtime.options import apply_config

_log = logging.getLogger("graphc")
_MOST_SHAPES = 64  # executables per fetches: each holds an arena


class _Compiled:
    """An executable with what a run must check and mark."""

    def __init__(
        self,
        executable: Executable,
        program: Program,
        reads: tuple[Node, ...],
        updates: tuple[Node, ...],
    ) -> None:
        self.executable = executable
        self.program = program
        self.reads = reads
        self.updates = updates
        self.ready = False  # all read variables were initialized once; they never become unset


class _Stage:
    """One computation of a run, and its executables by the shapes of what it is fed."""

    def __init__(self, part: Part) -> None:
        self.computation = part.computation
        self.on_host = part.on_host
        self.takes = part.takes
        self.by_shape: dict[Any, _Compiled] = {}
        self.value_positions: tuple[int, ...] = ()

    def taken(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """What the stage is fed, of all the feeds and results before it."""
        return arrays if self.takes is None else [arrays[i] for i in self.takes]

    def evaluate(self, arrays: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """The outputs of a stage of the host."""
        outputs = self.computation.outputs
        given = dict(zip(self.computation.inputs, arrays, strict=True))
        results = evaluate(outputs, given, run)
        for value, array in zip(outputs, results, strict=True):
            check_result(value, array)
        return results

    def keep(self, key: Any, compiled: _Compiled) -> None:
        """Remember an executable; the oldest goes when there are too many of them."""
        while len(self.by_shape) >= _MOST_SHAPES:
            del self.by_shape[next(iter(self.by_shape))]
        self.by_shape[key] = compiled

    def key(self, arrays: Sequence[np.ndarray]) -> Any:
        """By what an executable is found: shapes, and the values on which its shapes depend."""
        shapes = tuple([a.shape for a in arrays])
        if not self.value_positions:
            return shapes
        return shapes, tuple(arrays[i].tobytes() for i in self.value_positions)


class _Prepared:
    """Fetches and the names of feeds, resolved; what is run for them, stage after stage."""

    def __init__(self, plan: FetchPlan, feeds: tuple[Value, ...], graph: Graph) -> None:
        self.plan = plan
        self.given = feeds
        plan.also(effects(plan.values, plan.nodes, feeds))
        self.sources, actions = host_parts(graph, plan.values, plan.nodes, feeds)
        self.actions = [(a, plan.also(a.needs)) for a in actions]
        self.pulled = [[v for v in s.values if v not in feeds] for s in self.sources]
        self.feeds = (*feeds, *(v for values in self.pulled for v in values))
        self.computation = cut(plan.values, plan.nodes, self.feeds)
        self._check_fed(graph)
        # the first ones give what the host computes, and the numbers on which sizes depend
        division = divide(self.computation)
        *self.before, self.main = map(_Stage, division.parts)
        self.gives = division.gives

    def _check_fed(self, graph: Graph) -> None:
        fed = set(self.computation.inputs)
        for node in self.computation.nodes:
            if node.op.name == "placeholder" and node not in fed:
                where = f" ({node.where})" if node.where else ""
                raise FeedError(
                    f"placeholder {node.name!r} of type {node.types[0]} must be fed{where}; "
                    f"pass it in feed_dict"
                )

    def arrays(self, session: Session, data: Iterable[Any]) -> list[np.ndarray]:
        """What is fed, then what the host's sources supply."""
        arrays = [feed_array(v, x) for v, x in zip(self.given, data, strict=True)]
        if not self.sources:
            return arrays
        fed = {v.node: x for v, x in zip(self.given, arrays, strict=True)}
        for source, wanted in zip(self.sources, self.pulled, strict=True):
            needed = _known(source.needs, fed) if source.needs else ()
            supplied = dict(zip(source.values, source.pull(session, *needed), strict=True))
            arrays += [feed_array(v, supplied[v]) for v in wanted]
        return arrays

    def act(self, session: Session, results: Sequence[np.ndarray]) -> None:
        """What the host does after the run."""
        for action, values in self.actions:
            action.act(session, values(results))


def _picked(
    before: Sequence[np.ndarray], last: Sequence[np.ndarray], gives: Sequence[int]
) -> list[np.ndarray]:
    """What was asked for, of feeds and all parts' results, in arrays that are the caller's."""
    count = len(before)
    return [before[i].copy() if i < count else last[i - count] for i in gives]


def _known(values: Sequence[Value], fed: Mapping[Node, np.ndarray]) -> list[np.ndarray]:
    """The values of constants and of what is fed; FeedError for any other."""
    try:
        return evaluate(values, fed)
    except MissingValue as missing:
        raise FeedError(f"{missing.node.name!r} must be fed; pass it in feed_dict") from None


class Session:
    """Runs parts of a graph on one device and keeps its variables.

    `device` is "auto", or the name of one; `settings` presets any field of
    graphc.ir.settings.Settings over the environment.
    """

    def __init__(
        self,
        target: str | Graph = "",
        graph: Graph | None = None,
        config: Any = None,
        device: str = "auto",
        **settings: Any,
    ) -> None:
        if isinstance(target, Graph):  # Session(graph), without the distributed master's address
            graph = target
        elif target:
            raise SettingError(f"graphc has no distributed master {target!r}")
        device, settings = apply_config(config, device, settings)
        self.graph = graph or get_default_graph()
        self.settings = Settings.from_environment(**settings)
        if self.settings.dump is not None:
            make_dump_folder(self.settings.dump)
        self.device: Device = open_device(device)
        self._storage: dict[Node, Storage] = {}
        self._initialized: set[Node] = set()
        self._prepared: dict[Any, _Prepared] = {}
        self._lock = threading.RLock()
        self._run_count = 0
        self._closed = False
        self._entered: list[Any] = []

    # -- running

    def run(
        self,
        fetches: Any,
        feed_dict: Mapping[Any, Any] | None = None,
        options: Any = None,
        run_metadata: Any = None,
    ) -> Any:
        """The fetches' values, nested as they are: arrays, scalars, and None for ops."""
        del options  # what it asks TensorFlow to trace, run_metadata holds in any case
        feeds = flat_feeds(feed_dict or {})
        start = time.time()
        prepared = self._prepare(fetches, tuple(feeds))
        arrays = prepared.arrays(self, feeds.values())
        results = self._execute(prepared, arrays)
        if run_metadata is not None:
            compiled = prepared.main.by_shape[prepared.main.key(prepared.main.taken(arrays))]
            run_metadata.fill(self.device.name, compiled.program, start, time.time() - start)
        return prepared.plan.assemble(results)

    @property
    def graph_def(self) -> Any:
        """The graph as TensorFlow's GraphDef proto."""
        return self.graph.as_graph_def()

    def list_devices(self) -> list[str]:
        """The one device of the session."""
        return [self.device.name]

    def make_callable(self, fetches: Any, feed_list: Sequence[Any] = ()) -> Callable[..., Any]:
        """A function of the fed values, in the order of `feed_list`: the shortest way to run."""
        prepared = self._prepare(fetches, tuple(feed_list))
        feeds, plan = prepared.given, prepared.plan

        def call(*values: Any) -> Any:
            if len(values) != len(feeds):
                raise FeedError(f"needs {len(feeds)} values, got {len(values)}")
            arrays = prepared.arrays(self, values)
            return plan.assemble(self._execute(prepared, arrays))

        return call

    def _prepare(self, fetches: Any, feeds: tuple[Any, ...]) -> _Prepared:
        if self._closed:
            raise SessionError("the session is closed")
        key = (_fetch_key(fetches), feeds)
        try:
            prepared = self._prepared.get(key)
        except TypeError:  # something that is no fetch, and cannot even be looked up
            FetchPlan(fetches, self.graph)
            raise
        if prepared is None:
            plan = FetchPlan(fetches, self.graph)
            values = tuple(feed_key(x, self.graph) for x in feeds)
            if len(set(values)) != len(values):
                raise FeedError("feed_dict names one tensor twice")
            prepared = _Prepared(plan, values, self.graph)
            with self._lock:
                self._prepared[key] = prepared
        return prepared

    def _execute(self, prepared: _Prepared, arrays: list[np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            if self._closed:
                raise SessionError("the session is closed")
            for stage in prepared.before:
                arrays += self._outputs(stage, prepared, arrays)
            taken = prepared.main.taken(arrays)
            compiled = self._compiled(prepared.main, prepared, taken)
            results = compiled.executable.run(taken, self._run_count)
            self._run_count += 1
            if compiled.updates:
                self._initialized.update(compiled.updates)
            if prepared.gives is not None:
                results = _picked(arrays, results, prepared.gives)
            prepared.act(self, results)
            return results

    def _outputs(
        self, stage: _Stage, prepared: _Prepared, arrays: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        taken = stage.taken(arrays)
        if stage.on_host:
            return stage.evaluate(taken, self._run_count)
        executable = self._compiled(stage, prepared, taken).executable
        return executable.run(taken, self._run_count)

    def _compiled(
        self, stage: _Stage, prepared: _Prepared, arrays: Sequence[np.ndarray]
    ) -> _Compiled:
        """The stage's executable for these arrays, whose variables have values."""
        compiled = stage.by_shape.get(stage.key(arrays))
        if compiled is None:
            compiled = self._compile(stage, prepared, arrays)
        if not compiled.ready:
            self._check_initialized(compiled)
        return compiled

    def _check_initialized(self, compiled: _Compiled) -> None:
        missing = [v for v in compiled.reads if v not in self._initialized]
        if missing:
            names = ", ".join(
                repr(v.name) + (f" ({v.where})" if v.where else "") for v in missing[:5]
            )
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise UninitializedError(
                f"read before it was set: variable {names}{more}; "
                "run global_variables_initializer() or restore a checkpoint first"
            )
        compiled.ready = True

    # -- compiling

    def _compile(
        self, stage: _Stage, prepared: _Prepared, arrays: Sequence[np.ndarray]
    ) -> _Compiled:
        start = time.perf_counter()
        computation = stage.computation
        ctx = context_for(self.device, self.settings, computation, arrays)
        program = compile_program(computation, ctx)
        if self.settings.dump is not None:
            write_dump(program, ctx, self.device.sources(program, self.settings))
        nodes = {n.name: n for n in computation.variables}
        variables = {
            name: self._storage_of(nodes[program.buffers[name].source])
            for name in program.variables
        }
        executable = self.device.load(program, variables, self.settings)
        compiled = _Compiled(
            executable,
            program,
            tuple(computation.variables_read),
            tuple(v for v, _ in computation.updates),
        )
        self._say_compiled(stage, prepared, arrays, time.perf_counter() - start)
        inputs = list(computation.inputs)
        stage.value_positions = tuple(
            sorted({*stage.value_positions, *(inputs.index(n) for n in ctx.value_inputs)})
        )
        stage.keep(stage.key(arrays), compiled)
        return compiled

    def _say_compiled(
        self,
        stage: _Stage,
        prepared: _Prepared,
        arrays: Sequence[np.ndarray],
        seconds: float,
    ) -> None:
        given = zip(stage.computation.inputs, arrays, strict=True)
        feeds = ", ".join(f"{n.name}{list(a.shape)}" for n, a in given)
        what = "compiled again for new feeds" if stage.by_shape else "compiled"
        names = [v.node.name for v in stage.computation.outputs]
        names += [n.name for n in prepared.plan.nodes] if stage is prepared.main else []
        _log.info(
            "%s: %s with %s in %.3f s", what, ", ".join(names[:4]), feeds or "no feeds", seconds
        )

    def _storage_of(self, variable: Node) -> Storage:
        storage = self._storage.get(variable)
        if storage is None:
            t = variable.types[0]
            storage = self._storage[variable] = self.device.allocate(t.dtype, t.static_shape)
        return storage

    # -- variables

    def read_variable(self, variable: Any) -> np.ndarray:
        """A copy of the variable's present value."""
        node = feed_key(variable, self.graph).node
        with self._lock:
            if node not in self._initialized:
                raise UninitializedError(f"variable {node.name!r} has no value yet")
            return self.device.read(self._storage[node])

    def write_variables(self, values: Mapping[Any, np.ndarray]) -> None:
        """Set variables, all or none: every array is checked before the first is written."""
        checked = []
        for variable, data in values.items():
            value = feed_key(variable, self.graph)
            checked.append((value.node, feed_array(value, data)))
        with self._lock:
            for node, array in checked:
                self.device.write(self._storage_of(node), array)
                self._initialized.add(node)

    def is_initialized(self, variable: Any) -> bool:
        """True when the variable has a value in this session."""
        return feed_key(variable, self.graph).node in self._initialized

    # -- lifetime

    def close(self) -> None:
        """Free the variables and executables; later runs raise SessionError."""
        with self._lock:
            self._closed = True
            self._prepared.clear()
            self._storage.clear()
            self._initialized.clear()

    def as_default(self) -> _AsDefault:
        """Make it the default session inside a `with` block, without closing it at the end."""
        return _AsDefault(self)

    def __enter__(self) -> Session:
        scope = self.graph.as_default()
        scope.__enter__()
        session_stack().append(self)
        self._entered.append(scope)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session_stack().remove(self)
        self._entered.pop().__exit__(kind, error, trace)
        if not self._entered:
            self.close()


class _AsDefault:
    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> Session:
        session_stack().append(self._session)
        return self._session

    def __exit__(self, *_: object) -> None:
        session_stack().remove(self._session)


class InteractiveSession(Session):
    """A session that is the default one from its making until it is closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        session_stack().append(self)

    def close(self) -> None:
        """Close it, and let it be the default one no more."""
        stack = session_stack()
        if self in stack:
            stack.remove(self)
        super().close()


def context_for(
    device: Device, settings: Settings, computation: Computation, arrays: Sequence[np.ndarray]
) -> Context:
    """The compilation's context for feeds of these arrays."""
    shapes = {n: a.shape for n, a in zip(computation.inputs, arrays, strict=True)}
    values = dict(zip(computation.inputs, arrays, strict=True))
    return Context(settings, device.target, shapes, values)


def _fetch_key(x: Any) -> Any:
    """The fetches as something hashable; ops, tensors and variables stand for themselves."""
    if isinstance(x, (list, tuple)):
        return (type(x), *(_fetch_key(v) for v in x))
    if isinstance(x, dict):
        return (dict, *((k, _fetch_key(v)) for k, v in x.items()))
    return x
