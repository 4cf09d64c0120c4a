"""Pools used wrongly, or at the wrong moment: refused by name, or of no effect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from aiopool import ConnectionPool, Lease, PoolClosed, PoolConfig, PoolTimeout


class Thing:
    """A connection that is only a name."""


async def make_thing() -> Thing:
    return Thing()


@pytest.mark.parametrize("value", ["x", b"1", [], float("nan")])
@pytest.mark.parametrize("call", ["acquire(timeout=)", "open(timeout=)", "close(timeout=)", "drain(over=)"])
async def test_a_number_of_seconds_that_is_none_is_refused_by_name_and_changes_nothing(call: str, value: Any) -> None:
    pool = ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=2))
    await pool.open()
    lease = await pool.acquire()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "acquire(timeout=)": lambda: pool.acquire(timeout=value),
        "open(timeout=)": lambda: pool.open(timeout=value),
        "close(timeout=)": lambda: pool.close(timeout=value),
        "drain(over=)": lambda: pool.drain(over=value),
    }

    async def make_the_call() -> None:
        async with asyncio.timeout(1):
            given = await calls[call]()
            if isinstance(given, Lease):
                given.release()

    try:
        with pytest.raises((ValueError, TypeError)) as caught:
            await make_the_call()
        field = call.partition("(")[2].rstrip("=)")
        assert field in str(caught.value)
        assert repr(value) in str(caught.value)
        assert pool.stats()["in_use"] == 1
    finally:
        lease.release()
        await pool.close(timeout=0)


@pytest.mark.parametrize("hook", ["factory", "config", "configure", "validator", "resetter", "is_broken", "is_fatal"])
def test_what_a_pool_is_made_of_is_looked_at_when_it_is_made(hook: str) -> None:
    arguments: dict[str, Any] = {"factory": make_thing, hook: {"max_size": 3}}
    with pytest.raises((TypeError, ValueError), match=hook):
        ConnectionPool(**arguments)


@pytest.mark.parametrize("hook", ["aborter", "is_broken", "is_fatal"])
def test_what_nobody_waits_for_may_not_be_an_async_function(hook: str) -> None:
    async def takes_time(*args: object) -> bool:
        return False

    arguments: dict[str, Any] = {"factory": make_thing, hook: takes_time}
    with pytest.raises(TypeError, match=f"^{hook} is an async function: it must be a plain one"):
        ConnectionPool(**arguments)
    with pytest.raises(TypeError, match=r"^listener is an async function: it must be a plain one"):
        ConnectionPool(make_thing).subscribe(takes_time)


async def test_a_listener_that_is_none_is_refused_when_it_subscribes() -> None:
    pool = ConnectionPool(make_thing, PoolConfig(min_size=0))
    with pytest.raises((TypeError, ValueError), match="listener"):
        pool.subscribe("not callable")  # type: ignore[arg-type]


async def test_a_listener_that_raises_whatever_it_likes_costs_no_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "aiopool")
    pool = ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=1))
    await pool.open()
    try:
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        unsubscribe = pool.subscribe(lambda event: cancelled.result())
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                async with pool.acquire(timeout=0.2):
                    pass
        unsubscribe()
        assert pool.stats()["in_use"] == 0
        async with pool.acquire(timeout=0.2):
            pass
    finally:
        await pool.close(timeout=0)


async def test_unsubscribing_ends_one_subscription() -> None:
    heard: list[object] = []
    async with ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=1)) as pool:
        first, second = pool.subscribe(heard.append), pool.subscribe(heard.append)
        first()
        first()
        async with pool.acquire():
            pass
        assert len(heard) == 2
        second()
        async with pool.acquire():
            pass
        assert len(heard) == 2


async def test_a_pool_suspended_before_it_opens_is_suspended() -> None:
    pool = ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=1))
    pool.suspend()
    await pool.open()
    with pytest.raises(PoolTimeout):
        (await pool.acquire(timeout=0.05)).release()
    pool.resume()
    async with pool.acquire(timeout=0.2):
        pass
    await pool.close()


async def test_calls_out_of_order_are_refused_or_do_nothing() -> None:
    pool = ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=2))
    lease = await pool.acquire()
    await pool.close(timeout=0)
    for _ in range(2):
        lease.release()
        lease.discard()
    await pool.close()
    for call in (pool.acquire, pool.check, pool.drain):
        with pytest.raises(PoolClosed, match="open"):
            await call()
    await pool.open()
    await pool.open()
    lease.release()
    assert pool.stats()["available"] == 1
    await pool.close()
    assert pool.stats()["opened"] == pool.stats()["closed"] == 2


@pytest.mark.parametrize("how", ["a cancel scope", "one cancellation", "two cancellations"])
async def test_an_open_that_was_cancelled_leaves_a_pool_that_can_be_opened(how: str) -> None:
    async def slow() -> object:
        await asyncio.sleep(0.05)
        return object()

    async def close(connection: object) -> None:
        await asyncio.sleep(0.01)

    pool = ConnectionPool(slow, PoolConfig(min_size=2, max_size=2), destroyer=close)
    if how == "a cancel scope":
        with anyio.move_on_after(0.01):
            await pool.open()
    else:
        task = asyncio.create_task(pool.open())
        await asyncio.sleep(0.01)
        task.cancel()
        if how == "two cancellations":
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (pool.stats()["size"], pool.stats()["opening"]) == (0, 0)
    async with pool.acquire(timeout=1):  # opens it, as if nothing had happened
        pass
    await pool.close()
