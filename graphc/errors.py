"""Every error that a user's mistake can raise, one class per mistake; see graphc.ir.errors."""

from graphc.ir.errors import (
    AttributeValueError,
    BundleError,
    CheckpointError,
    DeviceError,
    DTypeError,
    FeedError,
    FetchError,
    GradientError,
    GraphcError,
    GraphError,
    InputError,
    MemoryBudgetError,
    NameNotFoundError,
    NumericsError,
    OutOfRangeError,
    ParseError,
    SessionError,
    SettingError,
    ShapeError,
    TargetError,
    UninitializedError,
    UnsupportedOp,
    UnsupportedSymbol,
    VerificationError,
)

__all__ = [
    "AttributeValueError", "BundleError", "CheckpointError", "DTypeError", "DeviceError",
    "FeedError", "FetchError", "GradientError", "GraphError", "GraphcError", "InputError",
    "MemoryBudgetError", "NameNotFoundError", "NumericsError", "OutOfRangeError", "ParseError",
    "SessionError", "SettingError", "ShapeError", "TargetError", "UninitializedError",
    "UnsupportedOp", "UnsupportedSymbol", "VerificationError",
]  # fmt: skip
