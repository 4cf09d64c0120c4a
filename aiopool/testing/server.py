"""A server that exists only in memory, goes wrong as often as it is told to, and the same way for the same seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Faults:
    """How often one kind of call goes wrong, each a probability, and how long calls take, in seconds."""

    #: It takes up to `slowness` instead of up to `quick`.
    slow: float = 0.0
    #: It raises `ConnectionError`.
    fail: float = 0.0
    #: It never ends, until it is cancelled.
    hang: float = 0.0
    #: It goes on for up to `slowness` after it was cancelled, as if nothing had happened.
    ignore_cancel: float = 0.0
    quick: float = 0.01
    slowness: float = 1.0


NONE = Faults()


class SimulatedConnection:
    """One connection to a `SimulatedServer`."""

    def __init__(self, server: SimulatedServer, number: int, asked_at: float) -> None:
        self.server = server
        self.number = number
        #: When its opening began, on the loop's clock, with the credentials of that moment.
        self.asked_at = asked_at
        #: The server has ended it, whether or not the client knows.
        self.is_dead = False
        #: The client has closed it.
        self.is_closed = False
        #: A query was cut short: the answer of one caller may reach the next.
        self.is_out_of_step = False

    async def query(self, seconds: float = 0.0) -> None:
        """Takes so many seconds, and more when the server is slow. Raises `ConnectionError` if it has died."""
        self._raise_if_lost()
        self.is_out_of_step = True
        await asyncio.sleep(seconds)
        await self.server.pass_through(self.server.queries)
        self._raise_if_lost()
        self.is_out_of_step = False

    def _raise_if_lost(self) -> None:
        if self.is_dead or self.is_closed:
            raise ConnectionResetError(f"connection {self.number} is {'closed' if self.is_closed else 'dead'}")

    def __repr__(self) -> str:
        return f"<SimulatedConnection {self.number}>"


class SimulatedServer:
    """What a pool's callables talk to, in place of a database.

        server = SimulatedServer(seed, opens=Faults(fail=0.1, hang=0.02), queries=Faults(slow=0.1))
        pool = ConnectionPool(server.connect, validator=server.validate, destroyer=server.close)

    Each kind of call has `Faults` of its own, which may be changed at any time.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        opens: Faults = NONE,
        checks: Faults = NONE,
        resets: Faults = NONE,
        queries: Faults = NONE,
        closes: Faults = NONE,
    ) -> None:
        self._dice = random.Random(seed)
        self.opens, self.checks, self.resets, self.queries, self.closes = opens, checks, resets, queries, closes
        #: Those that the client has not closed, dead ones included, in the order of opening.
        self.connections: dict[SimulatedConnection, None] = {}
        self.opened = 0
        self._outage: Literal["refuse", "hang"] | None = None
        self._credentials = 0

    # -- for a pool

    async def connect(self) -> SimulatedConnection:
        asked_at, credentials = asyncio.get_running_loop().time(), self._credentials
        await self.pass_through(self.opens)
        if self._outage == "refuse":
            raise ConnectionRefusedError("the server is down")
        if credentials != self._credentials and self._dice.random() < 0.5:
            raise PermissionError("the credentials are out of date")
        self.opened += 1
        connection = SimulatedConnection(self, self.opened, asked_at)
        self.connections[connection] = None
        return connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[SimulatedConnection]:
        """The same as an async context manager."""
        connection = await self.connect()
        try:
            yield connection
        finally:
            try:
                await self.close(connection)
            finally:
                self.abort(connection)

    async def validate(self, connection: SimulatedConnection) -> bool:
        await self.pass_through(self.checks)
        return not (connection.is_dead or connection.is_closed or connection.is_out_of_step)

    async def reset(self, connection: SimulatedConnection) -> None:
        await self.pass_through(self.resets)
        if connection.is_dead:
            raise ConnectionResetError(f"connection {connection.number} is dead")

    async def close(self, connection: SimulatedConnection) -> None:
        await self.pass_through(self.closes)
        self.abort(connection)

    def abort(self, connection: SimulatedConnection) -> None:
        connection.is_closed = True
        self.connections.pop(connection, None)

    # -- for a test

    def kill(self, connection: SimulatedConnection) -> None:
        """The server ends that one; the client finds out when it asks."""
        connection.is_dead = True

    def go_down(self, how: Literal["refuse", "hang"] = "refuse") -> None:
        """Every connection dies. New ones are refused, or never answered."""
        self._outage = how
        for connection in self.connections:
            self.kill(connection)

    def come_back(self) -> None:
        self._outage = None

    def rotate_credentials(self) -> None:
        """Those who are at the door may still be let in, or not; who is in may stay. To be followed by a `drain`."""
        self._credentials += 1

    async def pass_through(self, faults: Faults) -> None:
        """Time goes by, as the dice say, or an error is raised."""
        dice = self._dice
        luck, share = dice.random(), dice.random()
        ignores_cancel = dice.random() < faults.ignore_cancel
        try:
            if self._outage == "hang" or luck < faults.hang:
                await asyncio.Event().wait()
            is_slow = luck > 1.0 - faults.slow
            await asyncio.sleep(share * (faults.slowness if is_slow else faults.quick))
        except asyncio.CancelledError:
            if not ignores_cancel:
                raise
            await asyncio.sleep(share * faults.slowness)
        if faults.hang <= luck < faults.hang + faults.fail:
            raise ConnectionError("the server has failed")
