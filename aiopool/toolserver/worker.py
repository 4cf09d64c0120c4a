"""`Worker`: one warm interpreter, seen from the server that runs scripts in it."""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from aiopool.toolserver.addresses import Address
from aiopool.toolserver.environment import inherited
from aiopool.toolserver.processes import GRACE, Child

#: The variable in which a script without a worker has its arguments by name, as JSON.
ARGUMENTS = "AIOPOOL_ARGUMENTS"
#: Of what a script writes to standard error, the last so many bytes are kept.
STDERR_KEPT = 8192


@dataclass(frozen=True)
class Outcome:
    """What a script did, in a worker or in a process of its own."""

    #: Its exit status, negative for the signal that killed it.
    status: int
    stdout: bytes
    stdout_size: int
    stderr: bytes
    #: What its `main` returned, as text, and how long that was before it was cut; None if it returned nothing.
    value: str | None = None
    value_size: int = 0
    #: What its `main` raised, in words for the model.
    error: str | None = None


class WorkerError(ConnectionError):
    """A worker could not be started, or has ended."""


class Worker:
    """One interpreter. It runs one script at a time."""

    def __init__(self, child: Child, control: socket.socket, lifeline: int) -> None:
        self.child = child
        #: A script runs, or nobody knows whether it does.
        self.is_busy = False
        #: What the last script has left behind that can't be undone: it should run no other.
        self.wear: str | None = None
        self._lifeline = lifeline
        self._control = control
        self._channel: _Channel

    @property
    def pid(self) -> int:
        return self.child.pid

    async def connect(self, address: Address | None) -> None:
        """Have it open its connection. Raises what its driver did, or `WorkerError`."""
        loop = asyncio.get_running_loop()
        _, self._channel = await loop.create_unix_connection(_Channel, sock=self._control)
        opening = {"kind": None, "url": "", "options": {}, "variables": {}} if address is None else asdict(address)
        answer = await self._ask(opening)
        if answer is None:
            raise WorkerError(
                f"a worker ended with {told(await self._status())} before it was ready{self._last_words()}"
            )
        if "failed" in answer:
            raise _failure(answer["failed"], answer["words"])

    async def run(self, request: Mapping[str, Any]) -> Outcome:
        """Run a script; one whose worker ends with it has a status all the same.

        If the caller doesn't wait for it, the worker stays busy, and has to be closed. Raises `WorkerError`, and has
        done nothing then, if it has ended before.
        """
        child = self.child
        if child.exited.done():
            raise WorkerError("the worker has ended")
        self.is_busy = True
        child.stdout.begin(request["max_output"])
        child.stderr.begin(STDERR_KEPT, keeps_end=True)
        answer: dict[str, Any] | None = await self._ask(request)
        if answer is None:
            answer = {"status": await self._status()}
        else:
            # What was written before the answer is in the pipes by now.
            child.stdout.drain()
            child.stderr.drain()
            self.is_busy = False
        self.wear = answer.get("worn")
        return Outcome(
            answer["status"],
            child.stdout.kept,
            child.stdout.size,
            child.stderr.kept,
            answer.get("value"),
            answer.get("size", 0),
            answer.get("error"),
        )

    async def is_well(self) -> bool:
        """Whether it answers, and its server answers it."""
        answer = await self._ask({"ping": True})
        return answer is not None and bool(answer["ok"])

    def abort(self) -> None:
        """End it, with the query and the processes of whatever it runs; `end` sees to it that it does."""
        self.child.terminate()

    async def end(self) -> None:
        """Let it close its connection; kill it if that takes too long."""
        self._channel_is_closed()
        try:
            await self.child.end(GRACE)
        finally:
            self._let_go()

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """None if it has ended; a fork of it might keep its socket open, so that alone tells nothing."""
        answer = self._channel.ask(json.dumps(request).encode() + b"\n")
        await asyncio.wait((answer, self.child.exited), return_when=asyncio.FIRST_COMPLETED)
        line = answer.result() if answer.done() else None
        return None if not line else json.loads(line)

    async def _status(self) -> int:
        """It has closed its socket, so it ends; or it is made to."""
        await self.child.end(GRACE)
        return self.child.exited.result() if self.child.exited.done() else -9

    def _last_words(self) -> str:
        lines = self.child.stderr.kept.decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def _channel_is_closed(self) -> None:
        if hasattr(self, "_channel"):
            self._channel.close()
        else:
            self._control.close()

    def _let_go(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


class _Channel(asyncio.Protocol):
    """Lines to a worker and back, one answer for each."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._answer: asyncio.Future[bytes | None] | None = None
        self._is_closed = False

    def ask(self, line: bytes) -> asyncio.Future[bytes | None]:
        self._answer = asyncio.get_running_loop().create_future()
        if self._is_closed:
            self._answer.set_result(None)
        else:
            self._transport.write(line)
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._received += data
        if data.endswith(b"\n"):
            line = bytes(self._received)
            self._received.clear()
            self._tell(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        self._tell(None)

    def _tell(self, line: bytes | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(line)


def start() -> Worker:
    ours, its = socket.socketpair()
    reading, writing = os.pipe()
    # -P: no module in a folder that it happens to be in takes the place of another.
    argv = [sys.executable, "-P", "-m", "aiopool.toolserver._worker", "--serve", str(its.fileno()), str(reading)]
    try:
        child = Child(argv, env=inherited(), cwd="/", pass_fds=(its.fileno(), reading))
    except BaseException:
        ours.close()
        os.close(writing)
        raise
    finally:
        its.close()
        os.close(reading)
    child.stderr.keep(STDERR_KEPT, keeps_end=True)
    return Worker(child, ours, writing)


def told(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    names = {each.value: each.name for each in signal.Signals}
    return f"the signal {names.get(-status, -status)}"


def _failure(name: str, words: str) -> Exception:
    """What the driver raised in the worker, for those who judge by its class."""
    module, _, name = name.rpartition(".")
    found = getattr(sys.modules.get(module, builtins), name, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(words)
        except TypeError:  # it wants more
            pass
    return WorkerError(f"{name}: {words}")
