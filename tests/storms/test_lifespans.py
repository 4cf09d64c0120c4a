"""Pools whose whole life is cancelled, and work in task groups that fail, in generators that nobody finishes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiopool import embedded
from tests.storms import census, child
from tests.storms.pools import ask, make


# asyncpg leaves a future with an exception for the loop to tell if it is cancelled while it asks the server for TLS.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_pool_whose_block_is_cancelled_at_any_moment_leaves_nothing(kind: str, server: embedded.Server) -> None:
    rnd, address = random.Random(1), child.address_of(server)

    async def live() -> None:
        async with make(kind, address) as pool:
            await asyncio.gather(*(ask(pool, n) for n in range(6)))

    tasks, descriptors = census.tasks(), census.descriptors()
    for number in range(60):
        task = asyncio.create_task(live())
        await asyncio.sleep(rnd.random() * 0.04)
        task.cancel()
        if number % 2:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait((task,))
    assert await census.eventually(lambda: census.tasks() <= tasks)
    assert await census.eventually(lambda: census.descriptors() <= descriptors)
    assert await census.eventually(lambda: child.is_gone(server))


async def test_a_failing_task_group_takes_its_queries_along(kind: str, server: embedded.Server) -> None:
    rnd = random.Random(1)

    async def fail() -> None:
        await asyncio.sleep(rnd.random() * 0.02)
        raise KeyError("on purpose")

    async def fail_together(pool: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(ask(pool, number, 20))
            group.create_task(fail())

    async with make(kind, child.address_of(server)) as pool:
        for _ in range(15):
            with pytest.raises(BaseExceptionGroup) as caught:
                await fail_together(pool)
            assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert await census.eventually(lambda: pool.stats()["in_use"] == pool.stats()["waiting"] == 0)
        assert await asyncio.gather(*(ask(pool, n) for n in range(20))) == list(range(20))


@pytest.mark.parametrize("how", ["dropped", "closed", "left to the loop"])
async def test_a_generator_that_is_left_in_the_middle_gives_its_connection_back(
    postgres: embedded.PostgresServer, how: str
) -> None:
    async with make("postgres", postgres.dsn, max_size=3) as pool:

        async def rows() -> AsyncIterator[int]:
            async with pool.connection() as connection, connection.transaction():
                async for row in connection.cursor("select generate_series(1, 1000)"):
                    yield row[0]

        kept = []
        for _ in range(3):
            generator = rows()
            async for _ in generator:
                break
            if how == "closed":
                await generator.aclose()  # type: ignore[attr-defined]
            elif how == "left to the loop":
                kept.append(generator)
        if kept:
            assert pool.stats()["in_use"] == 3
            await asyncio.get_running_loop().shutdown_asyncgens()
        del generator
        assert await census.eventually(lambda: pool.stats()["in_use"] == 0)
        assert await ask(pool, 5) == 5
