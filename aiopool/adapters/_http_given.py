"""What callers give and drivers would repeat in an error or a log line: addresses, headers and cookies.

It is read here first, and what cannot be used is refused without a word of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.request import getproxies

import httpx

from aiopool.adapters import complaint
from aiopool.errors import PoolConfigError

#: RFC 9110, 5.5.
_NOT_IN_A_HEADER = re.compile(r"\A[ \t]|[\0\n\v\f\r]|[ \t]\Z")
_NOT_ASCII = re.compile(r"[^\0-\x7f]")
_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


def address(field: str, given: str | httpx.URL, schemes: Sequence[str]) -> httpx.URL:
    """That address, as httpx reads it; `PoolConfigError` if it cannot, or would read a part of the password wrongly."""
    try:
        url = httpx.URL(given)
    except (httpx.InvalidURL, ValueError) as exc:
        trouble = f"it cannot be read{complaint(exc, str(given))}"
    else:
        if url.scheme not in schemes:
            trouble = "it must begin with " + " or ".join(f"{scheme}://" for scheme in schemes)
        elif b"@" in url.raw_path or "@" in url.fragment:
            trouble = "it has an @ behind its host"
        elif not url.host:
            trouble = "it has no host"
        else:
            return url
    raise PoolConfigError(
        f"{field} is not allowed: {trouble}; write it as http://user:password@host:port, with what is special in "
        "the password percent-encoded (@ as %40, / as %2F, : as %3A, # as %23, ? as %3F)"
    )


def refuse_proxies(given: Any, trust_env: bool) -> None:
    """Unless `proxy` and those of the environment have addresses that can be used."""
    schemes = ("http", "https", "socks5", "socks5h")
    if isinstance(given, (str, httpx.URL)):
        address("proxy", given, schemes)
    if trust_env:
        for scheme, proxy in getproxies().items():
            if scheme in ("http", "https", "all") and proxy:
                address(f"{scheme.upper()}_PROXY", proxy if "://" in proxy else f"http://{proxy}", schemes)


def refuse_headers(headers: Any, cookies: Any = None) -> None:
    """Unless every value is one that a header may hold: `PoolConfigError`."""
    for name, value in _pairs(headers):
        if (trouble := _trouble(name, value)) is not None:
            raise PoolConfigError(f"headers are not allowed: {trouble}")
    for _, value in _pairs(cookies):
        if (trouble := _trouble("cookie", value)) is not None:
            raise PoolConfigError(f"cookies are not allowed: {trouble}")


def refuse_request(request: httpx.Request) -> None:
    """The same of a request: `httpx.LocalProtocolError`."""
    for name, value in request.headers.raw:
        if _NOT_IN_A_HEADER.search(value.decode("latin-1")):
            raise httpx.LocalProtocolError(str(_trouble(name, value)))


def _trouble(name: Any, value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
        bad = _NOT_IN_A_HEADER.search(value)
    elif isinstance(value, str):
        bad = _NOT_IN_A_HEADER.search(value) or _NOT_ASCII.search(value)
    else:
        return None
    if bad is None:
        return None
    name = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    which = repr(name) if _NAME.fullmatch(name) else "one"
    return (
        f"the value of {which} has, as character {bad.end()} of {len(value)}, one that cannot stand there; "
        "strip() what comes from a file, and encode what is not ASCII"
    )


def _pairs(given: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(given, httpx.Cookies):
        given = given.jar
    if isinstance(given, Mapping):
        return given.items()
    if given is None:
        return ()
    return ((item.name, item.value) if hasattr(item, "value") else tuple(item) for item in given)
