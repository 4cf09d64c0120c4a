"""What a pool tells of itself: figures that add up, events in their order, errors that help, and no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import traceback

from aiopool import Acquired, Closed, Drained, Opened, PoolClosed, PoolFull, PoolTimeout, Released, Resized, Suspended
from tests.conformance.callers import eventually, fill, line_up, outcome, release, rest, server_sees

KEYS = {
    str: "name",
    int: (
        "size available in_use opening waiting min_size max_size acquired waited timeouts rejected shed cancelled "
        "opened open_failures closed close_failures leaks"
    ),
    float: "wait_time use_time open_time oldest_wait oldest_lease",
    dict: "closed_by",
}
REASONS = "idle lifetime uses invalid broken discarded reclaimed lost reset_failed drained shrunk pool_closed"


async def test_stats_have_every_key_with_its_type_and_are_ready_for_json(kind, make):
    pool = make()
    for _ in range(2):
        stats = pool.stats()
        assert type(stats) is dict
        assert {key: type(value) for key, value in stats.items()} == {
            key: kind_of_value for kind_of_value, keys in KEYS.items() for key in keys.split()
        }
        assert set(stats["closed_by"]) == set(REASONS.split())
        assert json.loads(json.dumps(stats)) == stats
        assert stats["name"] == pool.name
        await kind.call(pool, "open")
        await rest(pool)


async def test_stats_add_up_at_rest(kind, make):
    async with make(min_size=1) as pool:
        release(await fill(kind, pool))
        await rest(pool)
        stats = pool.stats()
        assert stats["size"] == stats["max_size"] == stats["opened"]
        await server_sees(kind, pool.name, stats["size"])
        assert stats["available"] == stats["size"] * kind.shares
        assert stats["in_use"] == stats["waiting"] == stats["opening"] == stats["closed"] == 0
        assert stats["acquired"] == stats["size"] * kind.shares
        assert stats["oldest_wait"] == stats["oldest_lease"] == 0
        assert stats["use_time"] > 0
        assert stats["open_time"] > 0


async def test_stats_add_up_while_leases_are_held(kind, make):
    async with make(min_size=2, max_size=2) as pool:
        leases = []
        for held in range(1, 2 * kind.shares + 1):
            leases.append(await kind.acquire(pool))
            stats = pool.stats()
            assert stats["in_use"] == held
            assert stats["available"] + stats["in_use"] == stats["size"] * kind.shares
        (waiter,) = await line_up(kind, pool)
        await asyncio.sleep(0.01)
        stats = pool.stats()
        assert (stats["available"], stats["waiting"]) == (0, 1)
        assert 0.01 <= stats["oldest_wait"] <= stats["oldest_lease"]
        release(leases)
        (await waiter).release()
        assert pool.stats()["waited"] == 1


async def test_stats_add_up_at_every_event_of_a_storm(kind, make):
    async with make(max_size=3, max_uses=5) as pool:
        chance = random.Random(3)
        wrong = []

        def audit(event):
            stats = pool.stats()
            if not (
                stats["opened"] - stats["closed"] == stats["size"]
                and stats["size"] + stats["opening"] <= stats["max_size"]
                and stats["closed"] == sum(stats["closed_by"].values())
                and stats["in_use"] <= stats["size"] * kind.shares
                and 0 <= stats["available"] <= stats["size"] * kind.shares - stats["in_use"]
            ):
                wrong.append((event, stats))

        pool.subscribe(audit)

        async def caller(n):
            async with kind.acquire(pool, timeout=chance.choice([0, 0.005, 5])) as connection:
                assert await kind.ask(connection, f"n{n}", chance.choice([0, 0.001])) == f"n{n}"

        callers = [asyncio.create_task(outcome(caller(n))) for n in range(60)]
        await asyncio.sleep(0.01)
        for task in callers[::5]:
            task.cancel()
        ends = await asyncio.gather(*callers, return_exceptions=True)
        assert wrong == []
        assert {type(end) for end in ends} <= {type(None), PoolTimeout, asyncio.CancelledError}
        await rest(pool)
        stats = pool.stats()
        assert stats["timeouts"] == sum(isinstance(end, PoolTimeout) for end in ends)
        assert stats["available"] == stats["size"] * kind.shares


async def test_a_listener_hears_the_life_of_a_connection_in_its_order(kind, make):
    pool, heard = make(min_size=1), []
    pool.subscribe(heard.append)
    async with pool:
        async with kind.acquire(pool):
            pass
        await rest(pool)
        pool.resize(min_size=0)
        pool.suspend()
        pool.resume()
        await pool.drain()
        await eventually(lambda: isinstance(heard[-1], Closed))
    assert [type(event) for event in heard if type(event).__name__ != "Resumed"] == [
        *(Opened, Acquired, Released, Resized, Suspended, Drained, Closed)
    ]
    assert heard[-1].reason == "drained"
    assert all(event.pool.name == pool.name for event in heard)
    assert [event.at for event in heard] == sorted(event.at for event in heard)


async def test_a_listener_that_raises_disturbs_nobody_and_is_logged(kind, make, caplog):
    heard = []

    def clumsy(event):
        raise ZeroDivisionError("in the listener")

    async with make() as pool:
        pool.subscribe(clumsy)
        unsubscribe = pool.subscribe(heard.append)
        assert await kind.call(pool, "undisturbed") == "undisturbed"
        unsubscribe()
        count = len(heard)
        assert await kind.call(pool, "unheard") == "unheard"
        assert len(heard) == count > 0
    assert any("listener" in record.getMessage() for record in caplog.records if record.name == "aiopool")


async def test_errors_carry_the_name_the_figures_and_a_next_step(kind, make):
    async with make(max_size=1, max_waiting=0) as pool:
        leases = await fill(kind, pool)
        errors = [await outcome(kind.acquire(pool, timeout=0.01)), await outcome(kind.acquire(pool, timeout=0))]
        release(leases)
    errors.append(await outcome(kind.acquire(pool)))
    async with make(max_size=1) as other:
        leases = await fill(kind, other)
        errors.append(await outcome(kind.acquire(other, timeout=0.01)))
        release(leases)
    assert [type(error) for error in errors] == [PoolFull, PoolFull, PoolClosed, PoolTimeout]
    for error in errors:
        assert repr(pool.name) in str(error) or repr(other.name) in str(error)
        for figure in ("size=", "in_use=", "waiting=", "max_size=1"):
            assert figure in str(error)
        assert str(error).partition(": ")[2]
    assert f"waited {errors[-1].waited:.2f}s" in str(errors[-1])


async def test_every_waiter_gets_an_error_of_his_own(kind, make, proxy):
    proxy.refuse()
    pool = make(via=proxy, unavailable_after=0.02, backoff_initial=0.01, backoff_max=0.02)
    errors = await asyncio.gather(*(outcome(kind.acquire(pool)) for _ in range(5)))
    assert len({id(error) for error in errors}) == 5
    # What is kept is kept without its frames, which hold passwords.
    assert [error.__cause__.__traceback__ for error in errors] == [None] * 5


async def test_no_password_is_told_whatever_happens(kind, make, proxy, caplog):
    caplog.set_level(logging.DEBUG, "aiopool")
    assert kind.secret
    told = []
    for pool in (make(is_hopeless=True), make(via=proxy, unavailable_after=0.02, backoff_initial=0.01)):
        proxy.refuse()
        told.append(repr(pool))
        error = await outcome(kind.acquire(pool, timeout=1))
        assert isinstance(error, Exception)
        told += [*traceback.format_exception(error), repr(pool), json.dumps(pool.stats())]
        proxy.pass_through()
    told += [record.getMessage() for record in caplog.records]
    assert [line for line in told if kind.secret in line or "://" in line] == []


async def test_a_repr_is_harmless_in_every_state(kind, make):
    pool = make(min_size=1)
    pools, leases = [repr(pool)], []
    await pool.open()
    pools.append(repr(pool))
    lease = await kind.acquire(pool)
    pools.append(repr(pool))
    leases += [repr(lease), repr(lease.info)]
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    pools.append(repr(pool))
    lease.release()
    await closing
    pools.append(repr(pool))
    leases += [repr(lease), repr(lease.info)]
    assert all(pool.name in text for text in pools)
    assert len(set(leases)) == 4
    assert [text for text in pools + leases if "://" in text or str(kind.port) in text] == []
