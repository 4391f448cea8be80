"""`graphc.train`: the frontend's optimizers and schedules, and the runtime's checkpoints."""

from graphc.frontend import train as _frontend
from graphc.frontend.train import *  # noqa: F403
from graphc.metagraph import export_meta_graph, import_meta_graph
from graphc.runtime.checkpoint import (
    CheckpointReader,
    CheckpointState,
    Saver,
    checkpoint_exists,
    get_checkpoint_state,
    latest_checkpoint,
    list_variables,
    load_checkpoint,
    load_variable,
    remove_checkpoint,
)

__all__ = [
    *_frontend.__all__,
    "CheckpointReader",
    "CheckpointState",
    "Saver",
    "checkpoint_exists",
    "export_meta_graph",
    "get_checkpoint_state",
    "import_meta_graph",
    "latest_checkpoint",
    "list_variables",
    "load_checkpoint",
    "load_variable",
    "remove_checkpoint",
]
