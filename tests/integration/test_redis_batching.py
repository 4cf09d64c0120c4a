"""`RedisPool(batching=True)` on a real Redis."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio

from aiopool import embedded
from aiopool.adapters._redis_batching import BATCH_BYTES
from aiopool.adapters.redis import RedisPool
from aiopool.config import PoolConfig
from aiopool.errors import (
    LeaseExpired,
    PoolClosed,
    PoolConfigError,
    PoolFull,
    PoolTimeout,
    PoolUnavailable,
    WrongLoop,
)
from aiopool.events import Event, Opened
from aiopool.testing import FaultProxy
from tests.stopwatch import Stopwatch


@pytest_asyncio.fixture
async def cache(redis_server: embedded.RedisServer) -> AsyncIterator[RedisPool]:
    async with RedisPool(redis_server.url, max_connections=5, batching=True) as pool:
        await pool.client.flushdb()
        yield pool


def pool_of_one(url: str, **settings: Any) -> RedisPool:
    return RedisPool(url, max_connections=1, batching=True, **settings)


async def outcomes(*asking: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*asking, return_exceptions=True)


@asynccontextmanager
async def peer(
    answer: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]], protocol: int = 2
) -> AsyncIterator[RedisPool]:
    """A pool of one connection to a peer that greets as a Redis does, and answers as it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await reader.read(10_000):
            if b"HELLO" in words:
                writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
            elif greetings := words.count(b"CLIENT"):
                writer.write(b"+OK\r\n" * greetings)
            else:
                await answer(words, writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with RedisPool(host=host, port=port, max_connections=1, batching=True, protocol=protocol) as cache:
            yield cache


async def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(200):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return condition()


# -- what is asked in one turn


async def test_what_is_asked_in_one_turn_is_one_lease_and_one_connections(cache: RedisPool) -> None:
    before = cache.stats()["acquired"]
    assert await asyncio.gather(*(cache.client.echo(str(n)) for n in range(1000))) == [str(n) for n in range(1000)]
    assert cache.stats()["acquired"] - before == 1


async def test_ten_thousand_at_once_are_a_handful_of_leases(cache: RedisPool) -> None:
    before = cache.stats()["acquired"]
    assert await asyncio.gather(*(cache.client.echo(str(n)) for n in range(10_000))) == [str(n) for n in range(10_000)]
    assert cache.stats()["acquired"] - before <= 1 + 10_000 * len("*2..$4..ECHO..$4..1000..") // BATCH_BYTES + 1


async def test_a_round_of_many_tasks_is_one_lease_too(cache: RedisPool) -> None:
    async def work(key: str) -> None:
        for n in range(10):
            assert await cache.set(key, n) is True
            assert await cache.get(key) == str(n)

    before = cache.stats()["acquired"]
    await asyncio.gather(*(work(f"key{i}") for i in range(100)))
    assert cache.stats()["acquired"] - before < 200  # of 2000 commands


async def test_more_than_a_batch_may_carry_goes_on_several_connections(cache: RedisPool) -> None:
    values = [str(n) * (BATCH_BYTES // 3) for n in range(10)]
    before = cache.stats()["acquired"]
    await asyncio.gather(*(cache.set(f"key{n}", value) for n, value in enumerate(values)))
    assert cache.stats()["acquired"] - before == 5  # two values each
    assert await asyncio.gather(*(cache.get(f"key{n}") for n in range(10))) == values
    assert await cache.set("huge", "x" * 10 * BATCH_BYTES) is True
    assert len(await cache.get("huge")) == 10 * BATCH_BYTES


async def test_an_error_is_its_own_callers_only(cache: RedisPool) -> None:
    await cache.set("text", "no number")
    one, two, three = await outcomes(cache.client.echo("a"), cache.client.incr("text"), cache.client.echo("b"))
    assert (one, three) == ("a", "b")
    assert isinstance(two, redis.asyncio.ResponseError)
    assert cache.stats()["closed"] == 0


async def test_an_answer_that_is_no_text_troubles_its_own_caller_only(cache: RedisPool) -> None:
    await cache.client.set("bytes", b"\xff\xfe")
    one, two, three = await outcomes(cache.client.echo("a"), cache.get("bytes"), cache.client.echo("b"))
    assert (one, three) == ("a", "b")
    assert isinstance(two, UnicodeDecodeError)
    assert cache.stats()["closed"] == 0


@pytest.mark.parametrize("value", [None, True, object(), ["a"], {"a": 1}, "\ud800"])
async def test_what_cannot_be_packed_is_told_at_once_and_nothing_of_it_is_sent(cache: RedisPool, value: Any) -> None:
    one, two, three = await outcomes(
        cache.client.echo("a"), cache.client.execute_command("SET", "key", value), cache.client.echo("b")
    )
    assert (one, three) == ("a", "b")
    assert isinstance(two, (redis.asyncio.DataError, UnicodeEncodeError))
    pipe = cache.client.pipeline(transaction=False)
    four, five = await outcomes(pipe.echo("c").execute_command("SET", "key", value).execute(), cache.client.echo("d"))
    assert isinstance(four, (redis.asyncio.DataError, UnicodeEncodeError))
    assert five == "d"
    assert await cache.get("key") is None


@pytest.mark.parametrize("settings", [{}, {"encoding": "latin-1"}, {"decode_responses": False}, {"protocol": 3}])
async def test_values_and_answers_are_what_redis_py_makes_of_them(
    redis_server: embedded.RedisServer, settings: dict[str, Any]
) -> None:
    async with (
        RedisPool(redis_server.url, db=1, **settings) as plain,
        RedisPool(redis_server.url, db=1, batching=True, **settings) as batching,
    ):
        told = []
        for client in (plain.client, batching.client):
            await client.flushdb()
            for n, value in enumerate(("ä", b"b", 3, 1.5, 1e300, 10**30, bytearray(b"c"), memoryview(b"d"))):
                await client.set(f"key{n}", value)
            told.append(
                [
                    [await client.get(f"key{n}") for n in range(8)],
                    await client.hset("h", mapping={"a": 1, "b": 2}),
                    await client.hgetall("h"),
                    await client.zadd("z", {"a": 1, "b": 2.5}),
                    await client.zrange("z", 0, -1, withscores=True),
                    await client.sadd("s", "a", "b"),
                    await client.smembers("s"),
                    await client.config_get("maxmemory"),
                    await client.mget("key0", "nothing"),
                    await client.set("key0", "x", nx=True),
                    await client.set("key0", "y", get=True),
                    await client.exists("key0"),
                    await client.expire("key0", 100),
                    await client.type("z"),
                    await client.execute_command("config get", "maxmemory"),
                    await client.execute_command(b"get", "key0"),
                    await client.dump("s") is not None,
                    (await client.info("server"))["tcp_port"],
                    await client.pipeline(transaction=False).set("p", 1).get("p").hgetall("h").execute(),
                    await client.pipeline(transaction=True).set("p", 1).get("p").hgetall("h").execute(),
                ]
            )
        assert told[0] == told[1]


async def test_callbacks_of_ones_own_are_called(cache: RedisPool) -> None:
    async def later(answer: Any, **_: Any) -> str:
        await asyncio.sleep(0)
        return f"later {answer}"

    cache.client.set_response_callback("ECHO", lambda answer, **_: f"heard {answer}")
    cache.client.set_response_callback("GET", later)
    assert await cache.client.echo("a") == "heard a"
    assert await cache.get("nothing") == "later None"


# -- pipelines, and what takes a connection of its own


async def test_a_pipeline_goes_out_in_one_piece_with_the_commands_of_others(cache: RedisPool) -> None:
    before = cache.stats()["acquired"]
    pipe = cache.client.pipeline(transaction=False).set("a", 1).lpush("a", 2).incr("a").ping()
    echo, answers = await asyncio.gather(cache.client.echo("x"), pipe.execute(raise_on_error=False))
    assert echo == "x"
    assert (answers[0], answers[2], answers[3]) == (True, 2, True)
    assert isinstance(answers[1], redis.asyncio.ResponseError)
    assert cache.stats()["acquired"] - before == 1
    with pytest.raises(redis.asyncio.ResponseError, match="Command # 2"):
        await pipe.set("a", 1).lpush("a", 2).execute()
    assert await pipe.execute() == []
    assert len(await pipe.mset({"a": "x" * BATCH_BYTES}).get("a").echo("y").execute()) == 3


async def test_a_pipeline_whose_caller_left_is_not_sent_in_part(cache: RedisPool) -> None:
    for steps in range(6):
        pipe = cache.client.pipeline(transaction=False)
        for _ in range(5):
            pipe.incr(f"n{steps}")
        leaving = asyncio.create_task(pipe.execute())
        for _ in range(steps):
            await asyncio.sleep(0)
        leaving.cancel()
        assert await cache.client.echo("mine") == "mine"
        await asyncio.wait([leaving])
        assert await cache.get(f"n{steps}") in (None, "5")
    assert cache.stats()["closed"] == 0


async def test_scripts_locks_and_transactions_work_as_ever(cache: RedisPool) -> None:
    script = cache.client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
    assert sorted(await asyncio.gather(*(script(keys=["n"], args=[2]) for _ in range(5)))) == [2, 4, 6, 8, 10]
    async with cache.client.pipeline(transaction=False) as pipe:
        await script(keys=["n"], args=[1], client=pipe)
        assert await pipe.execute() == [11]
    async with cache.client.lock("door", timeout=5):
        assert not await cache.client.lock("door", timeout=5, blocking=False).acquire()

    async def body(pipe: Any) -> None:
        n = int(await pipe.get("n"))
        pipe.multi()
        pipe.set("n", n + 1)

    await asyncio.gather(*(cache.client.transaction(body, "n") for _ in range(8)))
    assert await cache.get("n") == "19"
    async with cache.client.client() as single:
        assert await single.client_id() == await single.client_id()


async def test_what_blocks_keeps_nobody_waiting(cache: RedisPool) -> None:
    popping = [asyncio.create_task(cache.client.blpop(["nothing"], timeout=5)) for _ in range(3)]
    reading = asyncio.create_task(cache.client.xread({"stream": "$"}, block=5000))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(4):
        assert await cache.client.echo("a") == "a"
    await cache.client.rpush("nothing", "a", "b", "c")
    await cache.client.xadd("stream", {"a": "b"})
    assert sorted(map(tuple, await asyncio.gather(*popping))) == [("nothing", "a"), ("nothing", "b"), ("nothing", "c")]
    assert await reading


Leave = Callable[[RedisPool], Awaitable[object]]


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(lambda cache: cache.client.select(7), id="another database"),
        pytest.param(lambda cache: cache.client.client_setname("mine"), id="a name"),
        pytest.param(lambda cache: cache.client.execute_command("client tracking", "ON"), id="tracking"),
        pytest.param(lambda cache: cache.client.execute_command("CLIENT", "REPLY", "OFF"), id="no answers"),
        pytest.param(lambda cache: cache.client.execute_command("HELLO", "3"), id="another protocol"),
        pytest.param(lambda cache: cache.client.execute_command(" MULTI "), id="a transaction"),
        pytest.param(lambda cache: cache.client.execute_command(b"subscribe", "news"), id="a subscription"),
        pytest.param(lambda cache: cache.client.execute_command("UNSUBSCRIBE", "a", "b"), id="several answers"),
        pytest.param(lambda cache: cache.client.execute_command("MONITOR"), id="a monitor"),
        pytest.param(lambda cache: cache.client.quit(), id="a farewell"),
        pytest.param(
            lambda cache: cache.client.pipeline(transaction=False).select(7).echo("a").execute(), id="in a pipeline"
        ),
    ],
)
async def test_no_state_of_a_session_reaches_another_caller(redis_server: embedded.RedisServer, leave: Leave) -> None:
    async with pool_of_one(redis_server.url, socket_timeout=0.3) as cache:
        before = await cache.client.client_info()
        leaving = asyncio.create_task(leave(cache))  # type: ignore[arg-type]
        answers = await asyncio.gather(*(cache.client.echo(str(n)) for n in range(5)))
        assert answers == [str(n) for n in range(5)]
        with suppress(redis.asyncio.ResponseError, redis.asyncio.TimeoutError):
            await leaving
        answers = await asyncio.gather(*(cache.client.echo(str(n)) for n in range(5)))
        assert answers == [str(n) for n in range(5)]
        after = await cache.client.client_info()
        for what in ("db", "name", "flags", "resp", "sub", "psub", "watch", "user"):
            assert after[what] == before[what]


async def test_a_pipeline_with_a_word_that_is_not_to_be_shared_goes_alone(cache: RedisPool) -> None:
    pipe = cache.client.pipeline(transaction=False)
    assert await pipe.set("a", 1).dump("a").get("a").execute() == [True, await cache.client.dump("a"), "1"]


# -- callers who leave


@pytest.mark.parametrize("steps", range(8))
async def test_a_caller_who_leaves_drops_only_its_own_answer(cache: RedisPool, steps: int) -> None:
    tasks = [asyncio.create_task(cache.client.echo(str(n))) for n in range(30)]
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(a == str(n) for n, a in enumerate(answers) if n % 3)
    assert all(a == str(n) or isinstance(a, asyncio.CancelledError) for n, a in enumerate(answers))
    assert (cache.stats()["closed"], cache.stats()["in_use"]) == (0, 0)


async def test_who_leaves_in_the_turn_in_which_it_asked_is_not_sent(cache: RedisPool) -> None:
    task = asyncio.create_task(cache.client.incr("n"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0.01)
    assert await cache.get("n") is None
    assert cache.stats()["in_use"] == 0


async def test_an_answer_that_comes_after_its_caller_left_is_nobodys(redis_server: embedded.RedisServer) -> None:
    async with FaultProxy.before(redis_server.url) as proxy, pool_of_one(proxy.url) as cache:
        for n in range(20):
            proxy.silence()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await cache.client.echo(f"nobody's {n}")
            proxy.pass_through()
            assert await cache.client.echo(f"mine {n}") == f"mine {n}"
        assert cache.stats()["closed"] == 0


# -- a server in trouble


async def test_a_killed_server_fails_those_who_wait_for_it_and_nothing_is_sent_twice() -> None:
    async with embedded.redis(private=True) as server, pool_of_one(server.url) as cache:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        asking = [asyncio.create_task(cache.client.incr("n")) for _ in range(50)]
        await asyncio.sleep(0.05)
        in_line = asyncio.create_task(cache.client.echo("later"))
        await asyncio.sleep(0.05)
        await server.kill()
        for outcome in await outcomes(*asking):
            assert isinstance(outcome, redis.asyncio.ConnectionError)
        await server.start()
        assert await in_line == "later"  # it had not been sent
        assert await cache.get("n") is None
        assert cache.stats()["in_use"] == 0


async def test_of_answers_that_were_on_their_way_those_that_came_count() -> None:
    async def answer_half(words: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"$1\r\na\r\n" * 5 + b"$1")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with peer(answer_half) as cache:
        answers = await outcomes(*(cache.client.echo("a") for _ in range(10)))
        assert answers[:5] == ["a"] * 5
        assert {type(error) for error in answers[5:]} == {redis.asyncio.ConnectionError}
        assert len({id(error) for error in answers[5:]}) == 5
        assert cache.stats()["closed_by"]["broken"] == 1


@pytest.mark.parametrize("fault", ["silence", "black_hole"])
async def test_a_server_that_answers_no_more_is_given_up(redis_server: embedded.RedisServer, fault: str) -> None:
    async with FaultProxy.before(redis_server.url) as proxy, pool_of_one(proxy.url, socket_timeout=0.2) as cache:
        await cache.set("key", "value")
        getattr(proxy, fault)()
        began = asyncio.get_running_loop().time()
        outcome = await outcomes(*(cache.client.echo(str(n)) for n in range(5)))
        assert {type(error) for error in outcome} == {redis.asyncio.TimeoutError}
        assert 0.15 < asyncio.get_running_loop().time() - began < 4
        proxy.pass_through()
        assert await cache.get("key") == "value"


async def test_an_answer_that_comes_too_late_reaches_nobody() -> None:
    async with embedded.redis(private=True) as server, pool_of_one(server.url, socket_timeout=0.1) as cache:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(redis.asyncio.TimeoutError):
            await cache.client.echo("late")
        asking = asyncio.create_task(cache.client.echo("mine"))
        await asyncio.sleep(0.05)
        os.kill(server.pid, signal.SIGCONT)
        assert await asking == "mine"


async def test_answers_that_keep_coming_may_take_longer_altogether_than_one(
    redis_server: embedded.RedisServer,
) -> None:
    async with FaultProxy.before(redis_server.url) as proxy, pool_of_one(proxy.url, socket_timeout=0.3) as cache:
        await cache.set("key", "x" * 10_000)
        proxy.trickle(100_000)
        assert len(await asyncio.gather(*(cache.get("key") for _ in range(8)))) == 8
        assert cache.stats()["closed"] == 0


async def test_a_peer_that_breaks_the_protocol_is_left() -> None:
    async def babble(words: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+a\r\n&nonsense\r\n+b\r\n")

    async with peer(babble) as cache:
        one, *others = await outcomes(*(cache.client.echo(word) for word in "abc"))
        assert one == "a"
        assert {type(error) for error in others} == {redis.asyncio.ConnectionError}
        assert "protocol" in str(others[0])
        assert cache.stats()["closed_by"]["broken"] == 1


async def test_what_the_server_says_by_itself_is_nobodys_answer() -> None:
    async def push(words: bytes, writer: asyncio.StreamWriter) -> None:
        message = b">2\r\n+invalidate\r\n*1\r\n+key\r\n"
        writer.write(message + b"+a\r\n" + message + b"+b\r\n" + message)

    heard = []

    async def hear(message: Any) -> None:
        heard.append(message)

    def listen(event: Event) -> None:
        if isinstance(event, Opened):
            event.info.connection._parser.set_invalidation_push_handler(hear)

    async with peer(push, protocol=3) as cache:
        cache.subscribe(listen)
        await cache.drain()
        for _ in range(3):
            assert await asyncio.gather(cache.client.echo("a"), cache.client.echo("b")) == ["a", "b"]
        assert await eventually(lambda: heard == [["invalidate", ["key"]]] * 9)
        assert cache.stats()["closed_by"]["broken"] == 0


async def test_one_answer_too_many_closes_the_connection() -> None:
    async def say_too_much(words: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+a\r\n+surplus\r\n")

    async with peer(say_too_much) as cache:
        for _ in range(3):
            assert await cache.client.echo("a") == "a"
        assert cache.stats()["closed_by"]["broken"] == 3


# -- the life of the pool


async def test_close_waits_for_what_is_asked_and_refuses_newcomers(redis_server: embedded.RedisServer) -> None:
    async with FaultProxy.before(redis_server.url) as proxy:
        cache = pool_of_one(proxy.url)
        await cache.open()
        proxy.silence()
        asking = [asyncio.create_task(cache.client.echo(str(n))) for n in range(5)]
        await asyncio.sleep(0.02)
        in_line = asyncio.create_task(cache.client.echo("in line"))
        await asyncio.sleep(0.02)
        closing = asyncio.create_task(cache.close())
        with pytest.raises(PoolClosed):
            await in_line
        with pytest.raises(PoolClosed):
            await cache.client.echo("new")
        assert not closing.done()
        proxy.pass_through()
        assert await asyncio.gather(*asking) == [str(n) for n in range(5)]
        await closing
        async with cache:
            assert await cache.client.echo("again") == "again"


async def test_close_ends_what_outlasts_its_deadline(redis_server: embedded.RedisServer) -> None:
    async with FaultProxy.before(redis_server.url) as proxy:
        cache = pool_of_one(proxy.url)
        await cache.open()
        proxy.silence()
        asking = [asyncio.create_task(cache.client.echo(str(n))) for n in range(5)]
        await asyncio.sleep(0.02)
        await cache.close(timeout=0.05)
        assert {type(error) for error in await outcomes(*asking)} == {PoolClosed}
        stats = cache.stats()
        assert (stats["size"], stats["in_use"], stats["opened"]) == (0, 0, stats["closed"])


async def test_a_drain_lets_running_commands_end_and_replaces_their_connection(
    redis_server: embedded.RedisServer,
) -> None:
    async with RedisPool(redis_server.url, max_connections=2, batching=True) as cache:
        before = await cache.client.client_id()
        asking = asyncio.gather(*(cache.client.incr("drained") for _ in range(1000)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await cache.drain()
        assert len(set(await asking)) == 1000
        assert await eventually(lambda: cache.stats()["closed_by"]["drained"] == 2)
        assert await cache.client.client_id() > before


async def test_work_without_a_pause_does_not_keep_old_connections_alive(redis_server: embedded.RedisServer) -> None:
    config = PoolConfig(max_size=2, max_lifetime=0.1)
    async with RedisPool(redis_server.url, config=config, batching=True) as cache:

        async def work() -> None:
            while cache.stats()["closed_by"]["lifetime"] < 3:
                await cache.client.echo("x")

        async with asyncio.timeout(10):
            await asyncio.gather(*(work() for _ in range(20)))


async def test_a_batch_that_is_held_too_long_is_taken_back(redis_server: embedded.RedisServer) -> None:
    async with FaultProxy.before(redis_server.url) as proxy:
        config = PoolConfig(max_size=1, max_hold=0.1)
        async with RedisPool(proxy.url, config=config, batching=True) as cache:
            proxy.silence()
            assert {type(e) for e in await outcomes(*(cache.client.echo("x") for _ in range(3)))} == {LeaseExpired}
            proxy.pass_through()
            assert await cache.client.echo("x") == "x"


async def test_suspended_callers_wait_and_then_go_together(cache: RedisPool) -> None:
    cache.suspend()
    asking = []
    for n in range(20):
        asking.append(asyncio.create_task(cache.client.echo(str(n))))
        await asyncio.sleep(0.001)
    assert cache.stats()["waiting"] == 1
    before = cache.stats()["acquired"]
    cache.resume()
    assert await asyncio.gather(*asking) == [str(n) for n in range(20)]
    assert cache.stats()["acquired"] - before == 1


async def test_each_caller_in_the_line_has_its_own_time(redis_server: embedded.RedisServer) -> None:
    config = PoolConfig(max_size=1, acquire_timeout=0.3)
    async with RedisPool(redis_server.url, config=config, batching=True) as cache:
        loop = asyncio.get_running_loop()
        cache.suspend()
        waited = []

        async def ask() -> None:
            began = loop.time()
            with Stopwatch() as watch, pytest.raises(PoolTimeout):
                await cache.client.echo("x")
            waited.append((loop.time() - began, watch.seconds))

        tasks = []
        for _ in range(5):
            tasks.append(asyncio.create_task(ask()))
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        assert all(seconds > 0.29 and ours < 0.45 for seconds, ours in waited), waited
        assert cache.stats()["waiting"] == 0
        cache.resume()
        assert await cache.client.echo("x") == "x"


async def test_every_caller_gets_an_error_of_its_own() -> None:
    cache = RedisPool("redis://127.0.0.1:1", config=PoolConfig(min_size=0, unavailable_after=0), batching=True)
    errors = await outcomes(*(cache.client.echo("x") for _ in range(10)))
    assert {type(error) for error in errors} == {PoolUnavailable}
    assert len({id(error) for error in errors}) == 10
    assert all(isinstance(error.__cause__, redis.asyncio.ConnectionError) for error in errors)
    await cache.close()


async def test_a_full_line_refuses(redis_server: embedded.RedisServer) -> None:
    config = PoolConfig(min_size=0, max_size=1, max_waiting=0)
    async with RedisPool(redis_server.url, config=config, batching=True) as cache:
        popping = asyncio.create_task(cache.client.blpop(["nothing"], timeout=0.2))
        await asyncio.sleep(0.05)
        with pytest.raises(PoolFull):
            await cache.client.echo("x")
        assert await popping is None
        assert await cache.client.echo("x") == "x"


def test_a_closed_pool_opens_again_on_another_loop(redis_server: embedded.RedisServer) -> None:
    cache = RedisPool(redis_server.url, batching=True)

    async def use() -> None:
        async with cache:
            assert await asyncio.gather(*(cache.client.echo(str(n)) for n in range(100))) == [
                str(n) for n in range(100)
            ]

    for _ in range(3):
        asyncio.run(use())
    assert cache.stats()["opened"] == cache.stats()["closed"] == 15


async def test_another_running_loop_is_refused(cache: RedisPool) -> None:
    async def intrude() -> list[Any]:
        return await outcomes(*(cache.client.echo("intruder") for _ in range(50)))

    for _ in range(3):
        assert await cache.client.echo("mine") == "mine"
        refused = await asyncio.to_thread(lambda: asyncio.run(intrude()))
        assert {type(error) for error in refused} == {WrongLoop}
    assert await cache.client.echo("mine") == "mine"


async def test_a_loop_that_ends_leaves_no_caller_and_no_warning_behind(redis_server: embedded.RedisServer) -> None:
    program = (
        "import asyncio\n"
        "from aiopool import RedisPool\n"
        "async def main():\n"
        "    asyncio.get_running_loop().slow_callback_duration = 60\n"
        f"    async with RedisPool({redis_server.url!r}, batching=True) as cache:\n"
        "        tasks = asyncio.gather(*(cache.client.echo('x') for _ in range(100)), return_exceptions=True)\n"
        "        for _ in range(STEPS):\n"
        "            await asyncio.sleep(0)\n"
        "        raise SystemExit(3)\n"
        "asyncio.run(main())\n"
    )
    for steps in range(5):
        words = [sys.executable, "-X", "dev", "-W", "error", "-c", program.replace("STEPS", str(steps))]
        done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout, done.stderr) == (3, "", ""), steps


async def test_a_parser_that_is_not_hiredis_is_refused(redis_server: embedded.RedisServer) -> None:
    from redis._parsers.resp2 import _AsyncRESP2Parser

    with pytest.raises(PoolConfigError, match=r"parser_class=\w+ is not allowed with batching=True"):
        RedisPool(redis_server.url, batching=True, parser_class=_AsyncRESP2Parser)


def test_without_hiredis_the_extra_that_brings_it_is_named() -> None:
    program = (
        "import sys\n"
        "sys.modules['hiredis'] = None\n"
        "from aiopool import RedisPool\n"
        "RedisPool()\n"
        "try:\n"
        "    RedisPool(batching=True)\n"
        "except ImportError as exc:\n"
        "    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == 'hiredis is not installed; run: pip install "aiopool-core[redis]"\n'


async def test_a_storm_of_20000_cancelled_queries_gives_nobody_a_wrong_answer(
    redis_server: embedded.RedisServer,
) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    right = cancelled = 0

    async def ask(cache: RedisPool, nonce: str) -> None:
        nonlocal right
        kind = dice.randrange(10)
        if kind < 6:
            await cache.set(f"storm{nonce}", nonce, ttl=5)
            assert await cache.get(f"storm{nonce}") == nonce
        elif kind < 8:
            assert await cache.client.echo(nonce) == nonce
        elif kind < 9:
            pipe = cache.client.pipeline(transaction=False)
            assert await pipe.echo(nonce).ping().echo(nonce + "!").execute() == [nonce, True, nonce + "!"]
        else:
            pipe = cache.client.pipeline(transaction=True)
            assert await pipe.echo(nonce).execute() == [nonce]
        right += 1

    async with RedisPool(redis_server.url, max_connections=5, batching=True) as cache:
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        for n in range(20_000):
            task = asyncio.create_task(ask(cache, str(n)))
            running.add(task)
            if dice.random() < 0.7:
                loop.call_later(dice.random() * 0.01, task.cancel)
            if len(running) > 100:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    assert finished.cancelled() or finished.exception() is None, f"seed {seed}"
                    cancelled += finished.cancelled()
        await asyncio.wait(running)
        stats = cache.stats()
        assert (stats["in_use"], stats["waiting"], stats["size"]) == (0, 0, 5), f"seed {seed}"
        assert cancelled > 200 < right, (cancelled, right)
        answers = await asyncio.gather(*(cache.client.echo(str(n)) for n in range(100)))
        assert answers == [str(n) for n in range(100)]
    gc.collect()
