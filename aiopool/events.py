"""What listeners are told. Each event says which pool, when (seconds on its clock), and what it is about."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from traceback import format_tb
from typing import Any

from aiopool.connection import PooledConnection
from aiopool.stats import Reason


@dataclass(frozen=True, slots=True)
class Event:
    #: The `ConnectionPool`; its `name` says which.
    pool: Any
    at: float


@dataclass(frozen=True, slots=True)
class Opened(Event):
    info: PooledConnection[Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class OpenFailed(Event):
    error: BaseException


@dataclass(frozen=True, slots=True)
class Acquired(Event):
    info: PooledConnection[Any]
    waited: float


@dataclass(frozen=True, slots=True)
class Released(Event):
    info: PooledConnection[Any]
    held: float


@dataclass(frozen=True, slots=True)
class Closed(Event):
    info: PooledConnection[Any]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Leaked(Event):
    """`stack` is the text of the stack that acquired the lease; `returned` is True when it came back after all."""

    info: PooledConnection[Any]
    held: float
    stack: str
    returned: bool = False


@dataclass(frozen=True, slots=True)
class Shed(Event):
    waited: float


@dataclass(frozen=True, slots=True)
class Resized(Event):
    min_size: int
    max_size: int


@dataclass(frozen=True, slots=True)
class Drained(Event):
    over: float


@dataclass(frozen=True, slots=True)
class Suspended(Event):
    pass


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    pass


@dataclass(frozen=True, slots=True)
class Unavailable(Event):
    """Nothing could be opened for `unavailable_after`, or never will be (a fatal error)."""

    error: BaseException


Listener = Callable[[Event], object]

log = logging.getLogger("aiopool")


def ensure_listener(listener: object) -> None:
    """Raises `TypeError` for what cannot be told."""
    if not callable(listener):
        raise TypeError(f"listener is a {type(listener).__name__}: it must be a callable that takes an event")
    if iscoroutinefunction(listener):
        raise TypeError("listener is an async function: it must be a plain one, for nobody waits for it")


def tell(listeners: Iterable[Listener], event: Event) -> None:
    """A listener that raises disturbs nobody."""
    for listener in listeners:
        try:
            listener(event)
        except (Exception, CancelledError) as exc:
            # Its words may be about an address.
            what, where = type(exc).__name__, "".join(format_tb(exc.__traceback__))
            log.error("a listener of pool %r raised %s on %s\n%s", event.pool.name, what, type(event).__name__, where)
