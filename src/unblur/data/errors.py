"""The one exception of this package."""

from __future__ import annotations


class DataError(Exception):
    """A data set that is missing, incomplete or not what it was called; one line for users."""
