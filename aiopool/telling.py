"""What a model is told when a tool fails: what it can act on, in full; of all else only where to look."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from secrets import token_hex
from socket import gaierror
from traceback import format_tb, walk_tb
from types import ModuleType
from typing import Any

from aiopool.errors import PoolError, PoolTimeout, PoolUnavailable
from aiopool.policies.outage import family

logger = logging.getLogger("aiopool")

#: In characters: a server repeats in its errors what it was sent, and that may be long.
MAX_TEXT = 4000

#: What a server's words may not hold, for they would not be told then: an address with a login, or a credential.
_CREDENTIALS = re.compile(
    r"://\S*@|://[^\s/]*:(?!\d)|\b(password|passwd|pwd|secret|token|api[_-]?key)\s*[=:]|\b(basic|bearer)\s+\S{16}",
    re.IGNORECASE,
)


class ToolFailure(Exception):
    """A failure in words that are meant for the model that called the tool."""


def explain(exc: BaseException) -> str:
    """The text for the model; never a password, a token or an address.

    Told are pool errors with their figures, what a server says of a query or a command, timeouts (a query that ran
    too long apart from a pool without a free connection), the status of an HTTP answer, and `ToolFailure`. Everything
    else becomes "internal error" and an id, under which its class and traceback are logged, without its words.
    """
    texts = [_words_if_any(leaf) for leaf in _leaves(exc)]
    told = [text for text in texts if text is not None]
    if len(told) < len(texts):
        told.append(_masked(exc))
    text = "\n".join(dict.fromkeys(told))
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for part in exc.exceptions:
            yield from _leaves(part)
    else:
        yield exc


def _words_if_any(exc: BaseException) -> str | None:
    try:
        return _words(exc)
    except Exception:  # somebody's `__str__`
        return None


def _words(exc: BaseException) -> str | None:
    """None if nothing of it is to be told."""
    if isinstance(exc, ToolFailure) or _is_for_models(exc):
        return str(exc)
    if isinstance(exc, PoolError):
        return _of_a_pool(exc)
    for name, words in _LIBRARIES.items():
        # An error of a library that nobody has imported does not exist.
        library = sys.modules.get(name)
        if library is not None and (text := words(exc, library)) is not None:
            text = text[: MAX_TEXT + 1]  # a search in much more would keep the loop
            return None if _CREDENTIALS.search(text) else text
    if isinstance(exc, TimeoutError):
        return _of_a_timeout(exc)
    if isinstance(exc, (ConnectionError, gaierror)):
        return f"the backend cannot be reached, or the connection to it was lost ({type(exc).__name__}); retry later"
    return None


def _is_for_models(exc: BaseException) -> bool:
    """Whether it is a `ToolError` of a framework: whoever raised it chose its words."""
    return any(
        kind.__name__ == "ToolError" and kind.__module__.partition(".")[0] in ("mcp", "fastmcp")
        for kind in type(exc).__mro__
    )


def _of_a_pool(exc: PoolError) -> str:
    # Of a timeout it is why opening fails, unless a client's pool has given our error a form of its own.
    cause = None if exc.__cause__ is None else type(exc.__cause__).__name__
    if isinstance(exc, PoolUnavailable):
        what = str(exc).rpartition(": ")[0] or "a pool can't open connections"
        return f"{what}: its backend is down or refuses connections{f' ({cause})' if cause else ''}; retry later"
    if not isinstance(exc, PoolTimeout) or exc.stats is None:
        return str(exc)
    stats = exc.stats
    figures = f"{stats['in_use']} of {stats['max_size']} in use, {stats['waiting']} waiting"
    figures += f", waited {_seconds(exc.waited)}" if exc.waited else ""
    if cause is not None and not cause.endswith("PoolTimeout"):
        state, remedy = f"can't open connections ({cause})", "retry later, or check the backend"
    elif exc.phase == "open":
        state, remedy = "has no connection yet, and opening one takes long", "retry later, or check the backend"
    elif exc.phase == "validate":
        state, remedy = "got no answer in time when it checked a connection", "retry later, or check the backend"
    elif stats["in_use"] >= stats["max_size"]:
        state, remedy = "is exhausted", "retry later or raise max_size"
    else:
        state, remedy = "had no connection in time", "retry later"
    return f"pool {stats['name']!r} {state}: {figures}; {remedy}"


def _of_asyncpg(exc: Any, asyncpg: ModuleType) -> str | None:
    if isinstance(exc, asyncpg.PostgresError):
        message = exc.args[0] if exc.args else None
        return _of_postgres(exc, exc.sqlstate or "unknown", message, exc.position, exc.detail, exc.hint)
    # Those of its configuration quote the address.
    if isinstance(exc, asyncpg.InterfaceError) and not isinstance(exc, asyncpg.ClientConfigurationError):
        return str(exc)
    return None


def _of_psycopg(exc: Any, psycopg: ModuleType) -> str | None:
    if not isinstance(exc, psycopg.Error):
        return None
    if exc.sqlstate is not None:
        said = exc.diag
        return _of_postgres(
            exc,
            exc.sqlstate,
            said.message_primary,
            said.statement_position,
            said.message_detail,
            said.message_hint,
        )
    if isinstance(exc, psycopg.OperationalError):
        return f"the connection to the database was lost ({type(exc).__name__}); retry later"
    return str(exc) if isinstance(exc, (psycopg.ProgrammingError, psycopg.DataError)) else None


def _of_sqlalchemy(exc: Any, sqlalchemy: ModuleType) -> str | None:
    """What its driver says; its own words repeat the statement with all parameters."""
    if not isinstance(exc, sqlalchemy.exc.DBAPIError) or exc.orig is None:
        return None
    return _words(exc.orig) or (_words(exc.orig.__cause__) if exc.orig.__cause__ is not None else None)


def _of_postgres(exc: Exception, state: str, message: object, position: object, detail: object, hint: object) -> str:
    if state[:2] in ("28", "3D"):
        return f"the database refuses the login (SQLSTATE {state}); the query is not at fault"
    if state[:2] == "08":
        return f"the connection to the database was lost ({type(exc).__name__}); retry later"
    text = f"{message or type(exc).__name__} (SQLSTATE {state}{f', at character {position}' if position else ''})"
    if state == "57014" and "user request" not in text:
        text = f"the query ran too long and the server cancelled it; let it do less: {text}"
    more = {"DETAIL": detail, "HINT": hint}
    # asyncpg's own hint about PgBouncer is for programmers.
    return "\n".join(
        [text, *(f"{key}: {said}" for key, said in more.items() if said and "NOTE: pgbouncer" not in str(said))]
    )


def _of_redis(exc: BaseException, redis: ModuleType) -> str | None:
    errors = redis.exceptions
    if isinstance(exc, errors.ResponseError):
        # An old server or a proxy repeats a command that it does not know, and be it a login.
        return re.sub(r",? with args beginning with.*", "", str(exc), flags=re.DOTALL)
    if isinstance(exc, errors.TimeoutError):
        return "Redis did not answer in time; retry later"
    if isinstance(exc, errors.ConnectionError):
        return f"Redis cannot be reached, or the connection to it was lost ({type(exc).__name__}); retry later"
    return None


def _of_httpx(exc: Any, httpx: ModuleType) -> str | None:
    name = type(exc).__name__
    if isinstance(exc, httpx.HTTPStatusError):
        status = exc.response.status_code
        known = {each.value: each.phrase for each in HTTPStatus}
        return f"the HTTP server answered {status} {known.get(status, '')}".rstrip()
    if isinstance(exc, httpx.PoolTimeout):
        return "no HTTP connection came free in time; retry later or raise max_connections"
    if isinstance(exc, (httpx.ConnectError, httpx.ConnectTimeout)):
        return f"the HTTP server cannot be reached ({name}); retry later"
    if isinstance(exc, httpx.TimeoutException):
        return f"the HTTP server did not answer in time ({name}); retry later"
    if isinstance(exc, httpx.RequestError):
        return f"the HTTP request failed ({name})"
    return "the URL is not valid" if isinstance(exc, httpx.InvalidURL) else None


_LIBRARIES: dict[str, Callable[[BaseException, Any], str | None]] = {
    "asyncpg": _of_asyncpg,
    "psycopg": _of_psycopg,
    "sqlalchemy": _of_sqlalchemy,
    "redis": _of_redis,
    "httpx": _of_httpx,
    "httpx2": _of_httpx,
}

#: What was waited for, by the module of the innermost frame that is of one of these.
_WAITS = {
    "asyncpg": "the query ran longer than it may and was cancelled; let it do less",
    "psycopg": "the query ran longer than it may and was cancelled; let it do less",
    "redis": "Redis did not answer in time; retry later",
    "httpx": "the HTTP server did not answer in time; retry later",
    "httpx2": "the HTTP server did not answer in time; retry later",
    "aiopool.pool": "no connection came free in time; retry later or raise the pool's max_size",
}


def _of_a_timeout(exc: TimeoutError) -> str:
    """By its frames: asyncpg's has no words, nor has that of `asyncio.timeout`, whatever was cancelled by it."""
    modules = [str(frame.f_globals.get("__name__")) for each in family(exc) for frame, _ in walk_tb(each.__traceback__)]
    raised_in = [frame.f_globals.get("__name__") for frame, _ in walk_tb(exc.__traceback__)][-1:]
    if exc.args and raised_in and str(raised_in[0]).startswith("aiopool."):
        return str(exc)
    for module in reversed(modules):
        for name in (module, module.partition(".")[0]):
            if name in _WAITS:
                return _WAITS[name]
    return "it took longer than it may, and was cancelled"


def _masked(exc: BaseException) -> str:
    number = token_hex(4)
    # Words may hold what the frames' variables hold; classes and lines of code do not.
    parts = [
        f"{type(each).__module__}.{type(each).__qualname__}\n{''.join(format_tb(each.__traceback__))}"
        for each in family(exc)
    ]
    logger.error("internal error %s: %s", number, "from ".join(parts))
    return f"internal error {number}: see the server's log"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
