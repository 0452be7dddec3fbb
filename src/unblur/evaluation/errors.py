"""What an evaluation can refuse."""

from __future__ import annotations


class EvaluationError(Exception):
    """An evaluation that cannot be made, or gone on with; one line for users."""
