"""What is known of every connection and every caller without asking the pool."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiopool.testing.loop import SimulationLoop
from aiopool.testing.server import SimulatedConnection, SimulatedServer
from tests.simulation.history import History


class Broken(AssertionError):
    """A rule does not hold."""


class Account:
    """One connection, as its server and its callers see it."""

    __slots__ = (
        "asked_step",
        "attempt",
        "busy",
        "condemned",
        "has_left",
        "held_since",
        "info",
        "is_dirty",
        "is_given_up",
        "owner",
        "proven_at",
    )

    def __init__(self, asked_step: int, now: float, attempt: Attempt) -> None:
        self.asked_step = asked_step
        self.attempt = attempt
        self.proven_at = now
        #: Why it must never be lent again.
        self.condemned = ""
        #: What the pool is doing with it: nothing else may happen to it meanwhile.
        self.busy = ""
        #: When each lease began that somebody has.
        self.held_since: list[float] = []
        self.is_dirty = False
        #: The pool tried to close it, and the server did not let it in time.
        self.is_given_up = False
        self.info: Any = None
        #: Its context manager ends by itself, under its holders too.
        self.has_left = False
        self.owner: asyncio.Task[Any] | None = None


class Attempt:
    """One call of the factory."""

    __slots__ = ("began_at", "ended_at", "outcome")

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.ended_at: float | None = None
        self.outcome = "cancelled"


class Answer(asyncio.Future[None]):
    """What a driver gives that has sent a reset already: the pool waits for it, and nothing has to run meanwhile."""

    def __init__(self, server: WatchedServer, account: Account, connection: SimulatedConnection) -> None:
        super().__init__(loop=server.loop)
        self._account, self._connection = account, connection
        self._coming = server.loop.create_task(server.pass_through(server.resets), name="an answer")
        self._coming.add_done_callback(self._comes)

    def cancel(self, msg: Any = None) -> bool:
        if is_first := super().cancel(msg):
            self._coming.cancel()
            self._account.busy, self._account.condemned = "", "its reset was given up"
        return is_first

    def _comes(self, coming: asyncio.Task[None]) -> None:
        if self.done() or coming.cancelled():
            self.cancel()
        elif coming.exception() is not None or self._connection.is_dead:
            self._account.busy, self._account.condemned = "", "its reset failed"
            self.set_exception(ConnectionResetError("the reset failed"))
        else:
            self._account.busy, self._account.is_dirty = "", False
            self._connection.is_out_of_step = False
            self._account.proven_at = self.get_loop().time()
            self.set_result(None)


class WatchedServer(SimulatedServer):
    """Writes down what the pool does, and objects to what it must not do."""

    def __init__(self, history: History, loop: SimulationLoop) -> None:
        super().__init__(f"server {history.dice}", **history.faults)
        self.loop = loop
        self.history = history
        self.accounts: dict[SimulatedConnection, Account] = {}
        self.attempts: list[Attempt] = []
        self.in_flight = 0
        self.counts = Counter[str]()
        self.trace: list[str] = []
        self.objections: list[str] = []
        #: Asked before an opening is cancelled, a connection closed under its holder, and an opening started.
        self.may_cancel: Callable[[Attempt], bool]
        self.may_take: Callable[[SimulatedConnection], bool]
        self.room: Callable[[], int]

    def objection(self, text: str) -> Broken:
        """Kept as well, for the pool may swallow it."""
        self.objections.append(text)
        return Broken(text)

    def note(self, text: str) -> None:
        self.trace.append(f"{self.loop.steps} {self.loop.time():.6f} {text}")

    @property
    def standing(self) -> int:
        """Connections that count against `max_size`: not closed, nor given up."""
        return sum(not self.accounts[each].is_given_up for each in self.connections)

    # -- for the pool

    async def connect(self) -> SimulatedConnection:
        now, step = self.loop.time(), self.loop.steps
        attempt = Attempt(now)
        self.attempts.append(attempt)
        self.in_flight += 1
        if self.standing + self.in_flight > self.room():
            raise self.objection(f"{self.standing} + {self.in_flight} connections where {self.room()} are allowed")
        try:
            connection = await super().connect()
            self.accounts[connection] = Account(step, self.loop.time(), attempt)
            attempt.outcome = "opened"
            self.note(f"{connection.number} opened")
            return connection
        except asyncio.CancelledError:
            attempt.outcome = "cancelled"
            if not self.may_cancel(attempt):
                raise self.objection("an opening was cancelled that belongs to the pool") from None
            raise
        except BaseException:
            attempt.outcome = "failed"
            raise
        finally:
            attempt.ended_at = self.loop.time()
            self.in_flight -= 1

    async def configure(self, connection: SimulatedConnection) -> None:
        account = self.accounts[connection]
        account.attempt.outcome = "cancelled"
        try:
            await self.pass_through(self.opens)
            account.attempt.outcome = "opened"
        except Exception:
            account.attempt.outcome = "failed"
            raise
        finally:
            account.attempt.ended_at = account.proven_at = self.loop.time()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[SimulatedConnection]:
        task = asyncio.current_task()
        connection = await self.connect()
        account = self.accounts[connection]
        account.owner = task
        try:
            yield connection
        finally:
            account.owner = None
            if asyncio.current_task() is not task:
                raise self.objection("a context manager is left by another task than the one that entered it")
            await self.close(connection)

    async def validate(self, connection: SimulatedConnection) -> bool:
        account = self._begin(connection, "validate")
        if account.held_since:
            raise self.objection(f"{connection} is checked while it is leased")
        began_at, limit = self.loop.time(), self.history.config["validate_timeout"]
        try:
            is_valid = await super().validate(connection)
            if self.loop.time() > began_at + limit + self.history.lateness:
                account.condemned = "its check took too long"
            elif is_valid:
                account.proven_at = self.loop.time()
            else:
                account.condemned = "it is invalid"
            return is_valid
        except BaseException:
            account.condemned = "its check failed"
            raise
        finally:
            account.busy = ""

    def begin_validate(self, connection: SimulatedConnection) -> Any:
        """A validator that need not await."""
        if "quick validator" not in self.history.hooks:
            return self.validate(connection)
        account = self._begin(connection, "validate")
        account.busy = ""
        if connection.is_dead or connection.is_out_of_step:
            account.condemned = "it is invalid"
            return False
        account.proven_at = self.loop.time()
        return True

    async def reset(self, connection: SimulatedConnection) -> None:
        account = self._begin(connection, "reset")
        try:
            await super().reset(connection)
            account.is_dirty = connection.is_out_of_step = False
            account.proven_at = self.loop.time()
        except BaseException:
            account.condemned = "its reset failed"
            raise
        finally:
            account.busy = ""

    def begin_reset(self, connection: SimulatedConnection) -> Any:
        """A resetter that has nothing to await when nothing is wrong."""
        account = self.accounts[connection]
        if account.held_since:
            raise self.objection(f"{connection} is reset while it is leased")
        if {"resetter", "quick resetter"} <= self.history.hooks:
            return Answer(self, self._begin(connection, "reset"), connection)
        if not connection.is_out_of_step and "quick resetter" in self.history.hooks:
            account.is_dirty = False
            return None
        return self.reset(connection)

    async def close(self, connection: SimulatedConnection) -> None:
        account = self._begin(connection, "close")
        self._take(connection)
        self.counts["closes"] += 1
        try:
            await super().close(connection)
        finally:
            account.is_given_up = True  # should the pool have to go on without its end

    def abort(self, connection: SimulatedConnection) -> None:
        account = self.accounts[connection]
        if account.busy in ("validate", "reset") and not account.has_left:
            raise self.objection(f"{connection} is torn down during its {account.busy}")
        self._take(connection)
        if connection in self.connections:
            self.note(f"{connection.number} closed")
        super().abort(connection)

    def _begin(self, connection: SimulatedConnection, what: str) -> Account:
        account = self.accounts[connection]
        if account.busy and not account.has_left:
            raise self.objection(f"{connection}: {what} during {account.busy}")
        if connection.is_closed and not account.has_left:
            raise self.objection(f"{connection}: {what} after it was closed")
        account.busy = what
        return account

    def _take(self, connection: SimulatedConnection) -> None:
        account = self.accounts[connection]
        account.condemned = account.condemned or "it is closed"
        if account.held_since and not self.may_take(connection):
            raise self.objection(f"{connection} is closed under its holder")
