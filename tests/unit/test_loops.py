"""Loops, threads, processes and contexts: where a pool belongs, and where it says no."""

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import threading

import pytest

from aiopool import ConnectionPool, PoolClosed, PoolConfig, WrongLoop
from tests.fakes import Backend, hold, settle

who = contextvars.ContextVar("who", default="nobody")


def plain_pool(backend, **options):
    return ConnectionPool(backend.open, PoolConfig(min_size=1, max_size=2, **options), destroyer=backend.close)


async def acquire_and_release(pool, **options):
    (await pool.acquire(**options)).release()


def in_another_thread(function):
    """Run it there and bring back its exception."""
    raised = []

    def run():
        try:
            function()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return raised


@pytest.mark.parametrize("options", [{}, {"timeout": 0}])
def test_a_loop_in_another_thread_is_refused_with_idle_connections_too(options):
    backend = Backend()
    pool = plain_pool(backend)

    async def main():
        async with pool:
            raised = in_another_thread(lambda: asyncio.run(acquire_and_release(pool, **options)))
            assert [type(error) for error in raised] == [WrongLoop]
            await hold(pool)

    asyncio.run(main())
    backend.assert_nothing_is_left()


def test_a_second_loop_in_the_same_thread_is_refused():
    backend = Backend()
    pool = plain_pool(backend)
    with asyncio.Runner() as runner:
        runner.run(pool.open())
        with asyncio.Runner() as other, pytest.raises(WrongLoop):
            other.run(acquire_and_release(pool))
        runner.run(hold(pool))
        runner.run(pool.close())
    backend.assert_nothing_is_left()


def test_a_pool_made_before_any_loop_runs_belongs_to_the_loop_that_opens_it():
    backend = Backend()
    pool = plain_pool(backend)

    async def main():
        async with pool:
            await hold(pool)

    asyncio.run(main())
    backend.assert_nothing_is_left()


def test_a_closed_pool_may_be_opened_on_another_loop_and_goes_on_counting():
    backend = Backend()
    pool = plain_pool(backend)

    async def main():
        async with pool:
            await hold(pool)
        with pytest.raises(PoolClosed):
            await pool.acquire()

    asyncio.run(main())
    asyncio.run(main())
    assert pool.stats()["acquired"] == 2
    backend.assert_nothing_is_left()


def test_a_plain_destroyer_serves_when_the_loop_ends_with_the_pool_open():
    closed = []
    backend = Backend()
    pool = ConnectionPool(backend.open, PoolConfig(min_size=2, max_size=2), destroyer=closed.append)
    asyncio.run(pool.open())
    assert closed == backend.connections
    asyncio.run(pool.close())
    assert len(closed) == pool.stats()["closed"] == 2
    assert pool.stats()["close_failures"] == 0


def test_a_plain_destroyer_serves_when_the_loop_is_closed_with_the_pool_open():
    closed = []
    backend = Backend()
    pool = ConnectionPool(backend.open, PoolConfig(min_size=2, max_size=2), destroyer=closed.append)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(pool.open())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False
    loop.close()
    asyncio.run(pool.close())
    assert closed == backend.connections
    assert pool.stats()["close_failures"] == 0


def test_a_destroyer_that_takes_time_when_the_loop_ends_is_a_failure_that_is_counted():
    backend = Backend()
    pool = plain_pool(backend)
    asyncio.run(pool.open())
    asyncio.run(pool.close())
    assert backend.connections[0].destroyed == 0
    assert pool.stats()["close_failures"] == 1


def test_a_forked_child_is_refused_and_the_parent_goes_on():
    script = """
        import asyncio, os
        from aiopool import ConnectionPool, ForkedPool, PoolConfig

        closed, cleaned = [], []

        async def connect():
            return object()

        async def use(pool):
            async with pool.acquire(timeout=1):
                return "served"

        pool = ConnectionPool(connect, PoolConfig(min_size=2, max_size=2), destroyer=closed.append,
                              resetter=cleaned.append, is_broken=lambda connection, exc: exc is not None)
        with asyncio.Runner() as runner:
            runner.run(pool.open())
            lease, block = runner.run(pool.acquire()), pool.acquire()

            async def enter():
                await block.__aenter__()

            async def leave():
                await block.__aexit__(None, None, None)

            runner.run(enter())
            child = os.fork()
            if not child:
                try:
                    lease.release()
                    asyncio.run(leave())
                    asyncio.run(use(pool))
                except ForkedPool:
                    os._exit(10 + len(closed) + len(cleaned))
                finally:
                    os._exit(1)
            _, status = os.waitpid(child, 0)
            print("child", os.waitstatus_to_exitcode(status))
            runner.run(leave())
            print("parent", runner.run(use(pool)))
            lease.release()
            runner.run(pool.close())
            print("closed", len(closed))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split("\n")[:3] == ["child 10", "parent served", "closed 2"], done.stderr


@pytest.mark.parametrize("is_async", [True, False])
async def test_callables_run_in_the_context_the_pool_was_built_in(make_pool, is_async):
    backend = Backend()
    seen = []

    def spy(name, result=None):
        def call(connection):
            seen.append((name, who.get()))
            return result

        async def call_async(connection):
            return call(connection)

        return call_async if is_async else call

    async def factory():
        seen.append(("factory", who.get()))
        return await backend.open()

    async def destroyer(connection):
        seen.append(("destroyer", who.get()))
        await backend.close(connection)

    who.set("builder")
    pool = make_pool(
        backend,
        factory=factory,
        configure=spy("configure"),
        validator=spy("validator", True),
        resetter=spy("resetter"),
        destroyer=destroyer,
        validate_after=0,
    )
    who.set("caller")
    await hold(pool)
    await settle()
    lease = await pool.acquire()
    lease.discard()
    await settle()
    assert {name for name, _ in seen} == {"factory", "configure", "validator", "resetter", "destroyer"}
    assert {context for _, context in seen} == {"builder"}


async def test_a_callers_own_context_is_left_alone(make_pool):
    async def factory():
        who.set("factory")
        return await backend.open()

    backend = Backend()
    pool = make_pool(backend, factory=factory, destroyer=backend.close)
    who.set("caller")
    await hold(pool)
    assert who.get() == "caller"
