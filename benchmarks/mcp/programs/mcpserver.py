"""What `tools.yaml` describes, written by hand: `python mcpserver.py stdio`, or with a port for HTTP.

`read-only` after that: in a transaction that only reads, as `aiopool serve` does it.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from mcp.server import MCPServer

QUERY = "select 1 as one"
pool: Any


@asynccontextmanager
async def lifespan(server: Any) -> AsyncIterator[None]:
    global pool
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10) as pool:
        yield


server: Any = MCPServer("by hand", lifespan=lifespan, log_level="ERROR")


@server.tool()  # type: ignore[untyped-decorator]
async def query() -> dict[str, Any]:
    if sys.argv[2:] == ["read-only"]:
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            rows = await connection.fetch(QUERY)
    else:
        rows = await pool.fetch(QUERY)
    return {"rows": [dict(row) for row in rows], "row_count": len(rows)}


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run()
    else:
        server.run("streamable-http", port=int(sys.argv[1]))
