"""The MCP SDK, where one of our factories is used: imported then, whichever version is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any

from aiopool.adapters import missing_driver


def sdk(module: str) -> Any:
    """A module of `mcp`."""
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "mcp":
            raise
        raise missing_driver("mcp", "mcp") from None


@asynccontextmanager
async def connected(transport: AbstractAsyncContextManager[Any], options: Mapping[str, Any]) -> AsyncIterator[Any]:
    """A client that has agreed with its server on a version: `mcp.Client`, or `ClientSession` with mcp 1.x."""
    mcp = sdk("mcp")
    if hasattr(mcp, "Client"):
        async with mcp.Client(transport, **options) as client:
            yield client
    else:
        async with transport as (read, write, *_), mcp.ClientSession(read, write, **options) as session:
            await session.initialize()
            yield session
