"""A tool of an `MCPServer` in this process, with a pool and without."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from benchmarks.mcp.client import QUERY, Client
from benchmarks.results import Kind
from benchmarks.servers import CONNECTIONS


class Handler(Client):
    @abstractmethod
    def server(self) -> Any:
        """One whose tool is `query`."""

    def session(self) -> AbstractAsyncContextManager[Any]:
        from mcp import Client

        return Client(self.server())


class Leased(Handler):
    name = "aiopool, pools.leased"
    kind = Kind.OURS

    def server(self) -> Any:
        from mcp.server import MCPServer

        from aiopool import DatabasePool, PoolConfig, PoolManager

        pools = PoolManager()
        pools.register("database", DatabasePool(self.dsn, PoolConfig(min_size=CONNECTIONS, max_size=CONNECTIONS)))
        server = MCPServer("leased", lifespan=pools.lifespan, log_level="ERROR")

        @server.tool()
        @pools.leased("database")
        async def query(connection: Any) -> dict[str, Any]:
            return {"rows": [dict(row) for row in await connection.fetch(QUERY)]}

        return server


class ByHand(Handler):
    name = "asyncpg.Pool by hand"

    def server(self) -> Any:
        import asyncpg
        from mcp.server import MCPServer

        pool: Any = None

        @asynccontextmanager
        async def lifespan(server: Any) -> AsyncIterator[None]:
            nonlocal pool
            async with asyncpg.create_pool(self.dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
                yield

        server: Any = MCPServer("by hand", lifespan=lifespan, log_level="ERROR")

        @server.tool()  # type: ignore[untyped-decorator]
        async def query() -> dict[str, Any]:
            return {"rows": [dict(row) for row in await pool.fetch(QUERY)]}

        return server


class Unpooled(Handler):
    name = "a connection for each call"
    kind = Kind.UNPOOLED

    def server(self) -> Any:
        import asyncpg
        from mcp.server import MCPServer

        server = MCPServer("unpooled", log_level="ERROR")

        @server.tool()
        async def query() -> dict[str, Any]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return {"rows": [dict(row) for row in await connection.fetch(QUERY)]}
            finally:
                await connection.close()

        return server


CONTESTANTS: tuple[type[Handler], ...] = (Leased, ByHand, Unpooled)
