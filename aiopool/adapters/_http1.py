"""HTTP/1.1 over h11: one exchange at a time."""

from __future__ import annotations

import asyncio
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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.ready.set_result(None)

    def begin(self) -> Exchange:
        self._exchange = exchange = Exchange(self._loop.time())
        return exchange

    async def send(self, exchange: Exchange, request: httpx.Request, content: Content, timeout: float | None) -> None:
        if not self.is_usable:
            exchange.failed(httpx.WriteError("the connection is closed"), is_unprocessed=True)
            return
        target = request.extensions.get("target", request.url.raw_path)
        try:
            head = h11.Request(method=request.method, target=target, headers=request.headers.raw)
            data = self._h11.send(head) or b""
            if not isinstance(content, bytes):
                self.transport.write(data)
                async for piece in content:
                    if exchange.is_over:
                        return
                    self._write(h11.Data(data=piece))
                    await self._drained(exchange, timeout)
                data = b""
            elif content:
                data += self._h11.send(h11.Data(data=content)) or b""
            data += self._h11.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as exc:
            raise httpx.LocalProtocolError(str(exc)) from exc
        self._put(data)
        exchange.is_sent = True
        await self._drained(exchange, timeout)

    def _write(self, event: h11.Data) -> None:
        self._put(self._h11.send(event) or b"")

    def _put(self, data: bytes) -> None:
        if data and not self.is_lost:
            self.transport.write(data)

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
        if self._exchange is None:  # nobody asked
            self.is_spent = True
            self.transport.abort()
            return
        self._parse(data, self._exchange)
        if self._exchange is not None and self._exchange.unread > HIGH_WATER:
            self._hold_back(True)

    def eof_received(self) -> None:
        """The end of an answer without a length, or of one that is cut."""
        self.is_spent = True
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.head is not None:
            self._parse(b"", exchange)

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
