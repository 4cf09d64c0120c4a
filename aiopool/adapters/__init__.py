"""What turns a driver's connections into a pool: a handful of callables each, and a thin class for its users.

Each adapter needs its driver, an extra of the distribution; nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopool.adapters.http import HTTPClientPool
    from aiopool.adapters.postgres import DatabasePool
    from aiopool.adapters.redis import RedisPool

__all__ = ["DatabasePool", "HTTPClientPool", "RedisPool"]

_HOMES = {"DatabasePool": "postgres", "HTTPClientPool": "http", "RedisPool": "redis"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def missing_driver(driver: str, extra: str) -> ImportError:
    """What to raise when an adapter's driver is not installed: it names the extra that brings it."""
    return ImportError(f'{driver} is not installed; run: pip install "aiopool-core[{extra}]"', name=driver)
