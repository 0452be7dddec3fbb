"""The one exception of this package."""

from __future__ import annotations


class TrainingError(Exception):
    """A training that cannot begin or go on; one line for users."""
