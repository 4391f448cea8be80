"""Every error that a user's mistake can raise: one class per mistake.

A message says what happened with the values, names the op and the user's line where there is
one, and says what to do. `assert` is for our own invariants only.
"""

from __future__ import annotations

from graphc.ir.location import user_location


class GraphcError(Exception):
    """The base of all errors that graphc raises on purpose.

    `message` is what was said; `where` the user's line that led to it, which printing adds
    unless the message names it already.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = user_location()

    def __str__(self) -> str:
        where = str(self.where or "")
        return self.message if where in self.message else f"{self.message} ({where})"


class ShapeError(GraphcError, ValueError):
    """The shapes of an op's inputs do not fit together."""


class DTypeError(GraphcError, TypeError):
    """The dtypes of an op's inputs do not fit together, or a dtype is unknown."""


class AttributeValueError(GraphcError, ValueError):
    """An op's attribute (axis, stride, padding, ...) has a value it cannot have."""


class GraphError(GraphcError, ValueError):
    """Values of different graphs are mixed, a graph is finalized, or a graph is malformed."""


class NameNotFoundError(GraphcError, KeyError):
    """No op, tensor or variable of that name."""


class FeedError(GraphcError, ValueError):
    """A fed value does not fit its placeholder, or a placeholder has no value."""


class FetchError(GraphcError, TypeError):
    """Something that is no tensor, op or variable of the session's graph was fetched."""


class UninitializedError(GraphcError, RuntimeError):
    """A variable is read before it was initialized or restored."""


class OutOfRangeError(GraphcError, IndexError):
    """An input pipeline has no more elements: where a training loop ends."""


class GradientError(GraphcError, ValueError):
    """A gradient was asked for that does not exist; the message names the op that blocks it."""


class InputError(GraphcError, ValueError):
    """What a run reads (a file, a string, an image, a record) is missing or damaged."""


class DeviceError(GraphcError, RuntimeError):
    """A device was named that is missing or does not work."""


class SettingError(GraphcError, ValueError):
    """A setting or its environment variable has a value it cannot have."""


class MemoryBudgetError(GraphcError, MemoryError):
    """No order of computing fits into the setting `memory_budget`; the message says what would."""


class SessionError(GraphcError, RuntimeError):
    """A session is closed, or none is the default one."""


class CheckpointError(GraphcError, ValueError):
    """A checkpoint is missing, damaged, or does not fit the graph's variables."""


class BundleError(GraphcError, ValueError):
    """A bundle is missing, damaged, or of another version of graphc."""


class TargetError(GraphcError, ValueError):
    """There is no such target, or a bundle was compiled for another machine than this one."""


class NumericsError(GraphcError, ArithmeticError):
    """A `check_numerics` or `Assert` op found what it guards against."""


class ParseError(GraphcError, ValueError):
    """The text form of a graph or program does not parse; the message has line and column."""


class VerificationError(GraphcError, AssertionError):
    """A pass broke the graph or the program: a defect of graphc, with the pass and the node."""


class ModelError(GraphcError, ValueError):
    """A model file is broken, or refers to what it may not or what is not there."""


class UnsupportedOp(GraphcError, NotImplementedError):
    """An op that is known but not offered, or not on this back end."""


class UnsupportedSymbol(GraphcError, AttributeError):
    """A name of TensorFlow's that is known but not offered; the message says what to use."""
