"""`Current`: the toolset that is served now, and how the next one takes its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiopool.errors import PoolConfigError
from aiopool.telling import explain
from aiopool.toolserver.tool import Result
from aiopool.toolserver.toolset import Toolset

logger = logging.getLogger("aiopool")

#: How long calls may go on, in seconds, on a toolset that was replaced, before they are cancelled.
RETIRE_AFTER = 60.0
#: Toolsets that were replaced and have calls yet; with more, those of the oldest are cancelled.
MAX_RETIRING = 3


class _Edition:
    """A toolset that is open, and the calls under way on it."""

    def __init__(self, toolset: Toolset) -> None:
        self.toolset = toolset
        self._calls: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        limit = asyncio.timeout(None)
        self._calls.add(limit)
        self._idle.clear()
        try:
            async with limit:
                return await self.toolset.call(name, arguments)
        except TimeoutError:
            text = "the call took too long: it was cancelled, because its pools had to be closed; call again"
            return Result(text, is_error=True)
        finally:
            self._calls.discard(limit)
            if not self._calls:
                self._idle.set()

    async def wait_until_idle(self, timeout: float) -> None:
        """Returns when no call is under way, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("calls that have not ended within %g s: %d", timeout, len(self._calls))

    def wait_no_more(self) -> None:
        """Whoever waits for it to be idle goes on."""
        self._idle.set()

    def cancel_calls(self) -> None:
        """Let the calls that are left end with a failure."""
        now = asyncio.get_running_loop().time()
        for limit in self._calls:
            if not limit.expired():  # it was cancelled before, and takes its time
                limit.reschedule(now)

    async def close(self) -> None:
        """Cancel the calls that are left, and close the pools."""
        self.cancel_calls()
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
        self._retiring: dict[asyncio.Task[None], _Edition] = {}

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
        for edition in self._retiring.values():
            edition.wait_no_more()
        try:
            await self._edition.close()
        finally:
            await asyncio.gather(*self._retiring)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """Call a tool; it ends on the toolset that it began on, whatever comes in between."""
        return await self._edition.call(name, arguments)

    async def wait_until_idle(self, timeout: float) -> None:
        """Returns when no call is under way, or after `timeout` seconds."""
        await self._edition.wait_until_idle(timeout)

    def cancel_calls(self) -> None:
        """Let the calls that are left end with a failure."""
        self._edition.cancel_calls()

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
            for oldest in list(self._retiring.values())[: 1 - MAX_RETIRING]:
                oldest.wait_no_more()
            retiring = asyncio.create_task(self._retire(old))
            self._retiring[retiring] = old
            retiring.add_done_callback(self._retiring.pop)
            logger.info("reloaded: %d tools, %d pools", len(toolset.tools), len(toolset.pools))
            return True

    @staticmethod
    async def _retire(edition: _Edition) -> None:
        await edition.wait_until_idle(RETIRE_AFTER)
        try:
            await edition.close()
        except Exception as exc:
            logger.error("closing the pools that were replaced: %s", explain(exc))
