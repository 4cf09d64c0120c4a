"""`HTTPClientPool`: HTTP/1.1 and HTTP/2 through httpx."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

from aiopool.adapters import missing_driver
from aiopool.errors import PoolClosed, PoolTimeout

try:
    import httpx
except ModuleNotFoundError as exc:
    if exc.name != "httpx":
        raise
    raise missing_driver("httpx", "http") from None

_numbers = itertools.count(1)


class HTTPStats(TypedDict):
    """What httpx's pool knows of itself; each key means what it means in `PoolStats`."""

    name: str
    size: int
    available: int
    in_use: int
    waiting: int
    min_size: int
    max_size: int


class HTTPClientPool:
    """An HTTP client whose connections are kept for the next request.

        async with HTTPClientPool("https://api.example.com") as api:
            answer = (await api.post("/orders", json={"id": 1})).json()

    `client` is the `httpx.AsyncClient`; `client_kwargs` (`headers`, `auth`, `verify`, …) go to it. `timeout`
    bounds each phase of a request, as with httpx: waiting for a connection (then `PoolTimeout`), connecting,
    reading, writing.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        max_connections: int = 100,
        max_keepalive: int = 20,
        timeout: float | httpx.Timeout | None = 30.0,
        http2: bool = True,
        name: str | None = None,
        **client_kwargs: Any,
    ) -> None:
        self.name = name if name is not None else f"http-{next(_numbers)}"
        self._max_connections = max_connections
        self._settings: dict[str, Any] = {
            **client_kwargs,
            "base_url": base_url or "",
            "limits": httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_keepalive),
            "timeout": timeout,
            "http2": http2,
        }
        if base_url and (address := httpx.URL(base_url)).userinfo:
            # httpx logs the addresses of its requests.
            self._settings.setdefault("auth", (address.username, address.password))
            self._settings["base_url"] = address.copy_with(userinfo=b"")
        if client_kwargs.keys().isdisjoint({"verify", "cert", "trust_env", "transport"}):
            self._settings["verify"] = shared_ssl_context()
        elif isinstance(verify := client_kwargs.get("verify"), (str, Path)):
            # httpx takes a path with a warning; a file says which authorities to trust, and so does a folder.
            is_folder = Path(verify).is_dir()
            self._settings["verify"] = ssl.create_default_context(
                cafile=None if is_folder else verify, capath=verify if is_folder else None
            )
        self.client = self._new_client()
        self._is_closed = False
        self._active = 0
        self._all_done: asyncio.Event | None = None

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(**self._settings)

    async def get(self, url: str, **kwargs: Any) -> httpx.Response:
        return await self.request("GET", url, **kwargs)

    async def post(self, url: str, **kwargs: Any) -> httpx.Response:
        return await self.request("POST", url, **kwargs)

    async def put(self, url: str, **kwargs: Any) -> httpx.Response:
        return await self.request("PUT", url, **kwargs)

    async def patch(self, url: str, **kwargs: Any) -> httpx.Response:
        return await self.request("PATCH", url, **kwargs)

    async def delete(self, url: str, **kwargs: Any) -> httpx.Response:
        return await self.request("DELETE", url, **kwargs)

    async def head(self, url: str, **kwargs: Any) -> httpx.Response:
        return await self.request("HEAD", url, **kwargs)

    async def options(self, url: str, **kwargs: Any) -> httpx.Response:
        return await self.request("OPTIONS", url, **kwargs)

    async def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        """Send a request and read the whole answer."""
        with self._in_use():
            return await self.client.request(method, url, **kwargs)

    @asynccontextmanager
    async def stream(self, method: str, url: str, **kwargs: Any) -> AsyncIterator[httpx.Response]:
        """`async with` an answer whose body is read in the block; its connection is taken until then."""
        with self._in_use():
            async with self.client.stream(method, url, **kwargs) as response:
                yield response

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        if self._is_closed:
            raise PoolClosed(f"pool {self.name!r} is closed; open() it again before use")
        self._active += 1
        try:
            yield
        except httpx.PoolTimeout as exc:
            stats = self.stats()
            figures = " ".join(f"{key}={value}" for key, value in stats.items() if key != "name")
            raise PoolTimeout(
                f"pool {self.name!r}: no connection came free ({figures}); raise max_connections, or read "
                "and close streamed answers sooner",
                stats=stats,
            ) from exc
        finally:
            self._active -= 1
            if self._all_done is not None and not self._active:
                self._all_done.set()

    async def open(self) -> None:
        """Nothing is connected before the first request. Opens a closed pool again."""
        if self._is_closed:
            self.client = self._new_client()
            self._is_closed = False

    async def close(self, timeout: float | None = 10) -> None:
        """Refuse newcomers, wait for running requests until the deadline, then close every connection."""
        self._is_closed = True
        try:
            if self._active:
                self._all_done = asyncio.Event()
                async with asyncio.timeout(timeout):
                    await self._all_done.wait()
        except TimeoutError:
            pass  # their connections are closed under them
        finally:
            self._all_done = None
            await self.client.aclose()

    def stats(self) -> HTTPStats:
        connections = [connection for pool in self._pools() for connection in pool.connections]
        requests = [request for pool in self._pools() for request in pool._requests]
        waiting = sum(request.is_queued() for request in requests)
        return {
            "name": self.name,
            "size": len(connections),
            "available": sum(connection.is_idle() for connection in connections),
            "in_use": len(requests) - waiting,
            "waiting": waiting,
            "min_size": 0,
            "max_size": self._max_connections,
        }

    def _pools(self) -> list[Any]:
        """httpcore's pools under the client, one for each proxy too; a transport of the user's has none."""
        transports = {self.client._transport, *self.client._mounts.values()}
        pools = (getattr(transport, "_pool", None) for transport in transports)
        return [pool for pool in pools if hasattr(pool, "connections")]

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """One for all clients of the process that say nothing of `verify`: loading the certificates takes 30 ms.

    They may differ in `http2`: httpcore sets what a connection offers right before each handshake.
    """
    return httpx.create_ssl_context()
