"""`HTTPX2Transport`: the same connections for clients of httpx2, which goes on where httpx has stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

from aiopool.adapters import missing_driver
from aiopool.adapters.http import HTTPTransport
from aiopool.errors import PoolTimeout
from aiopool.stats import PoolStats

try:
    import httpx2
except ModuleNotFoundError as exc:
    if exc.name != "httpx2":
        raise
    raise missing_driver("httpx2", "httpx2") from None

import httpx

from aiopool.adapters._http_transport import Body, HTTPPoolTimeout, Pieces

__all__ = ["HTTPX2Transport"]


class HTTPX2PoolTimeout(PoolTimeout, httpx2.PoolTimeout):
    """No connection could be had within the `pool` timeout: for those who know httpx2, and those who know aiopool."""

    _request: httpx2.Request | None = None


class HTTPX2Transport(httpx2.AsyncBaseTransport):
    """Connections for `httpx2.AsyncClient(transport=HTTPX2Transport())`.

    The keywords are those of `HTTPTransport`, and all else is as there, with httpx2's errors in place of httpx's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ours = HTTPTransport(*args, **kwargs)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        is_whole = isinstance(request.stream, httpx2.ByteStream)
        content = b"".join(cast(httpx2.ByteStream, request.stream)) if is_whole else Pieces(request.stream)
        with _errors_of_httpx2():
            # What is asked of a request is the same in both.
            status, headers, body, extensions = await self._ours.exchange(cast(httpx.Request, request), content)
        return httpx2.Response(status, headers=headers, stream=_Body(body), extensions=extensions)

    def stats(self) -> PoolStats:
        """The sum over all origins, those that are gone included; `max_size` is the limit over all of them."""
        return self._ours.stats()

    def origins(self) -> dict[str, PoolStats]:
        """The figures of each origin in use, as `{"https://api.example.com:443": …}`."""
        return self._ours.origins()

    async def aclose(self) -> None:
        """At once: what runs is ended."""
        await self._ours.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, body: Body) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx2():
            async for piece in self._body:
                yield piece

    async def aclose(self) -> None:
        self._body.close()


@contextmanager
def _errors_of_httpx2() -> Iterator[None]:
    try:
        yield
    except HTTPPoolTimeout as exc:
        error = HTTPX2PoolTimeout(str(exc), waited=exc.waited, stats=exc.stats)
        error.phase = exc.phase
        raise error from exc
    except httpx.TransportError as exc:
        raise getattr(httpx2, type(exc).__name__)(str(exc)) from exc
