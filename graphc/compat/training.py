"""What TensorFlow 1 puts around a training loop: coordinators, hooks, monitored sessions.

Hooks are called before and after each run, as far as programs without a cluster need them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from graphc import summary
from graphc.frontend.schedules import get_global_step
from graphc.frontend.variables import global_variables_initializer, local_variables_initializer
from graphc.ir.errors import SessionError
from graphc.ir.graph import Graph, get_default_graph
from graphc.runtime.checkpoint import Saver, latest_checkpoint
from graphc.runtime.session import Session

_log = logging.getLogger("graphc")


class Coordinator:
    """Tells several threads when to stop, and hands on the first error of any of them."""

    def __init__(self, clean_stop_exception_types: Sequence[type[BaseException]] = ()) -> None:
        self._clean = tuple(clean_stop_exception_types)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None

    def request_stop(self, ex: Any = None) -> None:
        """Ask all threads to stop; `ex` is an exception, or what sys.exc_info() gives."""
        error = ex[1] if isinstance(ex, tuple) else ex
        if error is not None and self._error is None and not isinstance(error, self._clean):
            self._error = error
        self._stop.set()

    def should_stop(self) -> bool:
        """True once somebody asked to stop."""
        return self._stop.is_set()

    def clear_stop(self) -> None:
        """Begin anew."""
        self._stop.clear()
        self._error = None

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Wait until somebody asks to stop, at most `timeout` seconds."""
        return self._stop.wait(timeout)

    def register_thread(self, thread: threading.Thread) -> None:
        """A thread for which `join` waits."""
        self._threads.append(thread)

    def join(
        self,
        threads: Sequence[threading.Thread] | None = None,
        stop_grace_period_secs: float = 120,
        ignore_live_threads: bool = False,
    ) -> None:
        """Wait for the threads; the first error handed to `request_stop` is raised here."""
        waiting = [*self._threads, *(t for t in threads or () if t not in self._threads)]
        for thread in waiting:
            while thread.is_alive() and not self._stop.is_set():
                thread.join(0.1)
        end = time.monotonic() + stop_grace_period_secs
        for thread in waiting:
            thread.join(max(end - time.monotonic(), 0))
        if self._error is not None:
            raise self._error
        alive = [t.name for t in waiting if t.is_alive()]
        if alive and not ignore_live_threads:
            raise SessionError(f"did not stop in {stop_grace_period_secs} s: {', '.join(alive)}")

    @property
    def joined(self) -> bool:
        """True when no thread registered is running."""
        return not any(t.is_alive() for t in self._threads)

    @contextlib.contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """An error inside asks all threads to stop, and is raised by `join`."""
        try:
            yield
        except Exception as error:
            self.request_stop(error)


def start_queue_runners(
    sess: Any = None,
    coord: Coordinator | None = None,
    daemon: bool = True,
    start: bool = True,
    collection: str = "queue_runners",
) -> list[threading.Thread]:
    """No threads: there are no queues to be filled."""
    del sess, coord, daemon, start, collection
    return []


# -- hooks


class SessionRunArgs(NamedTuple):
    """What a hook wants to be run with each step."""

    fetches: Any = None
    feed_dict: Mapping[Any, Any] | None = None
    options: Any = None


class SessionRunValues(NamedTuple):
    """What a hook gets: the values of its own fetches."""

    results: Any
    options: Any = None
    run_metadata: Any = None


class SessionRunContext:
    """What a hook knows of a step, and by which it asks for the end."""

    def __init__(self, original_args: SessionRunArgs, session: Session) -> None:
        self.original_args = original_args
        self.session = session
        self.stop_requested = False

    def request_stop(self) -> None:
        """Let this step be the last one."""
        self.stop_requested = True


class SessionRunHook:
    """Called around a training loop: override what is needed."""

    def begin(self) -> None:
        """Before the session is made; the last chance to add to the graph."""

    def after_create_session(self, session: Session, coord: Any) -> None:
        """When variables have their values."""

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        """Before each run; may ask for fetches of its own."""

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """After each run."""

    def end(self, session: Session) -> None:
        """At the end, when there was no error."""


class StopAtStepHook(SessionRunHook):
    """Stops after `num_steps` more steps, or at the global step `last_step`."""

    def __init__(self, num_steps: int | None = None, last_step: int | None = None) -> None:
        if (num_steps is None) == (last_step is None):
            raise SessionError("StopAtStepHook needs either num_steps or last_step")
        self._more, self._last = num_steps, last_step

    def after_create_session(self, session: Session, coord: Any) -> None:
        """Count from the step at which training begins."""
        if self._more is not None:
            self._last = int(session.run(_step())) + self._more

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Compare the step."""
        assert self._last is not None, "after_create_session sets it"
        if int(run_context.session.run(_step())) >= self._last:
            run_context.request_stop()


class LoggingTensorHook(SessionRunHook):
    """Logs tensors (a dict by name, or a list) every so many runs."""

    def __init__(
        self, tensors: Any, every_n_iter: int = 100, formatter: Any = None, at_end: bool = False
    ) -> None:
        self._tensors = tensors if isinstance(tensors, Mapping) else {str(t): t for t in tensors}
        self._every, self._formatter, self._at_end = every_n_iter, formatter, at_end
        self._count = 0

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        """Ask for the tensors."""
        return SessionRunArgs(dict(self._tensors))

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Log them."""
        if self._count % self._every == 0:
            values = run_values.results
            text = ", ".join(f"{k} = {v}" for k, v in values.items())
            _log.info("%s", self._formatter(values) if self._formatter else text)
        self._count += 1


class NanTensorHook(SessionRunHook):
    """Ends training, or fails it, when a loss is no number."""

    def __init__(self, loss_tensor: Any, fail_on_nan_loss: bool = True) -> None:
        self._loss, self._fails = loss_tensor, fail_on_nan_loss

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        """Ask for the loss."""
        return SessionRunArgs(self._loss)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Look at it."""
        if run_values.results != run_values.results:
            if self._fails:
                raise SessionError(f"the loss {self._loss!r} is NaN")
            run_context.request_stop()


class CheckpointSaverHook(SessionRunHook):
    """Saves a checkpoint every so many steps or seconds, and at the end."""

    def __init__(
        self,
        checkpoint_dir: str,
        save_secs: float | None = None,
        save_steps: int | None = None,
        saver: Saver | None = None,
        checkpoint_basename: str = "model.ckpt",
    ) -> None:
        self._path = os.path.join(checkpoint_dir, checkpoint_basename)
        self._folder, self._saver = checkpoint_dir, saver
        self._secs, self._steps = save_secs, save_steps
        self._last_time, self._last_step = time.monotonic(), 0

    def after_create_session(self, session: Session, coord: Any) -> None:
        """Save the variables as they begin."""
        os.makedirs(self._folder, exist_ok=True)
        self._saver = self._saver or Saver()
        self._save(session, int(session.run(_step())))

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Save when it is time."""
        step, now = int(run_context.session.run(_step())), time.monotonic()
        by_step = self._steps is not None and step - self._last_step >= self._steps
        by_time = self._secs is not None and now - self._last_time >= self._secs
        if by_step or by_time:
            self._save(run_context.session, step)

    def end(self, session: Session) -> None:
        """Save the last state."""
        step = int(session.run(_step()))
        if step != self._last_step:
            self._save(session, step)

    def _save(self, session: Session, step: int) -> None:
        assert self._saver is not None, "after_create_session sets it"
        self._saver.save(session, self._path, step)
        self._last_time, self._last_step = time.monotonic(), step


class SummarySaverHook(SessionRunHook):
    """Writes summaries every so many steps."""

    def __init__(
        self,
        save_steps: int = 100,
        save_secs: float | None = None,
        output_dir: str | None = None,
        summary_writer: Any = None,
        scaffold: Any = None,
        summary_op: Any = None,
    ) -> None:
        del save_secs, scaffold
        self._every, self._folder = save_steps, output_dir
        self._writer, self._op, self._count = summary_writer, summary_op, 0

    def begin(self) -> None:
        """Open the file."""
        self._op = self._op if self._op is not None else summary.merge_all()
        if self._writer is None and self._folder is not None and self._op is not None:
            self._writer = summary.FileWriter(self._folder, get_default_graph())

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        """Ask for the summaries when it is time."""
        wanted = self._op is not None and self._count % self._every == 0
        return SessionRunArgs(self._op) if wanted else None

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Write them."""
        if run_values.results is not None and self._writer is not None:
            self._writer.add_summary(run_values.results, run_context.session.run(_step()))
        self._count += 1

    def end(self, session: Session) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.flush()


def _step() -> Any:
    step = get_global_step()
    if step is None:
        raise SessionError("hooks count by the global step: tf.train.get_or_create_global_step()")
    return step


# -- the session that calls them


class Scaffold(NamedTuple):
    """How a monitored session begins."""

    init_op: Any = None
    init_feed_dict: Any = None
    init_fn: Any = None
    local_init_op: Any = None
    saver: Saver | None = None
    summary_op: Any = None


class MonitoredSession:
    """A session that initializes or restores its variables, and calls hooks around each run."""

    def __init__(
        self,
        hooks: Sequence[SessionRunHook] = (),
        scaffold: Scaffold | None = None,
        checkpoint_dir: str | None = None,
        config: Any = None,
        graph: Graph | None = None,
    ) -> None:
        self._hooks = list(hooks)
        self._stop = False
        self.graph = graph or get_default_graph()
        for hook in self._hooks:
            hook.begin()
        parts = scaffold or Scaffold()
        init = parts.init_op if parts.init_op is not None else global_variables_initializer()
        local = (
            parts.local_init_op
            if parts.local_init_op is not None
            else local_variables_initializer()
        )
        saver = parts.saver or (Saver() if checkpoint_dir else None)
        self._session = Session(graph=self.graph, config=config)
        self._session.run(init, parts.init_feed_dict)
        self._session.run(local)
        newest = latest_checkpoint(checkpoint_dir) if checkpoint_dir else None
        if newest is not None and saver is not None:
            saver.restore(self._session, newest)
        if parts.init_fn is not None:
            parts.init_fn(parts, self._session)
        for hook in self._hooks:
            hook.after_create_session(self._session, None)

    def run(
        self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        """The fetches' values; the hooks' own fetches run with them."""
        context = SessionRunContext(SessionRunArgs(fetches, feed_dict, options), self._session)
        wanted = [hook.before_run(context) or SessionRunArgs() for hook in self._hooks]
        feeds = dict(feed_dict or {})
        for extra in wanted:
            feeds.update(extra.feed_dict or {})
        given = {i: w.fetches for i, w in enumerate(wanted) if w.fetches is not None}
        own, others = self._session.run([fetches, given], feeds, options, run_metadata)
        for i, hook in enumerate(self._hooks):
            hook.after_run(context, SessionRunValues(others.get(i), options, run_metadata))
        self._stop = self._stop or context.stop_requested
        return own

    def should_stop(self) -> bool:
        """True once a hook asked for the end."""
        return self._stop

    def close(self) -> None:
        """Let the hooks end, and close the session."""
        for hook in self._hooks:
            hook.end(self._session)
        self._session.close()

    def __enter__(self) -> MonitoredSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._session.close()


def MonitoredTrainingSession(
    master: str = "",
    is_chief: bool = True,
    checkpoint_dir: str | None = None,
    scaffold: Scaffold | None = None,
    hooks: Sequence[SessionRunHook] | None = None,
    chief_only_hooks: Sequence[SessionRunHook] | None = None,
    save_checkpoint_secs: float | None = 600,
    save_summaries_steps: int | None = 100,
    save_summaries_secs: float | None = None,
    config: Any = None,
    stop_grace_period_secs: float = 120,
    log_step_count_steps: int | None = 100,
    max_wait_secs: int = 7200,
    save_checkpoint_steps: int | None = None,
    summary_dir: str | None = None,
) -> MonitoredSession:
    """A MonitoredSession with hooks that save checkpoints and summaries into `checkpoint_dir`."""
    del is_chief, stop_grace_period_secs, log_step_count_steps, max_wait_secs, save_summaries_secs
    if master:
        raise SessionError(f"graphc has no distributed master {master!r}")
    chosen = [*(hooks or ()), *(chief_only_hooks or ())]
    if checkpoint_dir:
        seconds = save_checkpoint_secs if save_checkpoint_steps is None else None
        chosen.append(CheckpointSaverHook(checkpoint_dir, seconds, save_checkpoint_steps))
    folder = summary_dir or checkpoint_dir
    if folder and save_summaries_steps:
        chosen.append(SummarySaverHook(save_summaries_steps, output_dir=folder))
    return MonitoredSession(chosen, scaffold, checkpoint_dir, config)


SingularMonitoredSession = MonitoredSession
