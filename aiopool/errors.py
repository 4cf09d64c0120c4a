"""Every exception that aiopool raises. Each message says what happened, with figures, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Phase = Literal["wait", "open", "validate"]


class PoolError(Exception):
    """Whatever a pool raises by itself, as opposed to what the driver or the caller's own code raises."""


class PoolTimeout(PoolError, TimeoutError):
    """No connection could be granted in time; the last open error, if opening fails, is the `__cause__`.

    `phase`: "validate" if the caller's candidate was in check, "open" if no connection existed, else "wait".
    `waited`: seconds. `stats`: the pool's `PoolStats` at that moment.
    """

    def __init__(
        self,
        message: str,
        *,
        phase: Phase = "wait",
        waited: float = 0.0,
        stats: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.phase = phase
        self.waited = waited
        self.stats = stats


class PoolClosed(PoolError, RuntimeError):
    """The pool is closed or closing; `open()` it again before use."""


class PoolFull(PoolError):
    """The line of waiting callers is as long as `max_waiting` allows; the caller was refused at once."""


class PoolOverloaded(PoolError):
    """Shed under a standing queue: this caller had waited over twice `shed_target`."""


class PoolUnavailable(PoolError, ConnectionError):
    """No connection exists and none can be opened; the reason is the `__cause__`."""


class LeaseExpired(PoolError, RuntimeError):
    """The lease was held longer than `max_hold`; its connection was closed under its holder."""


class WrongLoop(PoolError, RuntimeError):
    """The pool lives on another event loop than the one it was used from."""


class ForkedPool(PoolError, RuntimeError):
    """The pool was opened before a fork; a child process must build its own."""


class PoolConfigError(PoolError, ValueError):
    """A wrong setting: the message names the field, the value and what is allowed."""


class PoolNotFound(PoolError, KeyError):
    """No pool of that name is registered."""

    # KeyError would show the repr of its argument.
    __str__ = Exception.__str__
