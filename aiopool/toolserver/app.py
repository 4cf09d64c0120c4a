"""The HTTP app: `/mcp`, `/healthz`, `/readyz` and `/metrics`, all of them behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from aiopool.toolserver.current import Current
from aiopool.toolserver.guard import Guard
from aiopool.toolserver.readiness import Readiness
from aiopool.toolserver.server import ToolServer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

try:
    from aiopool.toolserver.metrics import Meter
except ImportError:  # without prometheus-client there is nobody to read them
    Meter = None  # type: ignore[assignment, misc]


class App:
    """An ASGI app, with a lifespan of its own. `current` has to be open around it.

    `hosts`, `origins` and `token` are the guard's.
    """

    def __init__(
        self, current: Current, *, hosts: Iterable[str], origins: Iterable[str] = (), token: str | None = None
    ) -> None:
        self._current = current
        self._meter = Meter(current) if Meter is not None else None
        self.server = ToolServer(current, self._meter)
        self._readiness = Readiness()
        # The SDK bounds the size of a request (4 MiB), the number of sessions and how long one may be idle.
        sessions = StreamableHTTPSessionManager(self.server.mcp)
        self._mcp = _MCP(sessions.handle_request)
        app: ASGIApp = Starlette(
            routes=[
                Route("/mcp", self._mcp),
                Route("/healthz", self._alive),
                Route("/readyz", self._ready),
                Route("/metrics", self._metrics),
            ],
            lifespan=lambda _: sessions.run(),
        )
        if origins := list(origins):
            app = CORSMiddleware(
                app,
                allow_origins=origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=["Mcp-Session-Id"],
            )
        self._app = Guard(app, hosts=hosts, origins=origins, token=token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def end(self, grace: float) -> None:
        """Let calls under way end for `grace` seconds, then the streams, which would last as long as clients like.

        In this order: a client that loses its stream connects anew, and if it cannot, its calls fail, too.
        """
        await self.server.end_calls(grace)
        self.server.end_streams()
        self._mcp.ending.set()

    async def _alive(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _ready(self, request: Request) -> Response:
        pools = await self._readiness.ask(self._current.pools)
        is_ready = not self.server.is_ending and all(pool["ready"] for pool in pools.values())
        return JSONResponse({"ready": is_ready, "pools": pools}, 200 if is_ready else 503)

    async def _metrics(self, request: Request) -> Response:
        if self._meter is None:
            return PlainTextResponse("metrics need prometheus-client: pip install 'aiopool-core[prometheus]'\n", 501)
        return Response(self._meter.text(), headers={"Content-Type": self._meter.content_type})


class _MCP:
    """The route of the protocol. When the server ends, the streams (GET) end as if their clients had left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.ending = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        streams = False

        async def watched_send(message: Message) -> None:
            nonlocal streams
            streams = message["type"] == "http.response.start" or message.get("more_body", False)
            await send(message)

        await self._app(scope, self._until_the_end(receive), watched_send)
        if streams:
            await send({"type": "http.response.body", "body": b""})

    def _until_the_end(self, receive: Receive) -> Receive:
        async def receive_or_leave() -> Message:
            message = asyncio.ensure_future(receive())
            ending = asyncio.ensure_future(self.ending.wait())
            try:
                await asyncio.wait((message, ending), return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()
                ending.cancel()

        return receive_or_leave
