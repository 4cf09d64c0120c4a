"""`HTTPTransport`: requests and answers, between httpx and the wires that our pools lend."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self, cast

import httpx

from aiopool.adapters._given import ensure_allowed
from aiopool.adapters._http_given import refuse_request
from aiopool.adapters._http_origin import Address, Origin, Settings
from aiopool.adapters._http_origins import Origins
from aiopool.adapters._http_tls import Offer, ssl_context
from aiopool.adapters._http_wire import Content, Exchange, Wire
from aiopool.errors import PoolTimeout, PoolUnavailable
from aiopool.lease import Lease
from aiopool.stats import PoolStats

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

    The keywords are those of `httpx.AsyncHTTPTransport`, and `max_per_origin`, the most connections to one origin
    within the limit over all of them; for proxies use httpx's own transports, as mounts. Each phase is bounded by the
    request's timeouts in seconds: `connect` (for a connection to be made), `pool` (for one to come free, at the
    limit: an error that is `httpx.PoolTimeout` and `aiopool.PoolTimeout`), `write` and `read`. Raises httpx's errors;
    `PoolClosed`, a `RuntimeError`, once closed.
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
        max_per_origin: int | None = None,
        name: str | None = None,
    ) -> None:
        if not (http1 or http2):
            raise ValueError("http1=False is not allowed with http2=False: allow one of them")
        #: Hosts that must not be connected to at addresses of private networks, whatever their names resolve to.
        self.public_hosts: set[str] = set()
        for key, value, field in (
            ("max_connections", limits.max_connections, "max_size"),
            ("max_keepalive_connections", limits.max_keepalive_connections, "max_idle"),
            ("keepalive_expiry", limits.keepalive_expiry or None, "max_idle_time"),
            ("max_per_origin", max_per_origin, "max_size"),
        ):
            ensure_allowed(key, value, field)
        unlimited = limits.max_connections is None
        settings = Settings(
            ssl_context=Offer(ssl_context(verify, cert, trust_env), ["http/1.1"] * http1 + ["h2"] * http2),
            http1=http1,
            http2=http2,
            max_connections=sys.maxsize if unlimited else limits.max_connections,  # type: ignore[arg-type]
            max_keepalive=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            uds=uds,
            local_address=local_address,
            max_per_origin=max_per_origin,
            public_hosts=self.public_hosts,
        )
        self._limits = "max_connections" if max_per_origin is None else "max_connections or max_per_origin"
        #: Of each origin one, under one limit.
        self.pools = Origins(name if name is not None else f"http-transport-{next(_numbers)}", settings)

    # -- a request

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        is_whole = isinstance(request.stream, httpx.ByteStream)
        content: Content = b"".join(cast(httpx.ByteStream, request.stream)) if is_whole else Pieces(request.stream)
        status, headers, body, extensions = await self.exchange(request, content)
        return httpx.Response(status, headers=headers, stream=body, extensions=extensions)

    async def exchange(self, request: httpx.Request, content: Content) -> Answer:
        """The request, with this body, and its answer as soon as it begins."""
        refuse_request(request)
        timeouts = request.extensions.get("timeout", {})
        address = address_of(request.url, request.extensions.get("sni_hostname"))
        attempt = 0
        while True:
            attempt += 1
            lease = await self._acquire(self.pools.at(address), timeouts)
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
            return status, headers, body, extensions

    async def _acquire(self, origin: Origin, timeouts: Mapping[str, float | None]) -> Lease[Wire]:
        # At the limit a caller waits for others, otherwise for the network.
        is_full = self.pools.is_full_for(origin)
        acquisition = origin.pool.acquire(timeout=timeouts.get("pool" if is_full else "connect"))
        origin.comes(timeouts.get("connect"))
        try:
            return await acquisition
        except PoolTimeout as exc:
            if exc.phase == "open" and not is_full:
                raise httpx.ConnectTimeout(f"no connection to {origin.address} within {exc.waited:.2f}s") from exc
            error = HTTPPoolTimeout(self._told(exc) if is_full else str(exc), waited=exc.waited, stats=exc.stats)
            error.phase = exc.phase
            raise error from exc
        except PoolUnavailable as exc:
            cause = exc.__cause__
            kind = httpx.ConnectTimeout if isinstance(cause, TimeoutError) else httpx.ConnectError
            raise kind(str(cause) or f"no connection to {origin.address}") from exc
        finally:
            origin.goes()

    def _told(self, exc: PoolTimeout) -> str:
        """With a remedy in the words of those who set the limits: the pool of one origin knows only its own."""
        stats = exc.stats or self.stats()
        figures = "size={size} in_use={in_use} waiting={waiting} max_size={max_size}".format(**stats)
        return (
            f"pool {stats['name']!r} had no connection in time ({figures}, waited {exc.waited:.2f}s; over all origins "
            f"size={self.stats()['size']}): raise {self._limits}, read and close streamed answers sooner, or pass a "
            "longer timeout"
        )

    # -- the whole

    def stats(self) -> PoolStats:
        """The sum over all origins, those that are gone included; `max_size` is the limit over all of them."""
        return self.pools.stats()

    def origins(self) -> dict[str, PoolStats]:
        """The figures of each origin in use, as `{"https://api.example.com:443": …}`."""
        return self.pools.each()

    async def aclose(self) -> None:
        """At once: what runs is ended."""
        await self.pools.close(timeout=0)

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


#: Status, headers, body and what httpx calls extensions.
Answer = tuple[int, list[tuple[bytes, bytes]], Body, dict[str, Any]]


def address_of(url: httpx.URL, sni: str | None = None) -> Address:
    if url.scheme not in PORTS:
        complaint = "has an unsupported protocol" if url.scheme else "is missing an 'http://' or 'https://' protocol"
        raise httpx.UnsupportedProtocol(f"Request URL {complaint}.")
    return Address(url.scheme, url.raw_host.decode("ascii"), url.port or PORTS[url.scheme], sni)
