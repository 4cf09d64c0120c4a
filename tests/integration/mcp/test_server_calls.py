"""What clients of both generations of the protocol get from a toolset: in memory, so that no transport is the point."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from mcp import Client

from aiopool import embedded
from aiopool.toolserver import server as module
from aiopool.toolserver.current import Current
from aiopool.toolserver.server import ToolServer
from aiopool.toolserver.tool import Result
from tests.integration.mcp.toolserving import MODES, serving, write_tools

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "postgresql://user:hunter2@host"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def current(
    postgres: embedded.PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Current]:
    file = write_tools(tmp_path_factory.mktemp("tools"), "calls", max_size=10)
    async with serving(file, postgres.dsn) as current:
        yield current


async def queries(dsn: str, name: str, what: str = "state = 'active'") -> int:
    connection = await asyncpg.connect(dsn)
    try:
        count = await connection.fetchval(
            f"select count(*) from pg_stat_activity where application_name = $1 and {what}", name
        )
    finally:
        await connection.close()
    return int(count)


async def eventually(question: Any, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not await question():
        assert time.monotonic() < until, "it did not come to that"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("mode", MODES)
async def test_tools_are_listed_with_their_exact_schemas_and_annotations(current: Current, mode: str) -> None:
    async with Client(ToolServer(current).mcp, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == ["add", "nap", "note"]
    assert tools["add"].description == "Adds two numbers."
    assert tools["add"].input_schema == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 1, "minimum": 0}},
        "required": ["a"],
        "additionalProperties": False,
    }
    hints = {name: tool.annotations.read_only_hint for name, tool in tools.items() if tool.annotations}
    assert hints == {"add": True, "nap": True, "note": False}


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_gives_text_and_the_same_as_an_object(current: Current, mode: str) -> None:
    async with Client(ToolServer(current).mcp, mode=mode) as client:
        result = await client.call_tool("add", {"a": 41})
    assert not result.is_error
    assert result.structured_content is not None
    assert result.structured_content["rows"] == [{"sum": 42}]
    assert json.loads(result.content[0].text) == result.structured_content  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_client_did_wrong_is_a_result_for_its_model(current: Current, mode: str) -> None:
    async with Client(ToolServer(current).mcp, mode=mode) as client:
        wrong = await client.call_tool("add", {"a": "x"})
        more = await client.call_tool("add", {"a": 1, "c": 2})
        other = await client.call_tool("ad", {"a": 1})
    for result, word in ((wrong, "integer"), (more, "c"), (other, "add")):
        assert result.is_error
        assert word in result.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", MODES)
async def test_no_exception_leaves_the_server_with_its_words(
    current: Current, mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(name: str, arguments: Any) -> Result:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(current, "call", fail)
    async with Client(ToolServer(current).mcp, mode=mode) as client:
        result = await client.call_tool("add", {"a": 1})
    assert result.is_error
    assert "internal error" in result.content[0].text  # type: ignore[union-attr]
    assert SECRET not in f"{result} {caplog.text}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [float("nan"), "\ud800", object(), {1: 2}], ids=["nan", "surrogate", "object", "key"])
async def test_what_json_cannot_hold_does_not_break_the_connection(
    current: Current, mode: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def give(name: str, arguments: Any) -> Result:
        return Result(f"text {value!r} \ud800", structured={"value": value})

    async with Client(ToolServer(current).mcp, mode=mode) as client:
        with monkeypatch.context() as patched:
            patched.setattr(current, "call", give)
            result = await client.call_tool("add", {"a": 1})
        assert result.content[0].text.startswith("text")  # type: ignore[union-attr]
        assert (await client.call_tool("add", {"a": 1})).structured_content is not None


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_that_its_client_cancels_ends_in_the_database(
    current: Current, mode: str, postgres: embedded.PostgresServer
) -> None:
    async with Client(ToolServer(current).mcp, mode=mode) as client:
        call = asyncio.create_task(client.call_tool("nap", {"seconds": 30}))

        async def runs() -> bool:
            return await queries(postgres.dsn, "calls") == 1

        async def ended() -> bool:
            return await queries(postgres.dsn, "calls") == 0

        await eventually(runs)
        call.cancel()
        await asyncio.wait((call,))
        await eventually(ended)
        assert (await client.call_tool("add", {"a": 1})).structured_content is not None


async def test_two_hundred_calls_at_once_share_ten_connections(
    current: Current, postgres: embedded.PostgresServer
) -> None:
    async with Client(ToolServer(current).mcp) as client:
        calls = [client.call_tool("add", {"a": number, "b": 0}) for number in range(200)]
        results = await asyncio.gather(*calls)
    sums = [result.structured_content["rows"][0]["sum"] for result in results if result.structured_content]
    assert sums == list(range(200))
    assert await queries(postgres.dsn, "calls", "true") <= 10


async def test_more_calls_than_the_server_takes_are_refused_at_once(
    current: Current, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CALLS", 2)
    async with Client(ToolServer(current).mcp) as client:
        results = await asyncio.gather(*(client.call_tool("nap", {"seconds": 0.2}) for _ in range(3)))
        assert sorted(result.is_error for result in results) == [False, False, True]
        refused = next(result for result in results if result.is_error)
        assert "retry later" in refused.content[0].text  # type: ignore[union-attr]
        assert not (await client.call_tool("add", {"a": 1})).is_error


async def test_each_call_is_told_to_the_observer_but_no_name_that_a_client_made_up(current: Current) -> None:
    told: list[tuple[str, str]] = []

    def observe(tool: str, outcome: str, seconds: float) -> None:
        assert 0 < seconds < 30
        told.append((tool, outcome))

    async with Client(ToolServer(current, observe).mcp) as client:
        await client.call_tool("add", {"a": 1})
        await client.call_tool("add", {})
        await client.call_tool("made up", {})
        call = asyncio.create_task(client.call_tool("nap", {"seconds": 30}))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait((call,))

        async def is_told() -> bool:
            return len(told) == 3

        await eventually(is_told)
    assert told == [("add", "ok"), ("add", "error"), ("nap", "cancelled")]


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_that_ends_refuses_newcomers_and_waits_for_the_others(current: Current, mode: str) -> None:
    server = ToolServer(current)
    async with Client(server.mcp, mode=mode) as client:
        call = asyncio.create_task(client.call_tool("nap", {"seconds": 0.3}))
        await asyncio.sleep(0.1)
        ending = asyncio.create_task(server.end_calls(5))
        await asyncio.sleep(0)
        late = await client.call_tool("add", {"a": 1})
        assert late.is_error
        assert "shutting down" in late.content[0].text  # type: ignore[union-attr]
        assert not call.done()
        await ending
        assert not (await call).is_error
