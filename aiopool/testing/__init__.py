"""What a test of a pool, or of code that uses one, can break on purpose."""

from __future__ import annotations

from aiopool.testing.proxy import FaultProxy

__all__ = ["FaultProxy"]
