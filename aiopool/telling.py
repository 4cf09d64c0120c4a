"""What a model is told when a tool fails: what it can act on, in full; of all else only where to look."""

from __future__ import annotations


class ToolFailure(Exception):
    """A failure in words that are meant for the model that called the tool."""
