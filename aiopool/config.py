"""`PoolConfig`: every knob with its unit, default and reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeGuard, cast

from aiopool.errors import PoolConfigError

DEFAULT_MIN_SIZE = 5


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """How a pool behaves. All times are seconds; `None` means "no limit" or "never" where it is allowed.

    Raises `PoolConfigError` (a `ValueError`) that names the field, the value and what is allowed.
    """

    #: Connections kept open even when nobody asks; unset: 5, or `max_size` or `max_idle` if they are smaller.
    min_size: int = cast(int, None)
    #: Connections that may exist at once, those being opened or closed included.
    max_size: int = 20
    #: At most so many, but no less than `min_size`, are kept idle (a count); a surplus one is closed on release.
    max_idle: int | None = None
    #: A connection idle for longer is closed, down to `min_size`: give the server its memory back after a peak.
    max_idle_time: float | None = 300.0
    #: How long `acquire` may take altogether; a call's own `timeout` overrides it.
    acquire_timeout: float | None = 30.0
    #: The idle connections are checked this often, so that callers don't discover the dead ones.
    health_check_interval: float = 60.0
    #: What an adapter that speaks a query language sends to validate; unset: the adapter's own.
    validation_query: str | None = None
    #: Older connections are replaced: servers leak, routes and credentials change.
    max_lifetime: float | None = 1800.0
    #: A connection lives for a uniform share of [1 - jitter, 1] of `max_lifetime`, so that they don't die together.
    lifetime_jitter: float = 0.1
    #: A connection is replaced after so many leases.
    max_uses: int | None = None
    #: Checked before it is lent only if it was idle for longer than this; 0: always, `None`: never.
    validate_after: float | None = 0.5
    #: Callers that may queue behind a full pool; the next is refused with `PoolFull`. 0: nobody queues.
    max_waiting: int | None = None
    #: Each phase of a connection's life has its own bound, so that one hanging peer can't hold the pool up.
    open_timeout: float = 10.0
    validate_timeout: float = 5.0
    reset_timeout: float = 5.0
    close_timeout: float = 5.0
    #: Connections being opened at once; `None`: up to `max_size`.
    max_opening: int | None = None
    #: Failed opens are retried after a random share of a step that doubles from the one to the other.
    backoff_initial: float = 0.1
    backoff_max: float = 10.0
    #: With no connection left and opening failing for this long, callers fail at once; `None`: at their timeout.
    unavailable_after: float | None = 5.0
    #: CoDel: when everybody waits longer than this over a whole `shed_interval`, those over twice are refused.
    shed_target: float | None = None
    shed_interval: float = 2.0
    #: A lease held for longer is reported, with the stack that acquired it.
    leak_after: float | None = None
    #: A lease held for longer is taken back: its connection is closed under its holder.
    max_hold: float | None = None
    #: Leases that one connection carries at once (HTTP/2 streams, a multiplexed session).
    max_shares: int = 1

    def __post_init__(self) -> None:
        if self.min_size is None:
            bounds = [size for size in (DEFAULT_MIN_SIZE, self.max_size, self.max_idle) if _is_count(size, 0)]
            object.__setattr__(self, "min_size", max(0, min(bounds)))
        for field in fields(self):
            allowed, is_allowed = _RULES[field.name]
            value = getattr(self, field.name)
            if not is_allowed(value):
                raise PoolConfigError(f"{field.name}={value!r} is not allowed: it must be {allowed}")
        if self.min_size > self.max_size:
            raise PoolConfigError(
                f"min_size={self.min_size} is not allowed with max_size={self.max_size}: "
                "it must not be larger; lower min_size or raise max_size"
            )
        if self.backoff_max < self.backoff_initial:
            raise PoolConfigError(
                f"backoff_max={self.backoff_max!r} is not allowed with backoff_initial={self.backoff_initial!r}: "
                "it must not be smaller"
            )


def _is_count(value: object, floor: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= floor


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


Rule = tuple[str, Callable[[Any], bool]]

_AT_LEAST_0: Rule = ("a whole number, 0 or more", lambda v: _is_count(v, 0))
_AT_LEAST_1: Rule = ("a whole number, 1 or more", lambda v: _is_count(v, 1))
_SECONDS: Rule = ("a number of seconds above 0", lambda v: _is_number(v) and v > 0)
_SECONDS_OR_0: Rule = ("a number of seconds, 0 or more", lambda v: _is_number(v) and v >= 0)
_SHARE: Rule = ("a number from 0 up to, but not, 1", lambda v: _is_number(v) and 0 <= v < 1)
_TEXT: Rule = ("a string", lambda v: isinstance(v, str))


def _or_none(rule: Rule, meaning: str) -> Rule:
    allowed, is_allowed = rule
    return f"{allowed}, or None ({meaning})", lambda value: value is None or is_allowed(value)


_RULES: dict[str, Rule] = {
    "min_size": _AT_LEAST_0,
    "max_size": _AT_LEAST_1,
    "max_idle": _or_none(_AT_LEAST_0, "no limit"),
    "max_idle_time": _or_none(_SECONDS, "never closed for being idle"),
    "acquire_timeout": _or_none(_SECONDS_OR_0, "wait for ever"),
    "health_check_interval": _SECONDS,
    "validation_query": _or_none(_TEXT, "the adapter's own check"),
    "max_lifetime": _or_none(_SECONDS, "no limit"),
    "lifetime_jitter": _SHARE,
    "max_uses": _or_none(_AT_LEAST_1, "no limit"),
    "validate_after": _or_none(_SECONDS_OR_0, "never checked when acquired"),
    "max_waiting": _or_none(_AT_LEAST_0, "no limit"),
    "open_timeout": _SECONDS,
    "validate_timeout": _SECONDS,
    "reset_timeout": _SECONDS,
    "close_timeout": _SECONDS,
    "max_opening": _or_none(_AT_LEAST_1, "up to max_size"),
    "backoff_initial": _SECONDS,
    "backoff_max": _SECONDS,
    "unavailable_after": _or_none(_SECONDS_OR_0, "callers wait for their own timeout"),
    "shed_target": _or_none(_SECONDS, "no shedding"),
    "shed_interval": _SECONDS,
    "leak_after": _or_none(_SECONDS, "no reports"),
    "max_hold": _or_none(_SECONDS, "never taken back"),
    "max_shares": _AT_LEAST_1,
}
