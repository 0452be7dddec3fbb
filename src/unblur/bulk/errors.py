"""What stops a whole run; a bad file does not."""

from __future__ import annotations


class BulkError(Exception):
    """Places or settings that cannot be worked with; the message is one line for users."""
