"""Servers that die, stand still, refuse, or change their minds, under load and at rest."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from aiopool import PoolConfig, PoolError, PoolTimeout, PoolUnavailable, embedded
from aiopool.adapters.postgres import DatabasePool
from tests.stopwatch import Stopwatch
from tests.storms import census, servers

#: What an `acquire` may be late, by the loop's own watch.
SLACK = 0.25
SECRET = "s3cr3tword"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def victim() -> AsyncIterator[embedded.PostgresServer]:
    """A server to be broken. Whoever breaks it mends it."""
    async with embedded.postgres(private=True) as server:
        yield server


@pytest_asyncio.fixture
async def watch() -> AsyncIterator[Stopwatch]:
    with Stopwatch() as watch:
        yield watch


class Load:
    """Tasks that work all the time, and what befalls them."""

    def __init__(self, db: DatabasePool, watch: Stopwatch, tasks: int, timeout: float) -> None:
        self.db, self.timeout = db, timeout
        self.right = self.wrong = 0
        self.failed_queries = Counter[str]()
        self.refusals = Counter[str]()
        self.latest = 0.0
        self._watch = watch
        self._ends = False
        self._tasks = [asyncio.create_task(self._work(n * 1_000_000)) for n in range(tasks)]

    async def end(self) -> None:
        self._ends = True
        await asyncio.gather(*self._tasks)

    async def _work(self, nonce: int) -> None:
        while not self._ends:
            nonce += 1
            began = self._watch.seconds
            try:
                lease = await self.db.connection(timeout=self.timeout)
            except PoolError as exc:
                self.refusals[type(exc).__name__] += 1
                await asyncio.sleep(0.01)
                continue
            finally:
                self.latest = max(self.latest, self._watch.seconds - began - self.timeout)
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
    watch: Stopwatch,
) -> None:
    config = PoolConfig(min_size=6, max_size=6, backoff_max=0.5)
    async with DatabasePool(victim.dsn, config) as db:
        load = Load(db, watch, tasks=20, timeout=1.0)
        await asyncio.sleep(0.3)
        await victim.kill()
        await asyncio.sleep(0.3)
        await victim.start()
        right = load.right
        assert await census.eventually(lambda: load.right > right + 20, within=10)
        failures = load.failed_queries.total()
        await asyncio.sleep(0.3)
        await load.end()
        assert await census.eventually(lambda: db.stats()["available"] == 6)
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


async def test_a_server_that_stands_still_delays_nobody_beyond_the_timeout(
    victim: embedded.PostgresServer, watch: Stopwatch
) -> None:
    def backend_pids() -> list[int]:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(victim.pid)], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    config = PoolConfig(min_size=4, max_size=4, validate_after=0.1)
    async with DatabasePool(victim.dsn, config) as db:
        load = Load(db, watch, tasks=12, timeout=0.5)
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
        assert await census.eventually(lambda: load.right > right + 20)
        await load.end()
        assert await census.eventually(lambda: db.stats()["available"] == 4)
        assert load.wrong == 0
        assert load.refusals["PoolTimeout"] > 0
        assert load.latest < SLACK


async def test_a_server_that_accepts_and_never_answers_delays_nobody_beyond_the_timeout() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def refusal(db: DatabasePool, timeout: float) -> PoolError:
        with Stopwatch() as watch, pytest.raises(PoolError) as caught:
            await db.connection(timeout=timeout)
        assert watch.seconds < timeout + SLACK
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
    watch: Stopwatch,
) -> None:
    name = "terminated"
    admin = await asyncpg.connect(postgres.dsn)
    async with DatabasePool(
        postgres.dsn,
        PoolConfig(min_size=5, max_size=8),
        reset="transaction",
        server_settings={"application_name": name},
    ) as db:
        load = Load(db, watch, tasks=50, timeout=3)
        for _ in range(25):
            await asyncio.sleep(0.03)
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", name
            )
        right = load.right
        assert await census.eventually(lambda: load.right > right + 50)
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
        await servers.ask_postgres(server.dsn, "create role clerk login password 'clerk'")
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
    await servers.ask_postgres(postgres.dsn, "drop role if exists turncoat")
    await servers.ask_postgres(postgres.dsn, f"create role turncoat login password '{SECRET}'")
    dsn = postgres.dsn.replace(urlsplit(postgres.dsn).netloc.split("@")[0], f"turncoat:{SECRET}")
    async with DatabasePool(dsn, PoolConfig(min_size=2, max_size=4, backoff_max=0.5)) as db:
        await servers.ask_postgres(postgres.dsn, "alter role turncoat password 'other'")
        await db.drain()
        assert await census.eventually(lambda: db.stats()["size"] == 0)
        began = time.monotonic()
        with pytest.raises(PoolUnavailable) as caught:
            await db.fetchval("select 1", timeout=5)
        assert time.monotonic() - began < 4
        assert isinstance(caught.value.__cause__, asyncpg.InvalidPasswordError)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        await servers.ask_postgres(postgres.dsn, f"alter role turncoat password '{SECRET}'")
        assert await census.eventually(lambda: db.stats()["size"] >= 2)
        assert await db.fetchval("select 1") == 1
    await servers.ask_postgres(postgres.dsn, "drop role turncoat")
