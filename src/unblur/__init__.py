"""unblur."""
