"""MCP over stdin and stdout, for a process that serves nothing else.

The SDK's own transport cannot be left while the client keeps stdin open: the thread that reads it does not end.
Here it is one that nobody waits for, and it is told when the client is gone, in whatever way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import (
    INTERNAL_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    RequestId,
)

from aiopool.toolserver._jsonrpc import NoMessage, TooLong, read_lines, read_message
from aiopool.toolserver.server import ToolServer

logger = logging.getLogger("aiopool")

#: Requests that are read and not answered yet; with so many, no more is read until the client takes its answers.
MAX_ASKED = 2000
#: How long the last answers may take to be written, in seconds, to a client that is gone or does not read.
WRITE_TIMEOUT = 1.0


class Wire:
    """The protocol on two descriptors that belong to it alone."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._in, self._out = incoming, outgoing
        #: The requests that were read and not answered yet.
        self._asked: set[RequestId] = set()
        self._answered_all, self._has_room = asyncio.Event(), asyncio.Event()
        self._answered_all.set()
        self._has_room.set()

    async def serve(self, server: ToolServer, grace: float, ending: Callable[[], object]) -> None:
        """Serve until the client has closed either end, or until cancelled.

        Then `ending` is called, and what was asked before is answered if that takes no more than `grace` seconds;
        calls that are left are cancelled, and answered, too.
        """
        mcp, loop, gone = server.mcp, asyncio.get_running_loop(), asyncio.Event()
        incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        writing = asyncio.create_task(self._write_all(outgoing))
        serving = asyncio.create_task(mcp.run(read, write, mcp.create_initialization_options()))
        for task in (writing, serving):
            task.add_done_callback(lambda _: gone.set())
        reading = threading.Thread(target=self._read_all, args=(loop, incoming, write, gone), daemon=True, name="stdin")
        reading.start()
        try:
            await gone.wait()
        except asyncio.CancelledError:
            server.refuse_calls()  # the client may go on asking
            raise
        finally:
            ending()
            server.end_streams()
            answering = asyncio.create_task(self._answered_all.wait())
            if self._is_read():
                await asyncio.wait((answering, writing, serving), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            server.cancel_calls()
            await asyncio.wait(
                (answering, writing, serving), timeout=WRITE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
            incoming.close()
            await asyncio.wait((serving, writing), timeout=WRITE_TIMEOUT)
            for each in (answering, serving, writing):
                each.cancel()
            await asyncio.gather(serving, writing, return_exceptions=True)
        for task in (serving, writing):
            if not task.cancelled():
                task.result()  # a fault of ours is no orderly end

    def _is_read(self) -> bool:
        """Whether there is anybody yet who could read an answer: a client that was killed has closed both ends."""
        poll = select.poll()
        poll.register(self._out, 0)  # of errors and hang-ups one is told anyway
        return not poll.poll(0)

    def _read_all(
        self,
        loop: asyncio.AbstractEventLoop,
        incoming: MemoryObjectSendStream[SessionMessage | Exception],
        write: MemoryObjectSendStream[SessionMessage],
        gone: asyncio.Event,
    ) -> None:
        """Runs in a thread of its own; reads no faster than the messages are taken."""

        async def take(line: bytes | TooLong) -> None:
            try:
                message = read_message(line)
            except NoMessage as exc:
                await write.send(SessionMessage(exc.answer))
            else:
                await self._has_room.wait()
                self._note(message)
                await incoming.send(SessionMessage(message))

        # RuntimeError: the loop is closed. The others: the server has ended.
        with suppress(RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            for line in read_lines(self._in):
                asyncio.run_coroutine_threadsafe(take(line), loop).result()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(gone.set)

    async def _write_all(self, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
        with suppress(OSError):  # the client reads no more
            async with outgoing:
                async for message in outgoing:
                    line = _as_line(message.message)
                    await anyio.to_thread.run_sync(_write, self._out, line, abandon_on_cancel=True)
                    self._note(message.message)

    def _note(self, message: JSONRPCMessage) -> None:
        """A request waits for its answer, unless its client cancels it: then there is none."""
        if isinstance(message, JSONRPCRequest):
            self._asked.add(message.id)
        elif isinstance(message, JSONRPCNotification):
            if message.method == "notifications/cancelled" and message.params:
                request = message.params.get("requestId")
                if isinstance(request, int | str):
                    self._asked.discard(request)
        elif message.id is not None:
            self._asked.discard(message.id)
        for event, is_so in ((self._answered_all, not self._asked), (self._has_room, len(self._asked) < MAX_ASKED)):
            event.set() if is_so else event.clear()


def _as_line(message: JSONRPCMessage) -> bytes:
    try:
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
    except ValueError as exc:  # half a surrogate pair, such as a file's "\\ud800"
        logger.error("a message cannot be written as JSON (%s)", type(exc).__name__)
        error = ErrorData(code=INTERNAL_ERROR, message="Internal error: the answer cannot be written as JSON")
        text = JSONRPCError(jsonrpc="2.0", id=getattr(message, "id", None), error=error).model_dump_json(by_alias=True)
    return f"{text}\n".encode()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
