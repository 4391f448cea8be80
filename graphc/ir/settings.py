"""Every setting, typed, with a sentence and the environment variable that presets it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from graphc.ir.errors import SettingError


def _flag(text: str) -> bool:
    try:
        return {"0": False, "false": False, "": False, "1": True, "true": True}[text.lower()]
    except KeyError:
        raise ValueError("must be 0 or 1") from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("must be at least 1")
    return number


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return parse


def _misfit(value: Any, default: Any, parse: Callable[[str], Any]) -> str | None:
    """Why the value cannot stand where the default stands, or None."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "must be True or False"
    if value is None and default is None:
        return None
    if isinstance(default, int) or parse is _positive:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        return None if fits else "must be an integer, at least 1"
    if not isinstance(value, str):
        return "must be a text or None"
    try:
        parse(value)
    except ValueError as error:
        return str(error)
    return None


def _setting(default: Any, env: str, parse: Callable[[str], Any], doc: str) -> Any:
    return field(default=default, metadata={"env": env, "parse": parse, "doc": doc})


@dataclass(frozen=True, slots=True)
class Settings:
    """How a session compiles and runs. `Settings.from_environment()` reads the presets."""

    dump: str | None = _setting(
        None, "GRAPHC_DUMP", str, "folder for the text of every stage, kernels and memory plan"
    )
    verify: bool = _setting(True, "GRAPHC_VERIFY", _flag, "check the graph after every pass")
    check_passes: bool = _setting(
        False, "GRAPHC_CHECK_PASSES", _flag, "evaluate the graph before and after every pass"
    )
    threads: int = _setting(
        os.cpu_count() or 1, "GRAPHC_THREADS", _positive, "CPU threads for large kernels"
    )
    fuse: bool = _setting(True, "GRAPHC_FUSE", _flag, "merge kernels; off: one kernel per op")
    cuda_graph: bool = _setting(
        True, "GRAPHC_CUDA_GRAPH", _flag, "capture the whole step as one CUDA graph"
    )
    libraries: bool = _setting(
        True, "GRAPHC_LIBRARIES", _flag, "let cuBLAS and cuDNN compute where they win"
    )
    tf32: bool = _setting(
        False, "GRAPHC_TF32", _flag, "round operands of float32 products to TF32 on tensor cores"
    )
    fold_bytes: int = _setting(
        1 << 24, "GRAPHC_FOLD_BYTES", _positive, "largest constant that folding may make, in bytes"
    )
    memory_budget: int | None = _setting(
        None, "GRAPHC_MEMORY_BUDGET", _positive, "bytes a program's temporaries may take at most"
    )

    winograd: str = _setting(
        "inference",
        "GRAPHC_WINOGRAD",
        _choice("off", "inference", "always"),
        "which 3x3 and 5x5 convolutions take a third of the multiplications on a CPU, with errors "
        "relative to the largest number within 6x6 pixels; inference: where filters stay",
    )
    native_cache: str | None = _setting(
        None, "GRAPHC_CACHE", str, "folder of compiled C programs; else in the user's caches"
    )
    native_cache_bytes: int = _setting(
        1 << 30, "GRAPHC_CACHE_BYTES", _positive, "size beyond which the oldest of them are deleted"
    )
    native_flags: str | None = _setting(
        None, "GRAPHC_CFLAGS", str, "further flags of the C compiler, such as -O1"
    )
    native_async: bool = _setting(
        False, "GRAPHC_NATIVE_ASYNC", _flag, "let NumPy run a program until it is compiled as C"
    )

    autotune: bool = _setting(
        False, "GRAPHC_AUTOTUNE", _flag, "measure schedules of GPU kernels, and keep the quickest"
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            reason = _misfit(getattr(self, f.name), f.default, f.metadata["parse"])
            if reason:
                raise SettingError(f"setting {f.name}={getattr(self, f.name)!r}: {reason}")

    @classmethod
    def from_environment(cls, **overrides: Any) -> Settings:
        """Defaults, then environment, then `overrides`; SettingError names what is wrong."""
        values: dict[str, Any] = {}
        for f in fields(cls):
            text = os.environ.get(f.metadata["env"])
            if text is not None:
                try:
                    values[f.name] = f.metadata["parse"](text)
                except ValueError as error:
                    raise SettingError(f"{f.metadata['env']}={text!r}: {error}") from None
        unknown = set(overrides) - {f.name for f in fields(cls)}
        if unknown:
            known = ", ".join(f.name for f in fields(cls))
            raise SettingError(f"no setting {sorted(unknown)[0]!r}; there are: {known}")
        return cls(**{**values, **overrides})
