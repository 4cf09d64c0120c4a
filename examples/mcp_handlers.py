"""An MCP server whose tools are lent connections: the pools open once, each call takes one and gives it back.

python examples/mcp_handlers.py        # speaks MCP over stdio: `mcp_client.py` is a client for it

It starts servers of its own, or uses DATABASE_URL and REDIS_URL.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import asyncpg
import httpx
import redis.asyncio as redis
from mcp.server import MCPServer

from aiopool import DatabasePool, HTTPClientPool, PoolConfig, RedisPool, embedded, pools
from aiopool.telling import ToolFailure

MAX_ROWS = 200

server = MCPServer("pooled-tools", lifespan=pools.lifespan, log_level="WARNING")


def path(endpoint: str) -> str:
    if not endpoint.startswith("/"):
        raise ToolFailure("the endpoint must be a path that begins with /: the API's address is not yours to choose")
    return endpoint


@server.tool()
@pools.leased("database", timeout=5)
async def query_database_tool(query: str, connection: asyncpg.Connection) -> dict[str, Any]:
    """Run an SQL query and return its first 200 rows. It can read, and not for long."""
    async with connection.transaction(readonly=True):
        # What goes wrong here or on the way to a connection, the model is told in words that it can act on.
        cursor = await connection.cursor(query, timeout=10)
        rows = await cursor.fetch(MAX_ROWS + 1, timeout=10)
    return {"success": True, "data": [dict(row) for row in rows[:MAX_ROWS]], "is_all": len(rows) <= MAX_ROWS}


@server.tool()
@pools.leased("api", param="client")
async def call_api_tool(endpoint: str, data: dict[str, Any], client: httpx.AsyncClient) -> dict[str, Any]:
    """Post to an endpoint of the API, a path such as /orders, and return its answer."""
    return {"answer": (await client.post(path(endpoint), json=data)).raise_for_status().json()}


@server.tool()
@pools.leased("redis", param="client")
async def cache_tool(
    action: Literal["get", "set", "delete"], key: str, client: redis.Redis, value: str | None = None
) -> dict[str, Any]:
    """Get, set or delete a key of the cache."""
    match action:
        case "get":
            return {"value": await client.get(key)}
        case "set" if value is not None:
            return {"success": await client.set(key, value, ex=3600)}
        case "set":
            raise ToolFailure("set needs a value")
        case "delete":
            return {"success": await client.delete(key) > 0}


@pools.leased("api", param="client")
async def ask_api(endpoint: str, client: httpx.AsyncClient) -> dict[str, Any]:
    return {"answer": (await client.get(path(endpoint))).raise_for_status().json()}


@server.tool()
async def pooled_query(
    pool_name: Literal["database", "redis", "api"], query: str = "", key: str = "", endpoint: str = "/"
) -> dict[str, Any]:
    """One operation on the pool of that name: a query, a key to get, or an endpoint to get."""
    match pool_name:
        case "database":
            return await query_database_tool(query)
        case "redis":
            return await cache_tool("get", key)
        case "api":
            return await ask_api(endpoint)


async def main() -> None:
    async with embedded.postgres() as database, embedded.redis() as cache, embedded.https() as api:
        pools.register("database", DatabasePool(database.dsn, PoolConfig(min_size=1, max_size=20)))
        pools.register("redis", RedisPool(cache.url, max_connections=20))
        pools.register("api", HTTPClientPool(api.url, max_connections=50, verify=api.ssl_context))
        await server.run_stdio_async()


if __name__ == "__main__":
    asyncio.run(main())
