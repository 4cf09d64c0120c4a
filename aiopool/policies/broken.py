"""Which exceptions say that the connection they came through can't be trusted any more."""

from __future__ import annotations

from aiopool.errors import PoolError

_BROKEN = (ConnectionError, EOFError, TimeoutError)


def says_broken(exc: BaseException | None, *, cancellation_breaks: bool = True) -> bool:
    """True for connection errors, end of file, timeouts and cancellation, also inside groups and as a cause.

    A cancelled request leaves its reply unread, so the connection would answer the next caller with it; with several
    leases on one connection (`cancellation_breaks=False`) the others would pay, and the protocol must cope. What
    another pool raised (`PoolTimeout` is a `TimeoutError`) says nothing of this connection.
    """
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        if isinstance(exc, PoolError):
            return False
        if isinstance(exc, _BROKEN):
            return True
        if isinstance(exc, BaseExceptionGroup):
            return any(says_broken(e, cancellation_breaks=cancellation_breaks) for e in exc.exceptions)
        if not isinstance(exc, Exception) and cancellation_breaks:
            return True
        exc = exc.__cause__
    return False


def says_hopeless(exc: BaseException) -> bool:
    """True where opening again can't help: wrong arguments, not a wrong moment."""
    return isinstance(exc, (ValueError, TypeError))
