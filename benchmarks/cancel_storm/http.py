"""HTTPS, HTTP/1.1: the server's own metrics count connections, its application the questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from benchmarks.cancel_storm.pool import SIZE, Census, Pool
from benchmarks.http.server import Granian
from benchmarks.results import Kind

#: Seconds until its metrics are up to date.
SCRAPED = 1.5
#: Seconds that the server takes for an answer if nobody asks it to take longer.
WORK = 0.001


class Server:
    def __init__(self, server: Granian, admin: Any) -> None:
        self.url = server.url
        self.ssl_context = server.ssl_context
        self._metrics_url = server.metrics_url
        self._admin = admin
        self._censuses = 0

    @classmethod
    @asynccontextmanager
    async def of(cls, server: Granian) -> AsyncIterator[Self]:
        import httpx

        async with httpx.AsyncClient(verify=server.ssl_context, trust_env=False) as admin:
            yield cls(server, admin)

    async def census(self) -> Census:
        # Each time on a connection of its own, which the server counts, too.
        asked = int((await self._admin.get(self.url + "/asked", headers={"connection": "close"})).text)
        self._censuses += 1
        await asyncio.sleep(SCRAPED)
        metrics = (await self._admin.get(self._metrics_url)).text
        wanted = "granian_connections_handled{", "granian_connections_err{"
        connections = sum(int(line.split()[-1]) for line in metrics.splitlines() if line.startswith(wanted))
        return Census(connections - self._censuses, asked)


class Ours(Pool):
    name = "aiopool, HTTPClientPool"
    kind = Kind.OURS
    _client: Any

    def __init__(self, server: Server) -> None:
        self.server = server

    async def open(self) -> None:
        from aiopool.adapters.http import HTTPClientPool

        self._client = HTTPClientPool(
            max_connections=SIZE, max_keepalive=SIZE, http2=False, verify=self.server.ssl_context, trust_env=False
        )

    async def close(self) -> None:
        await self._client.close(timeout=0)

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        return int((await self._client.get(f"{self.server.url}/number/{number}/{seconds or WORK}")).text)


class HTTPX(Ours):
    name = f"httpx ({SIZE} connections)"
    kind = Kind.PEER

    async def open(self) -> None:
        import httpx

        limits = httpx.Limits(max_connections=SIZE, max_keepalive_connections=SIZE)
        self._client = httpx.AsyncClient(limits=limits, verify=self.server.ssl_context, timeout=30, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()


class HTTPCore(Ours):
    name = f"httpcore ({SIZE} connections)"
    kind = Kind.PEER

    async def open(self) -> None:
        import httpcore

        self._pool = httpcore.AsyncConnectionPool(ssl_context=self.server.ssl_context, max_connections=SIZE)

    async def close(self) -> None:
        await self._pool.aclose()

    async def ask(self, number: int, seconds: float = 0.0) -> int:
        return int((await self._pool.request("GET", f"{self.server.url}/number/{number}/{seconds or WORK}")).content)


CONTESTANTS: tuple[type[Ours], ...] = (Ours, HTTPX, HTTPCore)
