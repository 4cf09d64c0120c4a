"""`DatabasePool` behind a real PgBouncer in transaction mode, where each transaction may run on another session.

Runs where there is a `pgbouncer` in PATH, or PGBOUNCER names one.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from aiopool import embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.config import PoolConfig
from aiopool.errors import PoolUnavailable

PROGRAM = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer here")

SIX = PoolConfig(min_size=2, max_size=6, validate_after=0)


def version() -> tuple[int, ...]:
    said = subprocess.run([str(PROGRAM), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    assert found is not None
    return tuple(map(int, found.groups()))


@contextmanager
def pgbouncer(server: embedded.PostgresServer, **settings: object) -> Iterator[str]:
    """Its URL. Two sessions of the server for all clients, so that they have to take turns."""
    parts = urlsplit(server.dsn)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given: dict[str, object] = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": 2,
        **settings,
    }
    folder = Path(tempfile.mkdtemp())
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    try:
        file = folder / "pgbouncer.ini"
        file.touch(0o600)
        database = f"postgres = host={parts.hostname} port={parts.port} user={parts.username} password={parts.password}"
        file.write_text(
            "\n".join(["[databases]", database, "[pgbouncer]", *(f"{name} = {given[name]}" for name in given)])
        )
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(file, user)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([str(PROGRAM), str(file)], stdout=log, stderr=log, user=user)
        try:
            yield f"postgresql://anybody@127.0.0.1:{port}/postgres"
        finally:
            process.kill()
            process.wait(10)
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def behind(
    server: embedded.PostgresServer, keywords: dict[str, Any], **settings: object
) -> AsyncIterator[DatabasePool]:
    with pgbouncer(server, **settings) as url:
        async with DatabasePool(url, SIX, **{"reset": "transaction", **keywords}) as db, asyncio.timeout(60):
            yield db


Behind = Callable[..., AbstractAsyncContextManager[DatabasePool]]

#: The ways to live with it, as keywords of `DatabasePool` and settings of PgBouncer.
WAYS: dict[str, tuple[dict[str, Any], dict[str, object]]] = {
    "no statement cache": ({"statement_cache_size": 0}, {}),
    "no statement cache, no reset": ({"statement_cache_size": 0, "reset": "none"}, {}),
    "PgBouncer's own statements": ({}, {"max_prepared_statements": 200}),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, object]]:
    keywords, settings = WAYS[request.param]
    if "max_prepared_statements" in settings and version() < (1, 21):
        pytest.skip("PgBouncer knows prepared statements from 1.21 on")
    return keywords, settings


async def test_everybody_gets_their_own_answers(postgres: embedded.PostgresServer, way: Any) -> None:
    async with behind(postgres, way[0], **way[1]) as db:

        async def ask(n: int) -> None:
            for k in range(5):
                assert await db.fetchval("select $1::int + $2", n, k) == n + k
                assert await db.fetch(f"select $1::int as a{n % 3}, {k} as k", n) == [(n, k)]
            async with db.transaction() as connection:
                pid = await connection.fetchval("select pg_backend_pid()")
                assert await connection.fetchval("select $1::text", str(n)) == str(n)
                assert await connection.fetchval("select pg_backend_pid()") == pid

        await asyncio.gather(*(ask(n) for n in range(60)))
        pids = {await db.fetchval("select pg_backend_pid()") for _ in range(50)}
        assert len(pids) <= 2
        stats = db.stats()
        assert (stats["in_use"], stats["closed_by"]["invalid"], stats["closed_by"]["reset_failed"]) == (0, 0, 0)
        assert stats["opened"] <= 6


async def test_a_transaction_that_is_left_open_is_rolled_back(postgres: embedded.PostgresServer) -> None:
    async with behind(postgres, {"statement_cache_size": 0}) as db:
        await db.execute("drop table if exists aiopool_bounced; create table aiopool_bounced (id int)")
        for n in range(6):
            async with db.connection() as connection:
                await connection.execute("begin")
                await connection.execute("insert into aiopool_bounced values ($1)", n)
        assert await db.fetchval("select count(*) from aiopool_bounced", timeout=5) == 0
        await db.execute("drop table aiopool_bounced")


async def test_cancelled_queries_leave_no_wrong_answer(postgres: embedded.PostgresServer, way: Any) -> None:
    chance = random.Random(3)
    async with behind(postgres, way[0], **way[1]) as db:

        async def ask(n: int) -> int:
            return int(await db.fetchval("select $1::int + length(pg_sleep(0.005)::text)", n))

        tasks = [asyncio.create_task(ask(n)) for n in range(200)]
        for task in tasks:
            if chance.random() < 0.5:
                asyncio.get_running_loop().call_later(chance.uniform(0, 0.5), task.cancel)
        for n, answer in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            # A cancel request names a session, and PgBouncer may have lent that to somebody else by the time it is
            # there: so it may hit a query that nobody cancelled.
            assert answer == n or isinstance(answer, asyncio.CancelledError | asyncpg.QueryCanceledError), answer
        assert await db.fetchval("select 42", timeout=10) == 42
        assert db.stats()["in_use"] == 0


async def test_a_setting_that_pgbouncer_does_not_know_is_refused_unless_it_is_told_to_ignore_it(
    postgres: embedded.PostgresServer,
) -> None:
    keywords = {"statement_cache_size": 0, "server_settings": {"statement_timeout": "1234", "application_name": "us"}}
    with pytest.raises(PoolUnavailable) as caught:
        async with behind(postgres, keywords):
            pass
    assert "statement_timeout" in str(caught.value.__cause__)
    async with behind(postgres, keywords, ignore_startup_parameters="statement_timeout") as db:
        assert await db.fetchval("show statement_timeout") == "0"  # ignored, as it says
        assert await db.fetchval("show application_name") == "us"
        async with db.transaction() as connection:
            await connection.execute("set local statement_timeout = 1234")
            assert await connection.fetchval("show statement_timeout") == "1234ms"


async def test_target_session_attrs_works_through_it(postgres: embedded.PostgresServer) -> None:
    async with behind(postgres, {"statement_cache_size": 0, "target_session_attrs": "read-write"}) as db:
        assert await asyncio.gather(*(db.fetchval("select $1::int", n) for n in range(30))) == list(range(30))
        assert db.stats()["opened"] <= 6


async def test_in_session_mode_it_is_like_no_pgbouncer(postgres: embedded.PostgresServer) -> None:
    async with behind(postgres, {"reset": "session"}, pool_mode="session", default_pool_size=6) as db:
        async with db.connection() as connection:
            await connection.execute("set work_mem = '9MB'; create temp table mine (id int)")
        answers = await asyncio.gather(*(db.fetchval("select current_setting('work_mem')") for _ in range(30)))
        assert "9MB" not in answers
        async with db.listen("orders") as notifications:
            await db.execute("notify orders, '1'")
            assert (await anext(notifications)).payload == "1"
