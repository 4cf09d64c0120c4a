"""`streamable_http`: sessions with an MCP server at an address, over connections that they share."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Self
from urllib.request import getproxies, proxy_bypass

import anyio

from aiopool.adapters._mcp_client import connected, sdk

#: Seconds, as the SDK has them: an answer may be long in coming.
_TIMEOUT = 30.0
_READ_TIMEOUT = 300.0
_CLOSE_TIMEOUT = 1.0

Headers = Mapping[str, str]


class HTTPFactory:
    """What `streamable_http` returns: called with an identity, it is a session to be entered."""

    def __init__(
        self,
        url: str,
        headers: Headers | Callable[[Any], Headers] | None,
        auth: Any,
        verify: ssl.SSLContext | None,
        client: dict[str, Any],
    ) -> None:
        self._url = url
        self._headers = headers
        self._auth = auth
        self._verify = verify
        self._client = client
        self._shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = weakref.WeakKeyDictionary()

    def __call__(self, identity: Hashable = None) -> AbstractAsyncContextManager[Any]:
        return self._session(identity)

    def __repr__(self) -> str:
        return "<streamable_http>"  # the address may hold a secret

    @asynccontextmanager
    async def _session(self, identity: Hashable) -> AsyncIterator[Any]:
        transports = sdk("mcp.client.streamable_http")
        httpx = getattr(transports, "httpx2", None) or transports.httpx  # mcp 1.x has the latter
        url = httpx.URL(self._url)
        headers = self._headers(identity) if callable(self._headers) else self._headers
        auth = self._auth
        if callable(auth) and not isinstance(auth, httpx.Auth):
            auth = auth(identity)
        elif auth is None and url.userinfo:
            auth = (url.username, url.password)
        # A client of its own, for a client keeps cookies, and they may be somebody's login.
        async with (
            self._transport(httpx, url) as transport,
            httpx.AsyncClient(
                transport=transport,
                headers=headers,
                auth=auth,
                timeout=httpx.Timeout(_TIMEOUT, read=_READ_TIMEOUT),
                follow_redirects=True,
            ) as http,
            # Without the password: addresses are logged.
            connected(
                transports.streamable_http_client(str(url.copy_with(userinfo=b"")), http_client=http), self._client
            ) as client,
        ):
            yield client

    @asynccontextmanager
    async def _transport(self, httpx: Any, url: Any) -> AsyncIterator[Any]:
        """The one of this event loop; it goes with the last session."""
        loop = asyncio.get_running_loop()
        if (shared := self._shared.get(loop)) is None:
            proxies = {} if proxy_bypass(url.host) else getproxies()
            transport = httpx.AsyncHTTPTransport(
                verify=self._verify or _ssl_context(httpx),
                proxy=proxies.get(url.scheme) or proxies.get("all"),
                # How many requests there are at once is for the pool of sessions to say.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30.0),
            )
            shared = self._shared[loop] = _Shared(transport)
        shared.users += 1
        try:
            yield _Borrowed(shared.transport)
        finally:
            shared.users -= 1
            if not shared.users:
                del self._shared[loop]
                with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                    await shared.transport.aclose()


def streamable_http(
    url: str,
    *,
    headers: Headers | Callable[[Any], Headers] | None = None,
    auth: Any = None,
    verify: ssl.SSLContext | None = None,
    **client: Any,
) -> HTTPFactory:
    """Sessions with the server at an address, over streamable HTTP; a factory for `MCPSessionPool`.

    All of them share their TCP connections and the TLS context, and nothing else: each has its own cookies. `headers`,
    and `auth` (an `Auth` of httpx2, or of httpx with mcp 1.x), may be functions of the identity that a session is
    for. `verify` is a TLS context other than the usual one. Proxies are those of the environment. `client` are
    keywords of `mcp.Client`, such as `mode` (of `ClientSession` with mcp 1.x). Needs `mcp`, 1.24 or newer.
    """
    sdk("mcp.client.streamable_http")  # takes a second the first time, and here rather than in the event loop
    return HTTPFactory(url, headers, auth, verify, client)


@dataclass
class _Shared:
    transport: Any
    users: int = 0


class _Borrowed:
    """A transport that is not closed with the client it is lent to."""

    def __init__(self, transport: Any) -> None:
        self.handle_async_request = transport.handle_async_request

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def aclose(self) -> None:
        pass


@cache
def _ssl_context(httpx: Any) -> ssl.SSLContext:
    """Loading the certificates takes 30 ms."""
    context: ssl.SSLContext = httpx.create_ssl_context()
    return context
