"""`Guard`: who may speak to an HTTP server at all. It stands in front of every route, known or not.

A page that somebody reads in a browser can reach servers on that machine: by its own origin, or by a name of its own
that it lets resolve to 127.0.0.1 (DNS rebinding). `Origin` tells the one, `Host` the other. Programs are not held off
by either: for them there is the token.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Kubernetes asks by the address of the pod, which no file can know; the answer is but `alive`.
WITHOUT_HOST = "/healthz"

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/?#@]+)")
_PORTS = {"http": 80, "https": 443}


class Hosts:
    """Names, with a port or for every port, compared as the protocol does: by case-folded name and number."""

    def __init__(self, names: Iterable[str]) -> None:
        allowed = [_parse_host(name.lower().removesuffix(":*")) if name != "*" else None for name in names]
        self._all = None in allowed
        self._allowed = set(allowed)

    def allow(self, host: str, default_port: int = 80) -> bool:
        parsed = _parse_host(host.lower())
        if parsed is None:
            return False
        name, port = parsed
        return self._all or not {(name, None), (name, port or default_port)}.isdisjoint(self._allowed)


class Guard:
    """Lets a request through to `app` if its Host and Origin are allowed, and it has the token, if there is one.

    `origins` are allowed besides those of an allowed host. What a browser asks beforehand (CORS) cannot have the
    token; with `origins`, `app` has to answer that by itself.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str], origins: Iterable[str] = (), token: str | None = None
    ) -> None:
        self._app = app
        self._hosts = Hosts(hosts)
        self._origins = {_normal_origin(origin) for origin in origins}
        self._token = token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "there are no web sockets here"})
        elif (refusal := self._refusal(scope)) is not None:
            from starlette.responses import JSONResponse

            status, problem = refusal
            # The body was not read: what would follow on this connection is its rest.
            headers = {"Connection": "close"}
            if status == 401:
                headers["WWW-Authenticate"] = 'Bearer realm="aiopool"'
            await JSONResponse({"error": problem}, status, headers)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        hosts, origins, credentials = (_header(scope, name) for name in (b"host", b"origin", b"authorization"))
        if not scope["path"].startswith("/"):
            return 400, "the target must be a path: this is no proxy"
        if len(hosts) != 1:
            return 400, "there must be one Host header"
        if scope["path"] != WITHOUT_HOST and not self._hosts.allow(hosts[0]):
            return 421, "this Host is not served; add it to `allowed_hosts` under `server:` if it should be"
        if origins and not (len(origins) == 1 and self._is_allowed(origins[0])):
            return 403, "this Origin is not allowed; add it to `allowed_origins` under `server:` if it should be"
        is_asked_beforehand = (
            bool(self._origins and origins)
            and scope["method"] == "OPTIONS"
            and _header(scope, b"access-control-request-method") != []
        )
        if self._token is not None and not is_asked_beforehand and not self._is_token(credentials):
            return 401, "a token is needed: Authorization: Bearer …"
        return None

    def _is_allowed(self, origin: str) -> bool:
        if _normal_origin(origin) in self._origins or "*" in self._origins:
            return True
        match = _ORIGIN.fullmatch(origin.lower())
        return (
            match is not None
            and match["scheme"] in _PORTS
            and self._hosts.allow(match["host"], _PORTS[match["scheme"]])
        )

    def _is_token(self, credentials: list[str]) -> bool:
        assert self._token is not None
        if len(credentials) != 1:
            return False
        scheme, _, token = credentials[0].partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip(" \t").encode("latin-1"), self._token)


def is_host(name: str) -> bool:
    """Whether it may stand among the allowed hosts."""
    return name == "*" or _parse_host(name.lower().removesuffix(":*")) is not None


def is_origin(text: str) -> bool:
    """Whether it may stand among the allowed origins."""
    return text == "*" or _ORIGIN.fullmatch(text.lower().rstrip("/")) is not None


def loopback(port: int) -> list[str]:
    """What programs and browsers on this machine call a server here."""
    return [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]


def _header(scope: Scope, name: bytes) -> list[str]:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def _parse_host(host: str) -> tuple[str, int | None] | None:
    match = _HOST.fullmatch(host)
    return (match["name"], int(match["port"]) if match["port"] else None) if match else None


def _normal_origin(origin: str) -> str:
    match = _ORIGIN.fullmatch(origin.strip().lower().rstrip("/"))
    if match is None:
        return origin
    default = _PORTS.get(match["scheme"])
    return f"{match['scheme']}://{match['host'].removesuffix(f':{default}')}"
