"""`DatabasePool` with several hosts: a primary and its standby, and what callers see when they change places."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from aiopool import embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.config import PoolConfig
from aiopool.errors import PoolConfigError, PoolUnavailable
from aiopool.testing import FaultProxy
from tests.integration.postgres_standby import SETTINGS, Standby, standby
from tests.stopwatch import Stopwatch

SMALL = PoolConfig(min_size=1, max_size=4, open_timeout=4, backoff_max=0.3, unavailable_after=20, acquire_timeout=20)


# Whoever breaks one of the two mends it.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def primary() -> AsyncIterator[embedded.PostgresServer]:
    async with embedded.postgres(private=True, settings=SETTINGS) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def follower(primary: embedded.PostgresServer) -> AsyncIterator[Standby]:
    async with standby(primary) as server:
        yield server


def url(*servers: embedded.PostgresServer | FaultProxy, query: str = "") -> str:
    """Of all of them, in that order; the password is the same."""
    user = next(server.dsn for server in servers if isinstance(server, embedded.PostgresServer)).rpartition("@")[0]
    return f"{user}@{','.join(f'127.0.0.1:{server.port}' for server in servers)}/postgres{query}"


async def port(db: DatabasePool) -> int:
    return int(await db.fetchval("show port"))


@asynccontextmanager
async def becomes_read_only(server: embedded.PostgresServer) -> AsyncIterator[None]:
    """As an operator or a cloud fences a server: without closing a connection."""
    connection = await asyncpg.connect(server.dsn)

    async def set_to(value: str) -> None:
        await connection.execute(f"alter system set default_transaction_read_only = {value}")
        await connection.execute("select pg_reload_conf()")
        for _ in range(500):
            if await connection.fetchval("show default_transaction_read_only") == value:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the server did not read its configuration")

    try:
        await set_to("on")
        yield
        await set_to("off")
    finally:
        await connection.close()


class TestWhichHost:
    @pytest.mark.parametrize("as_keywords", [False, True], ids=["in the URL", "as keywords"])
    async def test_it_is_the_one_that_target_session_attrs_asks_for_wherever_it_stands(
        self, primary: embedded.PostgresServer, follower: Standby, as_keywords: bool
    ) -> None:
        at = {
            "read-write": primary,
            "primary": primary,
            "read-only": follower,
            "standby": follower,
            "prefer-standby": follower,
        }
        for wanted, server in at.items():
            for order in ((primary, follower), (follower, primary)):
                given: dict[str, Any] = {"dsn": url(*order, query=f"?target_session_attrs={wanted}")}
                if as_keywords:
                    given = {
                        "dsn": primary.dsn,
                        "host": ["127.0.0.1", "127.0.0.1"],
                        "port": [each.port for each in order],
                        "target_session_attrs": wanted,
                    }
                async with DatabasePool(config=SMALL, **given) as db:
                    assert await port(db) == server.port

    async def test_it_is_the_first_that_answers_if_any_will_do(
        self, primary: embedded.PostgresServer, follower: Standby
    ) -> None:
        async with DatabasePool(url(follower, primary), SMALL) as db:
            assert await port(db) == follower.port
        await follower.stop()
        try:
            async with DatabasePool(url(follower, primary), SMALL) as db:
                assert await port(db) == primary.port
        finally:
            await follower.start()

    async def test_without_a_standby_prefer_standby_takes_the_primary(
        self, primary: embedded.PostgresServer, follower: Standby
    ) -> None:
        await follower.stop()
        try:
            async with DatabasePool(url(follower, primary), SMALL, target_session_attrs="prefer-standby") as db:
                assert await port(db) == primary.port
        finally:
            await follower.start()

    def test_a_target_that_is_none_is_refused(self) -> None:
        with pytest.raises(
            PoolConfigError, match="target_session_attrs='master' is not allowed: it must be one of any"
        ):
            DatabasePool("postgresql://db1,db2/orders", target_session_attrs="master")

    async def test_if_none_is_what_was_asked_for_callers_are_told_so(self, primary: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=0, max_size=2, unavailable_after=0.2, backoff_max=0.1)
        db = DatabasePool(url(primary, primary, query="?target_session_attrs=standby"), config)
        with pytest.raises(PoolUnavailable) as caught:
            await db.fetchval("select 1")
        assert isinstance(caught.value.__cause__, asyncpg.TargetServerAttributeNotMatched)
        assert "none of the 2 hosts" in str(caught.value.__cause__)
        await db.close()

    async def test_a_machine_that_is_gone_takes_its_share_of_the_time_and_then_stands_last(
        self, primary: embedded.PostgresServer, follower: Standby
    ) -> None:
        async with FaultProxy("127.0.0.1", follower.port) as gone:
            gone.black_hole()
            config = PoolConfig(min_size=0, max_size=4, open_timeout=2, max_uses=1)
            async with DatabasePool(url(gone, primary), config) as db:
                began = time.monotonic()
                with Stopwatch() as watch:
                    assert await port(db) == primary.port
                assert time.monotonic() - began > 0.9
                assert watch.seconds < 1.9
                asked = gone.connections
                with Stopwatch() as watch:
                    for _ in range(3):  # `max_uses=1`, so each opens one
                        assert await port(db) == primary.port
                assert watch.seconds < 0.9
                assert gone.connections == asked
                assert db.stats()["opened"] >= 4


class TestFailover:
    async def test_after_the_primarys_crash_the_pool_finds_the_promoted_standby_by_itself(self) -> None:
        config = PoolConfig(
            min_size=2, max_size=4, open_timeout=4, backoff_max=0.3, unavailable_after=20, acquire_timeout=20
        )
        async with (
            embedded.postgres(private=True, settings=SETTINGS) as primary,
            standby(primary) as follower,
            DatabasePool(url(primary, follower), config, target_session_attrs="read-write") as db,
        ):
            await db.execute("create table ledger (id int primary key)")
            await follower.catch_up()
            lost: list[BaseException] = []
            written: asyncio.Queue[int] = asyncio.Queue()

            async def write(ids: Iterator[int]) -> None:
                for n in ids:
                    try:
                        await db.execute("insert into ledger values ($1)", n)
                        written.put_nowait(n)
                    except Exception as exc:
                        lost.append(exc)
                    await asyncio.sleep(0.01)

            numbers = iter(range(10_000))
            writers = [asyncio.create_task(write(numbers)) for _ in range(4)]
            try:
                async with asyncio.timeout(60):
                    for _ in range(20):
                        await written.get()
                    await primary.kill()
                    await follower.promote()
                    written = asyncio.Queue()
                    after = {await written.get() for _ in range(20)}
            finally:
                for writer in writers:
                    writer.cancel()
                await asyncio.gather(*writers, return_exceptions=True)
            # At most one for each connection that existed: the others wait until there is somebody to ask.
            assert len(lost) <= 4
            assert all(isinstance(exc, OSError | asyncpg.PostgresConnectionError) for exc in lost), lost
            assert await port(db) == follower.port
            assert after <= {row["id"] for row in await db.fetch("select id from ledger")}

    async def test_one_that_becomes_read_only_costs_at_most_an_error_for_each_connection(
        self, primary: embedded.PostgresServer
    ) -> None:
        config = PoolConfig(min_size=3, max_size=3, validate_after=None)
        async with embedded.postgres(private=True) as other:
            for server in (primary, other):
                connection = await asyncpg.connect(server.dsn)
                await connection.execute("create table written (id int)")
                await connection.execute(f"alter role postgres password '{primary._password}'")
                await connection.close()
            async with (
                DatabasePool(url(primary, other), config, target_session_attrs="read-write") as db,
                becomes_read_only(primary),
            ):
                refused = 0
                for n in range(200):
                    try:
                        await db.execute("insert into written values ($1)", n)
                    except asyncpg.ReadOnlySQLTransactionError:
                        refused += 1
                assert 1 <= refused <= 3
                assert await port(db) == other.port
                assert db.stats()["closed_by"]["reset_failed"] == refused

    @pytest.mark.parametrize("reset", ["session", "transaction", "none"])
    async def test_the_check_finds_it_before_a_caller_does(self, primary: embedded.PostgresServer, reset: Any) -> None:
        config = PoolConfig(min_size=0, max_size=1, validate_after=None, unavailable_after=0.2, backoff_max=0.1)
        async with DatabasePool(primary.dsn, config, reset=reset, target_session_attrs="read-write") as db:
            assert await db.fetchval("select 1") == 1
            async with becomes_read_only(primary):
                assert await db.check() == 1
            assert await db.fetchval("select 2", timeout=10) == 2

    async def test_a_promoted_standby_is_left_by_a_pool_that_only_reads(self, primary: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=0, max_size=1, unavailable_after=0.2, backoff_max=0.1)
        async with (
            standby(primary) as follower,
            DatabasePool(follower.dsn, config, target_session_attrs="standby") as db,
        ):
            assert await db.fetchval("select pg_is_in_recovery()")
            await follower.promote()
            await db.fetchval("select 1")  # when it is asked, it tells
            with pytest.raises(PoolUnavailable):
                await db.fetchval("select 1")

    async def test_a_callers_own_read_only_setting_costs_no_connection(self, primary: embedded.PostgresServer) -> None:
        config = PoolConfig(min_size=1, max_size=1)
        async with DatabasePool(primary.dsn, config, target_session_attrs="read-write") as db:
            pid = await db.fetchval("select pg_backend_pid()")
            async with db.connection() as connection:
                await connection.execute("set default_transaction_read_only = on")
            async with db.transaction(readonly=True) as connection:
                with contextlib.suppress(asyncpg.ReadOnlySQLTransactionError):
                    await connection.execute("create table never (id int)")
                await connection.execute("rollback; begin")
            assert await db.fetchval("select pg_backend_pid()") == pid
