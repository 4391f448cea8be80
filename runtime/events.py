"""Event files for TensorBoard: `FileWriter` puts summaries, graphs and run metadata into a folder.

The package tensorboard writes the records and frames them; it is imported by the first writer.
"""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any

from graphc.ir.errors import SessionError, UnsupportedOp
from graphc.ir.graph import Graph
from graphc.ir.graphdef import as_graph_def


class FileWriter:
    """Writes an event file into `logdir`, which is made where it is missing.

    `graph` (a Graph, or a GraphDef) is written first. Events go to the disk after `flush_secs`
    seconds, `max_queue` events, or `flush()`. UnsupportedOp when tensorboard is not installed.
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str],
        graph: Any = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        graph_def: Any = None,
        filename_suffix: str | None = None,
        session: Any = None,
    ) -> None:
        del session
        self._logdir = os.fspath(logdir)
        self._options = (max_queue, flush_secs, filename_suffix or "")
        self._tags: set[str] = set()
        self._writer: Any = self._opened()
        if graph is not None or graph_def is not None:
            self.add_graph(graph if graph is not None else graph_def)

    def _opened(self) -> Any:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise UnsupportedOp(
                "FileWriter needs the package tensorboard: pip install graphc[tensorboard]"
            ) from error
        return EventFileWriter(self._logdir, *self._options)

    def get_logdir(self) -> str:
        """The folder."""
        return self._logdir

    # -- what is written

    def add_event(self, event: Any) -> None:
        """Write an Event proto."""
        if self._writer is None:
            raise SessionError(f"the writer to {self._logdir} is closed; reopen() it")
        self._writer.add_event(event)

    def _add(self, global_step: Any, **content: Any) -> None:
        from tensorboard.compat.proto import event_pb2

        step = {} if global_step is None else {"step": int(global_step)}
        self.add_event(event_pb2.Event(wall_time=time.time(), **step, **content))

    def add_summary(self, summary: Any, global_step: Any = None) -> None:
        """Write what a run of a summary gave (bytes), or a Summary proto, at a step."""
        from tensorboard.compat.proto import summary_pb2

        proto = summary
        if isinstance(summary, bytes):
            proto = summary_pb2.Summary.FromString(summary)
        kept = summary_pb2.Summary()
        for value in proto.value:
            entry = kept.value.add()
            entry.CopyFrom(value)
            if value.tag in self._tags:  # TensorBoard reads the metadata of a tag's first event
                entry.ClearField("metadata")
            self._tags.add(value.tag)
        self._add(global_step, summary=kept)

    def add_graph(self, graph: Any, global_step: Any = None, graph_def: Any = None) -> None:
        """Write a Graph, or a GraphDef."""
        given = graph if graph is not None else graph_def
        proto = as_graph_def(given, complete=False) if isinstance(given, Graph) else given
        self._add(global_step, graph_def=proto.SerializeToString())

    def add_meta_graph(self, meta_graph_def: Any, global_step: Any = None) -> None:
        """Write a MetaGraphDef proto."""
        self._add(global_step, meta_graph_def=meta_graph_def.SerializeToString())

    def add_run_metadata(self, run_metadata: Any, tag: str, global_step: Any = None) -> None:
        """Write what a run with `run_metadata=` filled in, under a tag of its own."""
        from tensorboard.compat.proto import event_pb2

        content = event_pb2.TaggedRunMetadata(
            tag=tag, run_metadata=run_metadata.SerializeToString()
        )
        self._add(global_step, tagged_run_metadata=content)

    def add_session_log(self, session_log: Any, global_step: Any = None) -> None:
        """Write a SessionLog proto."""
        self._add(global_step, session_log=session_log)

    # -- lifetime

    def flush(self) -> None:
        """Write what is waiting to the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def reopen(self) -> None:
        """Go on in a new file after `close()`."""
        if self._writer is None:
            self._writer = self._opened()

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
