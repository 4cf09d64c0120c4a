"""`Readiness`: can each pool lend a connection now?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from aiopool.adapters.face import PoolFace
from aiopool.errors import PoolFull, PoolOverloaded, PoolTimeout
from aiopool.pool import ConnectionPool
from aiopool.stats import stats_of

#: Seconds that a pool has for it.
TIMEOUT = 1.0
#: Answers are good for that long, in seconds: asking often must not take the pools away from those who work.
FRESH_FOR = 1.0
_FIGURES = ("size", "available", "in_use", "waiting", "max_size")


class Readiness:
    """Asks all pools at once by taking a connection; who asks meanwhile gets the same answer."""

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._answers: dict[str, dict[str, Any]] = {}

    async def ask(self, pools: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """For each pool `ready`, its figures, and if it is not ready, `error`: the class of what went wrong."""
        async with self._asking:
            if time.monotonic() - self._asked_at > FRESH_FOR or self._answers.keys() != pools.keys():
                answers = await asyncio.gather(*map(_ask, pools.values()))
                self._answers = dict(zip(pools, answers, strict=True))
                self._asked_at = time.monotonic()
            return self._answers


async def _ask(pool: Any) -> dict[str, Any]:
    error: Exception | None = None
    try:
        await _lend(pool)
    except (PoolTimeout, PoolFull, PoolOverloaded) as exc:
        # If all are lent it can lend, and does.
        if getattr(exc, "phase", "wait") != "wait" or not pool.stats()["in_use"]:
            error = exc
    except Exception as exc:
        error = exc
    stats = stats_of(pool)
    answer = {"ready": error is None, **{key: stats[key] for key in _FIGURES if key in stats}}
    if error is not None:
        # Its words may be about an address.
        answer["error"] = " from ".join(type(each).__name__ for each in (error, error.__cause__) if each is not None)
    return answer


async def _lend(pool: Any) -> None:
    """Of pools of other kinds nothing is asked: those of HTTP clients connect to whatever a call wants."""
    if isinstance(pool, PoolFace):
        pool = pool.pool
    if isinstance(pool, ConnectionPool):
        async with pool.acquire(timeout=TIMEOUT):
            pass
