"""MCP over stdin and stdout, for a process that serves nothing else.

The SDK's own transport cannot be left while the client keeps stdin open: the thread that reads it does not end.
Here it is one that nobody waits for, and it is told when the client is gone, in whatever way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server import Server
from mcp.shared.message import SessionMessage
from mcp.types import PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

logger = logging.getLogger("aiopool")

#: As much as the SDK takes over HTTP, in bytes; a message is a line.
MAX_MESSAGE = 4 * 1024 * 1024
#: How long the last answers may take to be written, in seconds, to a client that is gone or does not read.
WRITE_TIMEOUT = 2.0
_CHUNK = 64 * 1024


class Wire:
    """The descriptors 0 and 1, taken for the protocol alone.

    Whatever else in this process reads stdin finds nothing, and what it prints goes to stderr.
    """

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)

    async def serve(self, server: Server[Any], linger: Callable[[], Awaitable[None]]) -> None:
        """Serve until the client has closed either end, or until cancelled.

        Then `linger` is awaited, with calls still under way; those that are left are cancelled and answered so.
        """
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        writing = asyncio.create_task(self._write_all(outgoing))
        serving = asyncio.create_task(server.run(read, write, server.create_initialization_options()))
        for task in (writing, serving):
            task.add_done_callback(lambda _: gone.set())
        reading = threading.Thread(target=self._read_all, args=(loop, incoming, write, gone), daemon=True, name="stdin")
        reading.start()
        try:
            await gone.wait()
        finally:
            await linger()
            incoming.close()
            await asyncio.wait((serving, writing), timeout=WRITE_TIMEOUT)
            for task in (serving, writing):
                task.cancel()
            await asyncio.gather(serving, writing, return_exceptions=True)

    def _read_all(
        self,
        loop: asyncio.AbstractEventLoop,
        incoming: MemoryObjectSendStream[SessionMessage | Exception],
        write: MemoryObjectSendStream[SessionMessage],
        gone: asyncio.Event,
    ) -> None:
        """Runs in a thread of its own; reads no faster than the messages are taken."""

        async def take(line: bytes | None) -> None:
            try:
                if line is None:
                    raise ValueError("too long")
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                error = ErrorData(code=PARSE_ERROR, message="Parse error: not one JSON-RPC message a line")
                await write.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=None, error=error)))
            else:
                await incoming.send(SessionMessage(message))

        # RuntimeError: the loop is closed. The others: the server has ended.
        with suppress(RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            for line in _lines(self._in):
                asyncio.run_coroutine_threadsafe(take(line), loop).result()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(gone.set)

    async def _write_all(self, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
        with suppress(OSError):  # the client reads no more
            async with outgoing:
                async for message in outgoing:
                    line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await anyio.to_thread.run_sync(_write, self._out, f"{line}\n".encode(), abandon_on_cancel=True)


def _lines(descriptor: int) -> Iterator[bytes | None]:
    """The lines that are not empty; None for one that is too long, of which no more is kept than is needed."""
    parts: list[bytes] = []
    size = 0
    while chunk := _read(descriptor):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*parts, end)) if size + len(end) <= MAX_MESSAGE else None
            parts, size = [], 0
            if line is None or line.strip():
                yield line
        size += len(rest)
        if size > MAX_MESSAGE:
            parts = []
        elif rest:
            parts.append(rest)
    if parts:
        yield b"".join(parts)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
