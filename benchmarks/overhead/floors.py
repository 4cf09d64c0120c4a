"""What no pool can be cheaper than, and what people write by hand."""

from __future__ import annotations

import asyncio
from collections import deque

from benchmarks.overhead.contestant import SIZE, Spinner
from benchmarks.results import Kind


class _Lease:
    __slots__ = ("_connection", "_idle")

    def __init__(self, idle: deque[object]) -> None:
        self._idle = idle

    async def __aenter__(self) -> object:
        self._connection = connection = self._idle.pop()
        return connection

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        self._idle.append(self._connection)


class _DequePool:
    def __init__(self) -> None:
        self._idle = deque(object() for _ in range(SIZE))

    def acquire(self) -> _Lease:
        return _Lease(self._idle)


class Deque(Spinner):
    name = "floor: a deque"
    kind = Kind.FLOOR

    async def open(self) -> None:
        self._pool = _DequePool()

    async def spin(self, times: int) -> None:
        pool = self._pool
        for _ in range(times):
            async with pool.acquire():
                pass


class Queue(Spinner):
    """The shortest pool there is: no context manager, no limit on opening, no order."""

    name = "asyncio.Queue"
    kind = Kind.FLOOR

    async def open(self) -> None:
        self._queue: asyncio.Queue[object] = asyncio.Queue()
        for _ in range(SIZE):
            self._queue.put_nowait(object())

    async def spin(self, times: int) -> None:
        queue = self._queue
        for _ in range(times):
            connection = await queue.get()
            try:
                pass
            finally:
                queue.put_nowait(connection)


class _SemaphoreLease:
    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: _SemaphorePool) -> None:
        self._pool = pool

    async def __aenter__(self) -> object:
        await self._pool.slots.acquire()
        self._connection = connection = self._pool.idle.get_nowait()
        return connection

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        self._pool.idle.put_nowait(self._connection)
        self._pool.slots.release()


class _SemaphorePool:
    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(SIZE)
        self.idle: asyncio.LifoQueue[object] = asyncio.LifoQueue()
        for _ in range(SIZE):
            self.idle.put_nowait(object())

    def acquire(self) -> _SemaphoreLease:
        return _SemaphoreLease(self)


class SemaphoreAndLifoQueue(Spinner):
    name = "Semaphore + LifoQueue"
    kind = Kind.FLOOR

    async def open(self) -> None:
        self._pool = _SemaphorePool()

    async def spin(self, times: int) -> None:
        pool = self._pool
        for _ in range(times):
            async with pool.acquire():
                pass
