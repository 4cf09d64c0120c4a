"""`DatabasePool` whose password somebody else keeps: asked for at every open, changed under load."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import traceback
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from aiopool import embedded
from aiopool.adapters.postgres import DatabasePool
from aiopool.config import PoolConfig
from aiopool.errors import PoolUnavailable

QUICK = PoolConfig(
    min_size=0, max_size=4, open_timeout=0.5, unavailable_after=0.3, backoff_initial=0.02, backoff_max=0.1
)


class Vault:
    """Keeps the password of a role of its own, and changes it on the server."""

    role = "aiopool_rotated"

    def __init__(self, admin: asyncpg.Connection[asyncpg.Record], at: str) -> None:
        self._admin = admin
        self.url = f"postgresql://{self.role}@{at}/postgres"
        self.password = ""
        self.asked = 0

    async def rotate(self) -> None:
        password = secrets.token_hex(12)
        await self._admin.execute(f"alter role {self.role} login password '{password}'")
        # As real ones do: the server changes first, and for a moment what is given is the old one.
        await asyncio.sleep(0.05)
        self.password = password

    def give(self) -> str:
        self.asked += 1
        return self.password

    async def fetch(self) -> str:
        await asyncio.sleep(0)
        return self.give()


@pytest_asyncio.fixture
async def vault(postgres: embedded.PostgresServer) -> AsyncIterator[Vault]:
    admin = await asyncpg.connect(postgres.dsn)
    try:
        parts = urlsplit(postgres.dsn)
        vault = Vault(admin, f"{parts.hostname}:{parts.port}")
        await admin.execute(f"drop role if exists {vault.role}; create role {vault.role}")
        await vault.rotate()
        yield vault
    finally:
        await admin.execute(f"drop role if exists {Vault.role}")
        await admin.close()


async def test_it_is_asked_at_every_open_and_only_then(vault: Vault) -> None:
    for provider in (vault.give, vault.fetch):
        vault.asked = 0
        async with DatabasePool(vault.url, PoolConfig(min_size=3, max_size=3), password=provider) as db:
            await asyncio.gather(*(db.fetchval("select 1") for _ in range(50)))
            assert vault.asked == db.stats()["opened"] == 3
            await db.drain()
            await asyncio.gather(*(db.fetchval("select 1") for _ in range(50)))
            assert vault.asked == db.stats()["opened"] > 3


async def test_a_password_that_changes_under_load_and_a_drain_cost_no_caller_an_error(vault: Vault) -> None:
    config = PoolConfig(min_size=4, max_size=4, backoff_initial=0.02, backoff_max=0.1)
    async with DatabasePool(vault.url, config, password=vault.fetch) as db:
        answered = 0
        is_over = asyncio.Event()

        async def ask() -> None:
            nonlocal answered
            while not is_over.is_set():
                n = secrets.randbelow(1000)
                assert await db.fetchval("select $1::int", n) == n
                answered += 1

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(ask())
            for _ in range(5):
                before, enough = {row["pid"] for row in await pids(vault)}, answered + 20
                rotation = asyncio.create_task(vault.rotate())
                await db.drain()  # while the provider still gives the old one
                await rotation
                for _ in range(500):
                    now = {row["pid"] for row in await pids(vault)}
                    if not before & now and len(now) == 4 and answered >= enough:
                        break
                    await asyncio.sleep(0.01)
                assert not before & now
                assert answered >= enough
            is_over.set()
        assert db.stats()["closed_by"]["drained"] >= 20


async def pids(vault: Vault) -> list[Any]:
    return await vault._admin.fetch("select pid from pg_stat_activity where usename = $1", vault.role)


async def test_a_provider_that_fails_is_asked_again(vault: Vault) -> None:
    failures = [ConnectionError("no answer"), ValueError("the answer is no JSON"), TimeoutError(), KeyError("password")]

    async def give() -> str:
        if failures:
            raise failures.pop()
        return vault.password

    async with DatabasePool(
        vault.url, PoolConfig(min_size=1, backoff_initial=0.01, backoff_max=0.02), password=give
    ) as db:
        assert await db.fetchval("select 1") == 1
        assert db.stats()["open_failures"] == 4


async def test_callers_of_one_that_goes_on_failing_are_told_why(vault: Vault) -> None:
    def give() -> str:
        return str(json.loads("no JSON")["password"])

    db = DatabasePool(vault.url, QUICK, password=give)
    with pytest.raises(PoolUnavailable) as caught:
        await db.fetchval("select 1")
    assert str(caught.value.__cause__) == "the function given as password= raised JSONDecodeError"
    assert isinstance(caught.value.__cause__.__cause__, json.JSONDecodeError)  # type: ignore[union-attr]
    await db.close()


async def test_one_that_hangs_is_bounded_and_cancelled(vault: Vault) -> None:
    cancelled = 0

    async def give() -> str:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        raise AssertionError

    began = time.monotonic()
    db = DatabasePool(vault.url, QUICK, password=give)
    with pytest.raises(PoolUnavailable) as caught:
        await db.fetchval("select 1")
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert time.monotonic() - began < 5
    await db.close()
    assert cancelled >= 1


async def test_one_that_gives_no_string_is_told_at_once_and_its_value_is_not(vault: Vault) -> None:
    db = DatabasePool(vault.url, PoolConfig(min_size=0), password=lambda: vault.password.encode())
    with pytest.raises(PoolUnavailable) as caught:
        await db.fetchval("select 1")
    assert "gave bytes: it must return a str" in str(caught.value.__cause__)
    assert vault.password not in "".join(traceback.format_exception(caught.value))
    await db.close()


async def test_a_password_that_is_refused_is_asked_for_again_and_told_to_nobody(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[str] = []

    async def give() -> str:
        given.append("old-" + secrets.token_hex(8) if len(given) < 3 else vault.password)
        return given[-1]

    config = PoolConfig(min_size=1, max_size=1, backoff_initial=0.01, backoff_max=0.02)
    with caplog.at_level("DEBUG"):
        async with DatabasePool(vault.url, config, password=give) as db:
            assert await db.fetchval("select 1") == 1
        db = DatabasePool(vault.url, QUICK, password=lambda: given[0])
        with pytest.raises(PoolUnavailable) as caught:
            await db.fetchval("select 1")
        await db.close()
    assert isinstance(caught.value.__cause__, asyncpg.InvalidPasswordError)
    told = caplog.text + "".join(traceback.format_exception(caught.value)) + repr(db) + repr(db.stats())
    assert not [password for password in given if password in told]


async def test_who_holds_a_connection_keeps_it_through_a_change(vault: Vault) -> None:
    """PostgreSQL asks for a password once for each session."""
    async with DatabasePool(vault.url, PoolConfig(min_size=1, max_size=1), password=vault.give) as db:
        async with db.transaction() as connection:
            pid = await connection.fetchval("select pg_backend_pid()")
            await vault.rotate()
            await db.drain()
            assert await connection.fetchval("select pg_backend_pid()") == pid
        assert await db.fetchval("select pg_backend_pid()") != pid
