"""Attacks on pools with real servers: storms, crashes, silence, limits, the end of loops and processes, misuse."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
import pytest_asyncio

from aiopool import (
    ConnectionPool,
    Lease,
    PoolClosed,
    PoolConfig,
    PoolError,
    PoolTimeout,
    PoolUnavailable,
    WrongLoop,
    embedded,
)
from aiopool.adapters.postgres import DatabasePool

#: What an `acquire` may be late, on a machine that has other things to do.
SLACK = 0.25
SECRET = "s3cr3tword"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def victim() -> AsyncIterator[embedded.PostgresServer]:
    """A server to be broken. Whoever breaks it mends it."""
    async with embedded.postgres(private=True) as server:
        yield server


async def eventually(condition: Callable[[], bool], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


async def ask(dsn: str, query: str, *params: object) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query, *params)
    finally:
        await connection.close()


async def backends(dsn: str, name: str) -> int:
    return int(await ask(dsn, "select count(*) from pg_stat_activity where application_name = $1", name))


def descriptors() -> int:
    """How many this process has open; 0 where the system does not tell."""
    own = Path("/proc/self/fd")
    return len(list(own.iterdir())) if own.exists() else 0


def named(name: str) -> dict[str, Any]:
    return {"server_settings": {"application_name": name}}


# ------------------------------------------------------------------------------------------------------- storms


@pytest.mark.parametrize("reset", ["session", "transaction"])
async def test_queries_cancelled_at_random_moments_give_no_wrong_answer_and_cost_no_connection(
    postgres: embedded.PostgresServer, reset: Any
) -> None:
    rnd, answers, name = random.Random(reset), Counter[str](), f"storm-{reset}"
    config = PoolConfig(min_size=10, max_size=10, validate_after=0.02)

    async def query(db: DatabasePool, nonce: int) -> int:
        kind = nonce % 4
        if kind == 0:
            return int(await db.fetchval("select $1::int", nonce))
        if kind == 1:
            return int((await db.fetch("select $1::int from generate_series(1, 100)", nonce))[-1][0])
        if kind == 2:
            async with db.transaction() as connection:
                return int(await connection.fetchval("select $1::int", nonce))
        return int((await db.execute(f"select {nonce} from pg_sleep(0.002)"))[0][0])

    async def judge(db: DatabasePool, nonce: int) -> None:
        answers["right" if await query(db, nonce) == nonce else "wrong"] += 1

    async def attack(db: DatabasePool, nonce: int) -> None:
        delay = rnd.random() ** 2 * 0.03
        how = rnd.randrange(4)
        if how == 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await judge(db, nonce)
        elif how == 1:
            with anyio.move_on_after(delay):
                await judge(db, nonce)
        else:
            task = asyncio.create_task(judge(db, nonce))
            await asyncio.sleep(delay)
            task.cancel()
            if how == 3:
                await asyncio.sleep(0)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async with DatabasePool(postgres.dsn, config, reset=reset, **named(name)) as db:
        nonces = iter(range(4000))

        async def attacker() -> None:
            for nonce in nonces:
                await attack(db, nonce)

        await asyncio.gather(*(attacker() for _ in range(40)))
        await eventually(lambda: db.stats()["available"] == 10)
        assert answers["wrong"] == 0
        assert answers["right"] > 0
        assert db.stats()["opened"] == 10
        assert await backends(postgres.dsn, name) == 10
        assert await asyncio.gather(*(db.fetchval("select $1::int", n) for n in range(30))) == list(range(30))


async def test_cancel_scopes_around_every_call_leave_nothing_behind(postgres: embedded.PostgresServer) -> None:
    rnd, errors, name = random.Random(5), Counter[str](), "scopes"
    config = PoolConfig(min_size=0, max_size=6, validate_after=0, max_uses=7, max_lifetime=0.5)
    before = len(asyncio.all_tasks())

    async def attack(db: DatabasePool, n: int) -> None:
        try:
            with anyio.move_on_after(rnd.random() * 0.02):
                if n % 5 == 0:
                    async with db.transaction() as connection:
                        assert await connection.fetchval("select $1::int", n) == n
                elif n % 5 == 1:
                    await db.check()
                elif n % 5 == 2:
                    await (db.drain() if n % 50 == 2 else db.open())
                elif n % 5 == 3:
                    async with db.connection() as connection:
                        try:
                            assert await connection.fetchval("select $1::int", n) == n
                        finally:
                            async with db.connection(timeout=0.05):
                                pass
                else:
                    async with await db.connection() as connection:
                        assert await connection.fetchval("select $1::int", n) == n
        except PoolTimeout:
            pass
        except Exception as exc:
            errors[repr(exc)] += 1

    async with DatabasePool(postgres.dsn, config, **named(name)) as db:
        async with anyio.create_task_group() as group:
            for n in range(1500):
                group.start_soon(attack, db, n)
                if n % 30 == 0:
                    await anyio.sleep(0.02)
        await eventually(lambda: db.stats()["in_use"] == db.stats()["opening"] == 0)
        assert errors == {}
    assert db.stats()["opened"] == db.stats()["closed"]
    await eventually(lambda: len(asyncio.all_tasks()) <= before)
    assert await backends(postgres.dsn, name) == 0


async def test_storms_need_no_more_descriptors_each_time(postgres: embedded.PostgresServer) -> None:
    counts = []
    for _ in range(4):
        async with DatabasePool(postgres.dsn, PoolConfig(min_size=2, max_size=8)) as db:
            tasks = [asyncio.create_task(db.fetchval("select pg_sleep(0.01)")) for _ in range(60)]
            await asyncio.sleep(0.03)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)
        counts.append(descriptors())
    assert counts[-1] <= counts[0]


# ------------------------------------------------------------------------------------------ a backend that is down


class Load:
    """Tasks that work all the time, and what befalls them."""

    def __init__(self, db: DatabasePool, tasks: int, timeout: float) -> None:
        self.db, self.timeout = db, timeout
        self.right = self.wrong = 0
        self.failed_queries = Counter[str]()
        self.refusals = Counter[str]()
        self.latest = 0.0
        self._ends = False
        self._tasks = [asyncio.create_task(self._work(n * 1_000_000)) for n in range(tasks)]

    async def end(self) -> None:
        self._ends = True
        await asyncio.gather(*self._tasks)

    async def _work(self, nonce: int) -> None:
        while not self._ends:
            nonce += 1
            began = time.monotonic()
            try:
                lease = await self.db.connection(timeout=self.timeout)
            except PoolError as exc:
                self.refusals[type(exc).__name__] += 1
                await asyncio.sleep(0.01)
                continue
            finally:
                self.latest = max(self.latest, time.monotonic() - began - self.timeout)
            try:
                async with lease as connection:
                    answer = await connection.fetchval("select $1::int from pg_sleep(0.002)", nonce, timeout=2)
                self.right += answer == nonce
                self.wrong += answer != nonce
            except Exception as exc:
                self.failed_queries[type(exc).__name__] += 1
                await asyncio.sleep(0)


async def test_a_killed_server_costs_one_error_for_each_connection_in_use_and_the_pool_recovers(
    victim: embedded.PostgresServer,
) -> None:
    config = PoolConfig(min_size=6, max_size=6, backoff_max=0.5)
    async with DatabasePool(victim.dsn, config) as db:
        load = Load(db, tasks=20, timeout=1.0)
        await asyncio.sleep(0.3)
        await victim.kill()
        await asyncio.sleep(0.3)
        await victim.start()
        right = load.right
        await eventually(lambda: load.right > right + 20, within=2.5)
        failures = load.failed_queries.total()
        await asyncio.sleep(0.3)
        await load.end()
        await eventually(lambda: db.stats()["available"] == 6)
        assert load.wrong == 0
        assert failures == load.failed_queries.total() <= 6
        assert load.latest < SLACK
        assert db.stats()["closed"] == 6


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_nobody_notices_that_idle_connections_died_with_their_server(
    victim: embedded.PostgresServer, how: str
) -> None:
    config = PoolConfig(min_size=6, max_size=6, backoff_max=1, validate_after=None)
    async with DatabasePool(victim.dsn, config) as db:
        await getattr(victim, how)()
        await victim.start()
        assert await asyncio.gather(*(db.fetchval("select $1::int", n) for n in range(40))) == list(range(40))


async def test_a_server_that_stands_still_delays_nobody_beyond_the_timeout(victim: embedded.PostgresServer) -> None:
    def backend_pids() -> list[int]:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(victim.pid)], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    config = PoolConfig(min_size=4, max_size=4, validate_after=0.1)
    async with DatabasePool(victim.dsn, config) as db:
        load = Load(db, tasks=12, timeout=0.5)
        await asyncio.sleep(0.2)
        assert victim.pid is not None
        stopped = [victim.pid, *backend_pids()]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(1.2)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        right = load.right
        await eventually(lambda: load.right > right + 20, within=2)
        await load.end()
        await eventually(lambda: db.stats()["available"] == 4)
        assert load.wrong == 0
        assert load.refusals["PoolTimeout"] > 0
        assert load.latest < SLACK


async def test_a_server_that_accepts_and_never_answers_delays_nobody_beyond_the_timeout() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def refusal(db: DatabasePool, timeout: float) -> PoolError:
        began = time.monotonic()
        with pytest.raises(PoolError) as caught:
            await db.connection(timeout=timeout)
        assert time.monotonic() - began < timeout + SLACK
        return caught.value

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = PoolConfig(min_size=0, max_size=3, open_timeout=0.3, unavailable_after=0.6)
    db = DatabasePool(f"postgresql://a:b@127.0.0.1:{port}/x", config)
    for timeout in (0, 0.1):
        early = await refusal(db, timeout)
        assert isinstance(early, PoolTimeout)
        assert early.phase == "open"
    late = await asyncio.gather(*(refusal(db, 2) for _ in range(20)))
    assert {type(error) for error in late} == {PoolUnavailable}
    assert {type(error.__cause__) for error in late} == {TimeoutError}
    await db.close()
    server.close()
    await server.wait_closed()


async def test_backends_terminated_in_a_loop_cost_one_error_for_each_connection(
    postgres: embedded.PostgresServer,
) -> None:
    name = "terminated"
    admin = await asyncpg.connect(postgres.dsn)
    async with DatabasePool(postgres.dsn, PoolConfig(min_size=5, max_size=8), reset="transaction", **named(name)) as db:
        load = Load(db, tasks=50, timeout=3)
        for _ in range(25):
            await asyncio.sleep(0.03)
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", name
            )
        right = load.right
        await eventually(lambda: load.right > right + 50)
        await load.end()
        stats = db.stats()
        assert load.wrong == 0
        assert load.refusals == {}
        assert load.failed_queries.total() <= stats["closed"]
        assert stats["size"] <= 8
    await admin.close()


async def test_a_server_with_no_room_left_serves_as_many_as_it_can() -> None:
    settings = {"max_connections": 12, "superuser_reserved_connections": 4}
    async with embedded.postgres(private=True, settings=settings) as server:
        await ask(server.dsn, "create role clerk login password 'clerk'")
        dsn = server.dsn.replace(urlsplit(server.dsn).netloc.split("@")[0], "clerk:clerk")
        async with DatabasePool(dsn, PoolConfig(min_size=0, max_size=20, backoff_max=0.3)) as db:
            answers = await asyncio.gather(
                *(db.fetchval("select $1::int from pg_sleep(0.05)", n, timeout=8) for n in range(40))
            )
            assert answers == list(range(40))
            assert db.stats()["size"] <= 8
            assert db.stats()["open_failures"] > 0


async def test_a_password_changed_in_mid_life_is_told_at_once_and_forgiven_in_one_step(
    postgres: embedded.PostgresServer,
) -> None:
    await ask(postgres.dsn, "drop role if exists turncoat")
    await ask(postgres.dsn, f"create role turncoat login password '{SECRET}'")
    dsn = postgres.dsn.replace(urlsplit(postgres.dsn).netloc.split("@")[0], f"turncoat:{SECRET}")
    async with DatabasePool(dsn, PoolConfig(min_size=2, max_size=4, backoff_max=0.5)) as db:
        await ask(postgres.dsn, "alter role turncoat password 'other'")
        await db.drain()
        await eventually(lambda: db.stats()["size"] == 0)
        began = time.monotonic()
        with pytest.raises(PoolUnavailable) as caught:
            await db.fetchval("select 1", timeout=5)
        assert time.monotonic() - began < 1
        assert isinstance(caught.value.__cause__, asyncpg.InvalidPasswordError)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        await ask(postgres.dsn, f"alter role turncoat password '{SECRET}'")
        await eventually(lambda: db.stats()["size"] >= 2, within=1.5)
        assert await db.fetchval("select 1") == 1
    await ask(postgres.dsn, "drop role turncoat")


# ---------------------------------------------------------------------------------------- loops, threads, processes


def run_script(dsn: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    preamble = """
        import asyncio, gc, os, sys, time
        from aiopool import ConnectionPool, ForkedPool, PoolConfig, PoolError
        from aiopool.adapters.postgres import DatabasePool
        dsn = sys.argv[1]
    """
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(preamble) + textwrap.dedent(script), dsn],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
        check=False,
    )


def test_a_clean_run_says_nothing_in_development_mode(postgres: embedded.PostgresServer) -> None:
    run = run_script(
        postgres.dsn,
        """
        async def main():
            asyncio.get_running_loop().slow_callback_duration = 10
            async with DatabasePool(dsn, PoolConfig(min_size=3, max_size=5)) as db:
                await asyncio.gather(*(db.fetchval("select 1") for _ in range(50)))
                tasks = [asyncio.create_task(db.fetchval("select pg_sleep(0.2)")) for _ in range(10)]
                await asyncio.sleep(0.05)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert await db.fetchval("select 3") == 3
        asyncio.run(main())
        gc.collect()
        """,
        "-X",
        "dev",
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("left", ["nothing else", "a lease", "a query"])
def test_a_loop_that_ended_with_the_pool_open_can_be_followed_by_close_and_another(
    postgres: embedded.PostgresServer, left: str
) -> None:
    begins = {
        "nothing else": "pass",
        "a lease": "kept.append(await db.connection())",
        "a query": "kept.append(asyncio.create_task(db.fetchval('select pg_sleep(1)')))",
    }[left]
    run = run_script(
        postgres.dsn,
        f"""
        kept = []
        import asyncpg
        db = DatabasePool(dsn, PoolConfig(min_size=2, max_size=3), server_settings={{"application_name": "abandoned"}})
        async def main():
            await db.open()
            {begins}
            await asyncio.sleep(0.1)
        async def again():
            await db.close()
            admin = await asyncpg.connect(dsn)
            count = "select count(*) from pg_stat_activity where application_name = 'abandoned'"
            while await admin.fetchval(count) and time.monotonic() - began < 5:  # a query notices at its end
                await asyncio.sleep(0.05)
            print(await admin.fetchval(count))
            await admin.close()
            await db.open()
            print(await db.fetchval("select 7"))
            await db.close()
        began = time.monotonic()
        asyncio.run(main())
        asyncio.run(again())
        stats = db.stats()
        print(stats["size"], stats["opened"] - stats["closed"], time.monotonic() - began < 5)
        """,
    )
    assert run.stdout.split() == ["0", "7", "0", "0", "True"], run.stderr[-2000:]


def test_a_forked_child_is_refused_and_the_parent_goes_on(postgres: embedded.PostgresServer) -> None:
    run = run_script(
        postgres.dsn,
        """
        async def main():
            async with DatabasePool(dsn, PoolConfig(min_size=3, max_size=5, validate_after=None)) as db:
                lease = await db.connection()
                job = asyncio.create_task(db.fetchval("select 42 from pg_sleep(0.3)"))
                await asyncio.sleep(0.05)
                pid = os.fork()
                if pid == 0:
                    told = []
                    for call in (lambda: db.fetchval("select 1"), db.connection, db.check, db.open, db.drain):
                        try:
                            await call()
                        except ForkedPool:
                            told.append("forked")
                    lease.release()
                    await db.close()
                    print(*told, flush=True)
                    os._exit(0)
                await asyncio.to_thread(os.waitpid, pid, 0)
                print(await job, await lease.connection.fetchval("select 7"))
                lease.release()
                answers = await asyncio.gather(*(db.fetchval("select $1::int", n) for n in range(20)))
                await asyncio.sleep(0.1)
                print(answers == list(range(20)), db.stats()["closed"])
        asyncio.run(main())
        """,
    )
    assert run.stdout.split() == [*["forked"] * 5, "42", "7", "True", "0"], run.stderr[-2000:]


def test_a_child_that_frees_the_pool_it_inherited_does_not_deafen_the_parent(
    postgres: embedded.PostgresServer,
) -> None:
    run = run_script(
        postgres.dsn,
        """
        db = DatabasePool(dsn, PoolConfig(min_size=2, max_size=2, validate_after=None))
        loop = asyncio.new_event_loop()
        loop.run_until_complete(db.open())
        pid = os.fork()
        if pid == 0:
            del db
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
        print(loop.run_until_complete(db.fetchval("select 8", timeout=3)), db.stats()["closed"])
        loop.run_until_complete(db.close())
        loop.close()
        """,
    )
    assert run.stdout.split() == ["8", "0"], run.stderr[-2000:]


def test_an_interrupt_in_a_storm_ends_it_in_order(postgres: embedded.PostgresServer) -> None:
    run = run_script(
        postgres.dsn,
        """
        import signal
        async def work(db):
            while True:
                await db.fetchval("select pg_sleep(0.001)")
        async def main():
            async with DatabasePool(dsn, PoolConfig(min_size=3, max_size=5)) as db:
                asyncio.get_running_loop().call_later(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
                try:
                    await asyncio.gather(*(work(db) for _ in range(30)))
                finally:
                    print(db.stats()["in_use"])
        began = time.monotonic()
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - began < 3)
        """,
    )
    assert (run.stdout.split(), run.stderr) == (["0", "interrupted", "True"], "")


async def test_a_client_killed_hard_leaves_the_server_clean(postgres: embedded.PostgresServer) -> None:
    script = """
        async def main():
            db = DatabasePool(dsn, PoolConfig(min_size=4), server_settings={"application_name": "murdered"})
            await db.open()
            async with db.transaction() as connection:
                await connection.execute("select pg_advisory_lock(4712)")
                os.kill(os.getpid(), 9)
        asyncio.run(main())
    """
    run = await asyncio.to_thread(run_script, postgres.dsn, script)
    assert run.returncode == -9
    deadline = time.monotonic() + 5
    while await backends(postgres.dsn, "murdered"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert await ask(postgres.dsn, "select pg_try_advisory_lock(4712)")


def test_two_loops_in_two_threads_keep_to_their_own_pools(postgres: embedded.PostgresServer) -> None:
    pools: dict[int, DatabasePool] = {}
    told: list[object] = []
    both = threading.Barrier(2, timeout=10)

    async def main(n: int) -> None:
        async with DatabasePool(postgres.dsn, PoolConfig(min_size=2, max_size=4)) as db:
            pools[n] = db
            answers = await asyncio.gather(*(db.fetchval("select $1::int", n * 1000 + k) for k in range(40)))
            told.append(answers == [n * 1000 + k for k in range(40)])
            await asyncio.to_thread(both.wait)
            for call in (lambda: pools[1 - n].fetchval("select 1"), pools[1 - n].close):
                with pytest.raises(WrongLoop):
                    await call()
            await asyncio.to_thread(both.wait)

    threads = [threading.Thread(target=asyncio.run, args=(main(n),)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert told == [True, True]
    assert all(db.stats()["opened"] == db.stats()["closed"] > 0 for db in pools.values())


@pytest.mark.filterwarnings("ignore:.*dropped without being closed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:unclosed connection:ResourceWarning")
async def test_a_pool_that_is_dropped_takes_its_backends_along(postgres: embedded.PostgresServer) -> None:
    db = DatabasePool(postgres.dsn, PoolConfig(min_size=3, max_size=5), **named("dropped"))
    await db.open()
    assert await db.fetchval("select 1") == 1
    await asyncio.sleep(0.05)
    pool = weakref.ref(db.pool)
    del db
    gc.collect()
    await asyncio.sleep(0.1)
    assert pool() is None
    assert await backends(postgres.dsn, "dropped") == 0


@pytest.mark.parametrize("how", ["a cancel scope", "one cancellation", "two cancellations"])
async def test_an_open_that_was_cancelled_leaves_a_pool_that_can_be_opened(how: str) -> None:
    async def slow() -> object:
        await asyncio.sleep(0.05)
        return object()

    async def close(connection: object) -> None:
        await asyncio.sleep(0.01)

    pool = ConnectionPool(slow, PoolConfig(min_size=2, max_size=2), destroyer=close)
    if how == "a cancel scope":
        with anyio.move_on_after(0.01):
            await pool.open()
    else:
        task = asyncio.create_task(pool.open())
        await asyncio.sleep(0.01)
        task.cancel()
        if how == "two cancellations":
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (pool.stats()["size"], pool.stats()["opening"]) == (0, 0)
    async with pool.acquire(timeout=1):  # opens it, as if nothing had happened
        pass
    await pool.close()


# ------------------------------------------------------------------------------------------------------- misuse


class Thing:
    """A connection that is only a name."""


async def make_thing() -> Thing:
    return Thing()


@pytest.mark.parametrize("value", ["x", b"1", [], float("nan")])
@pytest.mark.parametrize("call", ["acquire(timeout=)", "open(timeout=)", "close(timeout=)", "drain(over=)"])
async def test_a_number_of_seconds_that_is_none_is_refused_by_name_and_changes_nothing(call: str, value: Any) -> None:
    pool = ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=2))
    await pool.open()
    lease = await pool.acquire()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "acquire(timeout=)": lambda: pool.acquire(timeout=value),
        "open(timeout=)": lambda: pool.open(timeout=value),
        "close(timeout=)": lambda: pool.close(timeout=value),
        "drain(over=)": lambda: pool.drain(over=value),
    }

    async def make_the_call() -> None:
        async with asyncio.timeout(1):
            given = await calls[call]()
            if isinstance(given, Lease):
                given.release()

    try:
        with pytest.raises((ValueError, TypeError)) as caught:
            await make_the_call()
        field = call.partition("(")[2].rstrip("=)")
        assert field in str(caught.value)
        assert repr(value) in str(caught.value)
        assert pool.stats()["in_use"] == 1
    finally:
        lease.release()
        await pool.close(timeout=0)


@pytest.mark.parametrize("hook", ["factory", "config", "configure", "validator", "resetter", "is_broken", "is_fatal"])
def test_what_a_pool_is_made_of_is_looked_at_when_it_is_made(hook: str) -> None:
    arguments: dict[str, Any] = {"factory": make_thing, hook: {"max_size": 3}}
    with pytest.raises((TypeError, ValueError), match=hook):
        ConnectionPool(**arguments)


async def test_a_listener_that_is_none_is_refused_when_it_subscribes() -> None:
    pool = ConnectionPool(make_thing, PoolConfig(min_size=0))
    with pytest.raises((TypeError, ValueError), match="listener"):
        pool.subscribe("not callable")  # type: ignore[arg-type]


async def test_a_listener_that_raises_whatever_it_likes_costs_no_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "aiopool")
    pool = ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=1))
    await pool.open()
    try:
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        unsubscribe = pool.subscribe(lambda event: cancelled.result())
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                async with pool.acquire(timeout=0.2):
                    pass
        unsubscribe()
        assert pool.stats()["in_use"] == 0
        async with pool.acquire(timeout=0.2):
            pass
    finally:
        await pool.close(timeout=0)


async def test_unsubscribing_ends_one_subscription() -> None:
    heard: list[object] = []
    async with ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=1)) as pool:
        first, second = pool.subscribe(heard.append), pool.subscribe(heard.append)
        first()
        first()
        async with pool.acquire():
            pass
        assert len(heard) == 2
        second()
        async with pool.acquire():
            pass
        assert len(heard) == 2


async def test_a_pool_suspended_before_it_opens_is_suspended() -> None:
    pool = ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=1))
    pool.suspend()
    await pool.open()
    with pytest.raises(PoolTimeout):
        (await pool.acquire(timeout=0.05)).release()
    pool.resume()
    async with pool.acquire(timeout=0.2):
        pass
    await pool.close()


async def test_calls_out_of_order_are_refused_or_do_nothing() -> None:
    pool = ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=2))
    lease = await pool.acquire()
    await pool.close(timeout=0)
    for _ in range(2):
        lease.release()
        lease.discard()
    await pool.close()
    for call in (pool.acquire, pool.check, pool.drain):
        with pytest.raises(PoolClosed, match="open"):
            await call()  # type: ignore[operator]
    await pool.open()
    await pool.open()
    lease.release()
    assert pool.stats()["available"] == 1
    await pool.close()
    assert pool.stats()["opened"] == pool.stats()["closed"] == 2


# -------------------------------------------------------------------------------------------------------- floods


async def test_thirty_thousand_waiters_that_time_out_leave_no_trace() -> None:
    async with ConnectionPool(make_thing, PoolConfig(min_size=1, max_size=1)) as pool:
        lease = await pool.acquire()
        outcomes = Counter[str]()

        async def wait() -> None:
            try:
                await pool.acquire(timeout=0.5)
            except PoolTimeout as exc:
                outcomes[exc.phase] += 1

        began = time.monotonic()
        await asyncio.gather(*(wait() for _ in range(30_000)))
        assert time.monotonic() - began < 20
        assert outcomes == {"wait": 30_000}
        assert pool.stats()["waiting"] == 0
        lease.release()
        assert pool.stats()["available"] == 1


async def test_two_thousand_tasks_on_ten_connections_share_them_fairly() -> None:
    counts, turns = [0] * 2000, iter(range(30_000))
    worst = 0.0
    async with ConnectionPool(make_thing, PoolConfig(min_size=10, max_size=10)) as pool:

        async def work(n: int) -> None:
            nonlocal worst
            while next(turns, None) is not None:
                began = time.monotonic()
                async with pool.acquire():
                    worst = max(worst, time.monotonic() - began)
                    await asyncio.sleep(0)
                counts[n] += 1

        await asyncio.gather(*(work(n) for n in range(2000)))
        assert pool.stats()["available"] == 10
    jain = sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts))
    assert jain > 0.99
    assert worst < 2


# -------------------------------------------------------------------------------------------------------- growth


async def open_slowly() -> Thing:
    await asyncio.sleep(0.15)
    return Thing()


async def longest_wait(pool: ConnectionPool[Thing], callers: int, hold: float) -> float:
    waits = []

    async def call() -> None:
        began = time.monotonic()
        async with pool.acquire():
            waits.append(time.monotonic() - began)
            await asyncio.sleep(hold)

    await asyncio.gather(*(call() for _ in range(callers)))
    return max(waits)


async def test_a_spike_of_short_work_ends_in_few_connections() -> None:
    async with ConnectionPool(open_slowly, PoolConfig(min_size=5, max_size=50)) as pool:
        assert await longest_wait(pool, callers=50, hold=0.002) < 0.1
        await asyncio.sleep(0.3)
        assert pool.stats()["size"] <= 8


@pytest.mark.parametrize("idle", [0, 5])
async def test_a_ramp_of_long_work_is_served_within_twice_the_open_time(idle: int) -> None:
    async with ConnectionPool(open_slowly, PoolConfig(min_size=idle, max_size=50)) as pool:
        assert await longest_wait(pool, callers=20, hold=0.7) < 0.3 + SLACK / 2
        assert pool.stats()["size"] == 20
