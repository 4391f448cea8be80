"""`graphc.train`: optimizers, schedules and averages of the frontend, and the runtime's checkpoints."""

from graphc.frontend import train as _frontend
from graphc.frontend.train import *  # noqa: F403
from graphc.runtime.checkpoint import (
    CheckpointState,
    Saver,
    get_checkpoint_state,
    latest_checkpoint,
)

__all__ = [  # noqa: PLE0604
    *_frontend.__all__,
    "CheckpointState",
    "Saver",
    "get_checkpoint_state",
    "latest_checkpoint",
]
