"""A tool's body as the file describes it, read and bound without the rest of the server."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from aiopool.configfile import Document
from aiopool.errors import PoolConfigError
from aiopool.manager import PoolManager
from aiopool.toolserver.parameters import read_parameters
from aiopool.toolserver.section import Section
from aiopool.toolserver.tool import Body, BodyPlan, Head, Result

KINDS = {"database": "postgres", "cache": "redis", "api": "http"}


def plan_of(
    tool: Mapping[str, Any], pool: str | None = None, timeout: float = 30.0, kinds: Mapping[str, str] = KINDS
) -> Any:
    """The plan of a tool that is written like this; `PoolConfigError` with all that is wrong with it."""
    key = next(key for key in ("sql", "redis", "http") if key in tool)
    document = Document({"tools": [tool]})
    section = Section(document, ("tools", 0), tool, {})
    head = Head(
        name="tool",
        parameters=read_parameters(section),
        pool=pool,
        pool_kind=kinds.get(pool or ""),
        kinds=kinds,
        folder=Path(),
        timeout=timeout,
    )
    plan: BodyPlan | None = import_module(f"aiopool.toolserver.{key}").read(section, head)
    document.raise_if_refused()
    assert plan is not None
    return plan


def problem_of(tool: Mapping[str, Any], pool: str | None = None, kinds: Mapping[str, str] = KINDS) -> str:
    try:
        plan_of(tool, pool, kinds=kinds)
    except PoolConfigError as exc:
        return str(exc)
    return ""


class Called:
    """A body with its parameters: `await called(name=value)`."""

    def __init__(
        self, tool: Mapping[str, Any], pools: PoolManager, pool: str | None = None, timeout: float = 30.0
    ) -> None:
        self.plan = plan_of(tool, pool, timeout)
        self.body: Body = self.plan.bind("tool", pools)
        self.parameters = read_parameters(Section(Document({}), (), tool, {}))

    async def __call__(self, /, **arguments: Any) -> Result:
        return await self.body.run(self.parameters.complete(arguments))


def manager_of(**pools: Any) -> PoolManager:
    manager = PoolManager()
    for name, pool in pools.items():
        manager.register(name, pool)
    return manager
