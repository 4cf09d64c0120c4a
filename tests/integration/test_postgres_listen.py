"""`DatabasePool.listen` on a real PostgreSQL: what arrives, how it ends, and what it leaves behind (nothing)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from aiopool import embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError, PoolError, PoolTimeout

TWO = PoolConfig(min_size=0, max_size=2, validate_after=None)


@pytest_asyncio.fixture
async def db(postgres: embedded.PostgresServer) -> AsyncIterator[DatabasePool]:
    async with DatabasePool(postgres.dsn, TWO) as pool, asyncio.timeout(60):
        yield pool


async def notify(db: DatabasePool, channel: str, *payloads: str) -> None:
    for payload in payloads:
        await db.execute("select pg_notify($1, $2)", channel, payload)


async def test_what_is_sent_arrives_in_order_from_every_channel(db: DatabasePool) -> None:
    async with db.listen("orders", 'a "Strange" name') as notifications:
        await notify(db, "orders", "1", "2")
        await notify(db, 'a "Strange" name', "3")
        await notify(db, "nobody listens", "4")
        await notify(db, "orders", "")
        got = [await anext(notifications) for _ in range(4)]
    assert [(each.channel, each.payload) for each in got] == [
        ("orders", "1"),
        ("orders", "2"),
        ('a "Strange" name', "3"),
        ("orders", ""),
    ]
    assert all(each.pid > 0 for each in got)


async def test_two_who_listen_both_get_it(postgres: embedded.PostgresServer, db: DatabasePool) -> None:
    async with (
        DatabasePool(postgres.dsn, PoolConfig(min_size=0, max_size=2)) as other,
        db.listen("orders") as ours,
        other.listen("orders") as theirs,
    ):
        await notify(db, "orders", "1")
        assert (await anext(ours)).payload == (await anext(theirs)).payload == "1"


@pytest.mark.parametrize("reset", ["session", "transaction", "none"])
async def test_the_next_caller_does_not_listen(postgres: embedded.PostgresServer, reset: Any) -> None:
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=1, max_size=1), reset=reset) as db:
        async with db.listen("orders", "refunds"):
            pass
        assert await db.fetchval("select count(*) from pg_listening_channels()") == 0
        # Without a reset the connection is closed; with one it is kept.
        assert db.stats()["opened"] == (2 if reset == "none" else 1)


@pytest.mark.parametrize("reset", ["session", "transaction", "none"])
async def test_cancelled_in_any_step_of_it_the_connection_comes_back_clean(
    postgres: embedded.PostgresServer, reset: Any
) -> None:
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=1, max_size=1), reset=reset) as db:

        async def wait_for_ever() -> None:
            async with db.listen("orders", "refunds", "returns") as notifications:
                await anext(notifications)

        for steps in range(40):
            task = asyncio.create_task(wait_for_ever())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await db.fetchval("select count(*) from pg_listening_channels()", timeout=10) == 0
        stats = db.stats()
        assert (stats["in_use"], stats["size"], stats["leaks"]) == (0, 1, 0)


async def test_a_cancelled_wait_loses_no_notification(db: DatabasePool) -> None:
    async with db.listen("orders") as notifications:
        got: list[str] = []
        for n in range(60):
            taking = asyncio.create_task(anext(notifications))
            await asyncio.sleep(0)
            await notify(db, "orders", str(n))
            for _ in range(n % 4):
                await asyncio.sleep(0)
            taking.cancel()
            for done in await asyncio.gather(taking, return_exceptions=True):
                if not isinstance(done, BaseException):
                    got.append(done.payload)
        while len(got) < 60:
            got.append((await anext(notifications)).payload)
    assert got == [str(n) for n in range(60)]


async def test_when_the_server_ends_the_connection_what_had_arrived_is_given_and_then_an_error(
    db: DatabasePool,
) -> None:
    async with db.listen("orders") as notifications:
        await notify(db, "orders", "1")
        await db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where query like 'LISTEN%' and pid <> pg_backend_pid()"
        )
        assert (await anext(notifications)).payload == "1"
        with pytest.raises(asyncpg.ConnectionDoesNotExistError, match="later notifications are lost"):
            await anext(notifications)
    async with db.listen("orders") as notifications:
        await notify(db, "orders", "2")
        assert (await anext(notifications)).payload == "2"


async def test_who_waits_when_a_server_crashes_is_told() -> None:
    async with embedded.postgres(private=True) as server, DatabasePool(server.dsn, TWO) as db:
        async with db.listen("orders") as notifications:
            waiting = asyncio.create_task(anext(notifications))
            await asyncio.sleep(0)
            await server.kill()
            with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                await asyncio.wait_for(waiting, 10)
        await server.start()
        async with db.listen("orders") as notifications:
            await notify(db, "orders", "1")
            assert (await anext(notifications)).payload == "1"


async def test_more_than_max_unread_is_an_error_after_those_that_had_room(db: DatabasePool) -> None:
    async with db.listen("orders", max_unread=3) as notifications:
        await notify(db, "orders", *"12345")
        for _ in range(200):
            if notifications.unread == 3 and notifications._end is not None:
                break
            await asyncio.sleep(0.01)
        assert [(await anext(notifications)).payload for _ in range(3)] == ["1", "2", "3"]
        for _ in range(2):
            with pytest.raises(PoolError, match="max_unread=3"):
                await anext(notifications)


async def test_it_holds_one_of_max_size(postgres: embedded.PostgresServer) -> None:
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=0, max_size=1)) as db, db.listen("orders"):
        assert db.stats()["in_use"] == 1
        with pytest.raises(PoolTimeout):
            await db.fetchval("select 1", timeout=0.05)
        with pytest.raises(PoolTimeout):
            async with db.listen("orders", timeout=0.05):
                pass


async def test_a_pool_that_closes_ends_it_at_its_deadline(db: DatabasePool) -> None:
    async with db.listen("orders") as notifications:
        await db.close(timeout=0.1)
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await anext(notifications)
    assert db.stats()["size"] == 0


async def test_no_channel_and_no_room_are_refused(db: DatabasePool) -> None:
    with pytest.raises(PoolConfigError, match="no channel"):
        async with db.listen():
            pass
    with pytest.raises(PoolConfigError, match="channel 5 is not allowed: it must be a string"):
        async with db.listen("orders", 5):  # type: ignore[arg-type]
            pass
    with pytest.raises(PoolConfigError, match="max_unread=0"):
        async with db.listen("orders", max_unread=0):
            pass
