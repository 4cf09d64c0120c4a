"""Where workers and slots stand: under the pool's own name if nobody else uses it, else beside it."""

from __future__ import annotations

import pytest

from aiopool.adapters.postgres import DatabasePool
from aiopool.config import PoolConfig
from aiopool.errors import PoolNotFound
from aiopool.manager import PoolManager
from aiopool.toolserver.workers import SlotPool, WorkerPool, pool_beside


def managed() -> PoolManager:
    pools = PoolManager()
    config = PoolConfig(min_size=2, max_size=7, max_idle_time=9)
    pools.register("database", DatabasePool("postgresql://me@db/x", config, name="database"))
    return pools


async def test_workers_take_the_place_of_a_pool_that_only_scripts_use() -> None:
    pools = managed()
    workers = pool_beside(WorkerPool, "workers", "database", pools, takes_its_place=True)
    assert list(pools) == ["database"]
    assert pools.get("database") is workers
    assert (workers.config.min_size, workers.config.max_size, workers.config.max_idle_time) == (2, 7, 9)
    assert pool_beside(WorkerPool, "workers", "database", pools, takes_its_place=True) is workers
    slots = pool_beside(SlotPool, "slots", "database", pools, takes_its_place=True)
    assert list(pools) == ["database", "database.slots"]
    assert slots.address == workers.address


async def test_they_stand_beside_one_that_others_use() -> None:
    pools = managed()
    workers = pool_beside(WorkerPool, "workers", "database", pools, takes_its_place=False)
    assert isinstance(pools.get("database"), DatabasePool)
    assert pools.get("database.workers") is workers
    assert workers.name == "database"  # as the file has it: whoever is told of it has to find it there


async def test_scripts_without_a_pool_have_one_in_common() -> None:
    pools = PoolManager()
    slots = pool_beside(SlotPool, "slots", None, pools, takes_its_place=False)
    assert list(pools) == ["scripts.slots"]
    assert pool_beside(SlotPool, "slots", None, pools, takes_its_place=False) is slots
    assert slots.config.max_size == 20


async def test_only_what_is_there_can_be_replaced() -> None:
    pools = managed()
    other = DatabasePool("postgresql://me@db/y")
    with pytest.raises(PoolNotFound, match="did you mean 'database'"):
        pools.replace("databse", other)
    pools.replace("database", other)
    assert pools.get("database") is other
