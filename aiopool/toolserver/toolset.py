"""`Toolset`: the tools of a file on its pools, and what becomes of a call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aiopool.configfile import suggest
from aiopool.errors import PoolConfigError
from aiopool.manager import PoolManager
from aiopool.telling import ToolFailure, explain
from aiopool.toolserver.reading import ServerFile, read_file
from aiopool.toolserver.settings import ServerSettings
from aiopool.toolserver.tool import MAX_BYTES, Body, Preparing, Result, Tool

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class Toolset:
    """The tools of one file, and a `PoolManager` with the pools that they share.

        async with Toolset.from_file("gantz.yaml") as toolset:
            result = await toolset.call("query_database", {"query": "select 1"})

    `async with` opens the pools and closes them; with `eager=False` each is opened by the first call that needs it.
    It can be entered once.
    """

    def __init__(self, file: ServerFile, *, eager: bool = True, registry: CollectorRegistry | None = None) -> None:
        self.name = file.name
        self.description = file.description
        self.version = file.version
        self.settings: ServerSettings = file.settings
        #: By name, in the order of the file.
        self.tools: Mapping[str, Tool] = file.tools
        #: Those of the file from the moment it is entered; and those that a tool keeps for itself.
        self.pools = PoolManager(registry=registry)
        self._file = file
        self._eager = eager
        self._bodies: dict[str, Body] = {}
        self._exits = AsyncExitStack()

    @classmethod
    def from_file(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any],
        *,
        env: Mapping[str, str] | None = None,
        embedded: bool = False,
        eager: bool = True,
        registry: CollectorRegistry | None = None,
    ) -> Self:
        """Read a YAML or TOML file, or a mapping; raises `PoolConfigError` with every problem.

        `env` replaces the process's environment. With `embedded`, a pool without an address gets a server of its
        kind, which is started and ended with the toolset.
        """
        return cls(read_file(source, env, embedded=embedded), eager=eager, registry=registry)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            await self._register(exits)
            self._bind()
            if self._eager:
                await exits.enter_async_context(self.pools)
                for name in self.tools:
                    await self.prepare(name)
            else:
                exits.push_async_exit(self.pools)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bodies.clear()
        await self._exits.__aexit__(kind, exc, traceback)

    async def _register(self, exits: AsyncExitStack) -> None:
        addresses: dict[str, str] = {}
        for name, spec in self._file.specs.items():
            pool = self._file.pools[name]
            if spec.lacks_address and spec.kind is not None:
                if spec.kind.type not in addresses:
                    addresses[spec.kind.type] = await _serve(spec.kind.type, exits)
                pool = spec.build(addresses[spec.kind.type])
                self._file.document.raise_if_refused()
            self.pools.register(name, pool)

    def _bind(self) -> None:
        """The bodies of all tools; raises `PoolConfigError` with what is wrong with each."""
        for name, tool in self.tools.items():
            try:
                self._bodies[name] = tool.plan.bind(name, self.pools)
            except (PoolConfigError, ImportError, ToolFailure) as exc:
                self._file.refuse(name, str(exc))
        self._file.document.raise_if_refused()

    async def prepare(self, name: str) -> None:
        """Let a tool look at what it depends on, such as the rights of its pool's user, once that is open."""
        if isinstance(body := self._bodies[name], Preparing):
            await body.prepare()

    async def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> Result:
        """Check the arguments, run the tool within its timeout, and tell whatever comes of it.

        What goes wrong is a result with `is_error`, in words for the model; only a cancellation is raised.
        """
        tool = self.tools.get(name)
        if tool is None:
            # Likeness is measured in quadratic time.
            return _failure(f"there is no tool {str(name)[:64]!r}{suggest(str(name)[:64], self.tools)}")
        body = self._bodies.get(name)
        if body is None:
            return _failure("the tools are not open, or closed already; retry later")
        limit = asyncio.timeout(tool.timeout)
        try:
            complete = tool.parameters.complete(arguments)
            async with limit:
                result = await body.run(complete)
            return _fit(result)
        except SystemExit:
            return _failure(f"the code of tool {name!r} asked the whole process to exit, which it may not")
        except Exception as exc:
            text = explain(exc)
            if limit.expired() and not isinstance(exc, ToolFailure):
                bound = f"tool {name!r} did not end within its timeout of {tool.timeout:g} s"
                text = f"{bound} ({text}); ask it for less, or raise its `timeout`"
            return _failure(text)
        except (asyncio.CancelledError, BaseExceptionGroup) as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this call: something inside of it was.
            return _failure(explain(exc))
        except BaseException as exc:
            # Of the tool's own making, for Ctrl-C comes as a cancellation; it must not end the server for all.
            return _failure(explain(exc))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {len(self.tools)} tools, {len(self.pools)} pools>"


async def _serve(kind: str, exits: AsyncExitStack) -> str:
    """The address of a server of this kind, which lives as long as the toolset."""
    from aiopool import embedded

    if kind == "postgres":
        return (await exits.enter_async_context(embedded.postgres(private=True))).dsn
    return (await exits.enter_async_context(embedded.redis(private=True))).url


def _failure(text: str) -> Result:
    return _fit(Result(text, is_error=True))


def _fit(result: Result) -> Result:
    """The result, cut where it is more than a model can be given: a safety net below the bodies' own limits."""
    try:
        raw = result.text.encode()
    except UnicodeEncodeError:  # no client could be sent that
        raw = result.text.encode(errors="replace")
        result = replace(result, text=raw.decode(), structured=None)
    if len(raw) <= MAX_BYTES:
        return result
    text = raw[:MAX_BYTES].decode(errors="ignore")
    notice = f"[truncated: these are the first {MAX_BYTES} of {len(raw)} bytes; ask for less]"
    return replace(result, text=f"{text}\n{notice}", structured=None)
