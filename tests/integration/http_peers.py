"""Small real servers for HTTP/1.1 and HTTP/2 that do what a test tells them to, however odd."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes, Settings

from aiopool.adapters.http import HTTPClientPool


class Peer:
    """A server on a free port: `connections` in the order they came."""

    def __init__(self) -> None:
        self.connections: list[Any] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}"


class HTTP1Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader, self.writer, self.number = reader, writer, number
        self.requests: list[str] = []

    async def request(self) -> str:
        """Reads a request with its body; returns its first line, or "" if the client went away."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        except asyncio.IncompleteReadError:
            return ""
        if "content-length: " in head:
            await self.reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        line = head.split("\r\n")[0]
        self.requests.append(line)
        return line

    def answer(self, body: bytes = b"ok", head: str = "HTTP/1.1 200 OK", **headers: str) -> None:
        headers.setdefault("content_length", str(len(body)))
        lines = [head, *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


class HTTP2Connection(HTTP1Connection):
    """`events` of the requests come out of `next`; what must be acknowledged is."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        super().__init__(reader, writer, number)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.bodies: dict[int, bytes] = {}
        self.resets: list[int] = []
        self.pings = 0
        self._asked: asyncio.Queue[int] = asyncio.Queue()

    async def start(self, **settings: int) -> None:
        values = {SettingCodes[name.upper()]: value for name, value in settings.items()}
        self.h2.local_settings = Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def settings(self, **settings: int) -> None:
        self.h2.update_settings({SettingCodes[name.upper()]: value for name, value in settings.items()})
        self.flush()

    async def next(self) -> int:
        """The id of the next stream whose request has come to its end; 0 if the client went away."""
        return await self._asked.get()

    async def read(self) -> None:
        while data := await self.reader.read(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self._asked.put_nowait(event.stream_id)
                elif isinstance(event, h2.events.StreamReset):
                    self.resets.append(event.stream_id)
                elif isinstance(event, h2.events.PingReceived):
                    self.pings += 1
            self.flush()
        self._asked.put_nowait(0)

    def reply(self, stream: int, body: bytes = b"ok", status: str = "200") -> None:
        self.h2.send_headers(stream, [(":status", status)])
        self.h2.send_data(stream, body, end_stream=True)
        self.flush()

    def goaway(self, last_stream_id: int) -> None:
        """By hand: h2 ends the whole connection with it, though RFC 9113 lets its streams go on."""
        payload = last_stream_id.to_bytes(4, "big") + (0).to_bytes(4, "big")
        self.writer.write(len(payload).to_bytes(3, "big") + b"\x07\x00" + (0).to_bytes(4, "big") + payload)


@asynccontextmanager
async def http1_peer(
    handle: Callable[[HTTP1Connection], Awaitable[None]], context: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Peer]:
    async with _peer(HTTP1Connection, handle, context, port) as peer:
        yield peer


@asynccontextmanager
async def http2_peer(handle: Callable[[HTTP2Connection], Awaitable[None]]) -> AsyncIterator[Peer]:
    """Speaks HTTP/2 without TLS, to clients that know beforehand."""

    async def serve(connection: HTTP2Connection) -> None:
        reading = asyncio.create_task(connection.read())
        try:
            await handle(connection)
            await reading
        finally:
            reading.cancel()

    async with _peer(HTTP2Connection, serve, None, 0) as peer:
        yield peer


@asynccontextmanager
async def _peer(
    kind: Any, handle: Callable[[Any], Awaitable[None]], context: ssl.SSLContext | None, port: int
) -> AsyncIterator[Peer]:
    peer = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.tasks.add(task := asyncio.current_task())  # type: ignore[arg-type]
        connection = kind(reader, writer, len(peer.connections))
        peer.connections.append(connection)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await handle(connection)
        finally:
            peer.tasks.discard(task)  # type: ignore[arg-type]
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in list(peer.tasks):
            task.cancel()
        if peer.tasks:
            await asyncio.wait(peer.tasks)
        for connection in peer.connections:
            connection.reset()
        await asyncio.sleep(0)


def http2_pool(peer: Peer, **settings: Any) -> HTTPClientPool:
    """Without TLS there is no ALPN: the client knows beforehand."""
    return HTTPClientPool(peer.url(), http1=False, **{"timeout": 5, **settings})


async def serve_all(connection: HTTP1Connection) -> None:
    while await connection.request():
        connection.answer()


async def serve_all_2(connection: HTTP2Connection) -> None:
    await connection.start()
    while stream := await connection.next():
        connection.reply(stream)
