"""Everything that a pool can be asked, each in a cancel scope of its own, all at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import anyio

from aiopool import PoolConfig, PoolTimeout, embedded
from aiopool.adapters.postgres import DatabasePool
from tests.storms import census, servers


async def test_cancel_scopes_around_every_call_leave_nothing_behind(postgres: embedded.PostgresServer) -> None:
    rnd, errors, name = random.Random(5), Counter[str](), "scopes"
    config = PoolConfig(min_size=0, max_size=6, validate_after=0, max_uses=7, max_lifetime=0.5)
    before = len(asyncio.all_tasks())

    async def attack(db: DatabasePool, n: int) -> None:
        try:
            with anyio.move_on_after(rnd.random() * 0.02):
                if n % 5 == 0:
                    async with db.transaction() as connection:
                        assert await connection.fetchval("select $1::int", n) == n
                elif n % 5 == 1:
                    await db.check()
                elif n % 5 == 2:
                    await (db.drain() if n % 50 == 2 else db.open())
                elif n % 5 == 3:
                    async with db.connection() as connection:
                        try:
                            assert await connection.fetchval("select $1::int", n) == n
                        finally:
                            async with db.connection(timeout=0.05):
                                pass
                else:
                    async with await db.connection() as connection:
                        assert await connection.fetchval("select $1::int", n) == n
        except PoolTimeout:
            pass
        except Exception as exc:
            errors[repr(exc)] += 1

    async with DatabasePool(postgres.dsn, config, server_settings={"application_name": name}) as db:
        async with anyio.create_task_group() as group:
            for n in range(1500):
                group.start_soon(attack, db, n)
                if n % 30 == 0:
                    await anyio.sleep(0.02)
        assert await census.eventually(lambda: db.stats()["in_use"] == db.stats()["opening"] == 0)
        assert errors == {}
    assert db.stats()["opened"] == db.stats()["closed"]
    assert await census.eventually(lambda: len(asyncio.all_tasks()) <= before)
    assert await servers.postgres_backends(postgres.dsn, name) == 0
