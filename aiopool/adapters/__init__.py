"""What turns a driver's connections into a pool: a handful of callables each, and a thin class for its users.

Each adapter needs its driver, an extra of the distribution; nothing is imported before it is asked for.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiopool.errors import PoolError
from aiopool.policies.outage import family

if TYPE_CHECKING:
    from aiopool.adapters.http import HTTPClientPool
    from aiopool.adapters.mcp import MCPSessionPool
    from aiopool.adapters.postgres import DatabasePool
    from aiopool.adapters.redis import RedisPool

__all__ = ["DatabasePool", "HTTPClientPool", "MCPSessionPool", "RedisPool"]

_HOMES = {"DatabasePool": "postgres", "HTTPClientPool": "http", "MCPSessionPool": "mcp", "RedisPool": "redis"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def missing_driver(driver: str, extra: str) -> ImportError:
    """What to raise when an adapter's driver is not installed: it names the extra that brings it."""
    return ImportError(f'{driver} is not installed; run: pip install "aiopool-core[{extra}]"', name=driver)


def complaint(error: Exception, address: str | None) -> str:
    """What a driver says of an address, as " (…)"; nothing if a word of it may be from the password there."""
    known = {"postgres", "postgresql", "redis", "rediss", "unix", "sslmode"}
    return "" if (_words_of(address) & _words(str(error))) - known else f" ({error})"


def hush(error: BaseException, *secrets: str | None) -> None:
    """Take its words from an error, and from those that hang on it, if one may be from these passwords.

    Servers and proxies that don't know a command repeat its arguments, and be it a login.
    """
    words = {word for secret in secrets for word in _words_of(secret)}
    for exc in family(error):
        if not isinstance(exc, PoolError) and words & _words(f"{exc} {exc!r}"):
            exc.args = ("its words repeat a part of the password and are not told",)


def _words_of(secret: str | None) -> set[str]:
    whole = secret or ""
    joined = re.sub(r"[\t\r\n]", "", whole)  # as `urlsplit` leaves it
    forms = (whole, unquote(whole), joined, unquote(joined))
    # And as they are shown with escapes, which look like letters.
    shown = (f"{form} {form!r} {form!a} {form.encode(errors='replace')!r} {json.dumps(form)}" for form in forms)
    return {word for text in shown for word in _words(text)}


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
