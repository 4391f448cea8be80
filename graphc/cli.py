"""The command `graphc`: compile a model to a bundle, explain what becomes of it, dump every stage.

    graphc compile model.onnx --shape x=32,784 --target sm_90 -o model.zip
    graphc explain net.py:classifier --target sm_90 --roofline
    graphc dump model.onnx -o stages

A model is an ONNX file, or `file.py:function`: the function builds a graph with placeholders and
gives its fetches, a dict from names to tensors and ops. `python -m graphc` is the same command.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from graphc.ir.errors import FeedError, GraphcError

Shape = tuple[int, ...]
__graphc_command__ = True  # its callers are no lines of the user's
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass
class _Model:
    """What is compiled: fetches and inputs by name, and what has the variables' values."""

    graph: Any
    fetches: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)
    session: Any = None


class _Group(click.Group):
    """Errors that are the user's are one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GraphcError as error:
            raise click.ClickException(_told(error)) from error


def _told(error: GraphcError) -> str:
    """The error with the user's line, which is not this command's, and its remedy here."""
    is_ours = str(Path(click.__file__).parent) in str(error.where)
    text = f"{type(error).__name__}: {error.message if is_ours else error}"
    return f"{text}. Here: --shape NAME=SIZE,..." if isinstance(error, FeedError) else text


@click.group(cls=_Group)
def main() -> None:
    """A compiler from graphs to fused kernels."""


def _shapes(ctx: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, Shape]:
    """x=32,784 y=32 as {"x": (32, 784), "y": (32,)}; nothing after = is a scalar."""
    del ctx, option
    result = {}
    for text in given:
        name, sign, sizes = text.rpartition("=")
        try:
            result[name] = tuple(int(n) for n in sizes.split(",") if n)
        except ValueError:
            sign = ""
        if not sign or not name:
            raise click.BadParameter(f"{text!r} is not NAME=SIZE,SIZE,...")
    return result


_model = click.argument("model")
_shape = click.option(
    "--shape", "shapes", multiple=True, callback=_shapes, metavar="NAME=SIZE,...",
    help="Shape of an input that the model leaves open; may be repeated.",
)  # fmt: skip


def _target(default: str) -> Callable[[_F], _F]:
    text = "sm_80, sm_90, sm_100 (GPUs that need not be here), native or numpy."
    return click.option("--target", default=default, show_default=True, help=text)


@main.command("compile")
@_model
@_shape
@_target("native")
@click.option("-o", "--output", required=True, help="Bundle to write: a folder, or NAME.zip.")
@click.option("--checkpoint", help="Where the values of variables come from; else initializers.")
@click.option("--tf32", is_flag=True, help="Round float32 products to TF32 on tensor cores.")
def compile_command(
    model: str,
    shapes: dict[str, Shape],
    target: str,
    output: str,
    checkpoint: str | None,
    tf32: bool,
) -> None:
    """Compile MODEL and write a bundle that runs without a compiler."""
    from graphc.runtime.bundle import write_bundle
    from graphc.runtime.targets import find_target

    find_target(target)
    loaded = _load(model, checkpoint, with_values=True)
    manifest = write_bundle(
        output, loaded.fetches, target=target, shapes=shapes, inputs=loaded.inputs,
        session=loaded.session, tf32=tf32,
    )  # fmt: skip
    for kind in ("inputs", "outputs"):
        for port in manifest[kind]:
            click.echo(f"{kind[:-1]:6} {port['name']}: {port['dtype']}{port['shape']}")
    click.echo(f"{output} for {target}")


@main.command()
@_model
@_shape
@_target("numpy")
@click.option("--roofline", is_flag=True, help="Also the time on an H200 that nothing holds up.")
@click.option("--source", is_flag=True, help="Also the loops and the source of every kernel.")
def explain(
    model: str, shapes: dict[str, Shape], target: str, roofline: bool, source: bool
) -> None:
    """Say what becomes of MODEL: kernels, edges that were not fused, memory."""
    from graphc.ir.settings import Settings
    from graphc.runtime.roofline import roofline as predicted
    from graphc.runtime.targets import find_target

    gpu = find_target(target)
    if roofline and gpu is None:
        raise click.UsageError("--roofline is of a GPU: give --target sm_80, sm_90 or sm_100")
    report = _explained(model, shapes, target)
    click.echo(str(report))
    if roofline and gpu is not None:
        options = gpu.options(Settings.from_environment())
        click.echo(f"\n{predicted(report.program, options)}")
    for kernel in report.kernels if source else ():
        click.echo(f"\n{kernel.loops}\n\n{kernel.source}")


@main.command()
@_model
@_shape
@_target("numpy")
@click.option("-o", "--output", required=True, help="Folder for the texts.")
def dump(model: str, shapes: dict[str, Shape], target: str, output: str) -> None:
    """Write the text of every stage of MODEL's compilation, its kernels and its memory plan."""
    from graphc.runtime.dump import make_dump_folder

    make_dump_folder(output)
    _explained(model, shapes, target, dump=output)
    click.echo(output)


def _explained(model: str, shapes: dict[str, Shape], target: str, **settings: Any) -> Any:
    from graphc.runtime.explain import explain as explain_fetches

    loaded = _load(model, None, with_values=False)
    feeds = {loaded.inputs.get(n, n): s for n, s in shapes.items()}
    return explain_fetches(
        loaded.fetches, feeds=feeds, device=target, graph=loaded.graph, **settings
    )


# -- models


def _load(model: str, checkpoint: str | None, with_values: bool) -> _Model:
    """The model; a variable has its checkpoint's value, else its initial one."""
    file, colon, function = model.rpartition(":")
    loaded = _from_function(file, function) if colon and file.endswith(".py") else _onnx(model)
    if with_values:
        loaded.session = _session_of(loaded, checkpoint)
    return loaded


def _onnx(path: str) -> _Model:
    if not path.endswith(".onnx"):
        raise click.UsageError(f"{path!r} is neither MODEL.onnx nor FILE.py:FUNCTION")
    if not Path(path).exists():
        raise click.UsageError(f"there is no file {path}")
    import graphc.onnx

    model = graphc.onnx.load(path)
    return _Model(model.graph, dict(model.outputs), dict(model.inputs))


def _from_function(file: str, name: str) -> _Model:
    """The graph that the function builds, in a graph of its own."""
    import graphc as gc

    if not Path(file).exists():
        raise click.UsageError(f"there is no file {file}")
    graph = gc.Graph()
    sys.path.insert(0, str(Path(file).resolve().parent))
    try:
        with graph.as_default():
            build = runpy.run_path(file).get(name)
            if not callable(build):
                raise click.UsageError(f"{file} has no function {name}")
            fetches = build()
    finally:
        sys.path.pop(0)
    if not isinstance(fetches, dict) or not fetches:
        raise click.UsageError(
            f"{name} gives {type(fetches).__name__}, not a dict from names to tensors and ops"
        )
    return _Model(graph, fetches)


def _session_of(loaded: _Model, checkpoint: str | None) -> Any:
    """A session in which the graph's variables have values; None where it has none."""
    import graphc as gc

    with loaded.graph.as_default():
        if not gc.global_variables():
            return None
        initialize = gc.global_variables_initializer()
        session = gc.Session(graph=loaded.graph, device="numpy")
        session.run(initialize)
        if checkpoint is not None:
            gc.train.Saver().restore(session, checkpoint)
    return session


if __name__ == "__main__":
    main(prog_name="graphc")
