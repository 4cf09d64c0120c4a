"""Who takes part in `mcp`: real clients, which have `QUERY` answered by a tool."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.load import Load, load
from benchmarks.results import Kind

QUERY = "select 1 as one"
PROGRAMS = Path(__file__).parent / "programs"


class Kept:
    """A session that is entered and left in one task of its own, as the SDK wants it."""

    def __init__(self, session: AbstractAsyncContextManager[Any]) -> None:
        self._session = session
        self._is_over = asyncio.Event()
        self._ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep())

    async def opened(self) -> Any:
        return await asyncio.shield(self._ready)

    async def close(self) -> None:
        self._is_over.set()
        await self._task

    async def _keep(self) -> None:
        try:
            async with self._session as session:
                self._ready.set_result(session)
                await self._is_over.wait()
        except Exception as exc:
            if self._ready.done():
                raise
            self._ready.set_exception(exc)


class Client(servers.Client):
    """One session, kept, whose calls overlap."""

    package = "aiopool-core[mcp,postgres]"
    tool = "query"

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @abstractmethod
    def session(self) -> AbstractAsyncContextManager[Any]:
        """A client of the SDK, connected within the block."""

    async def open(self) -> None:
        self._kept = Kept(self.session())
        self._client = await self._kept.opened()

    async def close(self) -> None:
        await self._kept.close()

    async def call(self) -> None:
        ensure_answered(await self._client.call_tool(self.tool, {}))


class PerCall(Client):
    """Makes all that it needs anew for each call, so that nothing of it could be warm."""

    kind = Kind.UNPOOLED

    async def load(self, tasks: int, seconds: float) -> Load:
        return await load(self, tasks, seconds)


def ensure_answered(result: Any) -> None:
    if result.is_error:
        raise RuntimeError(result.content[0].text)
