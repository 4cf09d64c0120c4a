"""What callers give, judged at once and told under the names that they wrote."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError


def ensure_unshared(adapter: str, config: PoolConfig | None) -> None:
    """Raises `TypeError` unless it is a config, `PoolConfigError` if it lets callers share a connection."""
    if config is None:
        return
    if not isinstance(config, PoolConfig):  # adapters read it before the pool does
        kind = type(config).__name__  # never the value: it may be an address
        raise TypeError(f"config is a {kind}: it must be a PoolConfig, or None for the defaults")
    if config.max_shares != 1:
        raise PoolConfigError(
            f"max_shares={config.max_shares} is not allowed for {adapter}, whose connections serve one caller at a "
            "time: leave it at 1, and raise max_size"
        )


def ensure_allowed(name: str, value: Any, field: str) -> None:
    """Raises `PoolConfigError` for a value that this field of `PoolConfig` cannot have. None: there is none."""
    try:
        if value is not None:
            PoolConfig(**{field: value})
    except PoolConfigError as exc:
        raise PoolConfigError(str(exc).replace(field, name, 1)) from None


def refuse_unknown(adapter: str, given: Iterable[str], driver: Callable[..., Any], remedy: str, *but: str) -> None:
    """Raises `TypeError` for a keyword that `driver` does not take, or that is among `but`."""
    known = inspect.signature(driver).parameters.keys() - set(but)
    for name in given:
        if name not in known:
            takes = f"{driver.__module__.partition('.')[0]}.{driver.__name__}()"
            raise TypeError(f"{adapter} got an unexpected keyword {name!r}: it takes those of {takes}; {remedy}")


def refuse_seconds(name: str, value: float | None, least: float, most: float) -> None:
    """Raises `PoolConfigError` unless it is None or a number between the two."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (is_number and least <= value <= most):
        raise PoolConfigError(
            f"{name}={value!r} is not allowed: it must be a number of seconds from {least} to {most}, or None "
            "(no bound)"
        )


def refuse_other(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raises `PoolConfigError` unless it is one of these."""
    if value not in allowed:
        raise PoolConfigError(f"{name}={value!r} is not allowed: it must be one of {', '.join(allowed)}")
