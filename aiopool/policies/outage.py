"""Whether opening works, and when to try again if it does not. A value object: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from aiopool.policies.backoff import Backoff


class Outage:
    """From the first open that failed since a success until the next success. Times are the caller's."""

    __slots__ = ("_backoff", "_is_fatal", "_limit", "_tried_at", "error", "is_told", "retry_at", "since")

    def __init__(self, backoff: Backoff, unavailable_after: float | None) -> None:
        self._backoff = backoff
        self._limit = unavailable_after
        #: None as long as opening works.
        self.since: float | None = None
        #: The last one; without its traceback, because frames hold passwords.
        self.error: BaseException | None = None
        #: Whether callers have been refused for it.
        self.is_told = False
        self.retry_at = 0.0
        #: When an attempt last began or failed.
        self._tried_at = -inf
        self._is_fatal = False

    def failed(self, now: float, error: BaseException, *, is_fatal: bool) -> bool:
        """Returns True if this is how the outage begins."""
        begins = self.since is None
        if self.since is None or now >= self.retry_at:
            self.retry_at = now + self._backoff.next_delay()
        if self.since is None:
            self.since = now
        self.error = without_tracebacks(error)
        self._is_fatal = is_fatal
        self._tried_at = now
        return begins

    def tried(self, now: float) -> None:
        """One attempt a step, whether or not the one before has ended."""
        self.retry_at = now + self._backoff.next_delay()
        self._tried_at = now

    def asked(self) -> None:
        """Somebody is refused: the next attempt need not wait until a long step ends, unless it may lock an account."""
        if not self._is_fatal:
            self.retry_at = min(self.retry_at, self._tried_at + self._backoff.initial)

    def forget_if_stale(self, now: float) -> None:
        """For when nothing is being tried: there were connections enough, and what was true a whole step ago is not
        known any more."""
        if self.since is not None and now > self._tried_at + 2 * self._backoff.maximum:
            self.is_over()

    def is_over(self) -> None:
        self.since = self.error = None
        self._is_fatal = self.is_told = False
        self._backoff.reset()

    @property
    def gives_up_at(self) -> float | None:
        """From then on callers fail at once, if no connection is left."""
        return None if self.since is None or self._limit is None else self.since + self._limit

    def is_long(self, now: float) -> bool:
        return self.gives_up_at is not None and now >= self.gives_up_at

    def is_hopeless(self, now: float) -> bool:
        """Waiting for a new connection makes no sense, as far as we know."""
        return self.since is not None and ((self._is_fatal and now < self.retry_at) or self.is_long(now))


def without_tracebacks(error: BaseException) -> BaseException:
    """The same exception, stripped of the frames that it, its causes and its parts hold."""
    for exc in family(error):
        exc.__traceback__ = None
    return error


def family(error: BaseException) -> Iterator[BaseException]:
    """An exception, its causes, contexts and parts, and theirs; each once."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        exc = pending.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        yield exc
        pending += [exc.__cause__, exc.__context__]
        if isinstance(exc, BaseExceptionGroup):
            pending += exc.exceptions
