"""Who takes part in `http1` and `http2`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from benchmarks import servers
from benchmarks.http.server import Granian

#: Seconds. Nobody is to be refused for having waited, and nothing to be closed for having been idle.
PATIENCE = 60.0


class Client(servers.Client):
    """A way to have a GET answered."""

    package = "aiopool-core[http]"

    def __init__(self, server: Granian, http2: bool) -> None:
        self.url = server.url + "/"
        # One TLS context for all and for ever: making one takes longer than a request.
        self.ssl_context = server.ssl_context
        self.http2 = http2


class HTTPXClient(Client):
    """Something with httpx's methods."""

    _client: Any

    @abstractmethod
    def connect(self) -> Any: ...

    async def open(self) -> None:
        self._client = self.connect()
        version = (await self._client.get(self.url)).http_version
        if version != ("HTTP/2" if self.http2 else "HTTP/1.1"):
            raise RuntimeError(f"the server spoke {version}")

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self) -> None:
        (await self._client.get(self.url)).raise_for_status()
