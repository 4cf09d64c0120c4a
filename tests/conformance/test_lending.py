"""A connection is lent, used and given back, and whoever comes next is served properly."""

from __future__ import annotations

import asyncio
import time

import pytest

from aiopool import PoolFull, PoolTimeout
from tests.conformance.callers import SLACK, eventually, fill, line_up, outcome, release, rest
from tests.stopwatch import Stopwatch


async def test_a_connection_is_lent_again_and_again(kind, make):
    async with make(min_size=1) as pool:
        served_by = set()
        for _ in range(5):
            async with kind.acquire(pool) as connection:
                assert await kind.ask(connection, "hello") == "hello"
                served_by.add(await kind.identity(connection))
            await rest(pool)
        stats = pool.stats()
        assert len(served_by) == stats["opened"] == stats["size"] == 1
        assert stats["acquired"] == 5


async def test_a_block_and_a_lease_give_the_raw_connection(kind, make):
    async with make(min_size=1, max_size=1) as pool:
        async with kind.acquire(pool) as raw:
            pass
        await rest(pool)
        lease = await kind.acquire(pool)
        assert lease.connection is raw
        assert lease.info.connection is raw
        assert lease.info.use_count == 2
        lease.release()
        assert lease.connection is raw


async def test_a_lease_is_itself_a_block(kind, make):
    async with make() as pool:
        async with await kind.acquire(pool) as connection:
            assert await kind.ask(connection, "inside") == "inside"
            assert pool.stats()["in_use"] == 1
        assert pool.stats()["in_use"] == 0


async def test_an_acquire_can_be_a_task(kind, make):
    async with make() as pool:
        lease = await asyncio.create_task(kind.acquire(pool))
        assert await kind.ask(lease.connection, "task") == "task"
        lease.release()


async def test_everybody_gets_the_answer_to_his_own_question(kind, make):
    async with make(max_size=3) as pool:

        async def caller(nonce):
            async with kind.acquire(pool) as connection:
                return await kind.ask(connection, nonce)

        nonces = [f"n{n}" for n in range(40)]
        assert await asyncio.gather(*map(caller, nonces)) == nonces


async def test_so_does_who_never_sees_a_lease(kind, make):
    async with make(max_size=3) as pool:
        nonces = [f"n{n}" for n in range(40)]
        assert await asyncio.gather(*(kind.call(pool, nonce) for nonce in nonces)) == nonces
        assert pool.stats()["in_use"] == 0
        assert pool.stats()["size"] <= 3


async def test_releasing_and_discarding_twice_changes_nothing(kind, make):
    async with make() as pool:
        lease = await kind.acquire(pool)
        lease.release()
        lease.release()
        lease.discard()
        await rest(pool)
        again = await kind.acquire(pool)
        lease.release()
        lease.discard()
        assert pool.stats()["in_use"] == 1
        assert await kind.ask(again.connection, "still mine") == "still mine"
        again.release()
        assert pool.stats()["closed"] == 0


async def test_a_discarded_connection_is_closed_and_never_lent_again(kind, make):
    async with make(max_size=1) as pool:
        lease = await kind.acquire(pool)
        unwanted = await kind.identity(lease.connection)
        lease.discard()
        async with kind.acquire(pool) as connection:
            assert await kind.identity(connection) != unwanted
        assert pool.stats()["closed_by"]["discarded"] == 1


async def test_with_timeout_0_there_is_an_idle_one_or_an_error_at_once(kind, make):
    async with make(min_size=1, max_size=1) as pool:
        leases = [await kind.acquire(pool, timeout=0) for _ in range(kind.shares)]
        with Stopwatch() as watch, pytest.raises(PoolTimeout) as caught:
            await kind.acquire(pool, timeout=0)
        assert watch.seconds < SLACK
        assert caught.value.phase == "wait"
        release(leases)


async def test_with_timeout_0_an_empty_pool_starts_to_open(kind, make):
    pool = make()
    with pytest.raises(PoolTimeout) as caught:
        await kind.acquire(pool, timeout=0)
    assert caught.value.phase == "open"
    await eventually(lambda: pool.stats()["available"] > 0)
    (await kind.acquire(pool, timeout=0)).release()


async def test_nobody_waits_longer_than_his_timeout(kind, make):
    async with make(max_size=1, acquire_timeout=0.05) as pool:
        leases = await fill(kind, pool)
        for timeout in ({}, {"timeout": 0.1}):
            bound = timeout.get("timeout", 0.05)
            began = time.monotonic()
            with Stopwatch() as watch, pytest.raises(PoolTimeout) as caught:
                await kind.acquire(pool, **timeout)
            assert caught.value.phase == "wait"
            # To a millisecond, as libuv's timers are.
            assert bound - 0.001 <= caught.value.waited <= time.monotonic() - began + 0.001
            assert watch.seconds < bound + SLACK
            assert caught.value.stats["in_use"] == kind.shares
        assert pool.stats()["timeouts"] == 2
        release(leases)


async def test_who_never_sees_a_lease_waits_no_longer_either(kind, make):
    async with make(max_size=1, acquire_timeout=0.05) as pool:
        leases = await fill(kind, pool)
        with Stopwatch() as watch, pytest.raises(PoolTimeout):
            await kind.call(pool, "too late")
        assert watch.seconds < 0.05 + SLACK
        release(leases)
        assert await kind.call(pool, "in time") == "in time"


async def test_callers_are_served_in_the_order_they_came(kind, make):
    async with make(max_size=1) as pool:
        leases, served = await fill(kind, pool), []

        async def caller(place):
            async with kind.acquire(pool):
                served.append(place)
                await asyncio.sleep(0)

        tasks = []
        for place in range(8):
            tasks.append(asyncio.create_task(caller(place)))
            await eventually(lambda place=place: pool.stats()["waiting"] == place + 1)
        release(leases)
        await asyncio.gather(*tasks)
        assert served == list(range(8))
        assert pool.stats()["size"] == 1


async def test_a_newcomer_never_overtakes_who_waits(kind, make):
    async with make(max_size=1) as pool:
        leases = await fill(kind, pool)
        tasks = await line_up(kind, pool, kind.shares)
        release(leases)
        with pytest.raises(PoolTimeout):
            await kind.acquire(pool, timeout=0)
        release(await asyncio.gather(*tasks))
        await rest(pool)
        (await kind.acquire(pool, timeout=0)).release()


async def test_a_cancelled_waiter_leaves_the_line(kind, make):
    async with make(min_size=1, max_size=1) as pool:
        leases = await fill(kind, pool)
        first, second, third = await line_up(kind, pool, 3)
        second.cancel()
        await asyncio.wait([second])
        assert pool.stats()["waiting"] == 2
        release(leases)
        (await first).release()
        (await third).release()
        assert second.cancelled()
        assert pool.stats()["cancelled"] == 1
        assert pool.stats()["acquired"] == len(leases) + 2


async def test_a_waiter_cancelled_in_the_turn_of_his_turn_hands_on(kind, make):
    async with make(max_size=1) as pool:
        leases = await fill(kind, pool)
        first, second = await line_up(kind, pool, 2)
        leases[0].release()
        first.cancel()
        lease = await second
        assert first.cancelled() or first.result() is not lease
        assert await kind.ask(lease.connection, "handed on") == "handed on"
        release([lease, *leases])
        if not first.cancelled():
            first.result().release()
        await rest(pool)


async def test_a_cancelled_holder_gives_back_and_his_answer_is_never_the_next_callers(kind, make):
    async with make(max_size=1) as pool:
        for delay in (0.0, 0.001, 0.004, 0.01):

            async def holder(nonce=f"old{delay}"):
                async with kind.acquire(pool) as connection:
                    for _ in range(50):
                        await kind.ask(connection, nonce, 0.005)

            task = asyncio.create_task(holder())
            await eventually(lambda: pool.stats()["in_use"] == 1)
            await asyncio.sleep(delay)
            task.cancel()
            async with kind.acquire(pool) as connection:
                assert await kind.ask(connection, f"new{delay}") == f"new{delay}"
            await asyncio.wait([task])
            assert task.cancelled()
        assert pool.stats()["size"] == 1


async def test_a_holder_may_be_cancelled_at_any_gate(kind, make):
    async with make(max_size=1) as pool:
        for gates in range(16):
            task = asyncio.create_task(kind.call(pool, f"old{gates}"))
            for _ in range(gates):
                await asyncio.sleep(0)
            task.cancel()
            assert await kind.call(pool, f"new{gates}") == f"new{gates}"
            await asyncio.wait([task])
        await rest(pool)
        assert pool.stats()["size"] <= 1


async def test_an_answer_that_came_too_late_is_never_the_next_callers(kind, make):
    async with make(max_size=1) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), kind.acquire(pool) as connection:
                await kind.ask(connection, "late", 0.5)
        async with kind.acquire(pool) as connection:
            assert await kind.ask(connection, "next") == "next"
            await asyncio.sleep(0.01)
            assert await kind.ask(connection, "after") == "after"


async def test_an_answer_that_a_cancel_scope_cut_off_is_never_the_next_callers(kind, make):
    async with make(max_size=1) as pool:
        async with kind.acquire(pool) as connection:
            assert await outcome(asyncio.wait_for(kind.ask(connection, "cut off", 0.05), 0.01)) != "cut off"
        async with kind.acquire(pool) as connection:
            assert await kind.ask(connection, "next") == "next"
            await asyncio.sleep(0.06)
            assert await kind.ask(connection, "after") == "after"


async def test_what_one_caller_leaves_behind_is_gone_for_the_next(kind, make):
    async with make(max_size=1) as pool:
        for nonce in ("a", "b", "c"):
            async with kind.acquire(pool) as connection:
                assert await kind.ask(connection, nonce) == nonce
                await kind.litter(connection)


async def test_an_exception_of_the_callers_own_passes_unchanged_and_costs_nothing(kind, make):
    async with make(max_size=1) as pool:
        mine = ZeroDivisionError("mine")
        lease = await kind.acquire(pool)
        before = await kind.identity(lease.connection)
        with pytest.raises(ZeroDivisionError) as caught:
            async with lease:
                raise mine
        assert caught.value is mine
        assert mine.__cause__ is None
        async with kind.acquire(pool) as connection:
            assert await kind.identity(connection) == before


async def test_a_line_longer_than_max_waiting_is_refused(kind, make):
    async with make(max_size=1, max_waiting=1) as pool:
        leases = await fill(kind, pool)
        waiter, *_ = await line_up(kind, pool)
        with pytest.raises(PoolFull) as caught:
            await kind.acquire(pool)
        assert "max_waiting=1" in str(caught.value)
        assert pool.stats()["rejected"] == 1
        release(leases)
        (await waiter).release()
