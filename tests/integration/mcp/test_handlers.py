"""Tools that are lent connections, called through real MCP clients, on real servers."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

pytest.importorskip("mcp")

import uvicorn
from mcp import Client, MCPError, StdioServerParameters
from mcp.server import MCPServer, Server
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from aiopool import DatabasePool, HTTPClientPool, PoolConfig, PoolManager, RedisPool, embedded, pools
from aiopool.telling import explain

MODES = ["auto", "legacy"]
EXAMPLE = Path(__file__).parents[3] / "examples/mcp_handlers.py"


def text(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


async def eventually(holds: Callable[[], Awaitable[bool]], within: float = 10.0) -> bool:
    async with asyncio.timeout(within):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return True


# -- the article's tools


@pytest.fixture
def tools(
    postgres: embedded.PostgresServer,
    redis_server: embedded.RedisServer,
    https_server: embedded.HTTPSServer,
    monkeypatch: pytest.MonkeyPatch,
) -> ModuleType:
    monkeypatch.setattr(pools, "_pools", {})
    pools.register("database", DatabasePool(postgres.dsn, PoolConfig(min_size=1, max_size=5)))
    pools.register("redis", RedisPool(redis_server.url, max_connections=5))
    pools.register("api", HTTPClientPool(https_server.url, verify=https_server.ssl_context))
    spec = importlib.util.spec_from_file_location("example_mcp_handlers", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mode", MODES)
async def test_the_tools_of_the_article_answer(tools: ModuleType, mode: Any) -> None:
    async with Client(tools.server, mode=mode) as client:

        async def call(tool: str, **arguments: Any) -> Any:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, text(result)
            return result.structured_content

        shown = {tool.name: set(tool.input_schema["properties"]) for tool in (await client.list_tools()).tools}
        assert shown == {
            "query_database_tool": {"query"},
            "call_api_tool": {"endpoint", "data"},
            "cache_tool": {"action", "key", "value"},
            "pooled_query": {"pool_name", "query", "key", "endpoint"},
        }
        rows = await call("query_database_tool", query="select n from generate_series(1, 3) n")
        assert rows == {"success": True, "data": [{"n": 1}, {"n": 2}, {"n": 3}], "is_all": True}
        many = await call("query_database_tool", query="select n from generate_series(1, 1000000) n")
        assert (len(many["data"]), many["is_all"]) == (200, False)
        assert (await call("call_api_tool", endpoint="/echo", data={"id": 1}))["answer"]["body"] == '{"id":1}'
        key = f"handlers:{mode}"
        assert await call("cache_tool", action="get", key=key) == {"value": None}
        assert await call("cache_tool", action="set", key=key, value="v") == {"success": True}
        assert await call("pooled_query", pool_name="redis", key=key) == {"value": "v"}
        assert await call("cache_tool", action="delete", key=key) == {"success": True}
        assert (await call("pooled_query", pool_name="database", query="select 7 as n"))["data"] == [{"n": 7}]
        assert (await call("pooled_query", pool_name="api", endpoint="/echo"))["answer"]["method"] == "GET"


@pytest.mark.parametrize("mode", MODES)
async def test_the_tools_of_the_article_tell_what_was_wrong(tools: ModuleType, mode: Any) -> None:
    async with Client(tools.server, mode=mode) as client:

        async def fail(tool: str, **arguments: Any) -> str:
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            return text(result).removeprefix(f"Error executing tool {tool}: ")

        assert await fail("query_database_tool", query="select nam from pg_tables") == (
            'column "nam" does not exist (SQLSTATE 42703, at character 8)'
        )
        assert await fail("query_database_tool", query="select relnames from pg_class") == (
            'column "relnames" does not exist (SQLSTATE 42703, at character 8)\n'
            'HINT: Perhaps you meant to reference the column "pg_class.relname".'
        )
        assert "(SQLSTATE 25006)" in await fail("query_database_tool", query="create table mine (id int)")
        assert "(SQLSTATE 42601)" in await fail("query_database_tool", query="select 1; select 2")
        assert await fail("call_api_tool", endpoint="/status/503", data={}) == (
            "the HTTP server answered 503 Service Unavailable"
        )
        assert "must be a path" in await fail("call_api_tool", endpoint="https://evil.example", data={})
        assert await fail("cache_tool", action="set", key="k") == "set needs a value"
        assert "database" in await fail("pooled_query", pool_name="databse")
        await pools.get("redis").client.lpush("handlers:list", "x")
        assert (await fail("cache_tool", action="get", key="handlers:list")).startswith("WRONGTYPE Operation against")
        await pools.get("redis").delete("handlers:list")


async def test_over_stdio_they_answer_clients_of_the_older_generation(
    postgres: embedded.PostgresServer, redis_server: embedded.RedisServer
) -> None:
    """Those of the newer one are served by the test of the examples."""
    addresses = {"DATABASE_URL": postgres.dsn, "REDIS_URL": redis_server.url}
    process = StdioServerParameters(command=sys.executable, args=[str(EXAMPLE)], env={**os.environ, **addresses})
    mark = f"stdio-{uuid4()}"
    async with connection_to(postgres) as watching, Client(process, mode="legacy") as client:

        async def count() -> int:
            query = "select count(*) from pg_stat_activity where state = 'active' and query like $1"
            return int(await watching.fetchval(f"{query} and pid <> pg_backend_pid()", f"%{mark}%"))

        async def is_busy() -> bool:
            return await count() == 1

        async def is_calm() -> bool:
            return await count() == 0

        rows = await client.call_tool("query_database_tool", {"query": "select 42 as n"})
        assert rows.structured_content == {"success": True, "data": [{"n": 42}], "is_all": True}
        slow = client.call_tool("query_database_tool", {"query": f"select pg_sleep(9), '{mark}'"})
        call = asyncio.create_task(slow)
        assert await eventually(is_busy)
        call.cancel()
        assert await eventually(is_calm, within=5)
        again = await client.call_tool("pooled_query", {"pool_name": "database", "query": "select 1 as n"})
        assert not again.is_error


@asynccontextmanager
async def connection_to(server: embedded.PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.dsn)
    try:
        yield connection
    finally:
        await connection.close()


# -- what a model is told


@pytest_asyncio.fixture
async def manager(postgres: embedded.PostgresServer) -> AsyncIterator[PoolManager]:
    manager = PoolManager()
    manager.register("database", DatabasePool(postgres.dsn, PoolConfig(min_size=1, max_size=2, acquire_timeout=0.2)))
    yield manager
    assert manager.stats()["database"]["in_use"] == manager.stats()["database"]["size"] == 0


def serve(manager: PoolManager) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("handlers", lifespan=manager.lifespan)

    @server.tool()
    @manager.leased("database")
    async def query(sql: str, connection: asyncpg.Connection) -> int:
        return int(await connection.fetchval(sql, timeout=1))

    @server.tool()
    @manager.leased("database")
    async def sleep_on_the_server(seconds: float, connection: asyncpg.Connection) -> int:
        await connection.execute("set statement_timeout = 100")
        return int(await connection.fetchval("select count(pg_sleep($1))", seconds, timeout=60))

    @server.tool()
    @manager.leased("database")
    async def crash(how: str, connection: asyncpg.Connection) -> int:
        errors: dict[str, Exception] = {
            "value": ValueError("xyzzy"),
            "tool": ToolError("in words of its own"),
            "protocol": MCPError(-32602, "not like this"),
            "group": ExceptionGroup("xyzzy", [ExceptionGroup("xyzzy", [ConnectionResetError("xyzzy")])]),
        }
        raise errors[how]

    return server


async def fail(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return text(result).removeprefix(f"Error executing tool {tool}: ")


@pytest.mark.parametrize("mode", MODES)
async def test_an_exhausted_pool_is_told_apart_from_a_query_that_ran_too_long(manager: PoolManager, mode: Any) -> None:
    async with Client(serve(manager), mode=mode) as client:
        pool = manager.get("database")
        async with pool.connection(), pool.connection():
            told = await fail(client, "query", sql="select 1")
            assert re.fullmatch(
                r"pool 'database' is exhausted: 2 of 2 in use, 1 waiting, waited \d+\.\d s; "
                r"retry later or raise max_size",
                told,
            )
        assert await fail(client, "query", sql="select count(pg_sleep(30))") == (
            "the query ran longer than it may and was cancelled; let it do less"
        )
        assert await fail(client, "sleep_on_the_server", seconds=30) == (
            "the query ran too long and the server cancelled it; let it do less: canceling statement due to "
            "statement timeout (SQLSTATE 57014)"
        )
        assert (await client.call_tool("query", {"sql": "select 3"})).structured_content == {"result": 3}


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_nobodys_business_is_masked_and_logged_under_an_id(
    manager: PoolManager, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(serve(manager), mode=mode) as client:
        told = await fail(client, "crash", how="value")
        assert (match := re.fullmatch(r"internal error (\w{8}): see the server's log", told))
        assert await fail(client, "crash", how="tool") == "in words of its own"
        assert "lost (ConnectionResetError); retry later" in await fail(client, "crash", how="group")
        with pytest.raises(MCPError, match="not like this"):
            await client.call_tool("crash", {"how": "protocol"})
    logged = [record.getMessage() for record in caplog.records if record.name == "aiopool"]
    assert len(logged) == 1
    assert logged[0].startswith(f"internal error {match[1]}: builtins.ValueError\n")
    formatted = logging.Formatter()
    others = [formatted.format(record) for record in caplog.records if record.name != "aiopool"]
    assert not any("xyzzy" in line for line in others)


async def test_what_a_framework_gets_carries_nothing_along_that_it_might_log(manager: PoolManager) -> None:
    @manager.leased("database")
    async def crash(connection: asyncpg.Connection) -> None:
        raise ValueError("xyzzy")

    async with manager.lifespan():
        with pytest.raises(ToolError, match="internal error") as caught:
            await crash()
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("mode", MODES)
async def test_a_resource_tells_what_went_wrong_too(manager: PoolManager, mode: Any) -> None:
    server: MCPServer[Any] = MCPServer("resources", lifespan=manager.lifespan)

    @server.resource("tables://{schema}")
    @manager.leased("database")
    async def tables(schema: str, connection: asyncpg.Connection) -> str:
        return str(await connection.fetchval("select count(*) from pg_tables where schemaname = $1", schema))

    @server.resource("nothing://here")
    @manager.leased("database")
    async def nothing(connection: asyncpg.Connection) -> str:
        return str(await connection.fetchval("select nam from pg_tables"))

    async with Client(server, mode=mode) as client:
        (content,) = (await client.read_resource("tables://pg_catalog")).contents
        assert int(content.text) > 50  # type: ignore[union-attr]
        with pytest.raises(MCPError, match=r'column "nam" does not exist \(SQLSTATE 42703, at character 8\)'):
            await client.read_resource("nothing://here")


async def test_a_database_that_is_gone_is_told_without_its_address() -> None:
    manager = PoolManager()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        config = PoolConfig(min_size=0, unavailable_after=0)
        manager.register("database", DatabasePool(f"postgresql://app:xyzzy@127.0.0.1:{port}/app", config))
        async with Client(serve(manager)) as client:
            told = await fail(client, "query", sql="select 1")
    assert told.startswith("pool 'database' can't open connections")
    assert told.endswith("its backend is down or refuses connections (ConnectionRefusedError); retry later")
    assert not re.search(r"xyzzy|127\.0\.0\.1|app", told)


@pytest.mark.parametrize("mode", MODES)
async def test_a_low_level_server_tells_by_explain(manager: PoolManager, mode: Any) -> None:
    @manager.leased("database")
    async def query(sql: str, connection: asyncpg.Connection) -> int:
        return int(await connection.fetchval(sql))

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="query", input_schema={"type": "object"})])

    async def call_tool(context: Any, params: Any) -> CallToolResult:
        assert context.lifespan_context["database"] is manager.get("database")
        try:
            answer, is_error = str(await query(**params.arguments)), False
        except Exception as exc:
            answer, is_error = explain(exc), True
        return CallToolResult(content=[TextContent(type="text", text=answer)], is_error=is_error)

    server: Server[Any] = Server("low", lifespan=manager.lifespan, on_list_tools=list_tools, on_call_tool=call_tool)
    async with Client(server, mode=mode) as client:
        assert text(await client.call_tool("query", {"sql": "select 5"})) == "5"
        assert await fail(client, "query", sql="selec 5") == (
            'syntax error at or near "selec" (SQLSTATE 42601, at character 1)'
        )


# -- lifespans


async def test_clients_that_come_and_go_share_one_lifespan(manager: PoolManager) -> None:
    server = serve(manager)
    pool = manager.get("database")
    async with Client(server) as first:
        async with Client(server, mode="legacy") as second:
            for client in (first, second):
                assert (await client.call_tool("query", {"sql": "select 1"})).structured_content == {"result": 1}
        assert (await first.call_tool("query", {"sql": "select 1"})).structured_content == {"result": 1}
        assert pool.stats()["opened"] == 1
    assert pool.stats()["size"] == 0
    async with Client(server) as third:
        assert not (await third.call_tool("query", {"sql": "select 1"})).is_error
    assert pool.stats()["opened"] == 2


async def test_an_asgi_application_finds_the_pools_in_its_state(manager: PoolManager) -> None:
    @manager.leased("database", tell=False)
    async def page(request: Request, connection: asyncpg.Connection) -> JSONResponse:
        is_there = request.state.database is manager.get("database")
        return JSONResponse([is_there, await connection.fetchval("select 1")])

    app = Starlette(routes=[Route("/", page)], lifespan=manager.lifespan)
    async with serving(app) as url:
        assert json.loads(await asyncio.to_thread(fetch, url)) == [True, 1]


# -- the way back


def fetch(url: str) -> bytes:
    import urllib.request

    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=5))
        running = asyncio.create_task(server._serve([listening]))
        try:

            async def has_started() -> bool:
                return server.started or running.done()

            await eventually(has_started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


class Oracle:
    """What the database itself says of the queries of one test."""

    def __init__(self, connection: asyncpg.Connection, dsn: str) -> None:
        self.connection = connection
        self.name = f"handlers-{uuid4()}"
        self.manager = PoolManager()
        settings = {"application_name": self.name}
        pool = DatabasePool(dsn, PoolConfig(min_size=0, max_size=2), server_settings=settings)
        self.manager.register("database", pool)

    async def is_busy(self) -> bool:
        return bool(await self._count())

    async def is_calm(self) -> bool:
        return not await self._count() and self.manager.stats()["database"]["in_use"] == 0

    async def _count(self) -> int:
        query = "select count(*) from pg_stat_activity where state = 'active' and application_name = $1"
        return int(await self.connection.fetchval(query, self.name))


@pytest_asyncio.fixture
async def oracle(postgres: embedded.PostgresServer) -> AsyncIterator[Oracle]:
    async with connection_to(postgres) as connection:
        yield Oracle(connection, postgres.dsn)


def slow(manager: PoolManager) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("slow", lifespan=manager.lifespan)

    @server.tool()
    @manager.leased("database")
    async def sleep(seconds: float, connection: asyncpg.Connection) -> int:
        return int(await connection.fetchval("select count(pg_sleep($1))", seconds))

    return server


async def is_given_back_when_cancelled(oracle: Oracle, target: Any, mode: Any) -> None:
    async with Client(target, mode=mode) as client:
        call = asyncio.create_task(client.call_tool("sleep", {"seconds": 25}))
        assert await eventually(oracle.is_busy)
        assert oracle.manager.stats()["database"]["in_use"] == 1
        call.cancel()
        await asyncio.wait((call,))
        assert call.cancelled()
        assert await eventually(oracle.is_calm)
        assert (await client.call_tool("sleep", {"seconds": 0})).structured_content == {"result": 1}
        with pytest.raises(MCPError, match=r"(?i)timed out"):
            await client.call_tool("sleep", {"seconds": 25}, read_timeout_seconds=0.3)
        assert await eventually(oracle.is_calm)


async def is_given_back_when_the_client_leaves(oracle: Oracle, target: Any, mode: Any) -> None:
    async def leave_in_the_middle() -> None:
        async with Client(target, mode=mode) as client:
            call = asyncio.create_task(client.call_tool("sleep", {"seconds": 25}))
            await eventually(oracle.is_busy)
            call.add_done_callback(lambda done: done.cancelled() or done.exception())

    await leave_in_the_middle()
    assert await eventually(oracle.is_calm)


@pytest.mark.parametrize("mode", MODES)
async def test_in_memory_a_lease_comes_back_from_a_call_that_nobody_waits_for(oracle: Oracle, mode: Any) -> None:
    server = slow(oracle.manager)
    await is_given_back_when_cancelled(oracle, server, mode)
    if mode == "legacy":  # else there is nothing between the two that could end: it is one call
        async with oracle.manager.lifespan():  # others are there still
            await is_given_back_when_the_client_leaves(oracle, server, mode)
    assert oracle.manager.stats()["database"]["size"] == 0


@pytest.mark.parametrize("mode", MODES)
async def test_over_http_a_lease_comes_back_from_a_call_that_nobody_waits_for(oracle: Oracle, mode: Any) -> None:
    async with serving(slow(oracle.manager).streamable_http_app(host="127.0.0.1")) as url:
        await is_given_back_when_cancelled(oracle, f"{url}/mcp", mode)
        await is_given_back_when_the_client_leaves(oracle, f"{url}/mcp", mode)
    assert oracle.manager.stats()["database"]["size"] == 0


async def test_a_thousand_calls_at_once_share_two_connections(manager: PoolManager) -> None:
    server: MCPServer[Any] = MCPServer("many", lifespan=manager.lifespan)

    @server.tool()
    @manager.leased("database", timeout=30)
    async def double(n: int, connection: asyncpg.Connection) -> int:
        return int(await connection.fetchval("select 2 * $1::int", n))

    async with Client(server) as client:
        calls = (client.call_tool("double", {"n": n}) for n in range(1000))
        answers = [result.structured_content for result in await asyncio.gather(*calls)]
        assert answers == [{"result": 2 * n} for n in range(1000)]
        assert manager.stats()["database"]["opened"] <= 2
        assert manager.stats()["database"]["in_use"] == 0
