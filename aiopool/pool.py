"""`ConnectionPool`: one line of waiting callers, one stack of idle connections, one semaphore over both.

acquire ─► idle? ─ yes ─► fresh? ─ yes ─► lease ─► the caller ─► release (never waits)
             │ no            │ no: check it first                   │
             ▼               ▼                                      ▼
        stand in line ◄── whichever comes first ── returned ◄── reset in the background
                                                └─ newly opened ◄── the opener, under the semaphore
        the health worker: retire, check what is idle, keep min_size
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import replace
from enum import Enum
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from anyio import CancelScope

from aiopool import events
from aiopool.config import PoolConfig
from aiopool.connection import LEASED, PooledConnection, finished
from aiopool.errors import PoolError, PoolFull, PoolOverloaded, PoolTimeout
from aiopool.handoff import HandoffQueue
from aiopool.home import Clock, clock_of, residents, whereabouts
from aiopool.lease import Acquisition
from aiopool.lifecycle import Factory, Lifecycle
from aiopool.policies.broken import says_broken, says_hopeless
from aiopool.policies.codel import CoDel
from aiopool.policies.growth import OpenTime
from aiopool.refusals import Refusals
from aiopool.stats import Counters, Histogram, PoolStats, Reason
from aiopool.stock import Stock
from aiopool.watch import Watch

T = TypeVar("T")

#: The timeout of an `acquire` that was given none.
CONFIGURED: Any = cast(Any, object())

#: What is called where nothing can be awaited.
PLAIN_HOOKS = frozenset({"aborter", "is_broken", "is_fatal"})

_numbers = itertools.count(1)


class State(Enum):
    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


OPEN = State.OPEN


class ConnectionPool(Generic[T]):
    """A pool of connections of any kind, on one event loop. Not thread-safe.

    `factory()` returns an awaitable of a connection, or an async context manager of one. The other callables are
    optional, and sync or async unless said otherwise: `configure(conn)` runs once before a connection is first lent;
    `validator(conn)` returns whether it is good; `resetter(conn)` runs after a release; `destroyer(conn)` closes
    politely; `aborter(conn)` (sync) tears down at once. `is_broken(conn, exc)` (sync) is asked at every release,
    `is_fatal(exc)` (sync) when opening fails. They run in the context that the pool was built in.
    """

    # What the fast path touches; set when the pool opens.
    _stock: Stock[T]
    _loop: asyncio.AbstractEventLoop
    _home: object
    _now: Clock
    _released: Coroutine[Any, Any, None]
    _state = State.NEW

    def __init__(
        self,
        factory: Factory[T],
        config: PoolConfig | None = None,
        *,
        configure: Callable[[T], object] | None = None,
        validator: Callable[[T], object] | None = None,
        resetter: Callable[[T], object] | None = None,
        destroyer: Callable[[T], object] | None = None,
        aborter: Callable[[T], object] | None = None,
        is_broken: Callable[[T, BaseException | None], bool] | None = None,
        is_fatal: Callable[[BaseException], bool] | None = None,
        name: str | None = None,
    ) -> None:
        self._state = State.NEW
        if config is not None and not isinstance(config, PoolConfig):
            kind = type(config).__name__  # never the value: it may be an address
            raise TypeError(f"config is a {kind}: it must be a PoolConfig, or None for the defaults")
        hooks = {
            "factory": factory,
            "configure": configure,
            "validator": validator,
            "resetter": resetter,
            "destroyer": destroyer,
            "aborter": aborter,
            "is_broken": is_broken,
            "is_fatal": is_fatal,
        }
        for hook, function in hooks.items():
            if not callable(function) and (function is not None or hook == "factory"):
                raise TypeError(f"{hook} is a {type(function).__name__}: it must be a callable")
            if hook in PLAIN_HOOKS and inspect.iscoroutinefunction(function):
                raise TypeError(f"{hook} is an async function: it must be a plain one, for nobody waits for it")
        self.name = name if name is not None else f"pool-{next(_numbers)}"
        self._config = config if config is not None else PoolConfig()
        self._counters = Counters()
        self._refusals = Refusals(self.name, self.stats)
        self._lifecycle: Lifecycle[T] = Lifecycle(
            self.name,
            self._config,
            self._counters,
            factory=factory,
            configure=configure,
            validator=validator,
            resetter=resetter,
            destroyer=destroyer,
            aborter=aborter,
        )
        self._judge_broken = is_broken
        self._judge_fatal = is_fatal if is_fatal is not None else says_hopeless
        self._listeners: tuple[events.Listener, ...] = ()
        self._open_time = OpenTime()
        self._using = self._counters.using
        self._is_forked = False
        self._line: HandoffQueue[T] = HandoffQueue(
            usual_timeout=self._config.acquire_timeout,
            codel=CoDel(self._config.shed_target, self._config.shed_interval) if self._config.shed_target else None,
            is_shared=self._config.max_shares > 1,
        )
        self._look_at_features()

    @property
    def config(self) -> PoolConfig:
        return self._config

    # ------------------------------------------------------------------------------------------------ acquire

    def acquire(self, timeout: float | None = CONFIGURED) -> Acquisition[T]:
        """`async with pool.acquire() as conn`, or `lease = await pool.acquire()`.

        `timeout` in seconds overrides `acquire_timeout`; 0: only if one is idle now; None: wait for ever. Raises
        `PoolTimeout`, `PoolFull`, `PoolOverloaded`, `PoolUnavailable`, `PoolClosed`, `WrongLoop` or `ForkedPool`.
        """
        if timeout is not CONFIGURED:
            _check_seconds("timeout", timeout)
        return Acquisition(self, timeout)

    def _lent(self, info: PooledConnection[T]) -> Watch[T] | None:
        """At once, and somebody else wants to know."""
        if info.leases < info.capacity:
            self._line.put_back(info)
        if self._listeners:
            self._emit(events.Acquired, info, 0.0)
        return self._watch(info)

    async def _wait(self, acquisition: Acquisition[T]) -> T:
        """The other path: stand in line for whichever comes first, a returned, a checked or a new connection."""
        if self._state is not OPEN or whereabouts() != self._home or not self._loop.is_running():
            self._ensure_open()
        timeout = self._config.acquire_timeout if acquisition._timeout is CONFIGURED else acquisition._timeout
        line, stock, counters = self._line, self._stock, self._counters
        began = self._now()
        if (refusal := stock.refusal(began, inf if timeout is None else began + timeout)) is not None:
            if timeout != 0:
                await self._leave_a_turn()
            counters.rejected += isinstance(refusal, PoolFull)
            raise refusal
        if not line.waiters:
            stock.opener.line_forms()
        waiter = line.line_up(began)
        timer, waits = None, False
        try:
            stock.serve_line(eager=timeout == 0)
            if timeout == 0:
                line.time_out(waiter)
            elif not waiter.future.done():
                waits = True
                timer = line.bound(waiter, timeout)
            outcome = await waiter.future
        except BaseException:
            line.abandon(waiter)
            counters.cancelled += 1
            raise
        finally:
            if waits:
                counters.waiting.record(self._now() - began)
            if timer is not None:
                timer.cancel()
        if isinstance(outcome, PoolError):
            counters.timeouts += isinstance(outcome, PoolTimeout)
            if isinstance(outcome, PoolOverloaded):
                counters.shed += 1
                self._emit(events.Shed, self._now() - began)
            raise outcome
        if outcome.place is not LEASED:  # the pool was closed in the same turn
            stock.give_back(outcome)
            raise self._refusals.closed()
        acquisition._info = outcome
        if self._listeners:
            self._emit(events.Acquired, outcome, self._now() - began)
        if self._is_watching:
            acquisition._watch = self._watch(outcome)
        return outcome.connection

    async def _leave_a_turn(self) -> None:
        """To others, before a refusal: whoever tries again at once would keep them from giving anything back."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._counters.cancelled += 1
            raise

    # ------------------------------------------------------------------------------------------------ release

    def _release(
        self,
        info: PooledConnection[T],
        exc: BaseException | None,
        watch: Watch[T] | None,
        *,
        is_wanted: bool = True,
    ) -> None:
        """One synchronous step, so that nothing can be cancelled half-way; what takes time goes to the background.

        Is the connection broken, worn, unwanted, dirty, watched, shared? The short way is `Acquisition.__aexit__`.
        """
        if self._is_forked:  # the connection is the parent's, who goes on with it
            return
        stock, now = self._stock, self._now()
        began = info.last_used if watch is None else watch.since
        if watch is not None and watch.is_reclaimed:
            if isinstance(exc, Exception):
                raise self._refusals.expired(self._config.max_hold) from exc
            return
        if info.place is not LEASED:  # the pool was closed under its holder
            return
        if watch is not None:
            stock.watches.end(watch, now)
        self._using.record(now - began)
        info.leases -= 1
        info.last_used = now
        if self._line.is_shared and not info.leases:  # it had room for more
            self._line.discard(info)
        if self._listeners:
            self._emit(events.Released, info, now - began)
        if not is_wanted:
            stock.retire(info, Reason.DISCARDED)
        elif self._is_broken(info, exc):
            stock.retire_broken(info, exc)
        elif now >= info.expires_at:
            stock.retire(info, info.expires_as)
        elif self._config.max_uses is not None and info.use_count >= self._config.max_uses:
            stock.retire(info, Reason.USES)
        elif info.leases or not self._can_reset or stock.reset(info, now):
            stock.give(info, now)
        if stock.is_shrinking != self._was_shrinking:
            self._look_at_features()

    def _look_at_features(self) -> None:
        """Decides beforehand which path leases take, so that what is switched off costs nothing."""
        config = self._config
        self._fresh_for = self._lifecycle.fresh_for
        self._can_reset = self._lifecycle.can_reset
        self._is_hooked = self._can_reset or self._judge_broken is not None
        self._is_watching = self._line.is_shared or config.leak_after is not None or config.max_hold is not None
        self._was_shrinking = self._state is OPEN and self._stock.is_shrinking
        self._is_observed = self._is_watching or bool(self._listeners)
        self._is_special = (
            self._is_observed
            or self._was_shrinking
            or self._is_forked
            or config.max_uses is not None
            or config.max_idle is not None
        )

    def _is_good(self, info: PooledConnection[T], exc: BaseException | None, now: float) -> bool:
        """Whether it may be lent on at once; otherwise it is retired, or comes back by itself when it is reset."""
        if self._is_broken(info, exc):
            self._stock.retire_broken(info, exc)
            return False
        return not self._can_reset or self._stock.reset(info, now)

    def _is_broken(self, info: PooledConnection[T], exc: BaseException | None) -> bool:
        if self._judge_broken is None:
            return says_broken(exc, cancellation_breaks=self._config.max_shares == 1)
        try:
            return bool(self._judge_broken(info.connection, exc))
        except (Exception, asyncio.CancelledError):
            return True

    def _watch(self, info: PooledConnection[T]) -> Watch[T] | None:
        return self._stock.watches.begin(info, self._now()) if self._is_watching else None

    def _lost(self, info: PooledConnection[T], watch: Watch[T] | None) -> None:
        """A lease was garbage-collected while held: at any moment, in any thread, so the rest is for the loop."""
        if info.place is not LEASED or (watch is not None and watch.is_reclaimed):
            return  # it was taken away from its holder already
        if not self._loop.is_closed() and not self._is_forked:
            self._loop.call_soon_threadsafe(self._stock.lost, info, watch)
        stack = f"; acquired at:\n{watch.stack}" if watch is not None and watch.stack else ""
        warnings.warn(
            f"a lease of pool {self.name!r} was dropped without being released: use `async with pool.acquire()`{stack}",
            ResourceWarning,
            stacklevel=3,
        )

    # ------------------------------------------------------------------------------------------ open and close

    async def open(self, wait: bool = True, timeout: float | None = None) -> None:
        """Starts the workers; with `wait`, returns when `min_size` connections stand.

        Raises `PoolUnavailable` if they can't be had, or not within `timeout` seconds, and leaves nothing behind. On
        an open pool it only waits. A closed pool may be opened again, on another loop too.
        """
        _check_seconds("timeout", timeout)
        before = self._state
        self._ensure_open(may_reopen=True)
        if not wait:
            return
        try:
            reached = self._stock.opener.await_min_size()
            await asyncio.wait((reached,), timeout=timeout)
            if not reached.done():
                raise self._refusals.unavailable(
                    timeout or 0.0,
                    self._stock.opener.outage.error,
                    f"did not reach min_size={self._config.min_size}",
                )
            if (error := reached.result()) is not None:
                raise error
        except BaseException:
            if before is not OPEN:
                await self._undo_open(before)
            raise

    async def _undo_open(self, before: State) -> None:
        """Bounded by the timeouts of closing, so it may insist, and a cancellation has to wait."""
        stock, cancellation = self._stock, None
        undoing = self._lifecycle.spawn(self.close(timeout=0), "undo")
        with CancelScope(shield=True):
            while not undoing.done():
                try:
                    await asyncio.wait((undoing,))
                except asyncio.CancelledError as exc:
                    cancellation = exc
        if self._stock is stock and self._state is State.CLOSED:  # nobody has opened it again meanwhile
            self._state = before
        if cancellation is not None:
            raise cancellation

    def _ensure_open(self, *, may_reopen: bool = False) -> None:
        """Opens a pool that was never open; raises unless it can be used, here and now."""
        if self._is_forked:
            raise self._refusals.forked()
        loop = asyncio.get_running_loop()
        if self._state is State.NEW or (may_reopen and self._state is State.CLOSED):
            self._start(loop)
        elif self._state is State.CLOSED:
            raise self._refusals.closed()
        elif loop is not self._loop:
            raise self._refusals.wrong_loop(is_closed=self._loop.is_closed())
        elif self._state is State.CLOSING:
            raise self._refusals.closing() if may_reopen else self._refusals.closed()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = self._lifecycle.loop = loop
        self._lifecycle.is_ending = False
        self._home = whereabouts()
        self._now = clock_of(loop)
        self._released = finished(None, loop)
        self._state = OPEN
        self._stock = Stock(
            self.name,
            self._config,
            now=self._now,
            line=self._line,
            lifecycle=self._lifecycle,
            counters=self._counters,
            refusals=self._refusals,
            open_time=self._open_time,
            is_fatal=self._judge_fatal,
            emit=self._emit,
            features_changed=self._look_at_features,
        )
        self._look_at_features()
        residents.add(self)

    async def close(self, timeout: float | None = 10.0) -> None:
        """Refuses newcomers and the waiting, lets leases and resets end for `timeout` seconds, then closes under them.

        0 terminates, None waits for ever. Idempotent; a cancelled close terminates. Afterwards every connection is
        closed and no task is left, unless a factory or a destroyer ignores its cancellation: that is logged.
        """
        _check_seconds("timeout", timeout)
        if self._state in (State.NEW, State.CLOSED) or self._is_forked:
            self._state = State.CLOSED
            return
        if asyncio.get_running_loop() is not self._loop:
            if not self._loop.is_closed():
                raise self._refusals.wrong_loop(is_closed=False)
            self._abandon()
            return
        stock = self._stock
        if self._state is OPEN:
            self._state = State.CLOSING
            stock.emptied.add_done_callback(lambda _: self._closed(stock))
            stock.close()
        try:
            if timeout != 0:
                await asyncio.wait((stock.emptied,), timeout=timeout)
            stock.terminate()
            await asyncio.wait((stock.emptied,), timeout=2 * self._config.close_timeout + 1)
            stock.give_up()
            await self._lifecycle.end(grace=1.0)
        except BaseException:
            stock.terminate()
            raise
        self._closed(stock)

    def _closed(self, stock: Stock[T]) -> None:
        if self._stock is stock and self._state is State.CLOSING:
            self._state = State.CLOSED
            self._line.resume()  # a pool that is opened again is not suspended
            residents.discard(self)

    def _abandon(self) -> None:
        """The loop is closed with the pool open: nothing can be closed politely any more."""
        self._state = State.CLOSED
        self._stock.abandon()
        residents.discard(self)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def _forked(self) -> None:
        self._is_forked = True
        self._home = "forked"  # so that nobody in this process takes the fast path
        self._line.pause()
        self._look_at_features()

    def __del__(self) -> None:
        if self._state is not OPEN or self._is_forked:
            return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_dissolve, self._stock)
        warnings.warn(
            f"pool {self.name!r} was dropped without being closed: use `async with pool` or `await pool.close()`",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )

    # ------------------------------------------------------------------------------------------------ control

    async def drain(self, over: float = 0.0) -> None:
        """Replaces every connection that exists or is being opened: the idle at once, or spread over `over` seconds.

        Leased ones are replaced when they come back; this does not wait for them.
        """
        _check_seconds("over", over, allows_none=False)
        self._ensure_open()
        self._stock.drain(over)
        self._emit(events.Drained, over)
        await asyncio.sleep(0)  # so that closing has begun when this returns

    async def check(self) -> int:
        """Validates all idle connections now; returns how many had to be replaced."""
        self._ensure_open()
        if not self._lifecycle.can_validate:
            return 0
        return await self._stock.health.check_all(self._line.lendable)

    def evict(self, connection: T) -> None:
        """That connection is unwanted: closed now if it is idle, else when it comes back. An unknown one: no-op."""
        if self._state in (OPEN, State.CLOSING):
            self._stock.evict(connection)

    def resize(self, min_size: int | None = None, max_size: int | None = None) -> None:
        """Growing wakes the line; shrinking closes the idle now and the leased when they come back.

        Raises `PoolConfigError` for sizes that don't fit together, and changes nothing then.
        """
        config = self._config
        self._config = replace(
            config,
            min_size=config.min_size if min_size is None else min_size,
            max_size=config.max_size if max_size is None else max_size,
        )
        if self._state is OPEN:
            self._stock.resize(self._config)
            self._look_at_features()
        self._emit(events.Resized, self._config.min_size, self._config.max_size)

    def suspend(self) -> None:
        """Nothing is lent until `resume`: acquirers wait, bounded by their timeouts."""
        if not self._line.is_paused:
            self._line.pause()
            self._emit(events.Suspended)

    def resume(self) -> None:
        if self._line.is_paused and not self._is_forked:
            self._line.resume()
            if self._state is OPEN:
                self._stock.serve_line()
            self._emit(events.Resumed)

    # ------------------------------------------------------------------------------------------------- report

    def stats(self) -> PoolStats:
        """One exact moment of the pool, as a plain dict."""
        stats = self._counters.snapshot()
        stats["name"] = self.name
        stats["min_size"], stats["max_size"] = self._config.min_size, self._config.max_size
        if self._state in (OPEN, State.CLOSING):
            return {**stats, **self._stock.gauges()}
        return stats

    def histograms(self) -> dict[str, Histogram]:
        """How long callers waited, leases lasted and opening took: keys "wait", "use" and "open"."""
        counters = self._counters
        return {"wait": counters.waiting, "use": counters.using, "open": counters.opening}

    def subscribe(self, listener: events.Listener) -> Callable[[], None]:
        """Calls `listener(event)` for what happens (see `aiopool.events`); returns what ends that.

        It runs inside the pool's own steps, so it must be quick. What it raises is logged and disturbs nobody.
        """
        events.ensure_listener(listener)
        self._listeners = (*self._listeners, listener)
        self._look_at_features()

        def unsubscribe() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not listener)
            self._look_at_features()

        return unsubscribe

    def _emit(self, event: type[events.Event], *about: object) -> None:
        if self._listeners:
            events.tell(self._listeners, event(self, self._now() if hasattr(self, "_now") else 0.0, *about))

    def __repr__(self) -> str:
        s = self.stats()
        return (
            f"<ConnectionPool {self.name!r} {self._state.value} size={s['size']} in_use={s['in_use']} "
            f"waiting={s['waiting']} max_size={s['max_size']}>"
        )


def _check_seconds(name: str, value: object, *, allows_none: bool = True) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and value >= 0) and not (value is None and allows_none):  # type: ignore[operator]
        or_none = ", or None" if allows_none else ""
        raise ValueError(f"{name}={value!r} is not allowed: it must be a number of seconds, 0 or more{or_none}")


def _dissolve(stock: Stock[Any]) -> None:
    stock.close()
    stock.terminate()
