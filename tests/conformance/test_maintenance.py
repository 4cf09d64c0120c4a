"""What the pool does with connections that nobody broke: replaces, checks, withholds, takes back, reports."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from aiopool import Closed, Drained, Leaked, LeaseExpired, PoolTimeout
from tests.conformance.callers import SLACK, eventually, fill, line_up, outcome, release, rest, server_sees
from tests.stopwatch import Stopwatch


async def identities(kind, pool):
    """Of all connections that the pool can have."""
    leases = await fill(kind, pool)
    found = {await kind.identity(lease.connection) for lease in leases}
    release(leases)
    await rest(pool)
    return found


# ------------------------------------------------------------------------------------------------------- drain


async def test_a_drain_replaces_all(kind, make):
    async with make(min_size=3, max_size=3) as pool:
        before = await identities(kind, pool)
        await pool.drain()
        after = await identities(kind, pool)
        assert len(before) == len(after) == 3
        assert before.isdisjoint(after)
        assert pool.stats()["closed_by"]["drained"] == 3


async def test_a_drain_waits_for_nobody_and_replaces_the_leased_when_they_come_back(kind, make):
    async with make(max_size=2) as pool:
        leases = await fill(kind, pool)
        old = {await kind.identity(lease.connection) for lease in leases}
        with Stopwatch() as watch:
            await pool.drain()
        assert watch.seconds < SLACK
        assert await kind.ask(leases[0].connection, "undisturbed") == "undisturbed"
        assert pool.stats()["size"] == 2
        release(leases)
        assert old.isdisjoint(await identities(kind, pool))
        assert pool.stats()["closed_by"]["drained"] == 2


async def test_a_drain_in_mid_flight_costs_nobody_an_error(kind, make):
    async with make(max_size=3) as pool:

        async def caller(n):
            for turn in range(8):
                async with kind.acquire(pool) as connection:
                    assert await kind.ask(connection, f"{n}.{turn}", 0.002) == f"{n}.{turn}"

        callers = [asyncio.create_task(caller(n)) for n in range(6 * kind.shares)]
        for _ in range(3):
            await asyncio.sleep(0.01)
            await pool.drain()
        await asyncio.gather(*callers)
        assert pool.stats()["closed_by"]["drained"] >= 3
        assert pool.stats()["closed"] == pool.stats()["closed_by"]["drained"]


async def test_what_is_being_opened_during_a_drain_is_replaced_too(kind, make, proxy):
    proxy.silence()
    pool = make(via=proxy, max_size=1)
    waiter, *_ = await line_up(kind, pool)
    await eventually(lambda: pool.stats()["opening"] == 1 and proxy.connections > 0)
    await pool.drain()
    proxy.pass_through()
    (await waiter).release()
    await eventually(lambda: pool.stats()["closed_by"]["drained"] == 1)
    assert pool.stats()["opened"] == 2


async def test_a_drain_can_be_spread_so_that_most_stay_at_hand(kind, make):
    async with make(min_size=3, max_size=3) as pool:
        heard = []
        pool.subscribe(lambda event: heard.append(event.at) if isinstance(event, (Drained, Closed)) else None)
        await pool.drain(over=0.15)
        assert pool.stats()["closed"] == 0
        await eventually(lambda: pool.stats()["closed_by"]["drained"] == 3)
        began, *closed = heard
        assert [at - began > part for at, part in zip(closed, (0.03, 0.08, 0.14), strict=True)] == [True] * 3
        assert await kind.call(pool, "all along") == "all along"


# ---------------------------------------------------------------------------------------- a connection's natural end


async def test_a_connection_is_replaced_after_max_uses(kind, make):
    async with make(min_size=1, max_size=1, max_uses=2) as pool:
        served_by = []
        for _ in range(4):
            async with kind.acquire(pool) as connection:
                served_by.append(await kind.identity(connection))
        assert served_by[0] == served_by[1] != served_by[2] == served_by[3]
        await eventually(lambda: pool.stats()["closed_by"]["uses"] == 2)


async def test_a_connection_is_replaced_at_the_end_of_its_lifetime(kind, make):
    async with make(min_size=1, max_size=1, max_lifetime=0.1, lifetime_jitter=0) as pool:
        before = await identities(kind, pool)
        lease = await kind.acquire(pool)
        await asyncio.sleep(0.12)
        assert await kind.ask(lease.connection, "held beyond it") == "held beyond it"
        lease.release()
        async with kind.acquire(pool) as connection:
            assert await kind.identity(connection) not in before
        # The idle one is replaced, too, and nobody has to ask.
        await eventually(lambda: pool.stats()["closed_by"]["lifetime"] >= 2 and pool.stats()["size"] == 1)


async def test_idle_connections_above_min_size_are_closed_after_max_idle_time(kind, make):
    async with make(min_size=1, max_size=3, max_idle_time=0.08) as pool:
        release(await fill(kind, pool))
        await rest(pool)
        assert pool.stats()["size"] == 3
        await eventually(lambda: pool.stats()["size"] == 1)
        await asyncio.sleep(0.1)
        assert pool.stats()["size"] == 1
        await server_sees(kind, pool.name, 1)
        assert pool.stats()["closed_by"]["idle"] == 2


# -------------------------------------------------------------------------------------------------- check, suspend


async def test_a_check_leaves_the_healthy_alone(kind, make):
    async with make(min_size=3, max_size=3) as pool:
        before = await identities(kind, pool)
        assert await pool.check() == 0
        await rest(pool)
        assert await identities(kind, pool) == before


async def test_a_check_does_not_touch_what_is_leased(kind, make):
    async with make(min_size=1, max_size=2) as pool:
        lease = await kind.acquire(pool)
        question = asyncio.create_task(kind.ask(lease.connection, "undisturbed", 0.02))
        assert await pool.check() == 0
        assert await question == "undisturbed"
        lease.release()


async def test_who_comes_to_a_suspended_pool_waits_until_it_resumes(kind, make):
    async with make(min_size=1, max_size=1) as pool:
        lease = await kind.acquire(pool)
        pool.suspend()
        assert await kind.ask(lease.connection, "goes on") == "goes on"
        lease.release()
        waiters = await line_up(kind, pool, 2)
        await rest_but_for(pool, waiting=2)
        pool.resume()
        (await waiters[0]).release()
        (await waiters[1]).release()


async def rest_but_for(pool, waiting):
    await eventually(lambda: pool.stats()["in_use"] == 0)
    await asyncio.sleep(0.02)
    assert pool.stats()["waiting"] == waiting
    assert pool.stats()["in_use"] == 0


async def test_a_suspended_pool_keeps_nobody_beyond_his_timeout_and_says_what_it_is(kind, make):
    async with make(min_size=1) as pool:
        pool.suspend()
        with Stopwatch() as watch, pytest.raises(PoolTimeout, match="suspended"):
            await kind.acquire(pool, timeout=0.05)
        assert watch.seconds < 0.05 + SLACK
        pool.resume()
        assert await kind.call(pool, "resumed") == "resumed"


# ------------------------------------------------------------------------------------------------------ leases


async def test_a_lease_held_for_too_long_is_reported_with_the_stack_that_took_it(kind, make, caplog):
    caplog.set_level(logging.INFO, "aiopool")
    async with make(leak_after=0.05) as pool:
        heard = []
        pool.subscribe(lambda event: heard.append(event) if isinstance(event, Leaked) else None)

        async def who_forgets():
            return await kind.acquire(pool)

        lease = await who_forgets()
        await eventually(lambda: pool.stats()["leaks"] == 1)
        lease.release()
        assert [event.returned for event in heard] == [False, True]
        assert "who_forgets" in heard[0].stack
        assert heard[0].held >= 0.05
        said = [record.getMessage() for record in caplog.records if pool.name in record.getMessage()]
        assert any("who_forgets" in line and "leak_after=0.05" in line for line in said)
        assert any("came back" in line for line in said)


async def test_a_lease_held_beyond_max_hold_is_taken_back(kind, make):
    async with make(max_size=1, max_hold=0.05) as pool:
        mine = KeyError("mine")
        lease = await kind.acquire(pool)
        held = await kind.identity(lease.connection)
        await eventually(lambda: pool.stats()["in_use"] == 0)
        with pytest.raises(LeaseExpired, match=r"max_hold=0\.05") as caught:
            async with lease:
                raise mine
        assert caught.value.__cause__ is mine
        async with kind.acquire(pool) as connection:
            assert await kind.identity(connection) != held
        await eventually(lambda: pool.stats()["closed_by"]["reclaimed"] == 1)


async def test_a_lease_that_is_dropped_warns_and_its_connection_is_never_lent_again(kind, make):
    async with make(max_size=1) as pool:
        lease = await kind.acquire(pool)
        dropped = await kind.identity(lease.connection)
        with pytest.warns(ResourceWarning, match=pool.name):
            lease = gc.collect()
        await asyncio.sleep(0)
        async with kind.acquire(pool) as connection:
            assert await kind.identity(connection) != dropped
        assert pool.stats()["closed_by"]["lost"] == pool.stats()["leaks"] == 1


async def test_a_timeout_of_one_caller_disturbs_no_other(kind, make):
    async with make(max_size=2) as pool:

        async def caller(n):
            async with kind.acquire(pool) as connection:
                return await kind.ask(connection, f"n{n}", 0.03)

        hasty = [asyncio.create_task(outcome(asyncio.wait_for(caller(n), 0.01))) for n in range(2 * kind.shares)]
        patient = [asyncio.create_task(caller(n)) for n in range(20, 26)]
        assert await asyncio.gather(*patient) == [f"n{n}" for n in range(20, 26)]
        assert {type(error) for error in await asyncio.gather(*hasty)} == {TimeoutError}
