"""`Origins`: the pools of all origins, as if they were one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

from aiopool import events
from aiopool.adapters._http_origin import Address, Origin, Settings
from aiopool.adapters._http_wire import Wire
from aiopool.adapters._shared_limit import SharedLimit
from aiopool.errors import PoolConfigError, WrongLoop
from aiopool.home import residents
from aiopool.pool import ConnectionPool
from aiopool.refusals import Refusals
from aiopool.stats import Counters, PoolStats, summed


class Origins:
    """What is done to it is done to the pool of each origin, and to those that are yet to come."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._settings = settings
        self._limit: SharedLimit[Wire] = SharedLimit(settings.max_connections, settings.max_keepalive)
        self._origins: dict[Address, Origin] = {}
        #: The origin that stays when it is not in use.
        self._home: Origin | None = None
        #: What the origins that are gone have counted.
        self._departed = Counters().snapshot()
        self._closing: set[asyncio.Task[None]] = set()
        self._listeners: tuple[events.Listener, ...] = ()
        self._is_suspended = False
        self.is_closed = False
        self.is_forked = False
        self._refusals = Refusals(name, self.stats)

    def is_full_for(self, origin: Origin) -> bool:
        """Whoever wants one more connection there has to wait for others."""
        return self._limit.is_reached or len(origin.connections) >= self._settings.pool_size

    # -- they come and go

    def settle(self, address: Address) -> ConnectionPool[Wire]:
        """Makes this origin the one that stays from now on, and has the name of them all."""
        self._home = self._add(address, self.name)
        return self._home.pool

    def at(self, address: Address) -> Origin:
        """That origin, for a request."""
        self.ensure_usable()
        return self._origins.get(address) or self._add(address, f"{self.name} {address}")

    def ensure_usable(self) -> None:
        """Raises `PoolClosed` or `ForkedPool`."""
        if self.is_forked:
            raise self._refusals.forked()
        if self.is_closed:
            raise self._refusals.closed()
        if self not in residents:
            residents.add(self)

    def _add(self, address: Address, name: str) -> Origin:
        origin = Origin(address, self._settings, self._limit, name, self._unused)
        self._origins[address] = origin
        self._limit.members.add(origin)
        origin.pool.subscribe(self._tell)
        if self._is_suspended:
            origin.pool.suspend()
        return origin

    def _unused(self, origin: Origin) -> None:
        """Forgets an origin that has neither connections nor callers, so that a crawler does not collect them."""
        is_known = self._origins.get(origin.address) is origin
        if is_known and origin is not self._home and asyncio._get_running_loop() is not None:
            del self._origins[origin.address]
            self._limit.members.discard(origin)
            self._departed = summed([self._departed, origin.pool.stats()])
            closing = asyncio.ensure_future(origin.pool.close(timeout=0))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _forked(self) -> None:
        self.is_forked = True

    # -- their lifespan

    async def open(self, wait: bool, timeout: float | None) -> None:
        """Closed ones serve again. Raises `PoolUnavailable`, `ForkedPool` or `WrongLoop`."""
        if self.is_forked:
            raise self._refusals.forked()
        if self._home is not None:
            await self._home.pool.open(wait, timeout)
        self.is_closed = False
        residents.add(self)

    async def close(self, timeout: float | None) -> None:
        """Refuses newcomers, fails those in line, waits up to `timeout` for leases, then closes all."""
        before, self.is_closed = self.is_closed, True
        if self.is_forked:
            return
        try:
            await asyncio.gather(*(origin.pool.close(timeout) for origin in self._origins.values()))
        except WrongLoop:
            self.is_closed = before
            raise
        loop = asyncio.get_running_loop()
        if closing := [task for task in self._closing if task.get_loop() is loop]:
            await asyncio.wait(closing)
        # Connections of a loop that has ended do not say that they are gone.
        self._limit = SharedLimit(self._settings.max_connections, self._settings.max_keepalive)
        for origin in self._origins.values():
            self._limit.members.add(origin)
            origin.limit = self._limit
        self._is_suspended = False
        residents.discard(self)

    # -- maintenance

    async def drain(self, over: float) -> None:
        self.ensure_usable()
        for origin in self._present():
            await origin.pool.drain(over)

    async def check(self) -> int:
        self.ensure_usable()

        async def check(origin: Origin) -> int:
            return 0 if self._origins.get(origin.address) is not origin else await origin.pool.check()

        return sum(await asyncio.gather(*(check(origin) for origin in self._present())))

    def resize(self, min_size: int | None, max_size: int | None) -> None:
        if min_size is not None and self._home is None:
            raise PoolConfigError(
                f"min_size={min_size!r} is not allowed without a base_url: there is no origin to keep connections to"
            )
        settings = self._settings if max_size is None else replace(self._settings, max_connections=max_size)
        settings.config("https")  # refuses what no pool can be
        pool_size = None if max_size is None else settings.pool_size
        if self._home is not None:
            self._home.pool.resize(min_size, pool_size)
        self._settings = settings
        for origin in self._present():
            if origin is not self._home:
                origin.pool.resize(max_size=pool_size)
        self._limit.resize(settings.max_connections)

    def suspend(self) -> None:
        self._is_suspended = True
        for origin in self._present():
            origin.pool.suspend()

    def resume(self) -> None:
        self._is_suspended = False
        for origin in self._present():
            origin.pool.resume()

    def _present(self) -> Iterator[Origin]:
        """Those that are there when their turn comes."""
        return (origin for origin in list(self._origins.values()) if self._origins.get(origin.address) is origin)

    # -- what they tell

    def subscribe(self, listener: events.Listener) -> Callable[[], None]:
        events.ensure_listener(listener)
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return unsubscribe

    def _tell(self, event: events.Event) -> None:
        if self._listeners:
            events.tell(self._listeners, event)

    def stats(self) -> PoolStats:
        """The sum over all origins, those that are gone included; `max_size` is the limit over all of them."""
        stats = summed([self._departed, *(origin.pool.stats() for origin in self._origins.values())])
        stats["name"], stats["max_size"] = self.name, self._settings.max_connections
        return stats

    def each(self) -> dict[str, PoolStats]:
        return {str(address): origin.pool.stats() for address, origin in self._origins.items()}
