"""`RedisPool` on a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio

from aiopool import embedded
from aiopool.adapters.redis import RedisPool
from aiopool.config import PoolConfig
from aiopool.errors import PoolClosed, PoolConfigError, PoolTimeout, PoolUnavailable
from aiopool.testing import FaultProxy


@pytest_asyncio.fixture
async def cache(redis_server: embedded.RedisServer) -> AsyncIterator[RedisPool]:
    async with RedisPool(redis_server.url, max_connections=5) as pool:
        await pool.client.flushdb()
        yield pool


async def test_what_is_set_can_be_read_and_deleted(cache: RedisPool) -> None:
    assert await cache.get("key") is None
    assert await cache.set("key", "value") is True
    assert await cache.get("key") == "value"
    await cache.set("other", 1)
    assert await cache.delete("key", "other", "neither") == 2
    assert await cache.delete() == 0


async def test_a_ttl_is_in_seconds_and_may_have_a_fraction(cache: RedisPool) -> None:
    await cache.set("key", "value", ttl=60)
    assert 59 <= await cache.client.ttl("key") <= 60
    await cache.set("key", "value")
    assert await cache.client.ttl("key") == -1
    await cache.set("key", "value", ttl=0.05)
    assert await cache.get("key") == "value"
    await asyncio.sleep(0.1)
    assert await cache.get("key") is None


@pytest.mark.parametrize("ttl", [0, -1, 0.0001, float("nan"), float("inf"), True, "60"])
async def test_a_ttl_that_would_mean_nothing_is_refused(cache: RedisPool, ttl: Any) -> None:
    with pytest.raises(ValueError, match="ttl="):
        await cache.set("key", "value", ttl=ttl)
    assert await cache.get("key") is None


async def test_the_client_is_a_full_one_on_the_same_connections(cache: RedisPool) -> None:
    assert isinstance(cache.client, redis.asyncio.Redis)
    async with cache.client.pipeline(transaction=True) as pipe:
        assert await pipe.incr("n").incr("n").execute() == [1, 2]
    assert cache.stats()["size"] == 1


async def test_answers_are_text_unless_told_otherwise(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, decode_responses=False) as cache:
        await cache.set("key", "value")
        assert await cache.get("key") == b"value"


async def test_host_and_port_do_as_well_as_a_url(redis_server: embedded.RedisServer) -> None:
    async with (
        FaultProxy.before(redis_server.url) as proxy,
        RedisPool(host="127.0.0.1", port=proxy.port, db=3) as cache,
    ):
        assert (await cache.client.client_info())["db"] == 3


async def test_stats_tell_what_is_there(cache: RedisPool) -> None:
    blocked = [asyncio.create_task(cache.client.blpop(["nothing"], timeout=5)) for _ in range(7)]
    await asyncio.sleep(0.1)
    stats = cache.stats()
    assert (stats["size"], stats["in_use"], stats["available"], stats["waiting"]) == (5, 5, 0, 2)
    assert (stats["min_size"], stats["max_size"]) == (0, 5)
    for task in blocked:
        task.cancel()
    await asyncio.wait(blocked)
    assert await cache.get("key") is None
    stats = cache.stats()
    assert (stats["in_use"], stats["waiting"], stats["available"]) == (0, 0, stats["size"])


async def test_a_caller_that_gets_no_connection_in_time_gets_a_pool_timeout(
    redis_server: embedded.RedisServer,
) -> None:
    config = PoolConfig(max_size=1, acquire_timeout=0.2)
    async with RedisPool(redis_server.url, config=config, name="cache") as cache:
        blocked = asyncio.create_task(cache.client.blpop(["nothing"], timeout=5))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        with pytest.raises(PoolTimeout, match=r"'cache'.*in_use=1.*max_size=1") as caught:
            await cache.get("key")
        assert 0.15 < time.monotonic() - began < 1
        assert caught.value.stats is not None
        assert caught.value.stats["in_use"] == 1
        blocked.cancel()
        await asyncio.wait([blocked])


async def test_no_more_connections_than_allowed_are_opened(redis_server: embedded.RedisServer) -> None:
    async with FaultProxy.before(redis_server.url) as proxy, RedisPool(proxy.url, max_connections=5) as cache:
        values = await asyncio.gather(*(cache.client.incr("n") for _ in range(200)))
        assert len(set(values)) == 200
        assert proxy.connections == 5


async def test_a_cancelled_command_gives_nobody_a_wrong_answer(cache: RedisPool) -> None:
    for i in range(50):
        await cache.set(f"key{i}", f"value{i}")

    async def ask(i: int) -> None:
        assert await cache.get(f"key{i % 50}") == f"value{i % 50}"

    tasks = [asyncio.create_task(ask(i)) for i in range(500)]
    for i, task in enumerate(tasks):
        asyncio.get_running_loop().call_later(i / 20000, task.cancel)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for result in results if isinstance(result, Exception)] == []
    await asyncio.gather(*(ask(i) for i in range(50)))
    assert cache.stats()["in_use"] == 0


async def test_open_fails_early_with_the_cause(redis_server: embedded.RedisServer) -> None:
    cache = RedisPool("redis://:tr0ub4dor@127.0.0.1:1", name="cache")
    with pytest.raises(PoolUnavailable, match="'cache'") as caught:
        await cache.open()
    assert isinstance(caught.value.__cause__, redis.asyncio.ConnectionError)
    assert "tr0ub4dor" not in f"{caught.value} {caught.value.__cause__} {cache!r}"
    wrong = RedisPool(redis_server.url, username="nobody", password="tr0ub4dor")
    with pytest.raises(PoolUnavailable) as caught:
        await wrong.open()
    assert "tr0ub4dor" not in f"{caught.value} {caught.value.__cause__}"


async def test_open_is_bounded_by_open_timeout(redis_server: embedded.RedisServer) -> None:
    async with FaultProxy.before(redis_server.url) as proxy:
        proxy.silence()
        began = time.monotonic()
        with pytest.raises(PoolUnavailable):
            await RedisPool(proxy.url, config=PoolConfig(open_timeout=0.2)).open()
        assert time.monotonic() - began < 2


async def test_close_waits_for_running_commands_and_refuses_newcomers(redis_server: embedded.RedisServer) -> None:
    cache = RedisPool(redis_server.url, max_connections=1)
    await cache.open()
    running = asyncio.create_task(cache.client.blpop(["nothing"], timeout=0.3))
    await asyncio.sleep(0.05)
    in_line = asyncio.create_task(cache.get("key"))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(cache.close())
    with pytest.raises(PoolClosed):
        await in_line
    assert not running.done()
    with pytest.raises(PoolClosed):
        await cache.get("key")
    await closing
    assert await running is None
    await cache.close()
    async with cache:
        await cache.set("key", "value")


async def test_close_ends_what_outlasts_the_deadline(redis_server: embedded.RedisServer) -> None:
    cache = RedisPool(redis_server.url)
    await cache.open()
    running = asyncio.create_task(cache.client.blpop(["nothing"], timeout=5))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await cache.close(timeout=0.1)
    assert time.monotonic() - began < 1
    with pytest.raises((redis.asyncio.ConnectionError, PoolClosed)):
        await running


async def test_a_restarted_server_is_found_again() -> None:
    async with embedded.redis(private=True) as server, RedisPool(server.url, max_connections=5) as cache:
        await asyncio.gather(*(cache.set(f"key{i}", "value") for i in range(20)))
        await server.restart()
        await asyncio.gather(*(cache.set(f"key{i}", "value") for i in range(20)))
        assert cache.stats()["in_use"] == 0


def test_two_sizes_that_differ_are_refused() -> None:
    with pytest.raises(PoolConfigError, match=r"max_connections=20.*max_size=10"):
        RedisPool(max_connections=20, config=PoolConfig(max_size=10))
    assert RedisPool(max_connections=10, config=PoolConfig(max_size=10)).stats()["max_size"] == 10
    assert RedisPool(config=PoolConfig(max_size=10)).stats()["max_size"] == 10
    assert RedisPool(max_connections=20).stats()["max_size"] == 20
    assert RedisPool().stats()["max_size"] == 50


@pytest.mark.parametrize(
    "url", ["redis://:tr0ub4dor:x@host:port/0", "http://:tr0ub4dor@host", "redis://u:p/tr0ub4dor@host:6379/0"]
)
def test_a_malformed_url_is_told_without_the_password(url: str) -> None:
    with pytest.raises(PoolConfigError, match="refuses the URL") as caught:
        RedisPool(url)
    assert "tr0ub4dor" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
