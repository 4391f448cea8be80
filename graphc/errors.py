"""Every error that a user's mistake can raise, one class per mistake; see graphc.ir.errors."""

from graphc.ir.errors import (
    AttributeValueError,
    CheckpointError,
    DeviceError,
    DTypeError,
    FeedError,
    FetchError,
    GradientError,
    GraphcError,
    GraphError,
    NameNotFoundError,
    NumericsError,
    OutOfRangeError,
    ParseError,
    SessionError,
    SettingError,
    ShapeError,
    UninitializedError,
    UnsupportedOp,
    UnsupportedSymbol,
    VerificationError,
)

__all__ = [
    "AttributeValueError", "CheckpointError", "DTypeError", "DeviceError", "FeedError",
    "FetchError", "GradientError", "GraphError", "GraphcError", "NameNotFoundError",
    "NumericsError", "OutOfRangeError", "ParseError", "SessionError", "SettingError", "ShapeError",
    "UninitializedError", "UnsupportedOp", "UnsupportedSymbol", "VerificationError",
]  # fmt: skip
