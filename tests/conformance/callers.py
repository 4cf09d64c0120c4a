"""Callers in tasks of their own, and waiting for what they, a pool or a server will do."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.conformance.kinds import Kind

#: What a bounded wait may take longer than its bound, by the loop's own watch.
SLACK = 0.25


async def eventually(condition: Callable[[], Any], within: float = 10.0) -> None:
    """Waits for a condition, sync or async. Nothing here can tell us when it holds: it depends on a peer."""
    deadline = time.monotonic() + within
    while True:
        holds = condition()
        if inspect.isawaitable(holds):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline, f"it did not happen within {within} s"
        await asyncio.sleep(0.002)


async def rest(pool: Any) -> None:
    """Until nothing is under way: all that is there is idle."""

    def is_at_rest() -> bool:
        stats = pool.stats()
        return bool(stats["opening"] == stats["in_use"] == stats["waiting"] == 0) and _places(pool) <= {"idle"}

    await eventually(is_at_rest)


async def server_sees(kind: Kind, name: str, connections: int) -> None:
    """So many connections of that pool, as soon as the server has noticed what became of the others."""
    seen: list[int] = []

    async def is_right() -> bool:
        seen.append(await kind.connections(name))
        return seen[-1] == connections

    try:
        await eventually(is_right, within=10)
    except AssertionError:
        raise AssertionError(f"the server sees {seen[-1]} connections instead of {connections}") from None


def _places(pool: Any) -> set[str]:
    core = getattr(pool, "pool", pool)
    return {info.place.value for info in core._stock.connections}


async def fill(kind: Kind, pool: Any) -> list[Any]:
    """All leases that the pool can grant at once."""
    size = getattr(pool, "pool", pool).config.max_size
    return [await kind.acquire(pool, timeout=10) for _ in range(size * kind.shares)]


async def line_up(kind: Kind, pool: Any, count: int = 1, **timeout: float | None) -> list[asyncio.Task[Any]]:
    """So many callers, one after the other in the line; each task's result is its lease."""
    tasks = []
    for place in range(pool.stats()["waiting"] + 1, pool.stats()["waiting"] + count + 1):
        tasks.append(asyncio.create_task(kind.acquire(pool, **timeout)))
        await eventually(lambda place=place: pool.stats()["waiting"] == place)
    return tasks


def release(leases: Iterable[Any]) -> None:
    for lease in leases:
        lease.release()


async def outcome(awaitable: Any) -> Any:
    """The result or the exception."""
    try:
        return await awaitable
    except Exception as exc:
        return exc
