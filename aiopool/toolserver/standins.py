"""Servers for the pools of a file that name no address: for trying it out. They outlive reloads, and end with us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from aiopool.configfile import read_document
from aiopool.poolkinds import KINDS


@asynccontextmanager
async def standins(file: str, env: Mapping[str, str]) -> AsyncIterator[dict[str, str]]:
    """Within the block, the variables that `env` lacks, such as DATABASE_URL, name servers that were started."""
    missing = _missing(file, env)
    started: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        if missing:
            from aiopool import embedded

            if "DATABASE_URL" in missing:
                started["DATABASE_URL"] = (await stack.enter_async_context(embedded.postgres(private=True))).dsn
            if "REDIS_URL" in missing:
                started["REDIS_URL"] = (await stack.enter_async_context(embedded.redis(private=True))).url
        yield started


def _missing(file: str, env: Mapping[str, str]) -> set[str]:
    """The variables that pools without an address would read. What is wrong with the file is told by its reader."""
    data = read_document(file).data
    pools = data.get("pools") if isinstance(data, Mapping) else None
    missing = set()
    for name, keys in pools.items() if isinstance(pools, Mapping) else ():
        keys = keys if isinstance(keys, Mapping) else {}
        stated = keys.get("type")
        known = KINDS.values() if stated is None else [KINDS[stated]] if stated in KINDS else []
        kind = next((kind for kind in known if stated or kind.is_meant_by(str(name))), None)
        if kind is None or kind.variable is None or env.get(kind.variable):
            continue
        if not {*kind.address_keys, *kind.place_keys} & {*keys}:
            missing.add(kind.variable)
    return missing
