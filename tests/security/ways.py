"""Ways to give a password, and what a run of one pool tells while everything goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.security.secret import Secret
from tests.security.told import Told, listening

#: An example that hangs is a failure of its own.
BOUND = 10.0


@dataclass(frozen=True)
class Given:
    """What a pool is made from: arguments, and what the environment adds to them."""

    address: str | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def run_and_listen(
    secret: Secret, given: Given, make: Callable[..., Any], use: Callable[[Any], Awaitable[object]]
) -> Told:
    """Make a pool, use it, close it; nothing of the secret, nor the address as a whole, may be told meanwhile."""
    # An address with nobody's name in it is no secret: httpx logs that of every request.
    wholes = (given.address,) if given.address and "@" in given.address else ()
    secret = Secret(secret.raw, (*secret.wholes, *wholes))
    with listening() as told, pytest.MonkeyPatch.context() as patch, asyncio.Runner(debug=True) as runner:
        for name, value in given.env.items():
            patch.setenv(name, value)
        runner.run(asyncio.wait_for(_run(told, given, make, use), BOUND))
    told.assert_nothing_of(secret)
    return told


async def _run(told: Told, given: Given, make: Callable[..., Any], use: Callable[[Any], Awaitable[object]]) -> None:
    try:
        pool = make(given.address, **given.keywords)
    except Exception as exc:
        # Whoever calls a constructor has its arguments in frames of their own, too.
        told.error(exc, with_locals=False)
        return
    told.thing(pool)
    with contextlib.suppress(AttributeError):
        pool.subscribe(told.event)
    try:
        await use(pool)
    except Exception as exc:
        told.error(exc)
    finally:
        told.pool(pool)
        try:
            await pool.close(timeout=1)
        except Exception as exc:
            told.error(exc)
    told.thing(pool)
