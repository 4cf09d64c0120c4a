"""One history, from the pool's birth to its end."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiopool import ConnectionPool, PoolConfig, PoolError
from aiopool.pool import State
from aiopool.testing.loop import SimulationLoop
from aiopool.testing.server import NONE
from tests.simulation.actors import Actors, Asking, says_broken
from tests.simulation.balance import CALM, Balance
from tests.simulation.history import Call, History
from tests.simulation.ledger import Broken, WatchedServer
from tests.simulation.rules import Rules

#: However long the line is, everybody in it is served by then.
LONGEST_QUEUE = 2000.0


@dataclass(frozen=True)
class Outcome:
    """`violation`: the rule that was broken, or empty. `trace`: what happened, one line each."""

    violation: str
    steps: int
    trace: tuple[str, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


def run(history: History) -> Outcome:
    """Plays it. The same history always goes the same way."""
    is_collecting, hook = gc.isenabled(), sys.unraisablehook
    gc.disable()  # what it frees, and when, is no part of the seed
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = _play(history)
            if outcome.violation:  # what a broken run has left behind ends in silence
                sys.unraisablehook = lambda _: None
                gc.collect()
    finally:
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)
        if is_collecting:
            gc.enable()
    return outcome


def _play(history: History) -> Outcome:
    random.seed(history.dice)  # backoff and lifetimes have jitter
    loop = SimulationLoop(history.dice, lateness=history.lateness, horizon=10_000.0, patience=60.0)
    server = WatchedServer(history, loop)
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, context: complaints.append(_complaint(context)))
    violation = ""
    try:
        loop.run_until_complete(_live(history, loop, server))
        if complaints:
            raise Broken(f"the loop was told: {complaints[0]}")
    except Exception as exc:
        violation = f"{type(exc).__name__}: {exc}"
    finally:
        loop.after_step = None
        if violation:
            _bury(loop)
        loop.close()
    return Outcome(violation, loop.steps, tuple(server.trace))


async def _live(history: History, loop: SimulationLoop, server: WatchedServer) -> None:
    pool = _build(history, server)
    rules = Rules(pool, server)
    actors = Actors(pool, server, rules)
    loop.after_step = rules.after_step
    began = loop.time()
    tasks: list[asyncio.Task[None]] = []

    def start(number: int) -> None:
        tasks.append(actors.start(number, history.ops[number]))

    if history.is_opened:
        await pool.open(wait=False)
    for number, op in enumerate(history.ops):
        loop.call_at(began + op.at, start, number)
    await asyncio.sleep(history.ops[-1].at + history.lateness)
    for _ in range(100):  # those that start in this very turn
        await asyncio.sleep(0)

    # From now on all is well; everybody must come to an end.
    for kind in history.faults:
        setattr(server, kind, NONE)
    server.come_back()
    for account in server.accounts.values():
        if account.info is not None:
            account.info.capacity = history.config["max_shares"]
    await _end_of(tasks, rules)
    await _rest(pool, rules, actors)
    await pool.close()
    Balance(rules).is_final(asyncio.all_tasks(loop) - {asyncio.current_task()})


async def _end_of(tasks: list[asyncio.Task[None]], rules: Rules) -> None:
    if tasks:
        _, forgotten = await asyncio.wait(tasks, timeout=LONGEST_QUEUE)
        if forgotten:
            raise Broken(f"{len(forgotten)} callers or operators were forgotten: {sorted(forgotten, key=str)[0]!r}")
    for task in tasks:
        if task.cancelled() != (task in rules.cancelled):
            raise Broken(f"{task.get_name()}: its cancellation was {'invented' if task.cancelled() else 'swallowed'}")
        if not task.cancelled() and (exc := task.exception()) is not None:
            raise exc


async def _rest(pool: ConnectionPool[Any], rules: Rules, actors: Actors) -> None:
    """Whatever has happened: an open pool is healthy after a while, with no call and no restart."""
    await asyncio.sleep(CALM)
    if pool._state is State.OPEN:
        await _calm(rules)
        try:
            async with Asking(actors, Call(0.0, timeout=5.0)):
                pass
        except PoolError as exc:
            raise Broken(f"nothing is wrong any more, but: {exc}") from exc
        await asyncio.sleep(CALM)
        await _calm(rules)


async def _calm(rules: Rules) -> None:
    """Soon: just now one may be replaced because of its age."""
    for _ in range(20):
        with suppress(Broken):
            Balance(rules).is_calm()
            return
        await asyncio.sleep(0.17)
    Balance(rules).is_calm()


def _build(history: History, server: WatchedServer) -> ConnectionPool[Any]:
    hooks = history.hooks
    pool: ConnectionPool[Any] = ConnectionPool(
        server.session if history.factory == "session" else server.connect,
        PoolConfig(**history.config),
        configure=server.configure if "configure" in hooks else None,
        validator=server.begin_validate if hooks & {"validator", "quick validator"} else None,
        resetter=server.begin_reset if hooks & {"resetter", "quick resetter"} else None,
        destroyer=server.close if "destroyer" in hooks else None,
        aborter=server.abort if "aborter" in hooks else None,
        is_broken=says_broken if "is_broken" in hooks else None,
        is_fatal=(lambda error: isinstance(error, PermissionError)) if "is_fatal" in hooks else None,
        name="simulated",
    )
    if "bad listener" in hooks:
        pool.subscribe(_confused)
    if "listener" in hooks:
        pool.subscribe(lambda event: server.counts.update([type(event).__name__]))
    return pool


def _confused(event: object) -> None:
    raise ZeroDivisionError("a listener of the user's")


def _complaint(context: dict[str, object]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


def _bury(loop: SimulationLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with suppress(BaseException):
            task.get_coro().close()
    loop._ready.clear()  # type: ignore[attr-defined]
    loop._scheduled.clear()  # type: ignore[attr-defined]
