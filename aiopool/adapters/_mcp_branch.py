"""`Branch`: the pool of the sessions with one server for one identity."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from aiopool import events
from aiopool.adapters._mcp_session import Session, opened
from aiopool.adapters._shared_limit import SharedLimit
from aiopool.config import PoolConfig
from aiopool.connection import PooledConnection
from aiopool.errors import PoolTimeout
from aiopool.lease import Lease
from aiopool.pool import ConnectionPool

#: Called without arguments, or with the `identity` that the session is for.
SessionFactory = Callable[..., AbstractAsyncContextManager[Any]]

#: Waiting for a place counts as opening, and is no failure.
LONGEST_OPENING = 86400.0
#: Seconds that the SDK takes to end a server that hears nothing, on top of what the client takes to say goodbye.
ENDING = 8.0


class Key(NamedTuple):
    server: str
    identity: Hashable


class Branch:
    """One key's sessions, within the limit that all have together."""

    def __init__(
        self,
        key: Key,
        name: str,
        config: PoolConfig,
        limit: SharedLimit[Session],
        factory_of: Callable[[str], SessionFactory],
    ) -> None:
        self.key = key
        self._limit = limit
        self._config = config
        self._factory_of = factory_of
        self._callers = 0
        #: What is being opened: done when that has ended, and until when it may take.
        self._openings: dict[asyncio.Future[None], float] = {}
        self.connections: dict[Session, PooledConnection[Session]] = {}
        self.pool: ConnectionPool[Session] = ConnectionPool(
            self._open,
            replace(
                config,
                min_size=0,
                # A process takes longer to start than the core expects of an opening that does not hang.
                max_opening=config.max_opening or (1 if config.max_shares > 1 else None),
                open_timeout=LONGEST_OPENING,
                close_timeout=config.close_timeout + ENDING,
            ),
            validator=Session.answers,
            aborter=Session.abort,
            is_broken=Session.is_broken,
            is_fatal=says_hopeless,
            name=name,
        )
        self.pool.subscribe(self._heed)

    async def acquire(self, timeout: float | None) -> Lease[Session]:
        """As the pool's own does, but tells if it is the others who keep it from opening one."""
        self._callers += 1
        self._limit.review()  # an opening may still be parked there whose caller has given up: now it has another
        try:
            return await self.pool.acquire(timeout)
        except PoolTimeout as exc:
            if exc.phase != "open" or not self._limit.is_parked(self):
                raise
            raise PoolTimeout(
                f"pool {self.pool.name!r} had no session in time (waited {exc.waited:.2f}s): all "
                f"max_sessions={self._limit.size} are in use for other servers or identities; raise max_sessions, hold "
                "sessions for a shorter time, or pass a longer timeout",
                waited=exc.waited,
                stats=exc.stats,
            ) from exc.__cause__
        finally:
            self._callers -= 1

    @property
    def is_awaited(self) -> bool:
        return self._callers > 0

    @property
    def is_unused(self) -> bool:
        stats = self.pool.stats()
        return not (stats["size"] or stats["opening"] or self._callers)

    async def close(self, timeout: float | None) -> None:
        """As the pool's own, but not in the midst of giving up an opening: it would cancel that, and so undo it."""
        loop = asyncio.get_running_loop()
        openings = [(opening, due) for opening, due in self._openings.items() if opening.get_loop() is loop]
        try:
            if late := [opening for opening, due in openings if due <= loop.time()]:
                await asyncio.wait(late, timeout=ENDING)
        except asyncio.CancelledError:
            timeout = 0
            raise
        finally:
            await self.pool.close(timeout)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Session]:
        loop, config, limit, session = asyncio.get_running_loop(), self._config, self._limit, None
        await limit.enter(self)
        opening = loop.create_future()
        self._openings[opening] = loop.time() + config.open_timeout
        try:
            made = called(self._factory_of(self.key.server), self.key.identity)
            async with opened(made, config.open_timeout, config.close_timeout) as session:
                del self._openings[opening]
                yield session
        finally:
            limit.leave(session)
            self._openings.pop(opening, None)
            opening.set_result(None)

    def _heed(self, event: events.Event) -> None:
        if isinstance(event, events.Opened):
            self.connections[event.info.connection] = event.info
        elif isinstance(event, events.Released):
            session: Session = event.info.connection
            # The pool asks next whether it is broken.
            session.is_spent = session.is_spent or self._limit.gives_way(event.info, self, event.at)
        elif isinstance(event, events.Closed):
            self.connections.pop(event.info.connection, None)


def called(factory: SessionFactory, identity: Hashable) -> AbstractAsyncContextManager[Any]:
    """A session to be entered. Raises `TypeError` if the factory makes something else."""
    session = factory(identity=identity) if "identity" in _parameters(factory) else factory()
    if not isinstance(session, AbstractAsyncContextManager):
        raise TypeError(
            f"the factory of an MCP server returned {type(session).__name__}, which is no async context manager: "
            "make it `lambda: mcp.Client(...)` or a function with @asynccontextmanager"
        )
    return session


def _parameters(factory: SessionFactory) -> Any:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of what is written in C there is none
        return ()


def says_hopeless(exc: BaseException) -> bool:
    """Where opening again can't help: wrong arguments, and commands that can't be run."""
    return isinstance(exc, (ValueError, TypeError, FileNotFoundError, PermissionError, NotADirectoryError))
