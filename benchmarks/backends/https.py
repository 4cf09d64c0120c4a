"""HTTPS: GET of 200 bytes through httpx, over HTTP/1.1 or HTTP/2."""

from __future__ import annotations

from typing import Any

from aiopool import embedded
from benchmarks.load import Caller
from benchmarks.results import Kind

CONNECTIONS = 10


class Client(Caller):
    package = "aiopool-core[http]"
    _client: Any

    def __init__(self, server: embedded.HTTPSServer, http2: bool) -> None:
        self.url = server.url + "/"
        # One TLS context for all and for ever: making one takes longer than a request.
        self.settings: dict[str, Any] = {"verify": server.ssl_context, "http2": http2, "trust_env": False}
        self.version = "HTTP/2" if http2 else "HTTP/1.1"

    async def open(self) -> None:
        self._client = self._connect()
        version = (await self._client.get(self.url)).http_version
        if version != self.version:
            raise RuntimeError(f"the server spoke {version}, not {self.version}")

    async def close(self) -> None:
        await self._client.aclose()

    def _connect(self) -> Any:
        import httpx

        return httpx.AsyncClient(**self.settings)

    async def call(self) -> None:
        (await self._client.get(self.url)).raise_for_status()


class Unpooled(Client):
    name = "unpooled"
    kind = Kind.UNPOOLED

    async def call(self) -> None:
        async with self._connect() as client:
            (await client.get(self.url)).raise_for_status()


class Ours(Client):
    name = "aiopool"
    kind = Kind.OURS

    def _connect(self) -> Any:
        from aiopool.adapters.http import HTTPClientPool

        return HTTPClientPool(max_connections=CONNECTIONS, max_keepalive=CONNECTIONS, **self.settings)

    async def close(self) -> None:
        await self._client.close()


class SameSize(Client):
    name = "httpx"

    def _connect(self) -> Any:
        import httpx

        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        return httpx.AsyncClient(limits=limits, timeout=30, **self.settings)


class Default(Client):
    """A hundred connections, twenty of which are kept; five seconds for each phase."""

    name = "httpx, default limits"


CONTESTANTS: tuple[type[Client], ...] = (Unpooled, Ours, SameSize, Default)
