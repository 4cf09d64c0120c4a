"""`MCPSessionPool`: sessions with MCP servers, each opened once and shared by the calls of many tasks.

What it costs to open one is what it saves: a process and its imports (stdio), or a handshake (HTTP). Any SDK will do:
a session is whatever a factory's context manager gives, and `mcp` is imported only by `stdio` and `streamable_http`.
"""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from aiopool.adapters._given import ensure_allowed
from aiopool.adapters._mcp_branch import SessionFactory
from aiopool.adapters._mcp_branches import Branches
from aiopool.adapters._mcp_errors import NotSent, says_lost, says_not_run
from aiopool.adapters._mcp_http import streamable_http
from aiopool.adapters._mcp_stdio import stdio
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError
from aiopool.events import Listener
from aiopool.pool import CONFIGURED
from aiopool.stats import PoolStats

__all__ = ["DEFAULTS", "MCPSessionPool", "SessionFactory", "stdio", "streamable_http"]

R = TypeVar("R")

#: Sessions live as long as they are used. A server may take long to start; those who wait for one that can't be started
#: are told soon. One that has ended is seen at once in most cases, so that seldom a session is asked if it lives.
DEFAULTS = PoolConfig(
    min_size=0,
    max_size=4,
    max_lifetime=None,
    validate_after=5.0,
    open_timeout=30.0,
    unavailable_after=2.0,
)

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
    most `max_per_server` (4, or `config.max_size`) with one server for one identity. A session carries up to
    `max_shares` calls at once; with a server that is named in `exclusive` it carries one, for servers that keep a state
    for their caller. `config`, in place of `DEFAULTS`, holds for each server and identity, except for `min_size`: a
    session is opened when it is asked for.

    A session is given up when its connection is closed, its process has ended or its server does not know it; not for
    timeouts, cancellations and errors of tools. Raises what `ConnectionPool.acquire` does, whose `PoolUnavailable` has
    the reason as its cause; `PoolNotFound` for an unknown server; and what the client raises.
    """

    def __init__(
        self,
        servers: Mapping[str, SessionFactory],
        *,
        max_sessions: int = 32,
        max_per_server: int | None = None,
        max_shares: int = 32,
        exclusive: Collection[str] = (),
        config: PoolConfig | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(servers, Mapping):
            raise TypeError(
                f"servers is a {type(servers).__name__}: it must be a mapping of names to factories, such as "
                "{'files': stdio('python', 'server.py')}"
            )
        if type(max_sessions) is not int or max_sessions < 1:
            raise PoolConfigError(f"max_sessions={max_sessions!r} is not allowed: it must be a whole number, 1 or more")
        self._branches = Branches(
            name if name is not None else f"mcp-{next(_numbers)}",
            servers,
            max_sessions,
            [exclusive] if isinstance(exclusive, str) else exclusive,
            _config(config, max_per_server, max_shares),
        )

    @property
    def name(self) -> str:
        return self._branches.name

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
        """Call a tool; return what the client's own `call_tool` does, of which `options` are further keywords.

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
        call took too long. (If the server reads nothing any more, the SDK tries for 5 s more to tell it so.) Called
        once more, with another session, if the request certainly did not run: if the server did not know the session,
        or the session had ended before. If a session ends in the midst of the call and its client does not tell,
        `ConnectionError`; and `PoolClosed` if that is because the pool was closed.
        """
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            ensure_allowed("timeout", timeout, "acquire_timeout")
        until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            return await self._call_once(server, function, identity, until)
        except Exception as exc:
            if not says_not_run(exc):
                raise
        try:
            return await self._call_once(server, function, identity, until)
        except NotSent as exc:
            raise (exc.__cause__ or exc) from None

    @asynccontextmanager
    async def session(
        self, server: str, *, identity: Hashable = None, timeout: float | None = CONFIGURED
    ) -> AsyncIterator[Any]:
        """`async with` what the factory gave: a share of a session, or all of it if the server is `exclusive`.

        `timeout` in seconds is for a session to be had, as with `ConnectionPool.acquire`.
        """
        async with await self._branches.at(server, identity).acquire(timeout) as session:
            yield session.client

    async def _call_once(
        self, server: str, function: Callable[[Any], Awaitable[R]], identity: Hashable, until: float | None
    ) -> R:
        branches = self._branches
        branch, wait = branches.at(server, identity), branches.config.acquire_timeout
        if until is not None:
            left = max(0.0, until - asyncio.get_running_loop().time())
            wait = left if wait is None else min(wait, left)
        try:
            async with await branch.acquire(wait) as session:
                return await session.run(function, until)
        except Exception as exc:
            if branches.is_closed and says_lost(exc):
                raise branches.refusals.closed() from exc
            raise

    async def open(self) -> None:
        """Serve again after `close`, on another loop too. No session is opened before it is asked for."""
        self._branches.open()

    async def close(self, timeout: float | None = 10) -> None:
        """Refuse newcomers and those in line, wait for calls until the deadline, then end all sessions.

        None waits for ever, 0 ends them at once; each has `config.close_timeout` seconds for it, and some more that
        its process may need to be killed.
        """
        await self._branches.close(timeout)

    async def update(self, server: str, factory: SessionFactory) -> None:
        """Add a server, or replace it: then its sessions are closed as they fall idle, and no other's are."""
        self._branches.register(server, factory)
        if self._branches.loop is not None and not self._branches.is_closed:
            await self._branches.drain(server, 0.0)

    async def drain(self, server: str | None = None, over: float = 0.0) -> None:
        """Replace every session, or every one with that server: idle ones now, or spread over so many seconds."""
        await self._branches.drain(server, over)

    async def check(self) -> int:
        """Ask all idle sessions now whether their servers answer; return how many were replaced."""
        return await self._branches.check()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every event of every session, until the function that this returns is called."""
        return self._branches.subscribe(listener)

    def stats(self) -> PoolStats:
        """All figures of `PoolStats`, summed over servers and identities; `max_size` is `max_sessions`."""
        return self._branches.stats()

    def servers(self) -> dict[str, PoolStats]:
        """The figures of each server, summed over identities; `max_size` is that for one of them."""
        return self._branches.each()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __del__(self) -> None:
        if hasattr(self, "_branches") and self._branches.dissolve():
            warnings.warn(
                f"pool {self.name!r} was dropped without being closed: use `async with pool` or `await pool.close()`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


def _config(config: PoolConfig | None, max_per_server: int | None, max_shares: int) -> PoolConfig:
    if not isinstance(config, PoolConfig | None):
        raise TypeError(f"config is a {type(config).__name__}: it must be a PoolConfig, or None for the defaults")
    ensure_allowed("max_per_server", max_per_server, "max_size")
    if config is None:
        config = DEFAULTS if max_per_server is None else replace(DEFAULTS, max_size=max_per_server)
    if max_per_server not in (None, config.max_size):
        raise PoolConfigError(
            f"max_per_server={max_per_server!r} is not allowed with config.max_size={config.max_size}: give one of them"
        )
    if config.max_shares not in (1, max_shares):
        raise PoolConfigError(
            f"config.max_shares={config.max_shares} is not allowed with max_shares={max_shares!r}: give the latter only"
        )
    return replace(config, max_shares=max_shares)
