"""Errors that say what happened and what to do."""

import functools
import re

import pytest

import aiopool
from aiopool import ConnectionPool, PoolConfig
from tests.fakes import Backend, Step, hold, settle, take, timed

FIGURES = r"size=\d+ in_use=\d+ waiting=\d+ max_size=\d+"
SECRET = "postgresql://app:hunter2@db.example/ledger"


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("PoolTimeout", TimeoutError),
        ("PoolClosed", RuntimeError),
        ("PoolFull", Exception),
        ("PoolOverloaded", Exception),
        ("PoolUnavailable", ConnectionError),
        ("LeaseExpired", RuntimeError),
        ("WrongLoop", RuntimeError),
        ("PoolConfigError", ValueError),
        ("PoolNotFound", KeyError),
        ("ForkedPool", RuntimeError),
    ],
)
def test_every_error_is_a_pool_error_and_one_of_pythons_own(name, base):
    error = getattr(aiopool, name)
    assert issubclass(error, aiopool.PoolError)
    assert issubclass(error, base)


async def test_a_timeout_tells_the_pool_the_figures_and_the_wait(make_pool):
    pool = make_pool(Backend(), max_size=2, name="ledger")
    leases = [await pool.acquire(), await pool.acquire()]
    others = [take(pool) for _ in range(3)]
    await settle()
    _, error = await timed(pool.acquire(timeout=2))
    assert "ledger" in str(error)
    assert re.search(FIGURES, str(error))
    assert "size=2 in_use=2" in str(error)
    assert "max_size=2" in str(error)
    assert "waited 2.00s" in str(error)
    assert error.stats["size"] == error.stats["in_use"] == 2
    for lease in leases:
        lease.release()
    for other in others:
        (await other).release()


async def test_a_timeout_without_a_failed_opening_has_no_cause(make_pool):
    pool = make_pool(Backend(), max_size=1)
    async with pool.acquire():
        _, error = await timed(pool.acquire(timeout=1))
    assert error.__cause__ is None


async def test_full_closed_and_unavailable_tell_the_pool_and_the_figures(make_pool):
    pool = make_pool(Backend(), max_size=1, max_waiting=0, name="ledger")
    async with pool.acquire():
        _, full = await timed(pool.acquire())
    await pool.close()
    _, closed = await timed(pool.acquire())
    down = make_pool(Backend(opens=Step(error=ValueError("no such database"))), name="ledger")
    _, unavailable = await timed(down.acquire())
    for error, kind in ((full, "PoolFull"), (closed, "PoolClosed"), (unavailable, "PoolUnavailable")):
        assert type(error).__name__ == kind
        assert "ledger" in str(error)
    for error in (full, unavailable):
        assert re.search(FIGURES, str(error))


async def test_no_message_holds_a_password(make_pool, caplog):
    backend = Backend(opens=Step(error=OSError(f"could not connect to {SECRET}")))
    pool = make_pool(backend, unavailable_after=2, name="ledger")
    _, late = await timed(pool.acquire(timeout=1))
    _, unavailable = await timed(pool.acquire(timeout=30))
    for error in (late, unavailable):
        assert isinstance(error, aiopool.PoolError)
        assert "hunter2" not in str(error)
        assert "hunter2" not in repr(error)
    assert "hunter2" not in "".join(record.getMessage() for record in caplog.records)


async def test_the_repr_of_a_pool_has_its_name_and_no_secret():
    async def connect(dsn):
        raise OSError

    pool = ConnectionPool(functools.partial(connect, SECRET), PoolConfig(max_size=2), name="ledger")
    assert "ledger" in repr(pool)
    assert "hunter2" not in repr(pool)


async def test_what_is_public_imports_from_the_package():
    names = "ConnectionPool PoolConfig PoolStats PooledConnection Lease PoolError"
    events = "Opened OpenFailed Acquired Released Closed Leaked Shed Resized Suspended"
    assert [name for name in f"{names} {events}".split() if not hasattr(aiopool, name)] == []


async def test_a_pool_without_config_uses_the_defaults():
    backend = Backend()
    async with ConnectionPool(backend.open, destroyer=backend.close) as pool:
        stats = pool.stats()
        assert (stats["size"], stats["min_size"], stats["max_size"]) == (5, 5, 20)
        await hold(pool)
    backend.assert_nothing_is_left()
