"""What can't be done in the tests' own process: forks. `python -m tests.conformance.child '{KIND: FIELDS, …}'`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from aiopool import PoolConfig
from tests.conformance.kinds import KINDS, Kind


async def fork(kind: Kind) -> dict[str, Any]:
    """Uses a pool in a forked child, and then in its parent."""
    pool = kind.build(PoolConfig(min_size=2, max_size=2, max_shares=kind.shares), f"forked-{os.getpid()}")
    async with pool:
        lease = await kind.acquire(pool)
        receiving, sending = os.pipe()
        pid = os.fork()
        if pid == 0:
            told = {}
            for name, call in {
                "acquire": lambda: kind.acquire(pool),
                "call": lambda: kind.call(pool, "in the child"),
                "open": pool.open,
            }.items():
                try:
                    await call()
                except Exception as exc:
                    told[name] = type(exc).__name__
            lease.release()
            os.write(sending, json.dumps(told).encode())
            os._exit(0)
        await asyncio.to_thread(os.waitpid, pid, 0)
        told = json.loads(os.read(receiving, 4096))
        told["parent"] = await kind.ask(lease.connection, "goes on")
        lease.release()
        for n in range(6):
            assert await kind.call(pool, f"n{n}") == f"n{n}"
        told["closed"] = pool.stats()["closed"]
    return told


async def main(told: dict[str, Any]) -> None:
    kinds = [kind(**told[kind.label]) for kind in KINDS if kind.label in told]
    print(json.dumps({kind.label: await fork(kind) for kind in kinds}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
