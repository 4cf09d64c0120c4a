"""`HTTPTransport`: an httpx transport with a `ConnectionPool` for each origin, under one limit."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self, cast

import httpx

from aiopool.adapters._http_limit import Limit
from aiopool.adapters._http_origin import Address, Origin, Settings
from aiopool.adapters._http_tls import Offer, ssl_context
from aiopool.adapters._http_wire import Content, Exchange, Wire
from aiopool.errors import PoolClosed, PoolTimeout, PoolUnavailable, WrongLoop
from aiopool.lease import Lease
from aiopool.stats import Counters, PoolStats

#: Requests that may be sent again if a kept connection turned out dead, though they perhaps arrived (RFC 9110, 9.2.2).
IDEMPOTENT = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}
#: A request that servers keep refusing unseen is sent so often.
ATTEMPTS = 3
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)
PORTS = {"http": 80, "https": 443}

_numbers = itertools.count(1)


class HTTPPoolTimeout(PoolTimeout, httpx.PoolTimeout):
    """No connection could be had within the `pool` timeout: for those who know httpx, and those who know aiopool."""

    _request: httpx.Request | None = None


class HTTPTransport(httpx.AsyncBaseTransport):
    """Connections for `httpx.AsyncClient(transport=HTTPTransport())`: kept, shared, and lent in the order of asking.

        async with httpx.AsyncClient(transport=HTTPTransport(http2=True)) as client:
            response = await client.get("https://api.example.com/")

    The keywords are those of `httpx.AsyncHTTPTransport`; for proxies use httpx's own transports, as mounts. Each
    phase is bounded by the request's timeouts in seconds: `connect` (for a connection to be made), `pool` (for one to
    come free, at the limit: an error that is `httpx.PoolTimeout` and `aiopool.PoolTimeout`), `write` and `read`.
    Raises httpx's errors; `PoolClosed`, a `RuntimeError`, once closed.
    """

    def __init__(
        self,
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: httpx.Limits = LIMITS,
        uds: str | None = None,
        local_address: str | None = None,
        *,
        name: str | None = None,
    ) -> None:
        if not (http1 or http2):
            raise ValueError("http1=False is not allowed with http2=False: allow one of them")
        self.name = name if name is not None else f"http-transport-{next(_numbers)}"
        unlimited = limits.max_connections is None
        self._settings = Settings(
            ssl_context=Offer(ssl_context(verify, cert, trust_env), ["http/1.1"] * http1 + ["h2"] * http2),
            http1=http1,
            http2=http2,
            max_connections=sys.maxsize if unlimited else limits.max_connections,  # type: ignore[arg-type]
            max_keepalive=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            uds=uds,
            local_address=local_address,
        )
        self._limit = Limit(self._settings.max_connections, self._settings.max_keepalive)
        self._origins: dict[Address, Origin] = {}
        #: The origin that stays when it is not in use.
        self._home: Origin | None = None
        #: What the origins that are gone have counted.
        self._departed = Counters().snapshot()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    # -- a request

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        is_whole = isinstance(request.stream, httpx.ByteStream)
        content: Content = b"".join(cast(httpx.ByteStream, request.stream)) if is_whole else Pieces(request.stream)
        timeouts = request.extensions.get("timeout", {})
        address = _address(request.url, request.extensions.get("sni_hostname"))
        attempt = 0
        while True:
            attempt += 1
            lease = await self._acquire(self._origin(address), timeouts)
            wire = lease.connection
            exchange = wire.begin()
            body = Body(wire, exchange, lease, timeouts.get("read"))
            try:
                await wire.send(exchange, request, content, timeouts.get("write"))
                status, headers, reason = await wire.head(exchange, timeouts.get("read"))
            except BaseException as exc:
                can_repeat = isinstance(exc, httpx.TransportError) and not (
                    isinstance(content, Pieces) and content.is_begun
                )
                was_dead = wire.is_lost and wire.has_answered and exchange.head is None
                body.close()
                if can_repeat and exchange.is_unprocessed and attempt < ATTEMPTS:
                    continue
                if can_repeat and was_dead and request.method in IDEMPOTENT and attempt == 1:
                    continue
                raise
            extensions: dict[str, Any] = {"http_version": wire.http_version}
            if reason:
                extensions["reason_phrase"] = reason
            return httpx.Response(status, headers=headers, stream=body, extensions=extensions)

    async def _acquire(self, origin: Origin, timeouts: Mapping[str, float | None]) -> Lease[Wire]:
        # At the limit a caller waits for others, otherwise for the network.
        is_full = self._limit.is_reached
        origin.comes(timeouts.get("connect"))
        try:
            return await origin.pool.acquire(timeout=timeouts.get("pool" if is_full else "connect"))
        except PoolTimeout as exc:
            if exc.phase == "open" and not is_full:
                raise httpx.ConnectTimeout(f"no connection to {origin.address} within {exc.waited:.2f}s") from exc
            error = HTTPPoolTimeout(str(exc), waited=exc.waited, stats=exc.stats)
            error.phase = exc.phase
            raise error from exc
        except PoolUnavailable as exc:
            cause = exc.__cause__
            kind = httpx.ConnectTimeout if isinstance(cause, TimeoutError) else httpx.ConnectError
            raise kind(str(cause) or f"no connection to {origin.address}") from exc
        finally:
            origin.goes()

    # -- origins

    def home(self, url: httpx.URL) -> Origin:
        """The origin of that address, which stays from now on, and has the transport's name."""
        self._home = self._origin(_address(url), self.name)
        return self._home

    def _origin(self, address: Address, name: str | None = None) -> Origin:
        if self._is_closed:
            raise PoolClosed(f"transport {self.name!r} is closed: make another, or open() its pool again")
        origin = self._origins.get(address)
        if origin is None:
            origin = Origin(address, self._settings, self._limit, name or f"{self.name} {address}", self._unused)
            self._origins[address] = origin
            self._limit.origins.add(origin)
        return origin

    def _unused(self, origin: Origin) -> None:
        """Forgets an origin that has neither connections nor callers, so that a crawler does not collect them."""
        is_known = self._origins.get(origin.address) is origin
        if is_known and origin is not self._home and asyncio._get_running_loop() is not None:
            del self._origins[origin.address]
            self._limit.origins.discard(origin)
            self._departed = _sum([self._departed, origin.pool.stats()])
            closing = asyncio.ensure_future(origin.pool.close(timeout=0))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    # -- the whole

    def stats(self) -> PoolStats:
        """The sum over all origins, those that are gone included; `max_size` is the limit over all of them."""
        stats = _sum([self._departed, *(origin.pool.stats() for origin in self._origins.values())])
        stats["name"], stats["max_size"] = self.name, self._settings.max_connections
        return stats

    def origins(self) -> dict[str, PoolStats]:
        """For each origin in use its own figures; the key is scheme, host and port."""
        return {str(address): origin.pool.stats() for address, origin in self._origins.items()}

    async def open(self) -> None:
        """Connects nothing; a closed one serves again."""
        self._is_closed = False
        if self._home is not None:
            await self._home.pool.open(wait=False)

    async def aclose(self, timeout: float | None = 0) -> None:
        """Refuses newcomers, fails those in line, waits up to `timeout` for running exchanges, then closes all."""
        before, self._is_closed = self._is_closed, True
        try:
            await asyncio.gather(*(origin.pool.close(timeout) for origin in self._origins.values()))
        except WrongLoop:
            self._is_closed = before
            raise
        if self._closing:
            await asyncio.wait(self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class Pieces:
    """A request's body that comes bit by bit, and can be sent once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.is_begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self.is_begun = True
        return aiter(self._stream)


class Body(httpx.AsyncByteStream):
    """The body of an answer, and the lease that it is read under: back at its end, or when it is closed before."""

    def __init__(self, wire: Wire, exchange: Exchange, lease: Lease[Wire], timeout: float | None) -> None:
        self._wire = wire
        self._exchange = exchange
        self._lease = lease
        self._timeout = timeout
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange = self._exchange
        try:
            while not self._is_closed:
                if exchange.unread:
                    yield self._wire.read(exchange)
                elif exchange.is_ended:
                    return
                elif exchange.error is not None:
                    raise exchange.error
                else:
                    await self._wire.hears(exchange, self._timeout)
        finally:
            self.close()

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """One synchronous step, so that no cancellation can come between the exchange and its connection's return."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wire.leave(self._exchange)
        if self._wire.is_finished:
            self._lease.discard()
        else:
            self._lease.release()


def _address(url: httpx.URL, sni: str | None = None) -> Address:
    if url.scheme not in PORTS:
        complaint = "has an unsupported protocol" if url.scheme else "is missing an 'http://' or 'https://' protocol"
        raise httpx.UnsupportedProtocol(f"Request URL {complaint}.")
    return Address(url.scheme, url.raw_host.decode("ascii"), url.port or PORTS[url.scheme], sni)


def _sum(parts: list[PoolStats]) -> PoolStats:
    total: dict[str, Any] = {**parts[0]}
    for part in parts[1:]:
        for key, value in part.items():
            if key in ("oldest_wait", "oldest_lease"):
                total[key] = max(total[key], value)
            elif key == "closed_by":
                total[key] = {reason: n + part["closed_by"][reason] for reason, n in total[key].items()}
            elif key not in ("name", "min_size", "max_size"):
                total[key] += value
    return cast(PoolStats, total)
