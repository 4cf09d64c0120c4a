"""The errors of one pool: each carries its name, its figures, and a next step."""

from __future__ import annotations

from collections.abc import Callable

from aiopool.errors import (
    ForkedPool,
    LeaseExpired,
    Phase,
    PoolClosed,
    PoolFull,
    PoolOverloaded,
    PoolTimeout,
    PoolUnavailable,
    WrongLoop,
)
from aiopool.stats import PoolStats

_REMEDIES: dict[Phase, str] = {
    "wait": "raise max_size, hold leases for a shorter time, or pass a longer timeout",
    "open": "no connection exists yet: check that the backend can be reached, or pass a longer timeout",
    "validate": "the check of an idle connection did not end in time: lower validate_timeout, or look at the backend",
}


class Refusals:
    """Makes an error of its own for every caller, because a raised one collects the traceback of who raised it."""

    def __init__(self, name: str, stats: Callable[[], PoolStats]) -> None:
        self._name = name
        self._stats = stats

    def timed_out(self, phase: Phase, waited: float, cause: BaseException | None, *, is_suspended: bool) -> PoolTimeout:
        stats = self._stats()
        remedy = "opening fails, see the cause; check the backend" if cause else _REMEDIES[phase]
        if is_suspended:
            remedy = "the pool is suspended: call `resume()`"
        error = PoolTimeout(
            f"pool {self._name!r} had no connection in time {_figures(stats, waited)}: {remedy}",
            phase=phase,
            waited=waited,
            stats=stats,
        )
        error.__cause__ = cause
        return error

    def unavailable(
        self, waited: float, cause: BaseException | None, what: str = "can't open connections"
    ) -> PoolUnavailable:
        error = PoolUnavailable(
            f"pool {self._name!r} {what} {_figures(self._stats(), waited)}: "
            f"{f'last error {type(cause).__name__}, see the cause; ' if cause else ''}check the backend and the factory"
        )
        error.__cause__ = cause
        return error

    def closed(self) -> PoolClosed:
        return PoolClosed(
            f"pool {self._name!r} is closed {_figures(self._stats())}: `await pool.open()` to use it again"
        )

    def closing(self) -> PoolClosed:
        return PoolClosed(
            f"pool {self._name!r} is closing {_figures(self._stats())}: wait for `close()` before `open()`"
        )

    def full(self, max_waiting: int) -> PoolFull:
        return PoolFull(
            f"pool {self._name!r} is full and max_waiting={max_waiting} callers wait {_figures(self._stats())}: "
            "try again later, or raise max_size or max_waiting"
        )

    def overloaded(self, waited: float, target: float) -> PoolOverloaded:
        return PoolOverloaded(
            f"pool {self._name!r} is overloaded: everybody waits for longer than shed_target={target}s "
            f"{_figures(self._stats(), waited)}: send less, or raise max_size or shed_target"
        )

    def expired(self, max_hold: float | None) -> LeaseExpired:
        return LeaseExpired(
            f"a lease of pool {self._name!r} was held for longer than max_hold={max_hold}s and its connection was "
            f"closed {_figures(self._stats())}: hold it for a shorter time, or raise max_hold"
        )

    def wrong_loop(self, *, is_closed: bool) -> WrongLoop:
        why = (
            "which is closed; `await pool.close()` first, then open it here"
            if is_closed
            else ("build one pool per loop, or run this call on the pool's loop")
        )
        return WrongLoop(f"pool {self._name!r} lives on another event loop {_figures(self._stats())}: {why}")

    def forked(self) -> ForkedPool:
        return ForkedPool(
            f"pool {self._name!r} was opened before this process was forked {_figures(self._stats())}: its sockets "
            "belong to the parent; build a pool of its own in the child"
        )


def _figures(stats: PoolStats, waited: float | None = None) -> str:
    figures = "size={size} in_use={in_use} waiting={waiting} max_size={max_size}".format(**stats)
    return f"({figures})" if waited is None else f"({figures}, waited {waited:.2f}s)"
