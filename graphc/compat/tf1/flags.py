"""`tf.app.flags`: a thin layer over argparse.

FLAGS is the one object of this package that changes: programs define flags while they are
imported and read them anywhere, so it must be one for the whole program.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

_TRUE: Final = ("true", "t", "1", "yes", "y")
_FALSE: Final = ("false", "f", "0", "no", "n")


class _FlagValues:
    """The flags by name. The command line is read when the first flag is."""

    def __init__(self) -> None:
        self.__dict__["_parser"] = _new_parser()
        self.__dict__["_values"] = {}
        self.__dict__["_bools"] = set()
        self.__dict__["_parsed"] = False

    def _define(self, name: str, default: Any, doc: str, parse: Callable[[str], Any]) -> None:
        options: dict[str, Any] = {"dest": name, "default": default, "help": doc, "type": parse}
        if parse is _parse_bool:
            self._bools.add(name)
            self._parser.add_argument(f"--no{name}", dest=name, action="store_false")
        self._parser.add_argument(f"--{name}", f"-{name}", **options)
        self._values[name] = default
        self.__dict__["_parsed"] = False

    def _parse_flags(self, args: Sequence[str] | None = None) -> list[str]:
        """Read the command line (default: sys.argv); gives what is no flag."""
        parser: argparse.ArgumentParser = self._parser
        words = sys.argv[1:] if args is None else args
        # a bool takes no value of its own word: `--loud rest` is true, and rest is no flag
        words = [f"{w}=true" if w.lstrip("-") in self._bools and w[:1] == "-" else w for w in words]
        given, rest = parser.parse_known_args(words)
        self._values.update(vars(given))
        self.__dict__["_parsed"] = True
        return rest

    def __getattr__(self, name: str) -> Any:
        if name in ("__flags", "_FlagValues__flags"):
            return self.flag_values_dict()
        if name.startswith("__"):
            raise AttributeError(name)
        if not self._parsed:
            self._parse_flags()
        if name not in self._values:
            known = ", ".join(sorted(self._values)) or "none"
            raise AttributeError(f"there is no flag {name!r}; there are: {known}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._parsed:
            self._parse_flags()
        self._values[name] = value

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __iter__(self) -> Any:
        return iter(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __call__(self, argv: Sequence[str], known_only: bool = False) -> list[str]:
        """Read these arguments, the program's name first; gives the name and what is no flag."""
        del known_only
        return [*argv[:1], *self._parse_flags(argv[1:])]

    def flag_values_dict(self) -> dict[str, Any]:
        """All flags and their values."""
        if not self._parsed:
            self._parse_flags()
        return dict(self._values)


def _new_parser() -> argparse.ArgumentParser:
    # a flag may be defined again, as when a module is imported under two names
    return argparse.ArgumentParser(conflict_handler="resolve", allow_abbrev=False)


def _parse_bool(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in _TRUE


FLAGS: Final = _FlagValues()


def DEFINE_string(flag_name: str, default_value: Any, docstring: str = "", **_: Any) -> None:
    """A flag that is a text."""
    FLAGS._define(flag_name, default_value, docstring, str)


def DEFINE_integer(flag_name: str, default_value: Any, docstring: str = "", **_: Any) -> None:
    """A flag that is an integer."""
    FLAGS._define(flag_name, default_value, docstring, int)


def DEFINE_float(flag_name: str, default_value: Any, docstring: str = "", **_: Any) -> None:
    """A flag that is a number."""
    FLAGS._define(flag_name, default_value, docstring, float)


def DEFINE_boolean(flag_name: str, default_value: Any, docstring: str = "", **_: Any) -> None:
    """A flag that is true or false: `--name`, `--name=false` or `--noname`."""
    FLAGS._define(flag_name, default_value, docstring, _parse_bool)


def DEFINE_list(flag_name: str, default_value: Any, docstring: str = "", **_: Any) -> None:
    """A flag that is a list of texts with commas between."""
    default = default_value.split(",") if isinstance(default_value, str) else default_value
    FLAGS._define(flag_name, default, docstring, lambda text: text.split(",") if text else [])


def DEFINE_enum(
    flag_name: str,
    default_value: Any,
    enum_values: Sequence[str],
    docstring: str = "",
    **_: Any,
) -> None:
    """A flag that is one of some texts."""

    def parse(text: str) -> str:
        if text not in enum_values:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(enum_values)}")
        return text

    FLAGS._define(flag_name, default_value, docstring, parse)


DEFINE_bool = DEFINE_boolean


def mark_flag_as_required(flag_name: str) -> None:
    """Nothing: a flag that was not given has its default."""
    if flag_name not in FLAGS:
        raise AttributeError(f"there is no flag {flag_name!r}")
