"""What could go wrong without a sound: nobody would wait for longer, and no figure would be wrong at once."""

import asyncio
import gc
import weakref

import pytest

from aiopool import PoolTimeout
from aiopool.policies.codel import CoDel
from tests.fakes import Backend, Step, settle, take


@pytest.mark.parametrize("leaves", ["by timeout", "by cancellation"])
async def test_the_fast_path_is_open_again_when_the_last_who_waited_has_left(make_pool, leaves):
    pool = make_pool(Backend(), max_size=1)
    lease = await pool.acquire()
    caller = take(pool, timeout=1)
    await settle()
    if leaves == "by cancellation":
        caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled() or isinstance(caller.exception(), PoolTimeout)
    lease.release()
    assert pool._line.get_nowait() is lease.info
    pool._line.put_back(lease.info)


async def test_nothing_remembers_a_caller_who_was_served_in_time(make_pool):
    backend = Backend()
    pool = make_pool(backend, max_size=1)
    lease = await pool.acquire()
    caller = take(pool, timeout=3600)
    await settle()
    lease.discard()
    served = await caller
    served.discard()
    await settle()
    gone = weakref.ref(served.info)
    del served, caller
    gc.collect()
    assert gone() is None


def test_under_a_standing_queue_whoever_waited_over_twice_the_target_is_refused():
    codel = CoDel(target=0.1, interval=1.0)
    assert not codel.is_to_shed(0.0, 0.3)
    assert not codel.is_to_shed(0.5, 0.3)
    assert not codel.is_to_shed(1.0, 0.3)
    assert not codel.is_to_shed(1.1, 0.19)
    assert codel.is_to_shed(1.1, 0.21)


async def test_what_cannot_be_closed_politely_is_torn_down(make_pool):
    backend = Backend(closes=Step(error=ConnectionResetError("no farewell")))
    pool = make_pool(backend, aborter=backend.abort)
    lease = await pool.acquire()
    lease.discard()
    await settle()
    assert backend.calls("abort") == [0]
    assert pool.stats()["close_failures"] == 1
