"""Those who use a pool, and those who disturb it."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Coroutine
from typing import Any

from aiopool import (
    ConnectionPool,
    Lease,
    LeaseExpired,
    PoolClosed,
    PoolError,
    PoolFull,
    PoolOverloaded,
    PoolTimeout,
    PoolUnavailable,
)
from aiopool.pool import CONFIGURED, State
from aiopool.testing.server import SimulatedConnection
from tests.simulation.balance import Balance
from tests.simulation.history import USUAL, Act, Call, Op
from tests.simulation.ledger import Broken, WatchedServer
from tests.simulation.rules import TOLERANCE, Rules

#: A query that takes longer is given up by its caller.
LONGEST_QUERY = 2.0

_NAMES: list[tuple[type[BaseException], str]] = [
    (PoolTimeout, "timeouts"),
    (PoolFull, "rejected"),
    (PoolOverloaded, "shed"),
    (PoolUnavailable, "unavailable"),
    (PoolClosed, "closed"),
    (asyncio.CancelledError, "cancelled"),
]


class Mishap(Exception):
    """An error of the caller's own."""


class Actors:
    def __init__(self, pool: ConnectionPool[SimulatedConnection], server: WatchedServer, rules: Rules) -> None:
        self.pool, self.server, self.rules, self.loop = pool, server, rules, server.loop
        self.dice = random.Random(f"actors {server.history.dice}")

    def start(self, number: int, op: Op) -> asyncio.Task[None]:
        work: Coroutine[Any, Any, None] = self._call(number, op) if isinstance(op, Call) else self._act(number, op)
        task = self.loop.create_task(work, name=f"op {number}")
        if op.cancel == "when served":
            self.rules.cancel_when_served.append(task)
        elif op.cancel is not None:
            self.rules.cancel_later(task, op.cancel)
        return task

    # -- callers

    async def _call(self, number: int, call: Call) -> None:
        note = self.server.note
        try:
            if call.style == "with":
                async with Asking(self, call) as connection:
                    note(f"op {number} got {connection.number}")
                    await self._work(connection, call)
            else:
                await self._with_lease(number, call)
        except (PoolError, ConnectionError, TimeoutError, Mishap) as exc:
            note(f"op {number} ended with {type(exc).__name__}")
        except Broken as exc:
            self.server.objection(str(exc))
        except asyncio.CancelledError:
            note(f"op {number} was cancelled")
            raise

    async def _with_lease(self, number: int, call: Call) -> None:
        asking = Asking(self, call)
        lease = await asking.lease()
        connection = lease.connection
        self.server.note(f"op {number} got {connection.number}")
        if call.style == "lease-with":
            async with lease:
                try:
                    await self._work(connection, call)
                except BaseException as exc:
                    asking.gives_back(exc)
                    raise
                asking.gives_back(None)
                if call.end == "discard":
                    asking.condemn("it was discarded")
                    lease.discard()
            return
        try:
            await self._work(connection, call)
        except BaseException:
            # Nobody tells the pool what has happened: so it is not to be trusted.
            asking.gives_back(None)
            asking.condemn("it was discarded")
            lease.discard()
            raise
        if call.end == "drop":
            asking.stops_holding()
            self.rules.lost += 1
            if self.pool.config.max_shares == 1:  # until the pool is told, it may lend what is left of a shared one
                asking.condemn("its lease was lost")
            del lease
            return
        asking.gives_back(None)
        if call.end == "discard":
            asking.condemn("it was discarded")
            lease.discard()
            lease.discard()
        lease.release()
        if call.end == "twice":
            lease.release()
            lease.discard()

    async def _work(self, connection: SimulatedConnection, call: Call) -> None:
        await asyncio.sleep(call.hold)
        for _ in range(call.queries):
            async with asyncio.timeout(LONGEST_QUERY):
                await connection.query(0.001)
        if call.end == "break":
            raise ConnectionResetError("broken by its caller")
        if call.end == "err":
            raise Mishap

    # -- operators and fate

    async def _act(self, number: int, act: Act) -> None:
        self.server.note(f"op {number} {act.what}")
        try:
            await getattr(self, f"_{act.what}")(act)
        except (PoolClosed, PoolUnavailable) as exc:
            self.server.note(f"op {number} ended with {type(exc).__name__}")

    async def _resize(self, act: Act) -> None:
        self.pool.resize(int(act.a), int(act.b))

    async def _drain(self, act: Act) -> None:
        if self.pool._state is State.OPEN:
            self.rules.drains.append((self.loop.steps, self.loop.time() + act.a))
        await self.pool.drain(act.a)

    async def _rotate(self, act: Act) -> None:
        self.server.rotate_credentials()
        await self._drain(act)

    async def _suspend(self, act: Act) -> None:
        self.pool.suspend()
        self.rules.is_suspended = True
        await asyncio.sleep(act.a)
        self.pool.resume()
        self.rules.is_suspended = False

    async def _check(self, act: Act) -> None:
        await self.pool.check()

    async def _close(self, act: Act) -> None:
        # A cancelled close terminates.
        deadline = self.loop.time() + (act.a if act.cancel is None else 0.0)
        if self.rules.close_deadline is None or deadline < self.rules.close_deadline:
            self.rules.close_deadline = deadline
        await self.pool.close(act.a)

    async def _open(self, act: Act) -> None:
        self.rules.being_opened += 1
        try:
            await self.pool.open(wait=act.a < 0.7, timeout=act.b * 3)
        except BaseException:
            self.rules.was_undone = True
            raise
        finally:
            self.rules.being_opened -= 1

    async def _evict(self, act: Act) -> None:
        if (connection := self._any(act.a)) is not None:
            account = self.server.accounts[connection]
            if self.pool._state is State.OPEN and account.info is not None:
                account.condemned = "it was evicted"
            self.pool.evict(connection)

    async def _capacity(self, act: Act) -> None:
        connection = self._any(act.b)
        info = self.server.accounts[connection].info if connection is not None else None
        if info is not None:
            info.capacity = int(act.a)

    async def _kill(self, act: Act) -> None:
        if (connection := self._any(act.a)) is None:
            return
        self.server.kill(connection)
        account = self.server.accounts[connection]
        if account.owner is not None and act.b < 0.5:
            account.has_left = True
            account.owner.cancel()

    async def _outage(self, act: Act) -> None:
        self.server.go_down("refuse" if act.b < 0.5 else "hang")
        await asyncio.sleep(act.a)
        self.server.come_back()

    async def _look(self, act: Act) -> None:
        Balance(self.rules).fits()

    def _any(self, share: float) -> SimulatedConnection | None:
        connections = list(self.server.connections)
        return connections[int(share * len(connections))] if connections else None


class Asking:
    """One caller's way from `acquire` to the end of its lease, measured."""

    def __init__(self, actors: Actors, call: Call) -> None:
        self.pool, self.rules, self.server = actors.pool, actors.rules, actors.server
        self.call = call
        self.timeout = CONFIGURED if call.timeout == USUAL else call.timeout
        self.acquisition = self.pool.acquire(self.timeout)
        self.connection: SimulatedConnection
        self._is_holding = False

    async def __aenter__(self) -> SimulatedConnection:
        self._begin()
        try:
            self.connection = await self.acquisition.__aenter__()
        except BaseException as exc:
            self._refused(exc)
            raise
        self._got()
        return self.connection

    async def __aexit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> None:
        self.gives_back(exc)
        await self.acquisition.__aexit__(kind, exc, traceback)

    async def lease(self) -> Lease[SimulatedConnection]:
        self._begin()
        try:
            lease = await self.acquisition
        except BaseException as exc:
            self._refused(exc)
            raise
        self.connection = lease.connection
        self._got()
        return lease

    def _begin(self) -> None:
        loop = self.server.loop
        self.began_at, self.began_step = loop.time(), loop.steps
        self.rules.acquiring += 1

    def _got(self) -> None:
        rules, loop = self.rules, self.server.loop
        rules.acquiring -= 1
        rules.holding += 1
        rules.outcomes["acquired"] += 1
        account = self.server.accounts[self.connection]
        if loop.steps == self.began_step:
            # At once: nobody else may have been waiting, and the rules are asked before we change anything.
            if any(not waiter.future.done() for waiter in self.pool._line.waiters):
                raise Broken("a newcomer overtook those who wait")
            for info in self.pool._stock.connections:
                if info.connection is self.connection:
                    rules.lent(info)
        self._check_wait()
        self._is_holding = True
        self.since = loop.time()
        account.held_since.append(self.since)
        account.is_dirty = True

    def _refused(self, exc: BaseException) -> None:
        rules = self.rules
        rules.acquiring -= 1
        for kind, name in _NAMES:
            if isinstance(exc, kind):
                rules.outcomes[name] += 1
                break
        else:
            raise Broken(f"acquire raised {exc!r}") from exc
        if isinstance(exc, PoolTimeout) and self._limit() is not None:
            waited = self.server.loop.time() - self.began_at
            if waited < (self._limit() or 0.0) - TOLERANCE:
                raise Broken(f"timed out after {waited}s of {self._limit()}s") from exc
        self._check_wait(stood_in_line=not _is_refused_at_once(exc))

    def _limit(self) -> float | None:
        return self.pool.config.acquire_timeout if self.timeout is CONFIGURED else self.timeout

    def _check_wait(self, *, stood_in_line: bool = True) -> None:
        loop, limit = self.server.loop, self._limit()
        waited = loop.time() - self.began_at
        if loop.steps != self.began_step and stood_in_line:
            self.rules.outcomes["waited"] += 1
            self.rules.waited += waited
        if limit is not None and waited > limit + self.rules.lateness + TOLERANCE:
            raise Broken(f"a caller with {limit}s to wait waited for {waited}s")
        if limit == 0 and loop.steps != self.began_step:
            raise Broken("a caller with no time at all had to wait")

    def gives_back(self, exc: BaseException | None) -> None:
        """Right before the release, in the same step."""
        if not self.stops_holding():
            return
        if exc is not None and not isinstance(exc, (Mishap, LeaseExpired)):
            is_judged = "is_broken" in self.server.history.hooks
            is_cancel = isinstance(exc, asyncio.CancelledError)
            if not is_judged and (self.pool.config.max_shares == 1 or not is_cancel):
                self.condemn(f"its lease ended with {type(exc).__name__}")
        if "is_broken" in self.server.history.hooks:
            try:
                is_broken = says_broken(self.connection, exc)
            except RuntimeError:
                is_broken = True
            if is_broken:
                self.condemn("it was judged broken")

    def stops_holding(self) -> bool:
        """False if it held nothing any more."""
        if not self._is_holding:
            return False
        self._is_holding = False
        rules, account = self.rules, self.server.accounts[self.connection]
        rules.holding -= 1
        account.held_since.remove(self.since)
        account.proven_at = self.server.loop.time()
        rules.holds.append(self.server.loop.time() - self.since)
        return True

    def condemn(self, why: str) -> None:
        self.server.accounts[self.connection].condemned = why


def _is_refused_at_once(exc: BaseException) -> bool:
    """By the pool's own word: from the outside, the turn that a refusal leaves to others looks like a wait."""
    frames = (frame for frame, _ in traceback.walk_tb(exc.__traceback__))
    return any(frame.f_code.co_name == "_wait" and frame.f_locals.get("refusal") is not None for frame in frames)


def says_broken(connection: SimulatedConnection, exc: BaseException | None) -> bool:
    """What an adapter would say that knows its protocol. It may fail: that means yes."""
    if connection.is_dead and connection.number % 2:
        raise RuntimeError("the driver itself is confused")
    shared = connection.server.history.config["max_shares"] > 1  # type: ignore[attr-defined]
    return connection.is_dead or isinstance(exc, ConnectionError) or (connection.is_out_of_step and not shared)
