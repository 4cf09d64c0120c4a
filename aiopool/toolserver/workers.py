"""`WorkerPool`: warm interpreters that run scripts, each of which keeps its own connection from call to call.

A child process can't use a connection of its parent's. So the workers are what is pooled: one is lent for each call,
and with it the connection that it has. `SlotPool` is for what can't run in a worker: it bounds how many run at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar, cast

from aiopool.adapters.face import PoolFace
from aiopool.config import PoolConfig
from aiopool.manager import PoolManager
from aiopool.pool import ConnectionPool
from aiopool.toolserver.addresses import Address, address_of
from aiopool.toolserver.environment import inherited
from aiopool.toolserver.processes import GRACE, Child

logger = logging.getLogger("aiopool")

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
        """Have it open its connection. Raises `WorkerError`."""
        loop = asyncio.get_running_loop()
        _, self._channel = await loop.create_connection(_Channel, sock=self._control)
        opening = {"kind": None, "url": "", "options": {}, "variable": ""} if address is None else asdict(address)
        answer = await self._ask(opening)
        if answer is None:
            raise WorkerError(
                f"a worker ended with {told(await self._status())} before it was ready{self._last_words()}"
            )
        if "failed" in answer:
            raise WorkerError(f"a worker could not connect: {answer['failed']}")

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
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

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


class WorkerPool(PoolFace[Worker]):
    """Interpreters in the place of connections: as many as the pool's numbers say, each with one connection.

    `async with workers.acquire() as worker: outcome = await worker.run(request)`. One whose call was not waited for is
    ended, and its place is free when it is gone.
    """

    def __init__(self, name: str, config: PoolConfig, address: Address | None) -> None:
        self.address = address
        # An interpreter takes a processor while it starts.
        self.config = config if config.max_opening is not None else replace(config, max_opening=os.cpu_count())
        self.pool = ConnectionPool(
            self._open,
            self.config,
            validator=Worker.is_well,
            aborter=Worker.abort,
            is_broken=lambda worker, _: worker.is_busy,
            name=name,
        )

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Worker]:
        worker = _start()
        try:
            await worker.connect(self.address)
            worker.child.exited.add_done_callback(lambda _: self.pool.evict(worker))
            yield worker
        finally:
            await worker.end()


def _start() -> Worker:
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
    child.stderr.begin(STDERR_KEPT, keeps_end=True)
    return Worker(child, ours, writing)


class Slot:
    """The right to run one process."""

    def __init__(self) -> None:
        self.child: Child | None = None

    @property
    def is_busy(self) -> bool:
        return self.child is not None and not self.child.exited.done()

    def abort(self) -> None:
        if self.child is not None:
            self.child.terminate()

    async def end(self) -> None:
        if self.child is not None:
            await self.child.end(GRACE)


class SlotPool(PoolFace[Slot]):
    """Bounds how many processes run at once. A slot is free again when its process is gone, and its children."""

    def __init__(self, name: str, config: PoolConfig, address: Address | None) -> None:
        self.address = address
        self.config = replace(config, min_size=0, max_opening=None, max_lifetime=None, max_uses=None)
        self.pool = ConnectionPool(
            self._open, self.config, aborter=Slot.abort, is_broken=lambda slot, _: slot.is_busy, name=name
        )

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Slot]:
        slot = Slot()
        try:
            yield slot
        finally:
            await slot.end()


P = TypeVar("P", WorkerPool, SlotPool)

#: For scripts without a pool: as many at once as any pool has.
_ALONE = "scripts"


def pool_beside(kind: type[P], label: str, name: str | None, pools: PoolManager, *, takes_its_place: bool) -> P:
    """The workers, or slots, of a pool: one for all tools that name it, with its numbers, and registered with it.

    With `takes_its_place` it stands under the pool's own name, as nobody in this process would use its connections.
    """
    own_name = f"{_ALONE if name is None else name}.{label}"
    for known in (name, own_name):
        if known is not None and known in pools and isinstance(pools.get(known), kind):
            return cast(P, pools.get(known))
    if name is None:
        made = kind(own_name, PoolConfig(min_size=0), None)
        pools.register(own_name, made)
        return made
    given = pools.get(name)
    is_original = not isinstance(given, WorkerPool | SlotPool)
    made = kind(name, given.config, address_of(given) if is_original else given.address)
    if takes_its_place and is_original:
        pools.replace(name, made)
    else:
        pools.register(own_name, made)
    return made


def told(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    names = {each.value: each.name for each in signal.Signals}
    return f"the signal {names.get(-status, -status)}"
