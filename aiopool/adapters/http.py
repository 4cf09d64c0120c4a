"""`HTTPClientPool`: HTTP/1.1 and HTTP/2 for httpx, on connections of our own pools."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

from aiopool.adapters import missing_driver
from aiopool.errors import PoolTimeout
from aiopool.events import Listener
from aiopool.pool import ConnectionPool
from aiopool.stats import Histogram, PoolStats

try:
    import h2  # noqa: F401
    import httpx
except ModuleNotFoundError as exc:
    if exc.name not in ("httpx", "h2"):
        raise
    raise missing_driver(exc.name, "http") from None

from aiopool.adapters._given import ensure_allowed, refuse_unknown
from aiopool.adapters._http_given import address, refuse_headers, refuse_proxies
from aiopool.adapters._http_tls import shared_ssl_context, ssl_context
from aiopool.adapters._http_transport import HTTPPoolTimeout, HTTPTransport, address_of
from aiopool.adapters._http_wire import Wire

__all__ = ["HTTPClientPool", "HTTPTransport", "shared_ssl_context"]

_numbers = itertools.count(1)


class HTTPClientPool:
    """An HTTP client whose connections are kept for the next request.

        async with HTTPClientPool("https://api.example.com") as api:
            answer = (await api.post("/orders", json={"id": 1})).json()

    `client` is the `httpx.AsyncClient`; `client_kwargs` (`headers`, `auth`, `verify`, …) go to it. `timeout`
    (seconds) bounds each phase of a request, as with httpx: waiting for a connection (then `PoolTimeout`),
    connecting, reading, writing. At most `max_connections` exist, over all origins, of which `max_keepalive` wait
    idle, each for `keepalive_expiry` seconds, and at most `max_per_origin` to the same origin. A request to another
    origin than `base_url`'s gets a pool of its own, which goes when it is not in use. `pool` is the `ConnectionPool`
    of `base_url`'s origin, and None without one; a lease of it is an HTTP/1.1 connection, or one stream's worth of an
    HTTP/2 connection. Raises `PoolConfigError` for addresses, headers and cookies that cannot be sent, without a word
    of them.
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
        max_per_origin: int | None = None,
        timeout: float | httpx.Timeout | None = 30.0,
        http2: bool = True,
        name: str | None = None,
        **client_kwargs: Any,
    ) -> None:
        remedy = "for limits= say max_connections=, max_keepalive= and keepalive_expiry="
        refuse_unknown("HTTPClientPool", client_kwargs, httpx.AsyncClient, remedy, "limits")
        ensure_allowed("max_keepalive", max_keepalive, "max_idle")
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
        url = address("base_url", base_url, ("http", "https")) if base_url else None
        refuse_headers(client_kwargs.get("headers"), client_kwargs.get("cookies"))
        refuse_proxies(client_kwargs.get("proxy"), client_kwargs.get("trust_env", True))
        if url is not None and url.userinfo:
            # httpx logs the addresses of its requests.
            self._settings.setdefault("auth", (url.username, url.password))
            self._settings["base_url"] = url.copy_with(userinfo=b"")
        self._settings["verify"] = context = ssl_context(
            client_kwargs.get("verify", True), self._settings.pop("cert", None), client_kwargs.get("trust_env", True)
        )
        self.transport = HTTPTransport(
            context,
            http1=client_kwargs.get("http1", True),
            http2=http2,
            limits=self._settings["limits"],
            max_per_origin=max_per_origin,
            name=self.name,
        )
        self._pools = self.transport.pools
        is_ours = url is not None and client_kwargs.get("transport") is None
        self.pool = self._pools.settle(address_of(url)) if url is not None and is_ours else None
        self.client = self._new_client()
        #: Each is done when its request has ended.
        self._running: set[asyncio.Future[None]] = set()

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
        self._pools.ensure_usable()
        running = asyncio.get_running_loop().create_future()
        self._running.add(running)
        try:
            yield
        except httpx.PoolTimeout as exc:
            if isinstance(exc, PoolTimeout):
                raise
            raise HTTPPoolTimeout(
                f"pool {self.name!r} had no connection to a proxy in time: raise max_connections, or read and close "
                "streamed answers sooner"
            ) from exc
        finally:
            self._running.discard(running)
            running.cancel()

    async def open(self, wait: bool = True, timeout: float | None = None) -> None:
        """Start, or serve again; nothing is connected before the first request, unless `resize` gave a `min_size`.

        With `wait`, return when that many connections stand, or raise `PoolUnavailable`.
        """
        was_closed = self._pools.is_closed
        await self._pools.open(wait, timeout)
        if was_closed:
            self.client = self._new_client()

    async def close(self, timeout: float | None = 10) -> None:
        """Refuse newcomers and those in line, wait for running requests until the deadline, then close everything."""
        if self._pools.is_forked:  # all of it is the parent's
            await self._pools.close(timeout)
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._pools.close(timeout)
            # Those that go through proxies may still run.
            if running := [each for each in self._running if each.get_loop() is loop]:
                left = None if timeout is None else max(0.0, began + timeout - loop.time())
                await asyncio.wait(running, timeout=left)
        finally:
            if self._pools.is_closed:
                await self.client.aclose()

    async def drain(self, over: float = 0.0) -> None:
        """Replace every connection that exists now, idle ones at once or spread over `over` seconds."""
        await self._pools.drain(over)

    async def check(self) -> int:
        """Validate all idle connections now, HTTP/2 ones with a PING; return how many were replaced."""
        return await self._pools.check()

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """`max_size` is the limit over all origins; `min_size` connections are kept to `base_url`'s origin.

        Raises `PoolConfigError` for sizes that don't fit together, and changes nothing then.
        """
        self._pools.resize(min_size, max_size)

    def suspend(self) -> None:
        """Let requests wait, each for its own timeout, until `resume()`."""
        self._pools.suspend()

    def resume(self) -> None:
        self._pools.resume()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every event of every origin's pool, until the function that this returns is called."""
        return self._pools.subscribe(listener)

    def stats(self) -> PoolStats:
        """All figures of `PoolStats`, summed over the origins; without those of proxies, which httpx connects to."""
        return self._pools.stats()

    def origins(self) -> dict[str, PoolStats]:
        """The figures of each origin in use, as `{"https://api.example.com:443": …}`."""
        return self._pools.each()

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

    async def send(self, request: httpx.Request, *, auth: Any = httpx.USE_CLIENT_DEFAULT, **how: Any) -> httpx.Response:
        """Takes the password from the address, for httpx logs that; it is sent all the same."""
        url = request.url
        if url.userinfo:
            request.url = url.copy_with(userinfo=b"")
            if auth is None or (auth is httpx.USE_CLIENT_DEFAULT and self.auth is None):
                auth = httpx.BasicAuth(url.username, url.password)
            url = request.url  # an error shows the variables of the frames that it leaves
        return await super().send(request, auth=auth, **how)
