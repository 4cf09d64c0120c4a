"""How asyncpg's pool on ours opens a connection, and what is told to those who wait for one in vain."""

from __future__ import annotations

import copy
from configparser import Error as ServiceFileError
from ssl import SSLError
from typing import Any

from aiopool.adapters._asyncpg import asyncpg, bad_parameters, connect, is_fatal, refuse_ambiguous
from aiopool.adapters._asyncpg_holder import Hook
from aiopool.errors import PoolUnavailable

#: What `asyncpg.connect` has where nothing is given, in seconds.
CONNECT_TIMEOUT = 60.0
#: Any other error is one of a hook, which nobody but its author can mend: it is told at once.
MAY_PASS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def connect_as(own_class: type[Any], connect: Hook, *args: Any, connection_class: object, **kwargs: Any) -> Any:
    """Lets the pool have a class of its own beneath the one that `connect` is told and judged by."""
    return await connect(*args, connection_class=own_class, **kwargs)


async def connect_by_asyncpg(dsn: str | None, **kwargs: Any) -> Any:
    try:
        refuse_ambiguous(dsn)
        return await connect(dsn, **kwargs)
    except (ValueError, ServiceFileError) as exc:
        if isinstance(exc, SSLError):
            raise
        error = bad_parameters(exc, dsn)
    # Raised here because inside `except` it would carry the original along, DSN and all.
    raise error


def is_hopeless(error: BaseException) -> bool:
    return is_fatal(error) or not isinstance(error, MAY_PASS)


def own_error(unavailable: PoolUnavailable) -> BaseException:
    """The error of the last attempt, which its pool would have raised. A copy, for each caller raises its own."""
    if unavailable.__cause__ is None:
        return unavailable
    try:
        error = copy.copy(unavailable.__cause__)
    except Exception:  # an exception class of somebody's `init`
        return unavailable
    error.add_note(str(unavailable))
    return error
