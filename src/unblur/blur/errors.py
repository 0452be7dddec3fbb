"""The one exception of this package."""

from __future__ import annotations


class BlurError(ValueError):
    """A blur that cannot be made as it was described; one line for users."""
