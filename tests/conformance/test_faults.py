"""Connections break and servers vanish: how many errors that costs, how long anybody waits, and what comes after."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aiopool import Lease, PoolError, PoolTimeout, PoolUnavailable
from tests.conformance.callers import SLACK, eventually, line_up, outcome, release, rest
from tests.stopwatch import Stopwatch

#: A pool that notices, gives up and comes back quickly.
QUICK = {"open_timeout": 0.3, "unavailable_after": 0.15, "backoff_initial": 0.02, "backoff_max": 0.05}


async def refusal(awaitable):
    """The error that a caller got, and after how many seconds."""
    with Stopwatch() as watch:
        error = await outcome(awaitable)
    if isinstance(error, Lease):
        error.release()
    assert isinstance(error, Exception)
    return error, watch.seconds


def is_of_the_driver(cause):
    return isinstance(cause, Exception) and not isinstance(cause, PoolError)


async def test_a_broken_connection_costs_one_error_and_is_replaced(kind, make):
    async with make(max_size=1) as pool:
        lease = await kind.acquire(pool)
        broken = await kind.identity(lease.connection)

        async def unlucky():
            async with lease as connection:
                await kind.sever(connection)
                while True:
                    await kind.ask(connection, "gone", 0.01)

        error = await outcome(unlucky())
        assert isinstance(error, Exception)
        assert not isinstance(error, PoolError)
        for nonce in ("a", "b", "c"):
            async with kind.acquire(pool) as connection:
                assert await kind.ask(connection, nonce) == nonce
                assert await kind.identity(connection) != broken
        assert pool.stats()["opened"] == 2


async def test_one_that_died_while_it_was_idle_costs_nobody_an_error(kind, make):
    async with make(max_size=1, validate_after=0) as pool:
        for nonce in ("a", "b", "c"):
            lease = await kind.acquire(pool)
            assert await kind.ask(lease.connection, nonce) == nonce
            lease.release()
            await rest(pool)
            await kind.sever(lease.connection)
        assert await kind.call(pool, "last") == "last"


async def test_connections_that_are_reset_in_use_cost_one_error_each(kind, make, proxy):
    async with make(via=proxy, max_size=3, **QUICK) as pool:
        errors, answers, over = [], [], asyncio.Event()

        async def caller(n):
            while not over.is_set():
                try:
                    async with kind.acquire(pool) as connection:
                        answers.append(await kind.ask(connection, f"n{n}", 0.005) == f"n{n}")
                except Exception as exc:
                    errors.append(exc)

        callers = [asyncio.create_task(caller(n)) for n in range(6 * kind.shares)]
        await eventually(lambda: len(answers) > 20)
        proxy.reset()
        proxy.pass_through()
        right = len(answers)
        await eventually(lambda: len(answers) > right + 20)
        over.set()
        await asyncio.gather(*callers)
        assert all(answers)
        assert len([error for error in errors if not isinstance(error, PoolError)]) <= 3 * kind.shares
        assert [error for error in errors if isinstance(error, PoolTimeout)] == []


async def test_a_server_that_refuses_is_unavailable_after_a_while_and_the_cause_is_told(kind, make, proxy):
    proxy.refuse()
    pool = make(via=proxy, **QUICK)
    error, seconds = await refusal(kind.acquire(pool, timeout=5))
    assert isinstance(error, PoolUnavailable)
    assert is_of_the_driver(error.__cause__)
    assert pool.stats()["open_failures"] > 1
    assert seconds < 0.15 + SLACK
    error, seconds = await refusal(kind.acquire(pool))
    assert isinstance(error, PoolUnavailable)
    assert seconds < SLACK
    error, seconds = await refusal(kind.call(pool, "newcomer"))
    assert isinstance(error, kind.unreachable)
    assert seconds < SLACK


async def test_those_who_wait_for_a_server_that_refuses_are_bounded_by_their_own_timeout(kind, make, proxy):
    proxy.refuse()
    pool = make(via=proxy, **{**QUICK, "unavailable_after": None})
    error, seconds = await refusal(kind.acquire(pool, timeout=0.1))
    assert isinstance(error, PoolTimeout)
    assert error.phase == "open"
    assert is_of_the_driver(error.__cause__)
    assert seconds < 0.1 + SLACK


async def test_a_pool_recovers_without_a_call(kind, make, proxy):
    async with make(via=proxy, min_size=2, **{**QUICK, "unavailable_after": None}) as pool:
        proxy.refuse()
        release(await asyncio.gather(*(outcome(kind.acquire(pool)) for _ in range(2))))
        await pool.drain()
        await eventually(lambda: pool.stats()["open_failures"] > 2 and pool.stats()["size"] == 0)
        proxy.pass_through()
        await eventually(lambda: pool.stats()["size"] == 2)
        assert await kind.call(pool, "back") == "back"


async def test_who_waits_through_an_outage_is_served_when_it_ends(kind, make, proxy):
    proxy.refuse()
    pool = make(via=proxy, **{**QUICK, "unavailable_after": 5})
    waiters = await line_up(kind, pool, 2)
    await eventually(lambda: pool.stats()["open_failures"] > 1)
    proxy.pass_through()
    release(await asyncio.gather(*waiters))


@pytest.mark.parametrize("mode", ["silence", "black_hole", "trickle"])
async def test_a_server_that_does_not_answer_keeps_nobody_beyond_his_timeout(kind, make, proxy, mode):
    getattr(proxy, mode)()
    pool = make(via=proxy, **{**QUICK, "unavailable_after": None, "open_timeout": 0.15, "close_timeout": 0.1})
    error, seconds = await refusal(kind.acquire(pool, timeout=0.05))
    assert isinstance(error, PoolTimeout)
    assert error.phase == "open"
    assert seconds < 0.05 + SLACK
    await eventually(lambda: pool.stats()["open_failures"] > 0)
    proxy.pass_through()
    assert await kind.call(pool, "awake") == "awake"


async def test_a_check_finds_the_connections_that_died_in_silence(kind, make, proxy):
    config = {"validate_timeout": 0.1, "close_timeout": 0.1, "validate_after": None}
    async with make(via=proxy, min_size=3, max_size=3, **config) as pool:
        proxy.silence()
        assert await pool.check() == 3
        await eventually(lambda: pool.stats()["closed_by"]["invalid"] == 3)
        proxy.reset()
        proxy.pass_through()
        assert await kind.call(pool, "mended") == "mended"


async def test_a_stale_connection_is_checked_before_it_is_lent(kind, make, proxy):
    config = {"validate_timeout": 0.1, "close_timeout": 0.1, "validate_after": 0}
    async with make(via=proxy, min_size=1, max_size=1, **config) as pool:
        proxy.silence()
        error, seconds = await refusal(kind.acquire(pool, timeout=0.05))
        assert isinstance(error, PoolTimeout)
        assert error.phase == "validate"
        assert seconds < 0.05 + SLACK
        proxy.reset()
        proxy.pass_through()
        async with kind.acquire(pool) as connection:
            assert await kind.ask(connection, "checked") == "checked"


async def test_a_question_into_a_black_hole_ends_with_the_callers_timeout_and_poisons_nobody(kind, make, proxy):
    config = {"reset_timeout": 0.1, "close_timeout": 0.1, "validate_timeout": 0.1, "validate_after": 0}
    async with make(via=proxy, max_size=1, **config) as pool:
        await kind.call(pool, "warm")
        await rest(pool)
        lease = await kind.acquire(pool)
        proxy.black_hole()
        with Stopwatch() as watch, pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), lease as connection:
                await kind.ask(connection, "lost")
        assert watch.seconds < 0.1 + SLACK
        proxy.reset()
        proxy.pass_through()
        async with kind.acquire(pool) as connection:
            assert await kind.ask(connection, "found") == "found"


async def test_open_on_a_server_that_is_away_tells_why_and_leaves_nothing_behind(kind, make, proxy):
    proxy.refuse()
    pool = make(via=proxy, min_size=1, **QUICK)
    error, _ = await refusal(pool.open())
    assert isinstance(error, PoolUnavailable)
    assert is_of_the_driver(error.__cause__)
    assert [task.get_name() for task in asyncio.all_tasks() if pool.name in task.get_name()] == []
    proxy.pass_through()
    async with pool:
        assert await kind.call(pool, "again") == "again"


async def test_what_no_attempt_can_mend_is_told_at_once(kind, make):
    pool, eager = make(is_hopeless=True), make(is_hopeless=True, min_size=1)
    for attempt in (kind.acquire(pool), eager.open(), eager.open(), kind.call(pool, "never")):
        error, seconds = await refusal(attempt)
        assert isinstance(error, (PoolUnavailable, kind.unreachable))
        assert error.__cause__ is not None
        assert seconds < 2


async def test_a_server_that_is_killed_and_started_again_heals_without_a_call(kind, make, server):
    async with make(min_size=2, health_check_interval=0.1, **{**QUICK, "backoff_max": 0.2}) as pool:
        lease = await kind.acquire(pool)
        await server.kill()
        try:
            assert isinstance(await outcome(kind.ask(lease.connection, "dead")), Exception)
            lease.discard()
            error = None
            while not isinstance(error, kind.unreachable):
                error, seconds = await refusal(kind.call(pool, "dead"))
                assert seconds < 0.3 + SLACK
        finally:
            await server.start()
        await eventually(lambda: pool.stats()["size"] >= 2)
        await rest(pool)
        nonces = [f"n{n}" for n in range(20)]
        assert await asyncio.gather(*(kind.call(pool, nonce) for nonce in nonces)) == nonces


async def test_recovery_is_logged_once(kind, make, proxy, caplog):
    caplog.set_level(logging.INFO, "aiopool")
    pool = make(via=proxy, **QUICK)
    proxy.refuse()
    await refusal(kind.acquire(pool))
    proxy.pass_through()
    await eventually(lambda: pool.stats()["size"] > 0)
    said = [record.getMessage() for record in caplog.records if pool.name in record.getMessage()]
    assert len([line for line in said if "works again" in line]) == 1
    assert len([line for line in said if "is unavailable" in line]) == 1
