"""`graphc.summary`: summaries of the frontend, and the writer of event files."""

from graphc.frontend import summary as _frontend
from graphc.frontend.summary import *  # noqa: F403
from graphc.runtime.events import FileWriter

__all__ = [*_frontend.__all__, "FileWriter"]
