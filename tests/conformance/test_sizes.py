"""How many connections there are: never too many, never too few, and as many as wanted when that changes."""

from __future__ import annotations

import asyncio
import math

import pytest

from aiopool import Opened, PoolConfigError, PoolTimeout
from tests.conformance.callers import eventually, fill, line_up, outcome, release, rest, server_sees


async def test_min_size_connections_stand_when_open_returns(kind, make):
    async with make(min_size=3) as pool:
        assert pool.stats()["size"] == pool.stats()["available"] / kind.shares == 3
        await server_sees(kind, pool.name, 3)


async def test_nothing_is_opened_before_it_is_needed(kind, make):
    pool = make(min_size=0)
    await pool.open()
    assert pool.stats()["opened"] == 0
    await server_sees(kind, pool.name, 0)
    await kind.call(pool, "needed")
    assert pool.stats()["opened"] == 1


async def test_max_size_is_never_exceeded_as_the_server_counts(kind, make):
    async with make(max_size=3) as pool:
        counted, seen, is_over = [], [], asyncio.Event()
        pool.subscribe(lambda event: seen.append(pool.stats()["size"] + pool.stats()["opening"]))

        async def caller():
            async with kind.acquire(pool) as connection:
                await kind.ask(connection, "busy", 0.004)

        async def auditor():
            while not is_over.is_set():
                counted.append(await kind.connections(pool.name))
                await asyncio.sleep(0.002)

        auditing = asyncio.create_task(auditor())
        await asyncio.gather(*(caller() for _ in range(20 * kind.shares)))
        is_over.set()
        await auditing
        assert max(counted) <= 3
        assert max(seen) == 3


async def test_max_size_holds_while_connections_come_and_go(kind, make):
    async with make(max_size=2, max_uses=2) as pool:
        seen = []
        pool.subscribe(lambda event: seen.append(pool.stats()["size"] + pool.stats()["opening"]))
        await asyncio.gather(*(kind.call(pool, f"n{n}") for n in range(20)))
        assert pool.stats()["opened"] > 2
        assert max(seen) <= 2


async def test_as_many_are_opened_as_are_held_at_once(kind, make):
    async with make(max_size=3) as pool:
        leases = []
        for held in range(1, 3 * kind.shares + 1):
            leases.append(await kind.acquire(pool))
            assert pool.stats()["size"] == math.ceil(held / kind.shares)
        identities = {await kind.identity(lease.connection) for lease in leases}
        assert len(identities) == 3
        await server_sees(kind, pool.name, 3)
        release(leases)


async def test_callers_who_come_together_are_served_by_connections_opened_together(kind, make):
    async with make(max_size=4) as pool:
        everybody_is_in = asyncio.Barrier(4 * kind.shares)

        async def caller(nonce):
            async with kind.acquire(pool) as connection, asyncio.timeout(5):
                await everybody_is_in.wait()
                return await kind.ask(connection, nonce)

        nonces = [f"n{n}" for n in range(4 * kind.shares)]
        assert await asyncio.gather(*map(caller, nonces)) == nonces
        assert pool.stats()["opened"] == 4


async def test_max_opening_bounds_how_many_are_opened_at_once(kind, make):
    pool, seen = make(min_size=4, max_opening=1), []
    pool.subscribe(lambda event: seen.append(pool.stats()["opening"]) if isinstance(event, Opened) else None)
    async with pool:
        # While each is told of, the next has not begun.
        assert seen == [0, 0, 0, 0]


async def test_a_lost_connection_is_replaced_without_a_call(kind, make):
    async with make(min_size=2, max_size=2, validate_after=None, health_check_interval=0.05) as pool:
        lease = await kind.acquire(pool)
        lost = await kind.identity(lease.connection)
        lease.release()
        await rest(pool)
        await kind.sever(lease.connection)
        await eventually(lambda: pool.stats()["closed"] == 1 and pool.stats()["size"] == 2)
        await rest(pool)
        leases = await fill(kind, pool)
        assert lost not in {await kind.identity(lease.connection) for lease in leases}
        release(leases)


async def test_growing_serves_those_who_wait(kind, make):
    async with make(max_size=1) as pool:
        leases = await fill(kind, pool)
        waiters = await line_up(kind, pool, 2 * kind.shares, timeout=10)
        pool.resize(max_size=3)
        await asyncio.wait(waiters)
        size = pool.stats()["size"]
        release(leases)
        release([await waiter for waiter in waiters])
        assert size == 3


async def test_a_larger_min_size_is_opened_at_once(kind, make):
    async with make() as pool:
        pool.resize(min_size=3)
        await eventually(lambda: pool.stats()["size"] == 3)
        await rest(pool)
        await server_sees(kind, pool.name, 3)


async def test_shrinking_closes_the_idle_now(kind, make):
    async with make(min_size=1, max_size=4) as pool:
        release(await fill(kind, pool))
        await rest(pool)
        pool.resize(max_size=1)
        await eventually(lambda: pool.stats()["size"] == 1)
        assert pool.stats()["closed_by"]["shrunk"] == 3
        assert await kind.call(pool, "left") == "left"


async def test_shrinking_closes_the_leased_when_they_come_back(kind, make):
    async with make(max_size=3) as pool:
        leases = await fill(kind, pool)
        pool.resize(max_size=1)
        assert await kind.ask(leases[0].connection, "undisturbed") == "undisturbed"
        assert pool.stats()["size"] == 3
        release(leases)
        await eventually(lambda: pool.stats()["size"] == 1)
        assert pool.stats()["closed_by"]["shrunk"] == 2
        await rest(pool)
        leases = await fill(kind, pool)
        error = await outcome(kind.acquire(pool, timeout=0))
        release(leases)
        assert isinstance(error, PoolTimeout)


async def test_sizes_that_do_not_fit_together_are_refused_and_change_nothing(kind, make):
    async with make(min_size=1, max_size=2) as pool:
        for sizes in ({"max_size": 0}, {"min_size": 3}, {"min_size": -1}):
            with pytest.raises(PoolConfigError, match=next(iter(sizes))):
                pool.resize(**sizes)
        stats = pool.stats()
        assert (stats["min_size"], stats["max_size"], stats["size"]) == (1, 2, 1)


async def test_max_idle_keeps_no_more_than_so_many(kind, make):
    async with make(max_idle=1) as pool:
        release(await fill(kind, pool))
        await eventually(lambda: pool.stats()["size"] == 1)
        assert pool.stats()["closed_by"]["idle"] == 3


async def test_the_fullest_connection_is_lent_first_so_that_the_others_can_go(kind, make):
    async with make(max_size=2, max_idle_time=0.1) as pool:
        leases = await fill(kind, pool)
        first = [lease for lease in leases if lease.info is leases[0].info]
        second = [lease for lease in leases if lease.info is not leases[0].info]
        release(second)
        if len(first) > 1:
            first.pop().release()
            async with await kind.acquire(pool) as connection:
                assert connection is first[0].connection
        await eventually(lambda: pool.stats()["size"] == 1)
        assert pool.stats()["closed_by"]["idle"] == 1
        release(first)
