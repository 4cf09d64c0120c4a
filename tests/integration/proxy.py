"""A TCP proxy that counts what clients send, and can fall silent."""

from __future__ import annotations

import asyncio
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """`sent` counts the pieces that came from clients: a driver writes one for each round trip."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.sent = 0
        self.connections = 0
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1")
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.speak()
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(0.01)

    @property
    def url(self) -> str:
        user = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    def fall_silent(self) -> None:
        """As if the network were gone: nothing passes, and nobody is told. Newcomers get no answer either."""
        self._speaks.clear()

    def speak(self) -> None:
        self._speaks.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        host, port = self._target.hostname, self._target.port
        server_reader, server_writer = await asyncio.open_connection(host, port)
        self._writers += [writer, server_writer]
        await asyncio.gather(
            self._forward(reader, server_writer, counts=True),
            self._forward(server_reader, writer, counts=False),
        )

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool) -> None:
        try:
            while data := await reader.read(65536):
                await self._speaks.wait()
                self.sent += counts
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
