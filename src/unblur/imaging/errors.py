"""The one exception of this package: a file that cannot be read or written, said for people."""

from __future__ import annotations


class ImageError(Exception):
    """A photo that cannot be read, processed or written; the message is one line for the user."""
