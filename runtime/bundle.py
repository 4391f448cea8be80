"""Bundles: a compiled model in one folder or archive, which runs where no compiler is.

    write_bundle("net.zip", {"logits": logits}, target="sm_90", shapes={"x": (32, 784)}, session=s)
    model = load_bundle("net.zip");  model(x=images)["logits"]

A bundle holds the program for fixed shapes, its machine code and the weights. A training step may
be bundled as well: the model keeps its variables from call to call. It holds code that is run:
load only bundles whose maker you trust; the checksums find damage, not malice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphc.ir.computation import cut
from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.errors import (
    BundleError,
    DTypeError,
    FeedError,
    FetchError,
    ShapeError,
    UnsupportedOp,
)
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.literal import as_array
from graphc.ir.loop import Program
from graphc.ir.loop_json import Decoder, Encoder
from graphc.ir.loop_text import format_program
from graphc.ir.settings import Settings
from graphc.passes.hosting import divide
from graphc.runtime.bundle_files import (
    WEIGHTS,
    pack_arrays,
    read_files,
    unpack_arrays,
    write_files,
)
from graphc.runtime.devices import Device, open_device
from graphc.runtime.devices.base import Executable, Storage
from graphc.runtime.explain import Compilation, compile_fetches, graph_of
from graphc.runtime.fetches import FetchPlan, feed_key, fetch_element
from graphc.runtime.session import Session
from graphc.runtime.targets import find_target

_VARIABLE: Final = "variable."
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, and what arrays it takes or gives."""

    name: str
    dtype: DType
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


# -- writing


def write_bundle(
    path: str | Path,
    fetches: Mapping[str, Any],
    *,
    target: str = "native",
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    session: Session | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Compile the fetches (tensors and ops by name) and write the bundle; gives its manifest.

    `target` is "sm_80", "sm_90", "sm_100", "native" (this machine's processor) or "numpy". `inputs`
    names placeholders, by default all that are needed, by their own names; `shapes` has the shapes
    that the graph leaves open. The values of variables are those in the session. TargetError for an
    unknown target, FeedError for a shape that stays open, UnsupportedOp for a graph of which the
    host computes a part, or whose sizes a run would find.
    """
    gpu = find_target(target)
    place = gpu or open_device(target)
    options = Settings.from_environment(**{"native_async": False, **settings})
    named = _named_inputs(fetches, inputs, shapes or {})
    _check_alone(fetches, named)
    made = compile_fetches(fetches, named.feeds, place.target, options, named.graph)
    encoder = Encoder()
    told = encoder.encode(made.program)
    # as it will be read: without the lines of the user's program, of which C comments would tell
    program: Program = Decoder(encoder.arrays).decode(told)
    variables = _values_of(program, made, session)
    files, about = _machine_code(program, gpu.name if gpu else target, options, place, variables)
    files["program.json"] = json.dumps(told, allow_nan=False).encode()
    files["program.txt"] = format_program(program).encode()
    arrays = {**encoder.arrays, **{_VARIABLE + n: x for n, x in variables.items()}}
    files[WEIGHTS] = pack_arrays(arrays)
    manifest = {"target": about, "settings": {"tf32": options.tf32, "libraries": options.libraries}}
    manifest |= _ports(program, made, named, fetches)
    write_files(Path(path), manifest, files)
    return manifest


@dataclass(frozen=True)
class _Inputs:
    graph: Graph
    names: dict[Node, str]
    feeds: dict[Value, Shape | None]


def _named_inputs(
    fetches: Mapping[str, Any],
    inputs: Mapping[str, Any] | None,
    shapes: Mapping[str, Sequence[int]],
) -> _Inputs:
    """The inputs' names, and the shapes that are given."""
    graph = graph_of(fetches)
    if graph is None:
        raise FetchError("a bundle needs fetches: a dict from names to tensors or ops")
    given = {name: feed_key(x, graph) for name, x in (inputs or {}).items()}
    for name in shapes:
        if name not in given:
            given[name] = feed_key(name, graph)
    feeds: dict[Value, Shape | None] = {}
    for name, value in given.items():
        feeds[value] = tuple(map(int, shapes[name])) if name in shapes else None
    return _Inputs(graph, {v.node: n for n, v in given.items()}, feeds)


def _check_alone(fetches: Mapping[str, Any], named: _Inputs) -> None:
    """UnsupportedOp where a session would run more than one program."""
    plan = FetchPlan(fetches, named.graph)
    if len(divide(cut(plan.values, plan.nodes, list(named.feeds))).parts) > 1:
        raise UnsupportedOp(
            "a bundle holds one program; of this graph the host computes a part, or its sizes "
            "depend on values: fetch what comes before those ops, and feed what comes after"
        )


def _values_of(
    program: Program, made: Compilation, session: Session | None
) -> dict[str, np.ndarray]:
    """By buffer, the values of the variables; one that is only written may have none yet."""
    nodes = {n.name: n for n in made.computation.variables}
    values: dict[str, np.ndarray] = {}
    for name in program.variables:
        buffer = program.buffers[name]
        node = nodes[buffer.source]
        needed = node in made.computation.variables_read
        if session is None and needed:
            raise FetchError(f"variable {node.name!r} needs a value: give a session that has it")
        if session is not None and (needed or session.is_initialized(node.outputs[0])):
            values[name] = session.read_variable(node.outputs[0])
        else:
            values[name] = np.zeros(buffer.shape, buffer.dtype.numpy)
    return values


def _ports(
    program: Program, made: Compilation, named: _Inputs, fetches: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest's account of inputs, outputs and variables."""
    inputs = []
    for node, name in zip(made.computation.inputs, program.inputs, strict=True):
        inputs.append(_port(named.names.get(node, node.name), program, name))
    graph, positions = named.graph, dict[Value, int]()
    outputs = []
    for name, x in fetches.items():
        element = fetch_element(x, graph)
        if isinstance(element, Value):
            at = positions.setdefault(element, len(positions))
            outputs.append(_port(name, program, program.outputs[at]) | {"position": at})
    sources = {n: program.buffers[n].source for n in program.variables}
    return {"inputs": inputs, "outputs": outputs, "variables": sources}


def _port(name: str, program: Program, buffer: str) -> dict[str, Any]:
    b = program.buffers[buffer]
    return {"name": name, "dtype": b.dtype.name, "shape": list(b.shape)}


def _launch_classes() -> tuple[type, ...]:
    from graphc.codegen.triton import LAUNCH_CLASSES

    return LAUNCH_CLASSES


def _machine_code(
    program: Program, name: str, options: Settings, place: Any, variables: Mapping[str, np.ndarray]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files that a target needs, and what the manifest says of it."""
    if name == "numpy":
        return {}, {"device": "numpy", "name": name}
    if name == "native":
        from graphc.runtime.bundle_native import native_files

        return native_files(program, place, variables, options)
    from graphc.runtime.bundle_triton import cubin_files

    return cubin_files(program, place, options)


# -- loading


class BundledModel:
    """A loaded bundle: call it with the inputs by name; it gives the outputs by name.

    It keeps the variables, and the number of runs from which random numbers follow. One call at a
    time: a lock lets several threads share it.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        program: Program,
        device: Device,
        variables: dict[str, Storage],
        executable: Executable,
    ) -> None:
        self.target: str = manifest["target"]["name"]
        self.inputs = {p["name"]: _as_port(p) for p in manifest["inputs"]}
        self.outputs = {p["name"]: _as_port(p) for p in manifest["outputs"]}
        self.program = program
        self.device = device
        self._positions = [p["position"] for p in manifest["outputs"]]
        self._variables = {manifest["variables"][n]: s for n, s in variables.items()}
        self._executable = executable
        self._lock = threading.Lock()
        self._run_count = 0

    def __call__(
        self, feeds: Mapping[str, Any] | None = None, **more: Any
    ) -> dict[str, np.ndarray]:
        """Run once. FeedError for an input that is missing, unknown, or of another shape."""
        arrays = self._arrays({**(feeds or {}), **more})
        with self._lock:
            results = self._executable.run(arrays, self._run_count)
            self._run_count += 1
        return {n: results[i] for n, i in zip(self.outputs, self._positions, strict=True)}

    def _arrays(self, given: Mapping[str, Any]) -> list[np.ndarray]:
        wrong = [f"{n!r} is missing" for n in self.inputs if n not in given]
        wrong += [f"there is no {n!r}" for n in given if n not in self.inputs]
        if wrong:
            inputs = ", ".join(map(str, self.inputs.values())) or "none"
            raise FeedError(f"{'; '.join(wrong)}: the bundle's inputs are {inputs}")
        return [_fed(port, given[name]) for name, port in self.inputs.items()]

    @property
    def variables(self) -> dict[str, np.ndarray]:
        """Copies of the variables' present values, by name."""
        with self._lock:
            return {n: self.device.read(s) for n, s in self._variables.items()}

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, p.values())) for p in (self.inputs, self.outputs))
        return f"<BundledModel for {self.target}: ({inputs}) -> ({outputs})>"


def _as_port(told: Mapping[str, Any]) -> Port:
    return Port(told["name"], as_dtype(told["dtype"]), tuple(told["shape"]))


def _fed(port: Port, data: Any) -> np.ndarray:
    try:
        array = as_array(data, dtype=port.dtype)
    except (DTypeError, ShapeError) as error:
        raise FeedError(f"cannot feed {port}: {error.message}") from None
    if array.shape != port.shape:
        raise FeedError(
            f"cannot feed an array of shape {list(array.shape)} for {port}: a bundle is compiled "
            f"for fixed shapes; compile another with --shape {port.name}="
            f"{','.join(map(str, array.shape))}"
        )
    return array


def load_bundle(path: str | Path, device: Device | None = None) -> BundledModel:
    """The model of a bundle; `device` is one to share, by default a new one.

    BundleError for what is no bundle or damaged, TargetError where it was compiled for another
    machine, DeviceError where what runs it is missing.
    """
    manifest, files = read_files(Path(path))
    arrays = unpack_arrays(files[WEIGHTS])
    decoder = Decoder(arrays, _launch_classes())
    try:
        program: Program = decoder.decode(json.loads(files["program.json"]))
        about = manifest["target"]
        options = Settings.from_environment(**manifest["settings"], native_async=False)
        load = {"numpy": _load_plain, "native": _load_native, "triton": _load_triton}
        chosen = load[about["device"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is damaged or of another graphc: {error!r}") from error
    place, executable, storage = chosen(
        _Load(program, about, options, arrays, files, decoder, device)
    )
    return BundledModel(manifest, program, place, storage, executable)


@dataclass(frozen=True)
class _Load:
    """What loading needs."""

    program: Program
    about: Mapping[str, Any]
    options: Settings
    arrays: Mapping[str, np.ndarray]
    files: Mapping[str, bytes]
    decoder: Decoder
    device: Device | None

    def storage(self, place: Device) -> dict[str, Storage]:
        """The variables on the device, with their values."""
        result = {}
        for name in self.program.variables:
            buffer = self.program.buffers[name]
            result[name] = place.allocate(buffer.dtype, buffer.shape)
            place.write(result[name], self.arrays[_VARIABLE + name].reshape(buffer.shape))
        return result


_Loaded = tuple[Device, Executable, dict[str, Storage]]


def _load_plain(given: _Load) -> _Loaded:
    place = given.device or open_device("numpy")
    storage = given.storage(place)
    return place, place.load(given.program, storage, given.options), storage


def _load_native(given: _Load) -> _Loaded:
    from graphc.runtime.bundle_native import bundled_libraries

    with bundled_libraries(given.about, given.files):
        place = given.device or open_device("native")
        storage = given.storage(place)
        return place, place.load(given.program, storage, given.options), storage


def _load_triton(given: _Load) -> _Loaded:
    from graphc.runtime.bundle_triton import bundled_functions, open_gpu

    place = open_gpu(given.about, given.device)
    built = bundled_functions(given.files, given.decoder)
    storage = given.storage(place)
    executable = place.load_built(given.program, storage, given.options, built)
    return place, executable, storage


__all__ = ["BundledModel", "Port", "load_bundle", "write_bundle"]
