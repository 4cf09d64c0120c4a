"""A body that stands in for those of SQL, scripts and all: what it was given is noted, and what it does is told it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiopool.configvalues import FLAG, ValueType
from aiopool.manager import PoolManager
from aiopool.toolserver.section import Section
from aiopool.toolserver.tool import Head, Result

Work = Callable[[Mapping[str, Any]], Awaitable[Result]]


async def repeat(arguments: Mapping[str, Any]) -> Result:
    return Result(repr(dict(arguments)))


class StandIn:
    """A body's module, its plan and the body in one."""

    TOOL_KEYS: Mapping[str, ValueType] = {"read_only": FLAG}
    is_read_only = True

    def __init__(self) -> None:
        self.KEY = ""
        self.heads: dict[str, Head] = {}
        self.bound: dict[str, PoolManager] = {}
        self.work: Work = repeat

    def module(self, key: str) -> StandIn:
        self.KEY = key
        return self

    def read(self, tool: Section, head: Head) -> StandIn | None:
        self.heads[head.name] = head
        if tool.data[self.KEY] == "wrong":
            tool.refuse("is wrong", self.KEY)
            return None
        tool.read({self.KEY: ValueType("anything", lambda value: value)})
        return self

    def bind(self, tool: str, pools: PoolManager) -> StandIn:
        self.bound[tool] = pools
        return self

    async def run(self, arguments: Mapping[str, Any]) -> Result:
        return await self.work(arguments)
