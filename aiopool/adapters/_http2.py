"""HTTP/2 over h2: as many exchanges at once as the server's SETTINGS allow at that moment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
import httpx
from h2.settings import SettingCodes

from aiopool.adapters._http2_connection import H2Connection
from aiopool.adapters._http_wire import Content, Exchange, Wire

#: Of the answers that wait for their readers: bytes that the server may send of each, and of all together.
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 24
#: What a server that names no limit gets, and the most that we use of any: more streams only wait for one another.
USUAL_STREAMS, MOST_STREAMS = 100, 1000

#: Headers of a connection, which HTTP/2 has frames for; and the host, which is its `:authority`.
_NOT_IN_HTTP2 = {b"host", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}


class HTTP2Wire(Wire):
    """Each exchange is a stream. One that is left before its end is reset, and the others go on."""

    http_version = b"HTTP/2"

    def __init__(self) -> None:
        super().__init__()
        self._h2 = H2Connection(STREAM_WINDOW)
        self._exchanges: dict[int, Exchange] = {}
        self._pongs: dict[bytes, asyncio.Future[bool]] = {}
        #: Bytes received that the server was not given back yet.
        self._owed = 0
        self._heard_at = self._loop.time()
        self._will_flush = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW)
        self._flush()

    async def check(self) -> bool:
        """A PING that is answered."""
        if not self.is_usable:
            return False
        data = os.urandom(8)
        pong: asyncio.Future[bool] = self._loop.create_future()
        self._pongs[data] = pong
        try:
            self._h2.ping(data)
            self._flush()
            return await pong
        finally:
            self._pongs.pop(data, None)

    async def close(self) -> None:
        with suppress(h2.exceptions.ProtocolError):
            self._h2.close_connection()
            self._flush()
        await super().close()

    # -- an exchange

    def begin(self) -> Exchange:
        return Exchange(self._loop.time())

    async def send(self, exchange: Exchange, request: httpx.Request, content: Content, timeout: float | None) -> None:
        try:
            self._open_stream(exchange, request, ends=content == b"")
            if isinstance(content, bytes):
                await self._send_data(exchange, content, timeout, ends=True)
            elif not exchange.is_over:
                async for piece in content:
                    await self._send_data(exchange, piece, timeout)
                    if exchange.is_over:
                        return
            if not exchange.is_sent and not exchange.is_over:
                self._h2.end_stream(exchange.id)
                exchange.is_sent = True
                self._flush_soon()
        except h2.exceptions.ProtocolError as exc:
            raise httpx.LocalProtocolError(str(exc)) from exc

    def _open_stream(self, exchange: Exchange, request: httpx.Request, *, ends: bool) -> None:
        if not self.is_usable:
            exchange.failed(httpx.WriteError("the connection takes no more requests"), is_unprocessed=True)
            return
        try:
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, _headers(request), end_stream=ends)
        except h2.exceptions.NoAvailableStreamIDError as exc:
            self._is_spent_now()
            exchange.failed(httpx.LocalProtocolError(str(exc)), is_unprocessed=True)
        except h2.exceptions.TooManyStreamsError as exc:  # the limit fell after the lease was granted
            exchange.failed(httpx.LocalProtocolError(str(exc)), is_unprocessed=True)
        else:
            exchange.id = stream_id
            exchange.is_sent = ends
            self._exchanges[stream_id] = exchange
            self._flush_soon()

    async def _send_data(
        self, exchange: Exchange, content: bytes, timeout: float | None, *, ends: bool = False
    ) -> None:
        sent = 0
        while sent < len(content) and not exchange.is_over:
            room = self._room(exchange)
            if room <= 0:
                await exchange.changes(timeout, httpx.WriteTimeout)
                continue
            piece = content[sent : sent + room]
            sent += len(piece)
            exchange.is_sent = ends and sent == len(content)
            self._h2.send_data(exchange.id, piece, end_stream=exchange.is_sent)
            self._flush()
            await self._drained(exchange, timeout)

    def read(self, exchange: Exchange) -> bytes:
        credit = exchange.unread
        data = exchange.read()
        if not exchange.is_over:
            with suppress(h2.exceptions.ProtocolError):
                self._h2.increment_flow_control_window(credit, exchange.id)
            self._flush_soon()
        return data

    def leave(self, exchange: Exchange) -> None:
        exchange.forget()
        if self._exchanges.pop(exchange.id, None) is None or self.is_lost:
            return
        if not (exchange.is_sent and exchange.is_ended):
            with suppress(h2.exceptions.ProtocolError):
                self._h2.reset_stream(exchange.id, h2.errors.ErrorCodes.CANCEL)
            self._flush_soon()

    async def hears(self, exchange: Exchange, timeout: float | None) -> None:
        try:
            await super().hears(exchange, timeout)
        except httpx.ReadTimeout:
            if self._heard_at < exchange.began_at:  # not only this answer is missing: the peer may be gone
                self._is_spent_now()
            raise

    # -- writing

    def _flush_soon(self) -> None:
        """Once for all that is said in this turn of the loop."""
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._will_flush = False
        data = self._h2.data_to_send()
        if data and not self.is_lost:
            self.transport.write(data)

    # -- what comes

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            for event in self._h2.receive_data(data):
                act = _ACTIONS.get(type(event))
                if act is not None:
                    act(self, event)
        except h2.exceptions.ProtocolError as exc:
            self._is_spent_now()
            self._flush()
            for exchange in self._exchanges.values():
                exchange.failed(httpx.RemoteProtocolError(str(exc) or type(exc).__name__))
            self.transport.close()
            return
        if self._owed >= CONNECTION_WINDOW // 2:
            self._h2.increment_flow_control_window(self._owed)
            self._owed = 0
        self._flush()

    def _response(self, event: h2.events.ResponseReceived) -> None:
        if (exchange := self._exchanges.get(event.stream_id)) is not None:
            headers: list[tuple[bytes, bytes]] = [(bytes(name), bytes(value)) for name, value in event.headers]
            status = next((int(value) for name, value in headers if name == b":status"), 0)
            self.has_answered = True
            exchange.answered(status, [header for header in headers if not header[0].startswith(b":")])

    def _data(self, event: h2.events.DataReceived) -> None:
        # The connection's window is for everybody, so that a slow reader holds up itself alone.
        self._owed += event.flow_controlled_length
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None:
            return
        if event.data:
            exchange.received(event.data)
        padding = event.flow_controlled_length - len(event.data)
        if padding and event.stream_ended is None:
            with suppress(h2.exceptions.ProtocolError):  # a later frame that came with it may have ended the stream
                self._h2.increment_flow_control_window(padding, event.stream_id)

    def _stream_ended(self, event: h2.events.StreamEnded) -> None:
        if (exchange := self._exchanges.get(event.stream_id)) is not None:
            exchange.ended()

    def _stream_reset(self, event: h2.events.StreamReset) -> None:
        if (exchange := self._exchanges.get(event.stream_id)) is not None:
            is_refused = event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
            code = getattr(event.error_code, "name", event.error_code)
            exchange.failed(
                httpx.RemoteProtocolError(f"the server reset the stream: {code}"), is_unprocessed=is_refused
            )

    def _settings(self, event: h2.events.RemoteSettingsChanged) -> None:
        limit = event.changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)
        capacity = self.capacity if self.ready.done() else USUAL_STREAMS
        if limit is not None:
            capacity = min(limit.new_value, MOST_STREAMS)
        is_news, self.capacity = capacity != self.capacity, capacity
        if not self.ready.done():
            self.ready.set_result(None)
        elif is_news:
            self.on_change(self)
        self._let_send()

    def _window(self, event: h2.events.WindowUpdated) -> None:
        self._let_send()

    def _pong(self, event: h2.events.PingAckReceived) -> None:
        pong = self._pongs.get(event.ping_data)
        if pong is not None and not pong.done():
            pong.set_result(True)

    def _goaway(self, event: h2.events.ConnectionTerminated) -> None:
        """No new stream; those above the last id were not looked at, the others end as ever."""
        self._is_spent_now()
        last = event.last_stream_id or 0
        for exchange in list(self._exchanges.values()):
            if exchange.id > last:
                exchange.failed(httpx.RemoteProtocolError("the server goes away"), is_unprocessed=True)

    def _let_send(self) -> None:
        """A window has opened: wakes those who can go on."""
        for exchange in self._exchanges.values():
            if exchange.waits_to_send and not exchange.is_over and self._room(exchange) > 0:
                exchange.wake()

    def _room(self, exchange: Exchange) -> int:
        return min(self._h2.local_flow_control_window(exchange.id), self._h2.max_outbound_frame_size)

    def _running(self) -> Iterable[Exchange]:
        return self._exchanges.values()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for pong in self._pongs.values():
            if not pong.done():
                pong.set_result(False)


_ACTIONS: dict[type[h2.events.Event], Callable[[HTTP2Wire, Any], None]] = {
    h2.events.ResponseReceived: HTTP2Wire._response,
    h2.events.DataReceived: HTTP2Wire._data,
    h2.events.StreamEnded: HTTP2Wire._stream_ended,
    h2.events.StreamReset: HTTP2Wire._stream_reset,
    h2.events.RemoteSettingsChanged: HTTP2Wire._settings,
    h2.events.WindowUpdated: HTTP2Wire._window,
    h2.events.PingAckReceived: HTTP2Wire._pong,
    h2.events.ConnectionTerminated: HTTP2Wire._goaway,
}


def _headers(request: httpx.Request) -> list[tuple[bytes, bytes]]:
    raw = [(name.lower(), value) for name, value in request.headers.raw]
    return [
        (b":method", request.method.encode("ascii")),
        (b":authority", next((value for name, value in raw if name == b"host"), request.url.netloc)),
        (b":scheme", request.url.raw_scheme),
        (b":path", request.extensions.get("target", request.url.raw_path)),
        *(header for header in raw if header[0] not in _NOT_IN_HTTP2),
    ]
