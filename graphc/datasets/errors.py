"""The two ways in which data can fail a user: it is not there, or it is not what it says it is."""

from __future__ import annotations


class DatasetUnavailable(RuntimeError):
    """A data set was found in none of the places looked at; the message names them all."""


class DatasetFormatError(ValueError):
    """A file is there, but its content is broken; the message gives its path and what was read."""
