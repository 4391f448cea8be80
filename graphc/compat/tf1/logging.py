"""`tf.logging`: Python's logging under the name tensorflow, written to stderr."""

from __future__ import annotations

import logging as _logging
from typing import Any, Final

DEBUG: Final = _logging.DEBUG
INFO: Final = _logging.INFO
WARN: Final = _logging.WARNING
ERROR: Final = _logging.ERROR
FATAL: Final = _logging.FATAL


def _logger() -> _logging.Logger:
    logger = _logging.getLogger("tensorflow")
    if not logger.hasHandlers():
        handler = _logging.StreamHandler()
        handler.setFormatter(_logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
        logger.addHandler(handler)
    return logger


def log(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say something at a level."""
    _logger().log(level, msg, *args, **kwargs)


def debug(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say something of use to who looks for a mistake."""
    log(DEBUG, msg, *args, **kwargs)


def info(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say how things go."""
    log(INFO, msg, *args, **kwargs)


def warning(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Warn."""
    log(WARN, msg, *args, **kwargs)


def error(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say what went wrong."""
    log(ERROR, msg, *args, **kwargs)


def fatal(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say why the program cannot go on."""
    log(FATAL, msg, *args, **kwargs)


warn = warning


def vlog(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say something at a level."""
    log(level, msg, *args, **kwargs)


def log_if(level: int, msg: Any, condition: Any, *args: Any) -> None:
    """Say something where the condition holds."""
    if condition:
        log(level, msg, *args)


def set_verbosity(v: int) -> None:
    """Say only what has this level or a higher one."""
    _logger().setLevel(v)


def get_verbosity() -> int:
    """The level from which on something is said."""
    return _logger().getEffectiveLevel()


def flush() -> None:
    """Write what is waiting."""
    for handler in _logger().handlers:
        handler.flush()
