"""`Branches`: the pools of all servers and identities, as if they were one."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import replace

from aiopool import events
from aiopool.adapters._mcp_branch import Branch, Key, SessionFactory
from aiopool.adapters._mcp_session import Session
from aiopool.adapters._shared_limit import SharedLimit
from aiopool.config import PoolConfig
from aiopool.configfile import suggest
from aiopool.errors import PoolNotFound
from aiopool.home import residents
from aiopool.refusals import Refusals
from aiopool.stats import Counters, PoolStats, summed

_TOKEN = re.compile(r"(bearer|basic)\s|eyJ[\w-]+\.[\w-]+\.", re.IGNORECASE)


class Branches:
    """What is done to it is done to each branch, and to those that are yet to come."""

    def __init__(
        self,
        name: str,
        servers: Mapping[str, SessionFactory],
        max_sessions: int,
        exclusive: Collection[str],
        config: PoolConfig,
    ) -> None:
        self.name = name
        self.config = config
        self._factories: dict[str, SessionFactory] = {}
        for server, factory in servers.items():
            self.register(server, factory)
        for server in exclusive:
            self._ensure_known(server)
        self._exclusive = frozenset(exclusive)
        self._limit: SharedLimit[Session] = SharedLimit(max_sessions)
        self._branches: dict[Key, Branch] = {}
        #: What the branches that are gone have counted, by their server.
        self._departed: dict[str, PoolStats] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._listeners: tuple[events.Listener, ...] = ()
        #: Sessions are opened in it, and never in that of the caller who happens to be the first.
        self._context = contextvars.copy_context()
        #: From the first use to the end of `close`.
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False
        self._is_forked = False
        self.refusals = Refusals(name, self.stats)

    # -- servers

    def register(self, server: str, factory: SessionFactory) -> None:
        if not isinstance(server, str) or not server or "://" in server:
            raise ValueError("a server's name is told in log lines and errors: a string, not empty, and no address")
        if not callable(factory):
            raise TypeError(
                f"server {server!r} is a {type(factory).__name__}: it must be a factory of sessions, such as "
                "stdio('python', 'server.py'), streamable_http(url) or lambda: mcp.Client(...)"
            )
        self._factories[server] = factory

    def _ensure_known(self, server: str) -> None:
        if server not in self._factories:
            raise PoolNotFound(f"pool {self.name!r} has no server {server!r}{suggest(str(server), self._factories)}")

    # -- they come and go

    def at(self, server: str, identity: Hashable) -> Branch:
        """That branch, for a call."""
        self.ensure_usable()
        self._ensure_known(server)
        branch = self._branches.get(key := Key(server, identity))
        return branch if branch is not None else self._add(key)

    def ensure_usable(self) -> None:
        """Raises `PoolClosed`, `ForkedPool` or `WrongLoop`."""
        if self._is_forked:
            raise self.refusals.forked()
        if self.is_closed:
            raise self.refusals.closed()
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = loop
            residents.add(self)
        elif self.loop is not loop:
            raise self.refusals.wrong_loop(is_closed=self.loop.is_closed())

    def _add(self, key: Key) -> Branch:
        if isinstance(key.identity, str) and _TOKEN.match(key.identity):
            raise ValueError("the identity is a token, by its looks: it must say who calls, for tokens change")
        for other in [branch for branch in self._branches.values() if branch.is_unused]:
            self._forget(other)
        config = replace(self.config, max_shares=1) if key.server in self._exclusive else self.config
        # Its name says nothing of the identity, which may be a person's.
        name = f"{self.name} {key.server}"
        branch = self._context.copy().run(Branch, key, name, config, self._limit, self._factories.__getitem__)
        branch.pool.subscribe(self._tell)
        self._branches[key] = branch
        self._limit.members.add(branch)
        return branch

    def _forget(self, branch: Branch) -> None:
        """It has neither sessions nor callers, and there may be as many identities as there are people."""
        self._depart(branch)
        closing = asyncio.ensure_future(branch.pool.close(timeout=0))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _depart(self, branch: Branch) -> None:
        del self._branches[branch.key]
        self._limit.members.discard(branch)
        server = branch.key.server
        self._departed[server] = summed([branch.pool.stats(), *self._departed_from(server)])

    def _forked(self) -> None:
        self._is_forked = True

    # -- their lifespan

    def open(self) -> None:
        """Closed ones serve again. Raises `ForkedPool`, `WrongLoop`, or `PoolClosed` while they are being closed."""
        if self.is_closed and self.loop is not None and not self._is_forked:
            raise self.refusals.closing()
        self.is_closed = False
        self.ensure_usable()

    async def close(self, timeout: float | None) -> None:
        """Refuses newcomers, fails those in line, waits up to `timeout` for leases, then closes all."""
        before, self.is_closed = self.is_closed, True
        if self._is_forked or self.loop is None:
            return
        loop = asyncio.get_running_loop()
        if self.loop is not loop and not self.loop.is_closed():
            self.is_closed = before
            raise self.refusals.wrong_loop(is_closed=False)
        await asyncio.gather(*(branch.close(timeout) for branch in self._branches.values()))
        if closing := [task for task in self._closing - {asyncio.current_task()} if task.get_loop() is loop]:
            await asyncio.wait(closing)
        for branch in list(self._branches.values()):
            self._depart(branch)
        # Sessions of a loop that has ended do not say that they are gone.
        self._limit = SharedLimit(self._limit.size)
        self.loop = None
        residents.discard(self)

    def dissolve(self) -> bool:
        """Ends what nobody can use any more, as soon as may be; whether there was anything. From any thread."""
        loop = self.loop
        if self.is_closed or self._is_forked or loop is None or loop.is_closed() or not self._branches:
            return False
        loop.call_soon_threadsafe(lambda: self._closing.add(loop.create_task(self.close(timeout=0))))
        return True

    # -- maintenance

    async def drain(self, server: str | None, over: float) -> None:
        self.ensure_usable()
        if server is not None:
            self._ensure_known(server)
        for branch in self._present():
            if server in (None, branch.key.server):
                await branch.pool.drain(over)

    async def check(self) -> int:
        self.ensure_usable()
        return sum(await asyncio.gather(*(branch.pool.check() for branch in self._present())))

    def _present(self) -> Iterator[Branch]:
        """Those that are there when their turn comes."""
        return (branch for branch in list(self._branches.values()) if self._branches.get(branch.key) is branch)

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
        """The sum over all servers; `max_size` is the limit over all of them."""
        stats = summed([Counters().snapshot(), *self.each().values()])
        stats["name"], stats["max_size"] = self.name, self._limit.size
        return stats

    def each(self) -> dict[str, PoolStats]:
        """By server, the sum over identities, those that are gone included."""
        return {server: self._of(server) for server in self._factories}

    def _of(self, server: str) -> PoolStats:
        present = [branch.pool.stats() for branch in list(self._branches.values()) if branch.key.server == server]
        stats = summed([Counters().snapshot(), *present, *self._departed_from(server)])
        stats["name"], stats["max_size"] = server, self.config.max_size
        return stats

    def _departed_from(self, server: str) -> list[PoolStats]:
        return [self._departed[server]] if server in self._departed else []
