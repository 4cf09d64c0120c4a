"""What goes wrong: each fault has a beginning and an end, in the network or in the server itself."""

from __future__ import annotations

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from aiopool.embedded import PostgresServer
from aiopool.testing import FaultProxy


class Fault(ABC):
    name: ClassVar[str]
    about: ClassVar[str]
    #: Over as soon as it can be, instead of after a while.
    is_brief: ClassVar[bool] = False

    def __init__(self, server: PostgresServer, proxy: FaultProxy) -> None:
        self.server = server
        self.proxy = proxy

    @property
    def dsn(self) -> str:
        """Where the pools connect to."""
        return self.proxy.url

    @abstractmethod
    async def begin(self) -> None: ...

    async def end(self) -> None:
        self.proxy.pass_through()


class BlackHole(Fault):
    name = "Black hole"
    about = (
        "The network swallows every packet, and a `connect()` hangs. When it works again, it has forgotten the "
        "connections that were there, and resets them, as after a failover."
    )

    async def begin(self) -> None:
        self.proxy.black_hole()

    async def end(self) -> None:
        self.proxy.reset()
        # What was cut is cut when its tasks have run.
        await asyncio.sleep(0.01)
        self.proxy.pass_through()


class LongBlackHole(BlackHole):
    name = "Black hole, longer than any default"


class Refuses(Fault):
    name = "Refused"
    about = "Established connections are closed, new ones get `ECONNREFUSED`."

    async def begin(self) -> None:
        self.proxy.refuse()


class Resets(Fault):
    name = "Reset"
    about = "Established connections are reset (RST), new ones as soon as they are accepted."

    async def begin(self) -> None:
        self.proxy.reset()


class Silent(Fault):
    name = "Silent"
    about = "Connections are accepted, and nothing is answered on any of them. Afterwards they go on where they were."

    async def begin(self) -> None:
        self.proxy.silence()


class Trickles(Fault):
    name = "Trickle"
    about = "One byte a second, each way, on each connection. Afterwards they go on where they were."

    async def begin(self) -> None:
        self.proxy.trickle(bytes_per_second=1.0)


class OfTheServer(Fault):
    """Without a proxy in between, so that the kernel says what it says."""

    @property
    def dsn(self) -> str:
        return self.server.dsn

    async def end(self) -> None:
        await self.server.start()


class Killed(OfTheServer):
    name = "Killed"
    about = "Every process of the server gets SIGKILL; later it is started again and recovers."

    async def begin(self) -> None:
        await self.server.kill()


class Stopped(OfTheServer):
    name = "Stopped"
    about = "Every process of the server gets SIGSTOP, later SIGCONT: its kernel goes on accepting connections."

    async def begin(self) -> None:
        main = self.server.pid
        assert main is not None
        # The main process first: then no other is born.
        self._processes = [main]
        os.kill(main, signal.SIGSTOP)
        self._processes += _children(main)
        self._signal(signal.SIGSTOP)

    async def end(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Restarted(OfTheServer):
    name = "Restarted"
    about = "The server is shut down (`fast`: its connections are ended with an error) and started again at once."
    is_brief = True

    async def begin(self) -> None:
        await self.server.stop()


FAULTS: tuple[type[Fault], ...] = (BlackHole, Refuses, Resets, Silent, Trickles, Killed, Stopped, Restarted)
