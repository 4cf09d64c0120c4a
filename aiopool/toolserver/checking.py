"""`check`: whether a file can be served here and now."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiopool.adapters import complaint
from aiopool.errors import PoolConfigError, PoolUnavailable
from aiopool.policies.outage import family
from aiopool.pool import ConnectionPool
from aiopool.poolspec import PoolSpec
from aiopool.telling import explain
from aiopool.toolserver._script_body import missing_program
from aiopool.toolserver.reading import ServerFile, read_file
from aiopool.toolserver.toolset import Toolset

#: Seconds for each pool; they are tried at the same time.
CONNECT_TIMEOUT = 15.0


async def check(
    source: str, env: dict[str, str] | None = None, *, embedded: bool = False, say: Callable[[str], object]
) -> None:
    """Read the file, connect its pools and prepare its tools; raises `PoolConfigError` with every problem.

    `say` gets a line for each pool and tool, in the order of the file.
    """
    file = read_file(source, env, embedded=embedded)
    async with Toolset(file, eager=False) as toolset:
        pools = list(toolset.pools.pools.items())
        with _in_silence():  # what fails is told below, with its cause
            outcomes = await asyncio.gather(*(_connect(pool) for _, pool in pools))
        failures = {name: failure for (name, _), failure in zip(pools, outcomes, strict=True) if failure}
        for name, pool in pools:
            failure, spec = failures.get(name), file.specs.get(name)
            kind = f" ({spec.kind.type})" if spec and spec.kind else ""
            say(f"pool {name}{kind}: {'does not connect' if failure else _state(pool)}")
            if failure:
                file.document.refuse(("pools", name), _words(failure, spec))
        for name, tool in toolset.tools.items():
            state = "its pool does not connect" if tool.pool in failures else await _prepare(toolset, name, file)
            say(f"tool {name}: {state}")
    file.document.raise_if_refused()
    count = f"{len(pools)} pool{'s' * (len(pools) != 1)}, {len(file.tools)} tool{'s' * (len(file.tools) != 1)}"
    say(f"{source}: {count}: all is well")


async def _connect(pool: Any) -> Exception | None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            if hasattr(pool, "open"):
                await pool.open()
            # One with `min_size: 0` opens nothing by itself, nor does one of HTTP clients.
            if isinstance(core := getattr(pool, "pool", None), ConnectionPool):
                async with core.acquire():
                    pass
    except Exception as exc:
        return exc
    return None


def _state(pool: Any) -> str:
    size = pool.stats().get("size", 0)
    return f"ok, {size} connection{'s' * (size != 1)}" if size else "ok, connects when it is used"


def _words(failure: Exception, spec: PoolSpec | None) -> str:
    """Why it does not connect; the driver's words are left out if one may be from the password."""
    secret = f"{spec.secret if spec else ''} {os.environ.get('PGPASSWORD', '')}"
    cause = next((exc for exc in family(failure) if not isinstance(exc, PoolUnavailable)), None)
    if isinstance(cause, PoolConfigError):
        return str(cause)
    if cause is None or (isinstance(cause, TimeoutError) and not str(cause)):
        why = ": no answer in time"
    else:
        lines = str(cause).strip().splitlines()
        why = f": {type(cause).__name__}{complaint(Exception(lines[0]), secret) if lines else ''}"
    remedy = "check that its server runs"
    if spec and spec.kind:
        keys = [f"`{spec.kind.address_keys[0]}:`", *filter(None, [spec.kind.variable])]
        remedy += f" and that its address is right ({' or '.join(keys)})"
    return f"cannot connect{why}; {remedy}"


async def _prepare(toolset: Toolset, name: str, file: ServerFile) -> str:
    if problem := missing_program(file.tools[name].plan):
        file.refuse(name, problem)
        return "cannot be used"
    try:
        await toolset.prepare(name)
    except Exception as exc:
        file.refuse(name, explain(exc))
        return "cannot be used"
    return "ok"


@contextmanager
def _in_silence() -> Iterator[None]:
    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("aiopool")
    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)
