"""`unblur serve`: one process that answers HTTP requests and serves a page for people."""

from unblur.serving.app import create_app
from unblur.serving.connections import impatient
from unblur.serving.engine import Engine
from unblur.serving.limits import Limits

__all__ = ["Engine", "Limits", "create_app", "impatient"]
