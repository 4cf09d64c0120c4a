"""What no pool can be cheaper than, and what people write by hand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks.pools.pool import Pool
from benchmarks.results import Kind


class _DequeLease:
    __slots__ = ("_connection", "_idle")

    def __init__(self, idle: deque[object]) -> None:
        self._idle = idle

    async def __aenter__(self) -> object:
        self._connection = connection = self._idle.pop()
        return connection

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        self._idle.append(self._connection)


class _DequePool:
    def __init__(self, size: int) -> None:
        self._idle = deque(object() for _ in range(size))

    def acquire(self) -> _DequeLease:
        return _DequeLease(self._idle)


class Deque(Pool):
    """Not for more tasks than connections: nobody can wait."""

    name = "floor: a deque"
    kind = Kind.FLOOR

    async def open(self) -> None:
        self.lease = _DequePool(self.size).acquire


class _QueueLease:
    __slots__ = ("_connection", "_queue")

    def __init__(self, queue: asyncio.Queue[object]) -> None:
        self._queue = queue

    async def __aenter__(self) -> object:
        self._connection = connection = await self._queue.get()
        return connection

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        self._queue.put_nowait(self._connection)


class Queue(Pool):
    """The shortest pool there is: no limit on opening, no order."""

    name = "asyncio.Queue"
    kind = Kind.FLOOR

    async def open(self) -> None:
        self._queue: asyncio.Queue[object] = asyncio.Queue()
        for _ in range(self.size):
            self._queue.put_nowait(object())
        self.lease = partial(_QueueLease, self._queue)

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
        pool = self._pool
        await pool.slots.acquire()
        if pool.idle.empty():
            await pool.connect()
            pool.idle.put_nowait(object())
        self._connection = connection = pool.idle.get_nowait()
        return connection

    async def __aexit__(self, kind: object, exc: object, traceback: object) -> None:
        self._pool.idle.put_nowait(self._connection)
        self._pool.slots.release()


class _SemaphorePool:
    def __init__(self, size: int, connect: Callable[[], Awaitable[None]]) -> None:
        self.slots = asyncio.Semaphore(size)
        self.idle: asyncio.LifoQueue[object] = asyncio.LifoQueue()
        self.connect = connect

    def acquire(self) -> _SemaphoreLease:
        return _SemaphoreLease(self)


class SemaphoreAndLifoQueue(Pool):
    """A slot for each connection, in order, and the connections that are idle."""

    name = "Semaphore + LifoQueue"
    kind = Kind.FLOOR

    async def open(self) -> None:
        pool = _SemaphorePool(self.size, self.connect)
        for _ in range(self.least):
            pool.idle.put_nowait(object())
        self.made = self.begun = self.least
        self.lease = pool.acquire
