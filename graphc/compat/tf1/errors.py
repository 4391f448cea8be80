"""`tf.errors`: graphc's own errors by the names under which programs catch them."""

from __future__ import annotations

from graphc.compat.symbols import delegate
from graphc.ir import errors as _errors

OpError = _errors.GraphcError
InvalidArgumentError = _errors.GraphcError
FailedPreconditionError = _errors.UninitializedError
NotFoundError = _errors.CheckpointError
DataLossError = _errors.CheckpointError
UnimplementedError = _errors.UnsupportedOp
InternalError = _errors.VerificationError


class NeverRaised(_errors.GraphcError):
    """An error of clusters and queues, which are not there to raise it."""


AbortedError = CancelledError = DeadlineExceededError = UnavailableError = NeverRaised
AlreadyExistsError = PermissionDeniedError = ResourceExhaustedError = NeverRaised

__getattr__ = delegate(__name__, "graphc.errors")
