"""HTTP/1.1 over h11: one exchange at a time."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Iterable

import h11
import httpx

from aiopool.adapters._http_wire import Content, Exchange, Wire

#: So much of a body may wait for its reader before the server has to.
HIGH_WATER = 256 * 1024
#: If so little is missing of an answer that nobody wants any more, it is waited for; otherwise the connection ends.
TINY_REST = 64 * 1024
#: Headers larger than this are an attack, or a mistake.
MAX_HEAD = 100 * 1024


class HTTP1Wire(Wire):
    """The connection is lent again only if both sides have said all they had to say."""

    http_version = b"HTTP/1.1"

    def __init__(self) -> None:
        super().__init__()
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._exchange: Exchange | None = None
        self._is_held_back = False
        #: What goes out with the next packet.
        self._unsent = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.ready.set_result(None)

    async def check(self) -> bool:
        return self.is_usable and not self._has_news

    @property
    def _has_news(self) -> bool:
        """Between two exchanges that can only be its end, which the event loop was too busy to read."""
        if not self.has_answered or not hasattr(select, "poll"):
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def begin(self) -> Exchange:
        self._exchange = exchange = Exchange(self._loop.time())
        return exchange

    async def send(self, exchange: Exchange, request: httpx.Request, content: Content, timeout: float | None) -> None:
        if not self.is_usable or self._has_news:
            self.is_spent = True
            exchange.failed(httpx.WriteError("the connection is closed"), is_unprocessed=True)
            return
        try:
            # Never in a variable: an error shows those of every frame that it leaves.
            self._say(_head(request))
            if isinstance(content, bytes):
                if content:
                    self._say(h11.Data(data=content))
            else:
                self._flush()
                async for piece in content:
                    if exchange.is_over:
                        return
                    self._say(h11.Data(data=piece))
                    self._flush()
                    await self._drained(exchange, timeout)
            self._say(h11.EndOfMessage())
        except h11.LocalProtocolError as exc:
            raise httpx.LocalProtocolError(str(exc)) from exc
        self._flush()
        exchange.is_sent = True
        await self._drained(exchange, timeout)

    def _say(self, event: h11.Event) -> None:
        self._unsent += self._h11.send(event) or b""

    def _flush(self) -> None:
        if self._unsent and not self.is_lost:
            self.transport.write(self._unsent)
        self._unsent = b""

    def read(self, exchange: Exchange) -> bytes:
        data = exchange.read()
        self._hold_back(False)
        return data

    def leave(self, exchange: Exchange) -> None:
        exchange.forget()
        self._hold_back(False)
        if not self._turn_page() and not (self._h11.our_state is h11.DONE and exchange.missing <= TINY_REST):
            self.is_spent = True

    def _turn_page(self) -> bool:
        is_done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if is_done and not self._h11.trailing_data[0]:
            self._h11.start_next_cycle()
            self._exchange = None
            return True
        return False

    def reset(self) -> Awaitable[None] | None:
        return None if self._exchange is None else self._hear_out(self._exchange)

    async def _hear_out(self, exchange: Exchange) -> None:
        while not exchange.is_over:
            await self.hears(exchange, None)
            exchange.forget()
        if not self._turn_page():
            raise ConnectionError("the server has more to say than it told")

    @property
    def is_finished(self) -> bool:
        return self._h11.our_state in _ENDS and self._h11.their_state in _ENDS

    def _hold_back(self, does: bool) -> None:
        if does is not self._is_held_back and not self.is_lost and not self.transport.is_closing():
            self._is_held_back = does
            if does:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # -- what comes

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.is_ended:  # nobody asked
            self.is_spent = True
            self.transport.abort()
            return
        self._parse(data, exchange)
        if exchange.unread > HIGH_WATER:
            self._hold_back(True)

    def eof_received(self) -> None:
        """The end of an answer without a length, or of one that is cut."""
        self.is_spent = True
        if self._exchange is not None and self._exchange.head is not None:
            self._parse(b"", self._exchange)

    def _parse(self, data: bytes, exchange: Exchange) -> None:
        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if isinstance(event, h11.Data):
                    exchange.received(bytes(event.data))
                elif isinstance(event, h11.Response):
                    self.has_answered = True
                    exchange.answered(event.status_code, event.headers.raw_items(), event.reason)
                elif isinstance(event, h11.InformationalResponse):
                    if event.status_code == 101:  # the connection is not for HTTP any more
                        self.is_spent = True
                        exchange.answered(event.status_code, event.headers.raw_items(), event.reason)
                        exchange.ended()
                else:
                    if isinstance(event, h11.EndOfMessage):
                        exchange.ended()
                    return
        except h11.RemoteProtocolError as exc:
            self.is_spent = True
            exchange.failed(httpx.RemoteProtocolError(str(exc)))
            self.transport.abort()

    def _running(self) -> Iterable[Exchange]:
        return () if self._exchange is None else (self._exchange,)


_ENDS = {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}


def _head(request: httpx.Request) -> h11.Request:
    target = request.extensions.get("target", request.url.raw_path)
    return h11.Request(method=request.method, target=target, headers=request.headers.raw)
