"""Redis commands as tools, on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aiopool import PoolConfig, embedded
from aiopool.adapters.redis import RedisPool
from aiopool.telling import ToolFailure, explain
from tests.tool_bodies import Called, manager_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[False, True], ids=["plain", "batching"])
async def cache(redis_server: embedded.RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[RedisPool]:
    config = PoolConfig(min_size=0, max_size=4)
    async with RedisPool(redis_server.url, config=config, name="cache", batching=request.param) as pool:
        yield pool
        await pool.delete(*[key async for key in pool.client.scan_iter("redis_tools:*")])


def tool(cache: RedisPool, redis: Any, *names: str, **options: Any) -> Called:
    parameters = [{"name": name} for name in names]
    return Called({"redis": redis, "parameters": parameters}, manager_of(cache=cache), "cache", **options)


async def test_a_command_gives_its_answer_as_text_and_as_an_object(cache: RedisPool) -> None:
    stored = await tool(cache, ["SET", "redis_tools:{{key}}", "{{value}}", "EX", 60], "key", "value")(
        key="a", value="ä"
    )
    assert stored.structured == {"result": True}
    result = await tool(cache, ["GET", "redis_tools:{{key}}"], "key")(key="a")
    assert (result.text, result.structured, result.is_error) == ('{"result": "ä"}', {"result": "ä"}, False)
    assert (await tool(cache, ["GET", "redis_tools:{{key}}"], "key")(key="none")).structured == {"result": None}


async def test_a_value_never_becomes_a_second_argument_or_a_second_command(cache: RedisPool) -> None:
    nasty = 'x" EX 1\r\nDEL redis_tools:kept\r\n*1\r\n$8\r\nFLUSHALL\r\n {{key}} \0'
    await cache.set("redis_tools:kept", "1")
    await tool(cache, ["SET", "redis_tools:{{key}}", "{{value}}"], "key", "value")(key=nasty, value=nasty)
    assert await cache.get(f"redis_tools:{nasty}") == nasty
    assert await cache.client.ttl(f"redis_tools:{nasty}") == -1
    assert await cache.get("redis_tools:kept") == "1"


async def test_bytes_that_are_no_text_come_in_base64(cache: RedisPool) -> None:
    await cache.client.set("redis_tools:bytes", b"\xff\x00")
    await cache.client.hset("redis_tools:hash", mapping={b"\xff": b"\xfe", "a": "b"})
    assert (await tool(cache, ["GET", "redis_tools:bytes"])()).structured == {"result": {"base64": "/wA="}}
    result = await tool(cache, ["HGETALL", "redis_tools:hash"])()
    assert result.structured == {"result": {'{"base64": "/w=="}': {"base64": "/g=="}, "a": "b"}}


ANSWERS = [
    (["RPUSH", "redis_tools:list", "a", "b"], 2),
    (["LRANGE", "redis_tools:list", 0, -1], ["a", "b"]),
    (["SADD", "redis_tools:set", "b", "a"], 2),
    (["SMEMBERS", "redis_tools:set"], ["a", "b"]),
    (["ZADD", "redis_tools:scores", 1.5, "a", "inf", "b"], 2),
    (["ZSCORE", "redis_tools:scores", "b"], "Infinity"),
    (["HSET", "redis_tools:table", "a", 1], 1),
    (["HGETALL", "redis_tools:table"], {"a": "1"}),
    (["INCRBY", "redis_tools:number", 5], 5),
    (["EXISTS", "redis_tools:number"], 1),
    (["TYPE", "redis_tools:number"], "string"),
    (["XADD", "redis_tools:stream", "1-1", "a", "b"], "1-1"),
    (["XRANGE", "redis_tools:stream", "-", "+"], [["1-1", {"a": "b"}]]),
    (["PING"], True),
    (["ECHO", "ä"], "ä"),
]


async def test_every_kind_of_answer_has_a_form_in_json(cache: RedisPool) -> None:
    await cache.delete(*[word[1] for word, _ in ANSWERS if len(word) > 1])
    for command, answer in ANSWERS:
        result = await tool(cache, command)()
        assert result.structured == {"result": answer}, command
        assert json.loads(result.text) == result.structured
    scan = (await tool(cache, ["SCAN", 0, "MATCH", "redis_tools:number", "COUNT", 10_000])()).structured
    assert scan == {"result": [0, ["redis_tools:number"]]}
    info = (await tool(cache, {"command": ["INFO", "clients"], "allow": ["INFO"]})()).structured
    assert info is not None
    assert info["result"]["connected_clients"] >= 1


async def test_several_commands_go_out_together_and_one_that_fails_is_told_beside_the_others(cache: RedisPool) -> None:
    both = tool(cache, [["SET", "redis_tools:{{key}}", "x"], ["INCR", "redis_tools:{{key}}"], ["ECHO", "ok"]], "key")
    result = await both(key="p")
    assert result.is_error
    assert result.structured == {
        "results": [True, {"error": "value is not an integer or out of range"}, "ok"],
    }
    assert not (await tool(cache, [["ECHO", "a"], ["ECHO", "b"]])()).is_error


async def test_the_server_s_own_words_reach_the_model(cache: RedisPool) -> None:
    await cache.set("redis_tools:text", "x")
    with pytest.raises(Exception, match="WRONGTYPE") as failure:
        await tool(cache, ["LPUSH", "redis_tools:text", "x"])()
    assert "WRONGTYPE" in explain(failure.value)


async def test_a_command_that_the_caller_chooses_is_one_of_the_list(cache: RedisPool) -> None:
    await cache.set("redis_tools:chosen", "x")
    chosen = {"command": ["{{command}}", "redis_tools:chosen"], "allow": ["GET", "STRLEN"]}
    one = tool(cache, chosen, "command")
    assert (await one(command="get")).structured == {"result": "x"}
    assert (await one(command="STRLEN")).structured == {"result": 1}
    for name in ("DEL", "GET x", "GET\r\nDEL", "", "ＧＥＴ"):
        with pytest.raises(ToolFailure):
            await one(command=name)
    assert await cache.get("redis_tools:chosen") == "x"
    config = tool(cache, {"command": ["CONFIG", "{{sub}}", "maxmemory"], "allow": ["CONFIG GET"]}, "sub")
    assert "maxmemory" in (await config(sub="get")).text
    with pytest.raises(ToolFailure, match="CONFIG is not allowed here; allowed are: CONFIG GET"):
        await config(sub="set")


async def test_a_command_that_waits_has_a_connection_of_its_own_and_an_end(cache: RedisPool) -> None:
    waiting = asyncio.create_task(tool(cache, ["BLPOP", "redis_tools:queue", 5])())
    quick = tool(cache, ["ECHO", "now"])
    async with asyncio.timeout(4):
        while not await cache.client.client_list() or cache.stats()["in_use"] == 0:
            assert (await quick()).structured == {"result": "now"}
    assert (await quick()).structured == {"result": "now"}
    await cache.client.rpush("redis_tools:queue", "job")
    assert (await waiting).structured == {"result": ["redis_tools:queue", "job"]}
    assert (await tool(cache, ["BLPOP", "redis_tools:queue", 0.01])()).structured == {"result": None}
    with pytest.raises(ToolFailure, match="would wait for ever: give it a timeout under the tool's"):
        await tool(cache, ["BLPOP", "redis_tools:queue", "{{s}}"], "s")(s="0")
    with pytest.raises(ToolFailure, match="would wait 30 s"):
        await tool(cache, ["XREAD", "BLOCK", "{{ms}}", "STREAMS", "a", "$"], "ms")(ms="30000")
    with pytest.raises(ToolFailure, match="hold up the commands beside it"):
        await tool(cache, [["XREAD", "BLOCK", "{{ms}}", "STREAMS", "a", "$"], ["ECHO", "b"]], "ms")(ms="10")


async def test_an_answer_that_is_too_long_is_cut_and_the_model_is_told(cache: RedisPool) -> None:
    await cache.client.set("redis_tools:long", "ä\n" * 700_000)
    await cache.client.rpush("redis_tools:many", *["x" * 1000] * 2000)
    await cache.client.set("redis_tools:noise", b"\xff" * 900_000)
    long = await tool(cache, ["GET", "redis_tools:long"])()
    many = await tool(cache, ["LRANGE", "redis_tools:many", 0, -1])()
    noise = await tool(cache, ["GET", "redis_tools:noise"])()
    for result in (long, many, noise):
        assert len(result.text.encode()) <= 1_000_000
        assert result.structured is not None
        assert result.structured["truncated"] is True
        assert "ask for less" in result.structured["notice"]
        assert json.loads(result.text) == result.structured
    assert 900 < len(many.structured["result"]) < 1000
    assert len(long.structured["result"]) > 100_000
    assert noise.structured["result"] is None
