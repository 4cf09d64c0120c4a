"""`Origin`: the pool of the connections to one scheme, host and port, and how they are made."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from aiopool import events
from aiopool.adapters._http1 import HTTP1Wire
from aiopool.adapters._http2 import USUAL_STREAMS, HTTP2Wire
from aiopool.adapters._http_connect import connect
from aiopool.adapters._http_wire import Greeter, Wire
from aiopool.adapters._shared_limit import SharedLimit
from aiopool.config import PoolConfig
from aiopool.connection import PooledConnection
from aiopool.pool import ConnectionPool

#: Opening belongs to the pool, so it may take as long as the most patient of the callers lets it, but so long anyway.
CONNECT_TIMEOUT = 10.0
#: A caller is never more patient than that; waiting for another origin to give way counts too, and is no failure.
LONGEST_OPENING = 3600.0
#: httpx's 0 is no time at all; a pool's time must be some.
SHORTEST_EXPIRY = 0.001
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
    max_per_origin: int | None = None
    #: Hosts that are connected to only at public addresses; it may be added to.
    public_hosts: set[str] = field(default_factory=set)

    @property
    def pool_size(self) -> int:
        """The most connections to one origin."""
        return self.max_connections if self.max_per_origin is None else min(self.max_connections, self.max_per_origin)

    def config(self, scheme: str) -> PoolConfig:
        may_share = self.http2 and (scheme == "https" or not self.http1)
        return PoolConfig(
            min_size=0,
            max_size=self.pool_size,
            max_idle=self.max_keepalive,
            max_idle_time=SHORTEST_EXPIRY if self.keepalive_expiry == 0 else self.keepalive_expiry,
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


class Origin:
    """One server: its pool, and how it is connected to."""

    def __init__(
        self,
        address: Address,
        settings: Settings,
        limit: SharedLimit[Wire],
        name: str,
        unused: Callable[[Origin], object],
    ) -> None:
        self.address = address
        self._settings = settings
        self.limit = limit
        self._unused = unused
        self._connect_timeout = CONNECT_TIMEOUT
        #: Requests that look for a connection now.
        self.callers = 0
        self.connections: dict[Wire, PooledConnection[Wire]] = {}
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
        return not (self.callers or self.connections)

    @property
    def is_awaited(self) -> bool:
        return self.callers > 0 or self.pool.stats()["waiting"] > 0

    def comes(self, connect_timeout: float | None) -> None:
        """A caller who would wait so long for a connection to be made."""
        self.callers += 1
        if connect_timeout is None or connect_timeout > self._connect_timeout:
            self._connect_timeout = min(connect_timeout or LONGEST_OPENING, LONGEST_OPENING)
        # An opening may still be parked whose caller has given up; the pool counts on it for this one.
        self.limit.review()

    def goes(self) -> None:
        self.callers -= 1
        if self.is_unused:
            self._unused(self)

    # -- opening

    async def _open(self) -> Wire:
        limit = self.limit
        await limit.enter(self)
        try:
            async with asyncio.timeout(self._connect_timeout):
                wire = await self._connect()
            if wire.is_lost:
                raise ConnectionError("the server closed the connection at once")
        except BaseException:
            limit.leave()
            raise
        # The loop knows the wire, and must not keep a pool alive that was dropped; but its place is free in any case.
        this = weakref.ref(self)

        def lost(wire: Wire) -> None:
            limit.leave(wire)
            if (origin := this()) is not None:
                origin.pool.evict(wire)

        def changed(wire: Wire) -> None:
            if (origin := this()) is not None:
                origin.changed(wire)

        wire.on_lost, wire.on_change = lost, changed
        return wire

    async def _connect(self) -> Wire:
        loop, settings, address = asyncio.get_running_loop(), self._settings, self.address
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
            must_be_public = address.host in settings.public_hosts
            sock = await connect(address.host, address.port, settings.local_address, must_be_public=must_be_public)
            _, greeter = await loop.create_connection(lambda: Greeter(self._choose), sock=sock, **tls)
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
            self.connections[wire] = event.info
            event.info.capacity = wire.capacity
        elif isinstance(event, events.Released):
            wire = cast(Wire, event.info.connection)
            # The pool asks next whether it is usable.
            wire.is_spent = self.limit.gives_way(event.info, self, event.at) or wire.is_spent
        elif isinstance(event, events.Closed):
            self.connections.pop(event.info.connection, None)
            if self.is_unused:
                self._unused(self)

    def changed(self, wire: Wire) -> None:
        info = self.connections.get(wire)
        if wire.is_spent:
            self.pool.evict(wire)
        elif info is not None:
            info.capacity = wire.capacity
