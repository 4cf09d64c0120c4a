"""A password that somebody else keeps: it is asked for whenever a connection is opened."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

PasswordProvider: TypeAlias = Callable[[], str | Awaitable[str]]


def provided(provider: PasswordProvider) -> Callable[[], Awaitable[str]]:
    """For asyncpg, which asks at every open. That the provider fails is no fault of the settings, so it is asked again.

    Raises `ConnectionError` with the provider's own exception as its cause, `TypeError` if what it gives is no string.
    """

    async def ask() -> str:
        try:
            password = provider()
            if inspect.isawaitable(password):
                password = await password
        except Exception as exc:
            raise ConnectionError(f"the function given as password= raised {type(exc).__name__}") from exc
        if not isinstance(password, str):
            kind = type(password).__name__  # never the value
            raise TypeError(f"the function given as password= gave {kind}: it must return a str, or await one")
        return password

    return ask
