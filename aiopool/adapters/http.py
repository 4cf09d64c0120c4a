"""`HTTPClientPool`: HTTP/1.1 and HTTP/2 for httpx, on connections of our own pools."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from aiopool.adapters import missing_driver
from aiopool.errors import PoolClosed, PoolConfigError, PoolTimeout, WrongLoop
from aiopool.pool import ConnectionPool
from aiopool.stats import Histogram, PoolStats

try:
    import h2  # noqa: F401
    import httpx
except ModuleNotFoundError as exc:
    if exc.name not in ("httpx", "h2"):
        raise
    raise missing_driver(exc.name, "http") from None

from aiopool.adapters._http_tls import shared_ssl_context, ssl_context
from aiopool.adapters._http_transport import HTTPTransport
from aiopool.adapters._http_wire import Wire

__all__ = ["HTTPClientPool", "HTTPTransport", "shared_ssl_context"]

_numbers = itertools.count(1)


class HTTPClientPool:
    """An HTTP client whose connections are kept for the next request.

        async with HTTPClientPool("https://api.example.com") as api:
            answer = (await api.post("/orders", json={"id": 1})).json()

    `client` is the `httpx.AsyncClient`; `client_kwargs` (`headers`, `auth`, `verify`, …) go to it. `timeout`
    (seconds) bounds each phase of a request, as with httpx: waiting for a connection (then `PoolTimeout`),
    connecting, reading, writing. At most `max_connections` exist, over all origins, of which `max_keepalive`
    wait idle, each for `keepalive_expiry` seconds; a request to another origin than `base_url`'s gets a pool of its
    own, which goes when it is not in use. `pool` is the `ConnectionPool` of `base_url`'s origin, and None
    without one; a lease of it is an HTTP/1.1 connection, or one stream's worth of an HTTP/2 connection.
    """

    #: Of the origin of `base_url`; None without one, or with a `transport` of the caller's own.
    pool: ConnectionPool[Wire] | None

    def __init__(
        self,
        base_url: str | None = None,
        *,
        max_connections: int = 100,
        max_keepalive: int = 20,
        keepalive_expiry: float | None = 5.0,
        timeout: float | httpx.Timeout | None = 30.0,
        http2: bool = True,
        name: str | None = None,
        **client_kwargs: Any,
    ) -> None:
        self.name = name if name is not None else f"http-{next(_numbers)}"
        self._settings: dict[str, Any] = {
            **client_kwargs,
            "base_url": base_url or "",
            "limits": httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_keepalive,
                keepalive_expiry=keepalive_expiry,
            ),
            "timeout": timeout,
            "http2": http2,
        }
        if base_url and (address := httpx.URL(base_url)).userinfo:
            # httpx logs the addresses of its requests.
            self._settings.setdefault("auth", (address.username, address.password))
            self._settings["base_url"] = address.copy_with(userinfo=b"")
        self._settings["verify"] = context = ssl_context(
            client_kwargs.get("verify", True), self._settings.pop("cert", None), client_kwargs.get("trust_env", True)
        )
        self.transport = HTTPTransport(
            context,
            http1=client_kwargs.get("http1", True),
            http2=http2,
            limits=self._settings["limits"],
            name=self.name,
        )
        self.pool = None
        if base_url and client_kwargs.get("transport") is None:
            try:
                self.pool = self.transport.home(httpx.URL(self._settings["base_url"])).pool
            except httpx.UnsupportedProtocol:
                raise PoolConfigError("base_url is not allowed: it must begin with http:// or https://") from None
        self.client = self._new_client()
        self._is_closed = False
        self._active = 0
        self._all_done: asyncio.Event | None = None

    def _new_client(self) -> httpx.AsyncClient:
        return _Client(self.transport, **self._settings)

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
            figures = "size={size} in_use={in_use} waiting={waiting} max_size={max_size}".format(**stats)
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
        await self.transport.open()

    async def close(self, timeout: float | None = 10) -> None:
        """Refuse newcomers and those in line, wait for running requests until the deadline, then close everything."""
        before, self._is_closed = self._is_closed, True
        requests_end = asyncio.ensure_future(self._requests_end(timeout))
        try:
            await self.transport.aclose(timeout)
            await requests_end
        except WrongLoop:
            self._is_closed = before
            raise
        finally:
            requests_end.cancel()
            if self._is_closed:
                await self.client.aclose()

    async def _requests_end(self, timeout: float | None) -> None:
        """Those through proxies, too."""
        if self._active and self._is_closed:
            self._all_done = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._all_done.wait()

    def stats(self) -> PoolStats:
        """All figures of `PoolStats`, summed over the origins; without those of proxies, which httpx connects to."""
        return self.transport.stats()

    def origins(self) -> dict[str, PoolStats]:
        """The figures of each origin in use, as `{"https://api.example.com:443": …}`."""
        return self.transport.origins()

    def histograms(self) -> dict[str, Histogram]:
        """How long callers waited, leases lasted and opening took at `base_url`'s origin."""
        return self.pool.histograms() if self.pool is not None else {}

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class _Client(httpx.AsyncClient):
    """httpx's client on our transport, and on its own for the proxies that it finds in `proxy` or the environment."""

    def __init__(self, ours: HTTPTransport, **settings: Any) -> None:
        self._ours = ours
        super().__init__(**settings)

    def _init_transport(
        self, *_: Any, transport: httpx.AsyncBaseTransport | None = None, **__: Any
    ) -> httpx.AsyncBaseTransport:
        return transport or self._ours
