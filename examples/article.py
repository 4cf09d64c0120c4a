"""Tool handlers for an agent: each takes a connection from a pool for one call and gives it back.

They are plain async functions that return dicts, for whichever framework serves them.

python examples/article.py        # starts servers of its own, or uses DATABASE_URL and REDIS_URL
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx

from aiopool import DatabasePool, HTTPClientPool, PoolConfig, PoolError, RedisPool, embedded, pools


async def query_database_tool(query: str) -> dict[str, Any]:
    """Run a query and return its rows. Whoever writes the query is not trusted: it can read, and not for long."""
    db: DatabasePool = pools.get("database")
    try:
        async with db.transaction(readonly=True) as connection:
            rows = await connection.fetch(query, timeout=10)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, PoolError, OSError) as error:
        return {"success": False, "error": str(error) or type(error).__name__}
    return {"success": True, "data": [dict(row) for row in rows]}


async def call_api_tool(endpoint: str, data: dict[str, Any]) -> Any:
    """Post to the API and return its answer."""
    api: HTTPClientPool = pools.get("api")
    try:
        response = await api.post(endpoint, json=data)
        return response.raise_for_status().json()
    except (httpx.HTTPError, PoolError) as error:
        return {"success": False, "error": str(error) or type(error).__name__}


async def cache_tool(action: str, key: str, value: str | None = None) -> dict[str, Any]:
    """`get`, `set` or `delete` a key of the cache."""
    cache: RedisPool = pools.get("redis")
    match action:
        case "get":
            return {"value": await cache.get(key)}
        case "set" if value is not None:
            return {"success": await cache.set(key, value, ttl=3600)}
        case "set":
            return {"success": False, "error": "set needs a value"}
        case "delete":
            return {"success": await cache.delete(key) > 0}
        case _:
            return {"success": False, "error": f"action {action!r} is not known: get, set or delete"}


async def main() -> None:
    async with embedded.postgres() as database, embedded.redis() as redis, embedded.https() as api:
        pools.register("database", DatabasePool(database.dsn, PoolConfig(min_size=5, max_size=20)))
        pools.register("redis", RedisPool(redis.url, max_connections=20))
        pools.register("api", HTTPClientPool(api.url, max_connections=50, verify=api.ssl_context))
        async with pools:
            print(await query_database_tool("select 42 as answer"))
            print(await query_database_tool("drop table students"))
            print(await cache_tool("set", "aiopool-example:greeting", "hello"))
            print(await cache_tool("get", "aiopool-example:greeting"))
            print(await cache_tool("delete", "aiopool-example:greeting"))
            print((await call_api_tool("/echo", {"id": 1}))["method"])

            # 200 calls at once share the 20 connections.
            results = await asyncio.gather(*(query_database_tool(f"select {n} as n") for n in range(200)))
            assert all(result["success"] for result in results)
            stats = pools.get("database").stats()
            print(f"{len(results)} queries over {stats['opened']} connections, {stats['waited']} of them waited")


if __name__ == "__main__":
    asyncio.run(main())
