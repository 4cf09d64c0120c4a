"""What `tools.yaml` describes, written by hand with FastMCP: `python fastmcp_server.py stdio`, or with a port."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from fastmcp import FastMCP  # type: ignore[import-not-found]

pool: Any


@asynccontextmanager
async def lifespan(server: Any) -> AsyncIterator[None]:
    global pool
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10) as pool:
        yield


server: Any = FastMCP("by hand", lifespan=lifespan)


@server.tool  # type: ignore[untyped-decorator]
async def query() -> dict[str, Any]:
    rows = await pool.fetch("select 1 as one")
    return {"rows": [dict(row) for row in rows], "row_count": len(rows)}


if __name__ == "__main__":
    quiet = {"show_banner": False, "log_level": "ERROR"}
    if sys.argv[1] == "stdio":
        server.run(**quiet)
    else:
        server.run("http", port=int(sys.argv[1]), **quiet)
