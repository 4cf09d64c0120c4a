"""`Lifespan`: pools that open when the first of many comes and close when the last one goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Protocol

from aiopool.errors import PoolUnavailable, WrongLoop


class Manager(Protocol):
    """What a lifespan opens and closes."""

    @property
    def pools(self) -> Mapping[str, Any]: ...
    async def open_all(self) -> None: ...
    async def close_all(self) -> None: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Lifespan:
    """Counts who is in. On one loop at a time; after that has ended, on another."""

    def __init__(self) -> None:
        self._stay: _Stay | None = None
        self._guard = threading.Lock()

    @asynccontextmanager
    async def of(self, manager: Manager) -> AsyncIterator[Mapping[str, Any]]:
        stay = self._come()
        await stay.enter(manager)
        try:
            yield manager.pools
        except BaseException as exc:
            await stay.leave(manager, exc)
            raise
        else:
            await stay.leave(manager, None)

    def _come(self) -> _Stay:
        loop = asyncio.get_running_loop()
        with self._guard:
            stay = self._stay
            if stay is None or (stay.loop is not loop and (stay.loop.is_closed() or stay.is_over)):
                self._stay = stay = _Stay(loop, is_to_be_closed=stay is not None and stay.end())
            elif stay.loop is not loop:
                raise WrongLoop(
                    "the lifespan of these pools was entered on another event loop, which has not ended: leave it "
                    "there first, or build a PoolManager for each loop"
                )
            stay.guests += 1
            return stay


class _Stay:
    """On one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_to_be_closed: bool) -> None:
        self.loop = loop
        #: Who has come and not gone, also if they wait still for the pools to open.
        self.guests = 0
        self._is_open = False
        #: A close was cut short, or never began: whoever opens next makes up for it.
        self._is_to_be_closed = is_to_be_closed
        #: Opening and closing take turns.
        self._turn = asyncio.Lock()
        self._failure: Exception | None = None

    @property
    def is_over(self) -> bool:
        return self.guests == 0 and not self._turn.locked()

    def end(self) -> bool:
        """From outside; an exit that comes later has nothing to close. Whether something may be open still."""
        self._is_open = False
        return self._is_to_be_closed or not self.is_over

    async def enter(self, manager: Manager) -> None:
        failure = self._failure
        try:
            async with self._turn:
                if not self._is_open:
                    # Of many who come together, one finds out that a backend is down, which may take long.
                    if self._failure is not failure:
                        raise PoolUnavailable(
                            f"the pools could not be opened ({type(self._failure).__name__}): somebody who came "
                            "at the same time has just tried, see the cause"
                        ) from self._failure
                    await self._open(manager)
        except BaseException as exc:
            await self.leave(manager, exc)
            raise

    async def _open(self, manager: Manager) -> None:
        try:
            if self._is_to_be_closed:
                await manager.close_all()
                self._is_to_be_closed = False
            await manager.open_all()
        except Exception as exc:
            self._failure = exc
            raise
        except BaseException:
            self._is_to_be_closed = True
            raise
        self._is_open = True

    async def leave(self, manager: Manager, exc: BaseException | None) -> None:
        self.guests -= 1
        if self.guests:
            return
        self._failure = None
        if not self._is_open:
            return
        self._is_open = False
        # Nobody else is in, so nobody has the turn, and this does not wait.
        async with self._turn:
            try:
                await manager.__aexit__(type(exc) if exc else None, exc, exc.__traceback__ if exc else None)
            except Exception:
                raise
            except BaseException:
                self._is_to_be_closed = True
                raise
