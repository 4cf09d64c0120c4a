"""`Session`: one session as the pool has it, from its opening to its end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from inspect import iscoroutinefunction
from typing import Any, TypeVar

import anyio

from aiopool.adapters._mcp_errors import NotSent, is_answer, leaf, says_lost, says_not_run

R = TypeVar("R")

#: From this version of the protocol on there is no `ping`. (Versions are dates.)
_WITHOUT_PING = "2026-07-28"
#: Seconds; the SDK needs up to 6.5 to end a process that will not.
_TRANSPORT_TIMEOUT = 7.0


class Session:
    """What a factory gave, and the calls that run on it now."""

    def __init__(self, client: Any) -> None:
        self.client = client
        #: Not to be lent again: somebody else has to have its place.
        self.is_spent = False
        self._is_over = False
        self._error: BaseException | None = None
        self._running: set[asyncio.Timeout] = set()

    async def run(self, function: Callable[[Any], Awaitable[R]], until: float | None) -> R:
        """Calls it, until that time on the loop's clock at most, and no longer than the session lives.

        Raises `TimeoutError`, `NotSent`, and `ConnectionError` if the session ends and the client does not say so.
        """
        limit = asyncio.timeout_at(until)
        turns: list[None] = []
        turn = asyncio.get_running_loop().call_soon(turns.append, None)
        try:
            async with limit:
                self._running.add(limit)
                try:
                    return await function(self.client)
                except Exception as exc:
                    # What failed before the loop had a turn has waited for nothing, and so has sent nothing.
                    if not turns and says_lost(exc) and not says_not_run(exc):
                        raise NotSent("the MCP session had ended before the call") from exc
                    raise
                finally:
                    turn.cancel()
                    self._running.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            if self._is_over:
                raise ConnectionError("the MCP session ended under the call") from self._error
            raise

    def abort(self, error: BaseException | None = None) -> None:
        """It ends; who still waits for an answer shall not wait for what the client does about it."""
        self._is_over, self._error = True, self._error or error
        now = asyncio.get_running_loop().time()
        for limit in self._running:
            with suppress(RuntimeError):  # it is expiring already
                limit.reschedule(now)

    def is_broken(self, error: BaseException | None) -> bool:
        return self.is_spent or self._is_over or says_lost(error) or not self._is_connected()

    async def answers(self) -> bool:
        """Whether the server does; an error is an answer, too."""
        try:
            await self._probe()
        except Exception as exc:
            return is_answer(exc) and not self.is_broken(exc)
        return not self.is_broken(None)

    async def _probe(self) -> None:
        protocol = getattr(self.client, "session", self.client)
        version = getattr(protocol, "protocol_version", None)
        if version is not None and version >= _WITHOUT_PING and hasattr(protocol, "send_discover"):
            await protocol.send_discover(version)
        elif hasattr(protocol, "send_ping"):
            await protocol.send_ping()
        elif hasattr(self.client, "list_tools"):
            await self.client.list_tools()

    def _is_connected(self) -> bool:
        """As far as the client knows; only fastmcp's has something to say."""
        knows = getattr(self.client, "is_connected", None)
        return bool(knows()) if callable(knows) else True


@asynccontextmanager
async def opened(
    session: AbstractAsyncContextManager[Any], open_timeout: float, close_timeout: float
) -> AsyncIterator[Session]:
    """A session, entered and left within so many seconds; to be used in a task of its own.

    The bounds are anyio's own: a cancellation from outside goes through the shields that clients end their servers
    behind.
    """
    lent: Session | None = None
    error: BaseException | None = None
    try:
        with anyio.CancelScope(deadline=anyio.current_time() + open_timeout) as scope:
            async with _left_for_good(session) as client:
                scope.deadline = math.inf
                lent = Session(client)
                try:
                    yield lent
                finally:
                    scope.deadline = anyio.current_time() + close_timeout
        if scope.cancelled_caught:
            raise TimeoutError(
                f"opening a session took longer than open_timeout={open_timeout}s"
                if lent is None
                else f"closing a session took longer than close_timeout={close_timeout}s"
            )
    except BaseExceptionGroup as group:
        error = leaf(group)
        raise error from None
    except BaseException as exc:
        error = exc
        raise
    finally:
        if lent is not None:
            lent.abort(error)


@asynccontextmanager
async def _left_for_good(session: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """fastmcp's client keeps its process for another session, unless its transport is closed, too."""
    try:
        async with session as client:
            yield client
    finally:
        close = getattr(getattr(session, "transport", None), "close", None)
        if iscoroutinefunction(close):
            with anyio.move_on_after(_TRANSPORT_TIMEOUT, shield=True):
                await close()
