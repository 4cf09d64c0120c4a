"""`DelayProxy`: a TCP proxy that makes a server far away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit


class DelayProxy:
    """Whatever passes takes half of `round_trip` seconds each way, and so does TCP's own handshake.

    The delay is a matter of time only: as on a long line, much can be under way at once.
    """

    def __init__(self, url: str, default_port: int) -> None:
        self._target = urlsplit(url)
        self._address = self._target.hostname or "127.0.0.1", self._target.port or default_port
        self.round_trip = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", backlog=1024)
        self._port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        user, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}{at}127.0.0.1:{self._port}"))

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._start(self._connect(reader, writer))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The client's connect() has returned already, so its first words wait for the handshake here.
        try:
            await asyncio.sleep(self.round_trip)
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(*self._address)
                try:
                    there, back = (
                        self._start(self._carry(reader, far_writer)),
                        self._start(self._carry(far_reader, writer)),
                    )
                    await asyncio.wait((there, back))
                finally:
                    far_writer.close()
        finally:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    break
                writer.write(data)
                await writer.drain()

        delivery = self._start(deliver())
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    under_way.put_nowait((loop.time() + self.round_trip / 2, data))
            under_way.put_nowait((loop.time() + self.round_trip / 2, b""))
            with suppress(OSError):
                await delivery
        finally:
            delivery.cancel()
            writer.close()
