"""What makes a connection unfit for the next caller."""

import asyncio

import pytest

from aiopool import PoolTimeout
from tests.fakes import Backend, Step, settle


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset by peer"),
        EOFError("the end"),
        TimeoutError("too slow"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        ExceptionGroup("several", [ValueError(), BrokenPipeError()]),
        BaseExceptionGroup("several", [asyncio.CancelledError()]),
        caused(RuntimeError("driver"), ConnectionResetError()),
        caused(ExceptionGroup("several", [caused(ValueError(), EOFError())]), None),
    ],
    ids=repr,
)
async def test_these_leave_a_broken_connection(make_pool, error):
    backend = Backend()
    pool = make_pool(backend)
    with pytest.raises(type(error)) as caught:
        async with pool.acquire():
            raise error
    assert caught.value is error
    await settle()
    assert len(backend.ended) == 1
    assert pool.stats()["closed_by"]["broken"] == 1


@pytest.mark.parametrize(
    "error",
    [ValueError("of the caller"), ExceptionGroup("several", [KeyError("a"), ValueError("b")])],
    ids=repr,
)
async def test_these_leave_a_sound_connection(make_pool, error):
    backend = Backend()
    pool = make_pool(backend)
    with pytest.raises(type(error)):
        async with pool.acquire():
            raise error
    await settle()
    assert backend.ended == []
    assert pool.stats()["available"] == 1


async def test_an_error_of_another_pool_does_not_break_this_connection(make_pool):
    busy = make_pool(Backend(), max_size=1)
    backend = Backend()
    pool = make_pool(backend)
    async with busy.acquire():
        with pytest.raises(PoolTimeout):
            async with pool.acquire():
                await busy.acquire(timeout=1)
    assert backend.ended == []


async def test_is_broken_is_asked_at_every_release_and_decides(make_pool):
    asked = []

    def is_broken(connection, error):
        asked.append((connection.id, error))
        return isinstance(error, KeyError)

    backend = Backend()
    pool = make_pool(backend, is_broken=is_broken)
    error = ConnectionResetError()
    with pytest.raises(ConnectionResetError):
        async with pool.acquire():
            raise error
    async with pool.acquire():
        pass
    lease = await pool.acquire()
    lease.release()
    assert asked == [(0, error), (0, None), (0, None)]
    assert backend.ended == []
    with pytest.raises(KeyError):
        async with pool.acquire():
            raise KeyError
    await settle()
    assert len(backend.ended) == 1


async def test_a_connection_is_broken_by_its_own_state_without_an_exception(make_pool):
    backend = Backend()
    pool = make_pool(backend, is_broken=lambda connection, _: not connection.healthy)
    async with pool.acquire() as connection:
        connection.healthy = False
    await settle()
    assert backend.ended == [connection]


async def test_an_is_broken_that_raises_means_broken(make_pool):
    def is_broken(connection, error):
        raise ZeroDivisionError

    backend = Backend()
    pool = make_pool(backend, is_broken=is_broken)
    async with pool.acquire():
        pass
    await settle()
    assert len(backend.ended) == 1
    assert pool.stats()["closed_by"]["broken"] == 1


async def test_a_broken_connection_is_aborted_at_once_where_an_aborter_is_given(make_pool):
    backend = Backend(closes=Step(hang=True))
    pool = make_pool(backend, aborter=backend.abort, max_size=1)
    with pytest.raises(ConnectionResetError):
        async with pool.acquire():
            raise ConnectionResetError
    await settle()
    assert (backend.calls("abort"), backend.calls("close")) == ([0], [])
    assert pool.stats()["size"] == 0


async def test_an_aborter_that_raises_frees_the_slot_all_the_same(make_pool):
    def abort(connection):
        backend.abort(connection)
        raise OSError("already gone")

    backend = Backend()
    pool = make_pool(backend, aborter=abort, max_size=1)
    with pytest.raises(ConnectionResetError):
        async with pool.acquire():
            raise ConnectionResetError
    async with pool.acquire(timeout=1) as connection:
        assert connection is not backend.connections[0]
    assert pool.stats()["size"] == 1


async def test_broken_connections_do_not_starve_the_callers(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, max_size=2)

    async def work(number):
        try:
            async with pool.acquire(timeout=5):
                if number % 2:
                    raise ConnectionResetError
        except ConnectionResetError:
            pass

    await asyncio.gather(*(work(number) for number in range(20)))
    assert pool.stats()["closed_by"]["broken"] == 10
    assert backend.peak <= 2


async def test_min_size_is_kept_after_connections_broke(make_pool):
    backend = Backend(opens=Step(delay=0.1))
    pool = make_pool(backend, min_size=3)
    await pool.open()
    leases = [await pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.discard()
    await asyncio.sleep(1)
    assert pool.stats()["size"] == 3
    assert len(backend.live) == 3
