"""The clients of others."""

from __future__ import annotations

from typing import Any

from benchmarks.http.client import PATIENCE, Client, HTTPXClient
from benchmarks.servers import CONNECTIONS


class HTTPX(HTTPXClient):
    """With its own limits: a hundred connections, of which twenty are kept."""

    name = "httpx"
    most_connections = 100

    def connect(self) -> Any:
        import httpx

        return httpx.AsyncClient(
            verify=self.ssl_context, http2=self.http2, timeout=PATIENCE, trust_env=False, **self.limits()
        )

    def limits(self) -> dict[str, Any]:
        return {}


class HTTPXOfOurSize(HTTPX):
    name = f"httpx ({CONNECTIONS} connections)"
    most_connections = CONNECTIONS

    def limits(self) -> dict[str, Any]:
        import httpx

        limits = httpx.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=PATIENCE
        )
        return {"limits": limits}


class HTTPCore(Client):
    """What httpx stands on, without httpx."""

    name = f"httpcore ({CONNECTIONS} connections)"

    async def open(self) -> None:
        import httpcore

        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=self.ssl_context,
            max_connections=CONNECTIONS,
            keepalive_expiry=PATIENCE,
            http1=not self.http2,
            http2=self.http2,
        )
        self._settings: dict[str, Any] = {"timeout": dict.fromkeys(("connect", "pool", "read", "write"), PATIENCE)}

    async def close(self) -> None:
        await self._pool.aclose()

    async def call(self) -> None:
        response = await self._pool.request("GET", self.url, extensions=self._settings)
        if response.status != 200:
            raise RuntimeError(f"answered {response.status}")


class AIOHTTP(Client):
    """With its own limits: a hundred connections. Its parser and its connections are made for each other."""

    name = "aiohttp"
    most_connections = 100
    package = "aiohttp"

    async def open(self) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(ssl=self.ssl_context, keepalive_timeout=PATIENCE)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE), raise_for_status=True
        )

    async def close(self) -> None:
        await self._session.close()

    async def call(self) -> None:
        async with self._session.get(self.url) as response:
            await response.read()
