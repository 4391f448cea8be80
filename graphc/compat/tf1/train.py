"""`tf.train`: optimizers, schedules, checkpoints, coordinators, records of examples."""

from __future__ import annotations

import os
from typing import Any, Final

from graphc.compat.symbols import delegate
from graphc.compat.training import (
    CheckpointSaverHook,
    Coordinator,
    LoggingTensorHook,
    MonitoredSession,
    MonitoredTrainingSession,
    NanTensorHook,
    Scaffold,
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
    SingularMonitoredSession,
    StopAtStepHook,
    SummarySaverHook,
    start_queue_runners,
)
from graphc.datasets.records import example_protos
from graphc.frontend.framework import GraphKeys
from graphc.runtime.checkpoint import CheckpointReader
from graphc.summary import FileWriter as SummaryWriter

NewCheckpointReader = CheckpointReader
_EXAMPLES: Final = ("BytesList", "Example", "Feature", "Features", "FloatList", "Int64List")
_others = delegate(__name__, "graphc.train")


def __getattr__(name: str) -> Any:
    if name in _EXAMPLES:
        classes = example_protos()  # made once: messages of two makings do not mix
        globals().update(classes)
        return classes[name]
    return _others(name)


def write_graph(graph_or_graph_def: Any, logdir: str, name: str, as_text: bool = True) -> str:
    """Write a graph as a GraphDef proto, text or binary; gives the file's path."""
    given = graph_or_graph_def
    proto = given.as_graph_def() if hasattr(given, "as_graph_def") else given
    os.makedirs(logdir, exist_ok=True)
    path = os.path.join(logdir, name)
    data = str(proto).encode() if as_text else proto.SerializeToString()
    with open(path, "wb") as file:
        file.write(data)
    return path


__all__ = [
    "CheckpointSaverHook", "Coordinator", "GraphKeys", "LoggingTensorHook", "MonitoredSession",
    "MonitoredTrainingSession", "NanTensorHook", "NewCheckpointReader", "Scaffold",
    "SessionRunArgs", "SessionRunContext", "SessionRunHook", "SessionRunValues",
    "SingularMonitoredSession", "StopAtStepHook", "SummarySaverHook", "SummaryWriter",
    "start_queue_runners", "write_graph",
]  # fmt: skip
