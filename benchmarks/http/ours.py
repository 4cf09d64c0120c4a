"""Our client, and our transport under httpx's."""

from __future__ import annotations

from typing import Any

from benchmarks.http.client import PATIENCE, HTTPXClient
from benchmarks.results import Kind
from benchmarks.servers import CONNECTIONS


class Ours(HTTPXClient):
    name = "aiopool, HTTPClientPool"
    kind = Kind.OURS

    def connect(self) -> Any:
        from aiopool.adapters.http import HTTPClientPool

        return HTTPClientPool(
            max_connections=CONNECTIONS,
            max_keepalive=CONNECTIONS,
            keepalive_expiry=PATIENCE,
            timeout=PATIENCE,
            verify=self.ssl_context,
            http2=self.http2,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.close()


class OurTransport(HTTPXClient):
    name = "aiopool, httpx on HTTPTransport"
    kind = Kind.OURS

    def connect(self) -> Any:
        import httpx

        from aiopool.adapters.http import HTTPTransport

        limits = httpx.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=PATIENCE
        )
        transport = HTTPTransport(self.ssl_context, http2=self.http2, limits=limits)
        return httpx.AsyncClient(transport=transport, timeout=PATIENCE, trust_env=False)
