"""`Origin`: the pool of the connections to one scheme, host and port; and `Limit`, which holds over all of them."""

from __future__ import annotations

import asyncio
import ssl
import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, cast

from aiopool import events
from aiopool.adapters._http1 import HTTP1Wire
from aiopool.adapters._http2 import USUAL_STREAMS, HTTP2Wire
from aiopool.adapters._http_wire import Greeter, Wire
from aiopool.config import PoolConfig
from aiopool.connection import Place, PooledConnection
from aiopool.pool import ConnectionPool

#: Opening belongs to the pool, so it may take as long as the most patient of the callers lets it, but so long anyway.
CONNECT_TIMEOUT = 10.0
#: A caller is never more patient than that; waiting for another origin to give way counts too, and is no failure.
LONGEST_OPENING = 3600.0
#: httpx's 0 is no time at all; a pool's time must be some.
SHORTEST_EXPIRY = 0.001
#: The second address of a name is tried beside the first after so many seconds (RFC 8305); uvloop knows no such thing.
HAPPY_EYEBALLS_DELAY = 0.25
SSL_SHUTDOWN_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How connections are made, and how many; the same for all origins of a transport."""

    ssl_context: ssl.SSLContext
    http1: bool
    http2: bool
    max_connections: int
    max_keepalive: int | None
    keepalive_expiry: float | None
    uds: str | None = None
    local_address: str | None = None

    def config(self, scheme: str) -> PoolConfig:
        may_share = self.http2 and (scheme == "https" or not self.http1)
        return PoolConfig(
            min_size=0,
            max_size=self.max_connections,
            max_idle=self.max_keepalive,
            max_idle_time=None if self.keepalive_expiry is None else max(self.keepalive_expiry, SHORTEST_EXPIRY),
            open_timeout=LONGEST_OPENING,
            validate_after=1.0,
            validate_timeout=2.0,
            reset_timeout=1.0,
            close_timeout=2 * SSL_SHUTDOWN_TIMEOUT,
            # Who is refused is told at once, as with httpx; and finds out soon that it works again.
            unavailable_after=0,
            backoff_max=1.0,
            max_shares=USUAL_STREAMS if may_share else 1,
        )


@dataclass(frozen=True, slots=True)
class Address:
    scheme: str
    host: str
    port: int
    #: The name that the certificate must be for, if it is another one than the host's.
    sni: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" + (f" as {self.sni}" if self.sni else "")


class Limit:
    """How many connections may exist over all origins.

    One that is idle gives way to one that is needed elsewhere, and so does one that comes back to a shorter wait.
    """

    def __init__(self, size: int, max_idle: int | None) -> None:
        self.size = size
        self._max_idle = sys.maxsize if max_idle is None else max_idle
        self.taken = 0
        self.origins: weakref.WeakValueDictionary[Address, Origin] = weakref.WeakValueDictionary()
        #: Openings that wait for a place, in the order they came, each with the time it began.
        self._parked: dict[asyncio.Future[None], tuple[Origin, float]] = {}
        #: Connections that were sent away for them and are not gone yet.
        self._leaving = 0

    @property
    def is_reached(self) -> bool:
        return self.taken >= self.size

    async def enter(self, origin: Origin) -> None:
        if not self.is_reached:
            self.taken += 1
            return
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        self._parked[place] = (origin, loop.time())
        self._review()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise
        finally:
            self._parked.pop(place, None)

    def leave(self) -> None:
        self.taken -= 1
        self._leaving = max(0, self._leaving - 1)
        if self._parked:
            self._review()

    def released(self, wire: Wire, origin: Origin, now: float) -> bool:
        """Returns whether this one is to go, so that somebody at another origin who waits for longer gets its place."""
        if self._parked:
            since = next((since for other, since in self._wanting() if other is not origin), now)
            if self.is_reached and now - since > origin.pool.stats()["oldest_wait"] and self._may_send_away():
                self._leaving += 1
                return True
        elif (
            self.taken > self._max_idle
            and len(self.origins) > 1
            and sum(1 for _ in self._idle(besides=None)) >= self._max_idle
        ):
            self._dismiss_idle(besides=None)
        return False

    def _review(self) -> None:
        """Places for those who wait; if there is none, somebody idle is sent away, and its end leads back here."""
        for place, (origin, _) in self._parked.items():
            if place.done() or not origin.is_awaited:
                continue
            if not self.is_reached:
                self.taken += 1
                place.set_result(None)
            elif self._may_send_away():
                self._leaving += self._dismiss_idle(besides=origin)

    def _may_send_away(self) -> bool:
        return self._leaving < sum(1 for _ in self._wanting())

    def _wanting(self) -> Iterable[tuple[Origin, float]]:
        return ((origin, since) for origin, since in self._parked.values() if origin.is_awaited)

    def _idle(self, besides: Origin | None) -> Iterable[tuple[PooledConnection[Wire], Origin]]:
        for origin in self.origins.values():
            if origin is not besides:
                for info in origin.wires.values():
                    if info.place is Place.IDLE:
                        yield info, origin

    def _dismiss_idle(self, besides: Origin | None) -> bool:
        longest = min(self._idle(besides), key=lambda one: one[0].last_used, default=None)
        if longest is not None:
            info, origin = longest
            origin.pool.evict(info.connection)
        return longest is not None


class Origin:
    """One server: its pool, and how it is connected to."""

    def __init__(
        self, address: Address, settings: Settings, limit: Limit, name: str, unused: Callable[[Origin], object]
    ) -> None:
        self.address = address
        self._settings = settings
        self._limit = limit
        self._unused = unused
        self._connect_timeout = CONNECT_TIMEOUT
        #: Requests that look for a connection now.
        self.callers = 0
        self.wires: dict[Wire, PooledConnection[Wire]] = {}
        self.pool: ConnectionPool[Wire] = ConnectionPool(
            self._open,
            settings.config(address.scheme),
            validator=lambda wire: wire.check(),
            resetter=lambda wire: wire.reset(),
            destroyer=lambda wire: wire.close(),
            aborter=lambda wire: wire.abort(),
            is_broken=lambda wire, exc: not wire.is_usable,
            name=name,
        )
        self.pool.subscribe(self._heed)

    @property
    def is_unused(self) -> bool:
        return not (self.callers or self.wires)

    @property
    def is_awaited(self) -> bool:
        return self.pool.stats()["waiting"] > 0

    def comes(self, connect_timeout: float | None) -> None:
        """A caller who would wait so long for a connection to be made."""
        self.callers += 1
        if connect_timeout is None or connect_timeout > self._connect_timeout:
            self._connect_timeout = min(connect_timeout or LONGEST_OPENING, LONGEST_OPENING)

    def goes(self) -> None:
        self.callers -= 1
        if self.is_unused:
            self._unused(self)

    # -- opening

    async def _open(self) -> Wire:
        await self._limit.enter(self)
        try:
            async with asyncio.timeout(self._connect_timeout):
                wire = await self._connect()
            if wire.is_lost:
                raise ConnectionError("the server closed the connection at once")
        except BaseException:
            self._limit.leave()
            raise
        # The loop knows the wire, and must not keep a pool alive that was dropped; but its place is free in any case.
        this, limit = weakref.ref(self), self._limit

        def lost(wire: Wire) -> None:
            limit.leave()
            if (origin := this()) is not None:
                origin.pool.evict(wire)

        def changed(wire: Wire) -> None:
            if (origin := this()) is not None:
                origin.changed(wire)

        wire.on_lost, wire.on_change = lost, changed
        return wire

    async def _connect(self) -> Wire:
        loop, settings, address = asyncio.get_running_loop(), self._settings, self.address
        eyeballs: dict[str, Any] = {}
        # Only where there may be several: a race that is cancelled leaves its winner to the garbage collector.
        if isinstance(loop, asyncio.BaseEventLoop) and not _is_ip(address.host):
            eyeballs["happy_eyeballs_delay"] = HAPPY_EYEBALLS_DELAY
        tls: dict[str, Any] = {}
        if address.scheme == "https":
            tls = {
                "ssl": settings.ssl_context,
                "server_hostname": address.sni or address.host,
                "ssl_shutdown_timeout": SSL_SHUTDOWN_TIMEOUT,
            }
        if settings.uds is not None:
            _, greeter = await loop.create_unix_connection(lambda: Greeter(self._choose), settings.uds, **tls)
        else:
            _, greeter = await loop.create_connection(
                lambda: Greeter(self._choose),
                address.host,
                address.port,
                local_addr=(settings.local_address, 0) if settings.local_address else None,
                **tls,
                **eyeballs,
            )
        wire = greeter.wire
        try:
            await asyncio.wait((wire.ready,))
            wire.ready.result()
        except BaseException:
            wire.abort()
            raise
        return wire

    def _choose(self, agreed: str | None) -> Wire:
        knows_beforehand = self._settings.http2 and not self._settings.http1
        return HTTP2Wire() if agreed == "h2" or (agreed is None and knows_beforehand) else HTTP1Wire()

    # -- what happens to connections

    def _heed(self, event: events.Event) -> None:
        if isinstance(event, events.Opened):
            wire = cast(Wire, event.info.connection)
            self.wires[wire] = event.info
            event.info.capacity = wire.capacity
        elif isinstance(event, events.Released):
            wire = cast(Wire, event.info.connection)
            # The pool asks next whether it is usable.
            wire.is_spent = self._limit.released(wire, self, event.at) or wire.is_spent
        elif isinstance(event, events.Closed):
            self.wires.pop(event.info.connection, None)
            if self.is_unused:
                self._unused(self)

    def changed(self, wire: Wire) -> None:
        info = self.wires.get(wire)
        if wire.is_spent:
            self.pool.evict(wire)
        elif info is not None:
            info.capacity = wire.capacity


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
