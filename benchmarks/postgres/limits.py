"""The most and the least that can be had without a pool: a connection for each task, a connection for each call."""

from __future__ import annotations

from typing import Any

from benchmarks.postgres.client import QUERY, Client
from benchmarks.results import Kind
from benchmarks.servers import CONNECTIONS


class Dedicated(Client):
    """As many tasks as connections, so that nobody waits, and nothing is reset."""

    name = "dedicated connections"
    kind = Kind.FLOOR
    most_tasks = CONNECTIONS

    async def open(self) -> None:
        import asyncpg

        self._idle: list[Any] = [await asyncpg.connect(self.dsn) for _ in range(CONNECTIONS)]

    async def close(self) -> None:
        for connection in self._idle:
            await connection.close()

    async def call(self) -> None:
        connection = self._idle.pop()
        try:
            await connection.fetchval(QUERY)
        finally:
            self._idle.append(connection)


class Unpooled(Client):
    name = "unpooled"
    kind = Kind.UNPOOLED

    async def open(self) -> None:
        import asyncpg

        self._connect: Any = asyncpg.connect

    async def call(self) -> None:
        connection = await self._connect(self.dsn)
        try:
            await connection.fetchval(QUERY)
        finally:
            await connection.close()
