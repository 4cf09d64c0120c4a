"""Calls of `aiopool serve` from outside: a session for each call, one that is kept, and a pool of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from benchmarks.mcp.client import Client, PerCall, ensure_answered
from benchmarks.results import Kind

#: Makes what `mcp.Client` takes for a server: an address, or the parameters of a process.
Target = Callable[[], Any]
SERVER = "server"


class Caller(Client):
    """`factory` is the pool's way to the same server."""

    def __init__(self, target: Target, factory: Callable[[], Any]) -> None:
        super().__init__("")
        self.target, self.factory = target, factory

    def session(self) -> AbstractAsyncContextManager[Any]:
        from mcp import Client

        return Client(self.target())


class Pooled(Caller):
    name = "aiopool, MCPSessionPool"
    kind = Kind.OURS

    def session(self) -> AbstractAsyncContextManager[Any]:
        from aiopool.adapters.mcp import MCPSessionPool

        return MCPSessionPool({SERVER: self.factory()})

    async def call(self) -> None:
        ensure_answered(await self._client.call_tool(SERVER, self.tool))


class Single(Caller):
    name = "one session, kept by hand"
    kind = Kind.FLOOR


class Fresh(PerCall, Caller):
    name = "a session for each call"

    async def open(self) -> None:
        import mcp  # noqa: F401 - missing here, rather than in each call

    async def close(self) -> None: ...

    async def call(self) -> None:
        async with self.session() as client:
            ensure_answered(await client.call_tool(self.tool, {}))


CONTESTANTS: tuple[type[Caller], ...] = (Pooled, Single, Fresh)
