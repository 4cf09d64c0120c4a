"""`Current`: the toolset that is served now, and how the next one takes its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiopool.errors import PoolConfigError
from aiopool.telling import explain
from aiopool.toolserver.tool import Result
from aiopool.toolserver.toolset import Toolset

logger = logging.getLogger("aiopool")

#: How long calls may go on, in seconds, on a toolset that was replaced, before its pools are closed under them.
RETIRE_AFTER = 60.0


class _Edition:
    """A toolset that is open, and how many calls are under way on it."""

    def __init__(self, toolset: Toolset) -> None:
        self.toolset = toolset
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        self._calls += 1
        self._idle.clear()
        try:
            return await self.toolset.call(name, arguments)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def wait_until_idle(self, timeout: float) -> None:
        """Returns when no call is under way, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("%d calls did not end within %g s", self._calls, timeout)

    async def close(self) -> None:
        await self.toolset.__aexit__(None, None, None)


class Current:
    """The toolset of the moment.

    `load` reads it anew; it raises `PoolConfigError` if the file is wrong. `async with` opens the first one, and
    closes all at the end.
    """

    def __init__(self, load: Callable[[], Toolset]) -> None:
        self._load = load
        self._edition = _Edition(load())
        self._reloading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def toolset(self) -> Toolset:
        return self._edition.toolset

    @property
    def pools(self) -> Mapping[str, Any]:
        """The pools of the toolset, by name."""
        return self.toolset.pools.pools

    async def __aenter__(self) -> Self:
        await self.toolset.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(self._edition.close(), *self._retiring)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """Call a tool; it ends on the toolset that it began on, whatever comes in between."""
        return await self._edition.call(name, arguments)

    async def wait_until_idle(self, timeout: float) -> None:
        """Returns when no call is under way, or after `timeout` seconds."""
        await self._edition.wait_until_idle(timeout)

    async def reload(self) -> bool:
        """Read the file anew and serve what it says; if that cannot be served, go on as before and return False."""
        async with self._reloading:
            try:
                toolset = self._load()
                await toolset.__aenter__()
            except PoolConfigError as exc:
                logger.error("the tools stay as they are: %s", exc)
                return False
            except Exception as exc:
                logger.error("the tools stay as they are, because the new pools do not open: %s", explain(exc))
                return False
            old, self._edition = self._edition, _Edition(toolset)
            retiring = asyncio.create_task(self._retire(old))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            logger.info("reloaded: %d tools, %d pools", len(toolset.tools), len(toolset.pools))
            return True

    @staticmethod
    async def _retire(edition: _Edition) -> None:
        with suppress(asyncio.CancelledError):  # when the server ends, which waits for what follows
            await edition.wait_until_idle(RETIRE_AFTER)
        try:
            await edition.close()
        except Exception as exc:
            logger.error("closing the pools that were replaced: %s", explain(exc))
