"""What an exception says of the MCP session it came through, known by its shape: each SDK has classes of its own.

a timeout, a cancellation, an error of the tool      the session is as good as before
the connection is closed, the session is unknown     the session is lost
the session is unknown                               and so the request did not run: it may be sent again
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anyio

from aiopool.errors import PoolError

CONNECTION_CLOSED = -32000
_ENDED = (ConnectionError, EOFError, anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)
#: What servers, and clients on their behalf (for a 404), say of a session that they don't know (any more). The codes
#: are many: -32600 and -32000 in Python, -32001 in TypeScript, 32600 in mcp 1.x.
_UNKNOWN_SESSION = ("session not found", "session terminated", "session expired", "bad request: no valid session id")
#: Of httpx and httpx2; their timeouts are no reason to give a session up.
_NETWORK_ERRORS = {"NetworkError", "ProtocolError"}


class NotSent(ConnectionError):
    """The session had ended before the call, as its cause says."""


def says_lost(exc: BaseException | None) -> bool:
    """Whether the session can't serve any more; also where that is the cause, or in a group."""
    return any(_is_end(each) or _is_unknown_session(each) for each in _parts(exc))


def says_not_run(exc: BaseException) -> bool:
    """Whether the server certainly has not looked at the request."""
    return any(isinstance(each, NotSent) or _is_unknown_session(each) for each in _parts(exc))


def leaf(error: BaseException) -> BaseException:
    """Of the exceptions in a group, and in groups in it, the one that tells most; another exception is its own."""
    leaves = sorted(_leaves(error), key=lambda each: (not isinstance(each, Exception), _is_closed(each)))
    return leaves[0] if leaves else error


def _is_end(exc: BaseException) -> bool:
    if isinstance(exc, _ENDED) or _is_closed(exc):
        return True
    kinds = type(exc).__mro__
    return any(each.__name__ in _NETWORK_ERRORS and each.__module__.startswith("httpx") for each in kinds)


def _is_closed(exc: BaseException) -> bool:
    """Servers, and the client of a single request, use that code as well."""
    code, message = _answer(exc)
    return code == CONNECTION_CLOSED and message.startswith("connection closed")


def _is_unknown_session(exc: BaseException) -> bool:
    code, message = _answer(exc)
    return code is not None and message.startswith(_UNKNOWN_SESSION)


def is_answer(exc: BaseException) -> bool:
    """A JSON-RPC error, unless it is the client's own that none came in time."""
    code, message = _answer(exc)
    return code is not None and "timed out" not in message


def _answer(exc: BaseException) -> tuple[int | None, str]:
    """The code and the message of a JSON-RPC error."""
    error: Any = getattr(exc, "error", exc)
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    return (code, message.lower()) if type(code) is int and isinstance(message, str) else (None, "")


def _parts(exc: BaseException | None) -> Iterator[BaseException]:
    """The exception, its parts, and their causes. What a pool raised says nothing of this session."""
    seen: set[int] = set()
    pending = [exc]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen or isinstance(each, PoolError):
            continue
        seen.add(id(each))
        yield each
        pending.append(each.__cause__)
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    elif not isinstance(error, asyncio.CancelledError):
        yield error
