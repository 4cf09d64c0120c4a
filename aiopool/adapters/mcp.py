"""`MCPSessionPool`: sessions with MCP servers, each opened once and shared by the calls of many tasks.

What it costs to open one is what it saves: a process and its imports (stdio), or a handshake (HTTP). Any SDK will do:
a session is whatever a factory's context manager gives, and `mcp` is imported only by `stdio` and `streamable_http`.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from aiopool import events
from aiopool.adapters._mcp_branch import Branch, Key, SessionFactory
from aiopool.adapters._mcp_errors import says_lost, says_not_run
from aiopool.adapters._mcp_http import streamable_http
from aiopool.adapters._mcp_room import Room
from aiopool.adapters._mcp_stdio import stdio
from aiopool.config import PoolConfig
from aiopool.configfile import suggest
from aiopool.errors import PoolConfigError, PoolNotFound
from aiopool.home import residents
from aiopool.pool import CONFIGURED
from aiopool.refusals import Refusals
from aiopool.stats import Counters, PoolStats

__all__ = ["MCPSessionPool", "SessionFactory", "stdio", "streamable_http"]

R = TypeVar("R")

#: Sessions live as long as they are used; a server may take long to start, and those who wait for one that can't
#: be started are told soon.
DEFAULTS = PoolConfig(
    min_size=0,
    max_size=4,
    max_shares=32,
    max_lifetime=None,
    validate_after=5.0,
    open_timeout=30.0,
    unavailable_after=2.0,
)
_TOKEN = re.compile(r"(bearer|basic)\s|eyJ[\w-]+\.[\w-]+\.", re.IGNORECASE)

_numbers = itertools.count(1)


class MCPSessionPool:
    """Initialized sessions with MCP servers, shared by concurrent calls.

        servers = {"files": stdio("python", "server.py"), "api": streamable_http("https://api.example.com/mcp")}
        async with MCPSessionPool(servers) as pool:
            result = await pool.call_tool("files", "read", {"path": "x"}, identity="alice", timeout=5)

    A server is a factory: called, it gives an async context manager of a session, such as `lambda: mcp.Client(...)`,
    `lambda: fastmcp.Client(...)`, or what `stdio` and `streamable_http` return. One that has a parameter `identity` is
    told for whom the session is. Sessions are never shared between identities: who calls, not by which token.

    At most `max_sessions` exist altogether, of which an idle one gives way to one that is needed elsewhere, and at
    most `config.max_size` (4) with one server for one identity. A session carries up to `config.max_shares` (32) calls
    at once, and one with a server that is named in `exclusive` carries one: for servers that keep a state for their
    caller. All other fields of `config` hold for each server and identity, too, except `min_size`: a session is opened
    when it is asked for.

    A session is given up when its connection is closed, its process has ended or its server does not know it; not for
    timeouts, cancellations and errors of tools. Raises what `ConnectionPool.acquire` does, whose `PoolUnavailable` has
    the reason as its cause; `PoolNotFound` for an unknown server; and what the client raises.
    """

    def __init__(
        self,
        servers: Mapping[str, SessionFactory],
        *,
        max_sessions: int = 32,
        exclusive: Collection[str] = (),
        config: PoolConfig | None = None,
        name: str | None = None,
    ) -> None:
        if type(max_sessions) is not int or max_sessions < 1:
            raise PoolConfigError(f"max_sessions={max_sessions!r} is not allowed: it must be a whole number, 1 or more")
        self.name = name if name is not None else f"mcp-{next(_numbers)}"
        self._config = config if config is not None else DEFAULTS
        self._factories: dict[str, SessionFactory] = {}
        for server, factory in servers.items():
            self._register(server, factory)
        self._exclusive = frozenset([exclusive] if isinstance(exclusive, str) else exclusive)
        for server in self._exclusive:
            self._ensure_known(server)
        self._room = Room(max_sessions)
        self._branches: dict[Key, Branch] = {}
        #: What the branches that are gone have counted, by their server.
        self._departed: dict[str, PoolStats] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._listeners: tuple[events.Listener, ...] = ()
        #: Sessions are opened in it, and never in that of the caller who happens to be the first.
        self._context = contextvars.copy_context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._is_forked = False
        self._refusals = Refusals(self.name, self.stats)

    # -- what it is for

    async def call_tool(
        self,
        server: str,
        tool: str,
        arguments: dict[str, Any] | None = None,
        *,
        identity: Hashable = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        """Calls a tool, and returns what the client's own `call_tool` returns; `options` are further keywords of it.

        As `call` does, with the same errors.
        """
        return await self.call(
            server, lambda client: client.call_tool(tool, arguments, **options), identity=identity, timeout=timeout
        )

    async def call(
        self,
        server: str,
        function: Callable[[Any], Awaitable[R]],
        *,
        identity: Hashable = None,
        timeout: float | None = None,
    ) -> R:
        """What `await function(session)` gives, as in `call("files", lambda session: session.list_tools())`.

        `timeout` in seconds bounds the whole: `PoolTimeout` if no session could be had in it, `TimeoutError` if the
        call took too long. Called once more, with another session, if the server did not know the first: then the
        request did not run. If a session ends in the midst of the call and its client does not tell,
        `ConnectionError`; and `PoolClosed` if that is because the pool was closed.
        """
        until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            return await self._call_once(server, function, identity, until)
        except Exception as exc:
            if not says_not_run(exc) or self._is_closed:
                raise
        return await self._call_once(server, function, identity, until)

    @asynccontextmanager
    async def session(
        self, server: str, *, identity: Hashable = None, timeout: float | None = CONFIGURED
    ) -> AsyncIterator[Any]:
        """`async with` what the factory gave: a share of a session, or all of it if the server is `exclusive`.

        `timeout` in seconds is for a session to be had, as with `ConnectionPool.acquire`.
        """
        async with self._branch(server, identity).pool.acquire(timeout) as session:
            yield session.client

    async def _call_once(
        self, server: str, function: Callable[[Any], Awaitable[R]], identity: Hashable, until: float | None
    ) -> R:
        branch, wait = self._branch(server, identity), self._config.acquire_timeout
        if until is not None:
            left = max(0.0, until - asyncio.get_running_loop().time())
            wait = left if wait is None else min(wait, left)
        try:
            async with branch.pool.acquire(wait) as session:
                return await session.run(function, until)
        except Exception as exc:
            if self._is_closed and says_lost(exc):
                raise self._refusals.closed() from exc
            raise

    # -- servers

    async def update(self, server: str, factory: SessionFactory) -> None:
        """Adds a server, or replaces it: its sessions are closed when nobody uses them any more, no other's are."""
        self._register(server, factory)
        if self._loop is not None and not self._is_closed:
            await self.drain(server)

    def _register(self, server: str, factory: SessionFactory) -> None:
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

    def _branch(self, server: str, identity: Hashable) -> Branch:
        self._ensure_usable()
        self._ensure_known(server)
        branch = self._branches.get(key := Key(server, identity))
        return branch if branch is not None else self._add(key)

    def _add(self, key: Key) -> Branch:
        if isinstance(key.identity, str) and _TOKEN.match(key.identity):
            raise ValueError("identity is a token, by its looks: it must say who calls, for tokens change")
        for other in [branch for branch in self._branches.values() if branch.is_unused]:
            self._forget(other)
        config = replace(self._config, max_shares=1) if key.server in self._exclusive else self._config
        # Its name says nothing of the identity, which may be a person's.
        branch = self._context.copy().run(
            Branch, key, f"{self.name} {key.server}", config, self._room, self._factories.__getitem__
        )
        branch.pool.subscribe(self._tell)
        self._branches[key] = branch
        self._room.add(branch)
        return branch

    def _forget(self, branch: Branch) -> None:
        """It has neither sessions nor callers; there may be as many identities as there are people."""
        del self._branches[branch.key]
        self._room.remove(branch)
        server = branch.key.server
        self._departed[server] = _sum([branch.pool.stats(), *self._departed_from(server)])
        closing = asyncio.ensure_future(branch.pool.close(timeout=0))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _ensure_usable(self) -> None:
        if self._is_forked:
            raise self._refusals.forked()
        if self._is_closed:
            raise self._refusals.closed()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            residents.add(self)
        elif self._loop is not loop:
            raise self._refusals.wrong_loop(is_closed=self._loop.is_closed())

    def _forked(self) -> None:
        self._is_forked = True

    # -- its life

    async def open(self) -> None:
        """Serves again after `close`, on another loop too. No session is opened before it is asked for."""
        if self._is_closed and not self._is_forked:
            self._is_closed = False
        self._ensure_usable()

    async def close(self, timeout: float | None = 10) -> None:
        """Refuses newcomers and those in line, waits for calls until the deadline, then ends all sessions.

        None waits for ever, 0 ends them at once; each has `config.close_timeout` seconds for it, and some more that
        its process may need to be killed.
        """
        before, self._is_closed = self._is_closed, True
        if self._is_forked or self._loop is None:
            return
        loop = asyncio.get_running_loop()
        if self._loop is not loop and not self._loop.is_closed():
            self._is_closed = before
            raise self._refusals.wrong_loop(is_closed=False)
        await asyncio.gather(*(branch.pool.close(timeout) for branch in self._branches.values()))
        if closing := [task for task in self._closing if task.get_loop() is loop]:
            await asyncio.wait(closing)
        for branch in list(self._branches.values()):
            server = branch.key.server
            self._departed[server] = _sum([branch.pool.stats(), *self._departed_from(server)])
        self._branches.clear()
        # Sessions of a loop that has ended do not say that they are gone.
        self._room = Room(self._room.size)
        self._loop = None
        residents.discard(self)

    async def drain(self, server: str | None = None, over: float = 0.0) -> None:
        """Replaces every session, or every one with that server: idle ones now or spread over so many seconds."""
        self._ensure_usable()
        if server is not None:
            self._ensure_known(server)
        for branch in self._present():
            if server in (None, branch.key.server):
                await branch.pool.drain(over)

    async def check(self) -> int:
        """Asks all idle sessions now whether their servers answer; returns how many were replaced."""
        self._ensure_usable()
        return sum(await asyncio.gather(*(branch.pool.check() for branch in self._present())))

    def _present(self) -> Iterator[Branch]:
        """Those that are there when their turn comes."""
        return (branch for branch in list(self._branches.values()) if self._branches.get(branch.key) is branch)

    # -- what it tells

    def subscribe(self, listener: events.Listener) -> Callable[[], None]:
        """Tells `listener` of every event of every session, until the function that this returns is called."""
        if not callable(listener):
            raise TypeError(f"listener is a {type(listener).__name__}: it must be a callable that takes an event")
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)

        return unsubscribe

    def _tell(self, event: events.Event) -> None:
        if self._listeners:
            events.tell(self._listeners, event)

    def stats(self) -> PoolStats:
        """All figures of `PoolStats`, summed over servers and identities; `max_size` is `max_sessions`."""
        stats = _sum([Counters().snapshot(), *self.servers().values()])
        stats["name"], stats["max_size"] = self.name, self._room.size
        return stats

    def servers(self) -> dict[str, PoolStats]:
        """The figures of each server, summed over identities; `max_size` is that for one of them."""
        return {server: self._stats_of(server) for server in self._factories}

    def _stats_of(self, server: str) -> PoolStats:
        present = [branch.pool.stats() for branch in self._branches.values() if branch.key.server == server]
        stats = _sum([Counters().snapshot(), *present, *self._departed_from(server)])
        stats["name"], stats["max_size"] = server, self._config.max_size
        return stats

    def _departed_from(self, server: str) -> list[PoolStats]:
        return [self._departed[server]] if server in self._departed else []

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _sum(parts: list[PoolStats]) -> PoolStats:
    total: dict[str, Any] = {**parts[0]}
    for part in parts[1:]:
        for key, value in part.items():
            if key in ("oldest_wait", "oldest_lease"):
                total[key] = max(total[key], value)
            elif key == "closed_by":
                total[key] = {reason: n + part["closed_by"][reason] for reason, n in total[key].items()}
            elif key not in ("name", "max_size"):
                total[key] += value
    return cast(PoolStats, total)
