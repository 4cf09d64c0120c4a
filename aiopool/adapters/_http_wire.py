"""What HTTP/1.1 and HTTP/2 have in common: a `Wire` to a server, and the `Exchange`s on it.

The event loop reads, and writes are whole frames or messages in one synchronous step: no task of a caller is ever half
way through either, so a cancellation can only meet it while it waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from math import inf
from typing import Any, ClassVar

import httpx

#: The body of a request: all of it, or as it comes.
Content = bytes | AsyncIterable[bytes]

Head = tuple[int, list[tuple[bytes, bytes]], bytes]


class Exchange:
    """One request and its answer, as the wire knows it: what has come and was not read yet, and who waits for more."""

    __slots__ = (
        "_change",
        "_pieces",
        "began_at",
        "came",
        "error",
        "head",
        "id",
        "is_ended",
        "is_sent",
        "is_unprocessed",
        "unread",
    )

    def __init__(self, now: float) -> None:
        self.began_at = now
        #: The stream's, on HTTP/2.
        self.id = 0
        #: Status, headers and reason of the answer.
        self.head: Head | None = None
        #: The request has gone out, to its end.
        self.is_sent = False
        #: The answer has come, to its end.
        self.is_ended = False
        self.error: Exception | None = None
        #: The server certainly has not looked at the request, so anybody may send it again.
        self.is_unprocessed = False
        #: Bytes of the body that have come, and those of them that wait for their reader.
        self.came = 0
        self.unread = 0
        self._pieces: deque[bytes] = deque()
        #: At most one task is at work on an exchange, and it first sends and then reads.
        self._change: asyncio.Future[bool] | None = None

    @property
    def is_over(self) -> bool:
        return self.is_ended or self.error is not None

    @property
    def missing(self) -> float:
        """Bytes of the answer that are still to come; infinity if nobody knows."""
        lengths = [value for name, value in self.head[1] if name.lower() == b"content-length"] if self.head else []
        return int(lengths[0]) - self.came if lengths else inf

    # -- what the wire tells

    def answered(self, status: int, headers: list[tuple[bytes, bytes]], reason: bytes = b"") -> None:
        self.head = (status, headers, reason)
        self.wake()

    def received(self, data: bytes) -> None:
        self._pieces.append(data)
        self.came += len(data)
        self.unread += len(data)
        self.wake()

    def ended(self) -> None:
        self.is_ended = True
        self.wake()

    def failed(self, error: Exception, *, is_unprocessed: bool = False) -> None:
        if not self.is_over:
            self.error = error
            self.is_unprocessed = is_unprocessed
            self.wake()

    def wake(self) -> None:
        if self._change is not None:
            _give(self._change, True)

    @property
    def waits_to_send(self) -> bool:
        """Whoever waits for an answer is left alone by what only lets others send, or its timeout would begin anew."""
        return self._change is not None and not self.is_sent

    # -- what the caller does

    async def changes(self, seconds: float | None, overdue: type[httpx.TimeoutException]) -> None:
        """Waits until something has happened; raises `overdue` if nothing does for so many seconds."""
        loop = asyncio.get_running_loop()
        self._change = change = loop.create_future()
        # Half as dear as asyncio.timeout().
        timer = None if seconds is None else loop.call_later(seconds, _give, change, False)
        try:
            if not await change:
                raise overdue(f"nothing happened for {seconds}s")
        finally:
            self._change = None
            if timer is not None:
                timer.cancel()

    def read(self) -> bytes:
        """What has come of the body since the last time."""
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self.forget()
        return data

    def forget(self) -> None:
        self._pieces.clear()
        self.unread = 0


def _give(change: asyncio.Future[bool], has_happened: bool) -> None:
    if not change.done():
        change.set_result(has_happened)


class Wire(asyncio.Protocol):
    """One connection to a server, as a pool sees it."""

    http_version: ClassVar[bytes]
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        #: Done when it can be lent.
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._is_full = False
        #: It serves what runs on it, and nothing more.
        self.is_spent = False
        self._is_ended_here = False
        #: It has answered, so if it dies before the next answer, it was kept for too long.
        self.has_answered = False
        #: Leases it carries at once.
        self.capacity = 1
        #: Told when the socket is gone, and before that, when it is spent or its capacity is another one.
        self.on_lost: Callable[[Wire], object] = lambda wire: None
        self.on_change: Callable[[Wire], object] = lambda wire: None

    # -- what the pool asks

    @property
    def is_lost(self) -> bool:
        return self._lost.done()

    @property
    def is_usable(self) -> bool:
        return not (self.is_spent or self._lost.done() or self.transport.is_closing())

    @property
    def is_finished(self) -> bool:
        """Nothing is amiss: both sides have said all, and agreed that the connection ends with that."""
        return False

    async def check(self) -> bool:
        return self.is_usable

    def reset(self) -> Awaitable[None] | None:
        """What is to be done before it is lent again; None: nothing."""
        return None

    async def close(self) -> None:
        """Politely; returns when the socket is gone."""
        self._is_ended_here = True
        self.transport.close()
        await asyncio.wait((self._lost,))

    def abort(self) -> None:
        if not self.is_lost:
            self._is_ended_here = True
            self.transport.abort()

    # -- exchanges

    def begin(self) -> Exchange:
        raise NotImplementedError

    async def send(self, exchange: Exchange, request: httpx.Request, content: Content, timeout: float | None) -> None:
        """Sends the request, as far as the server wants to hear it; `timeout` bounds each wait for it to take more."""
        raise NotImplementedError

    def read(self, exchange: Exchange) -> bytes:
        return exchange.read()

    def leave(self, exchange: Exchange) -> None:
        """The caller is done with it, whether or not it has ended. Synchronous."""
        raise NotImplementedError

    async def head(self, exchange: Exchange, timeout: float | None) -> Head:
        while exchange.head is None:
            if exchange.error is not None:
                raise exchange.error
            await self.hears(exchange, timeout)
        return exchange.head

    async def hears(self, exchange: Exchange, timeout: float | None) -> None:
        await exchange.changes(timeout, httpx.ReadTimeout)

    async def _drained(self, exchange: Exchange, timeout: float | None) -> None:
        """Waits while the peer does not take what was sent; not for one that has answered already."""
        while self._is_full and not exchange.is_over and not self.is_lost:
            await exchange.changes(timeout, httpx.WriteTimeout)

    # -- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        for exchange in self._running():
            exchange.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set_result(None)
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("the server closed the connection at once"))
            self.ready.exception()  # whoever wants it asks again
        for exchange in self._running():
            exchange.failed(self._loss(exc))
        self.on_lost(self)

    def _loss(self, exc: Exception | None) -> Exception:
        """What to tell whoever was waiting for an answer."""
        if self._is_ended_here:
            return httpx.ReadError("the connection was closed on this side")
        if exc is None:
            return httpx.RemoteProtocolError("Server disconnected without sending a response.")
        return httpx.ReadError(str(exc) or type(exc).__name__)

    def _running(self) -> Iterable[Exchange]:
        raise NotImplementedError

    def _is_spent_now(self) -> None:
        if not self.is_spent:
            self.is_spent = True
            self.on_change(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'usable' if self.is_usable else 'unusable'}>"


class Greeter(asyncio.Protocol):
    """Stands at the end of the handshake, and lets the protocol that was agreed upon take over."""

    wire: Wire

    def __init__(self, choose: Callable[[Any], Wire]) -> None:
        self._choose = choose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        ssl_object = transport.get_extra_info("ssl_object")
        agreed = ssl_object.selected_alpn_protocol() if ssl_object is not None else None
        self.wire = self._choose(agreed)
        transport.set_protocol(self.wire)
        self.wire.connection_made(transport)
