"""For every way to give PostgreSQL's password and every way to fail: nothing that is told holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool import PoolConfig, embedded
from aiopool.adapters.postgres import DatabasePool
from tests.security.secret import AWKWARD, SIMPLE, Secret, few_examples, secrets
from tests.security.ways import Given, run_and_listen

Way = Callable[[Secret, str, Path], Given]


def in_a_file(folder: Path, name: str, content: str) -> str:
    path = folder / name
    path.touch(0o600)
    path.write_text(content, encoding="utf-8")
    return str(path)


def passfile(secret: Secret, folder: Path) -> str:
    escaped = secret.raw.replace("\\", "\\\\").replace(":", "\\:")
    return in_a_file(folder, "pgpass", f"*:*:*:*:{escaped}\n")


def service(secret: Secret, folder: Path) -> str:
    return in_a_file(folder, "services.conf", f"[ledger]\nuser=app\npassword={secret.raw}\n")


#: Given a password, the server's `host:port` and a folder for files.
WAYS: dict[str, Way] = {
    "URL": lambda s, at, _: Given(f"postgresql://app:{s.quoted}@{at}/postgres"),
    "URL, raw": lambda s, at, _: Given(f"postgresql://app:{s.raw}@{at}/postgres"),
    "URL without a user": lambda s, at, _: Given(f"postgres://:{s.quoted}@{at}/postgres"),
    "query": lambda s, at, _: Given(f"postgresql://app@{at}/postgres?password={s.quoted}"),
    "query, raw": lambda s, at, _: Given(f"postgresql://app@{at}/postgres?password={s.raw}"),
    "wrong scheme": lambda s, at, _: Given(f"mysql://app:{s.quoted}@{at}/postgres"),
    "no scheme": lambda s, at, _: Given(f"app:{s.raw}@{at}/postgres"),
    "the password alone": lambda s, at, _: Given(s.raw),
    "the password for a scheme": lambda s, at, _: Given(f"{s.raw}://app@{at}/postgres"),
    "libpq's keywords": lambda s, at, _: Given(f"host={at} user=app password={s.raw}"),
    "keyword": lambda s, at, _: Given(f"postgresql://app@{at}/postgres", {"password": s.raw}),
    "function": lambda s, at, _: Given(f"postgresql://app@{at}/postgres", {"password": lambda: s.raw}),
    "keywords": lambda s, at, _: Given(None, {**_host(at), "user": "app", "password": s.raw}),
    "PGPASSWORD": lambda s, at, _: Given(f"postgresql://app@{at}/postgres", env={"PGPASSWORD": s.raw}),
    "PGPASSFILE": lambda s, at, folder: Given(
        f"postgresql://app@{at}/postgres", env={"PGPASSFILE": passfile(s, folder)}
    ),
    "passfile": lambda s, at, folder: Given(f"postgresql://app@{at}/postgres", {"passfile": passfile(s, folder)}),
    "service": lambda s, at, folder: Given(
        f"postgresql://{at}/postgres?service=ledger", env={"PGSERVICEFILE": service(s, folder)}
    ),
    "servicefile": lambda s, at, folder: Given(
        None, {**_host(at), "service": "ledger", "servicefile": service(s, folder)}
    ),
    "servicefile without a section": lambda s, at, folder: Given(
        f"postgresql://{at}/postgres?service=ledger",
        {"servicefile": in_a_file(folder, "services.conf", f"password={s.raw}\n")},
    ),
    "sslpassword": lambda s, at, _: Given(f"postgresql://app@{at}/postgres?sslmode=require&sslpassword={s.quoted}"),
}


def _host(at: str) -> dict[str, Any]:
    host, _, port = at.rpartition(":")
    return {"host": host.strip("[]"), "port": port, "database": "postgres"} if port.isdigit() else {"host": at}


#: Where no server is. Nobody listens on port 1.
PLACES = {
    "nobody there": "127.0.0.1:1",
    "no port": "127.0.0.1:port",
    "IPv6": "[::1]:1",
    "half an IPv6": "[::1",
    "a socket": "%2Fnowhere",
    "several": "127.0.0.1:1,[::1]:1",
    "several, one wrong": "127.0.0.1:1,127.0.0.1:port",
}

#: What else may be wrong, as keywords or at the end of an address.
FAULTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an unknown database": {"database": "nonsense"},
    "an unknown user": {"user": "nobody"},
    "an unknown setting": {"server_settings": {"nonsense": "1"}},
    "TLS that the server has not": {"ssl": "require"},
    "TLS without a certificate": {"ssl": "verify-full"},
    "a mode of TLS that is none": {"ssl": "nonsense"},
    "a check that fails": {"config": {"validation_query": "select nonsense", "validate_after": 0}},
    "a set-up that fails": {"configure": lambda connection: connection.execute("select nonsense")},
    "too little time": {"timeout": 1e-6},
}
RESTS = ["", "?sslmode=nonsense", "?sslmode=verify-full&sslrootcert=/nowhere", "?nonsense=1", "?=", "?port=x", "#x"]

AT_ONCE = {"min_size": 1, "max_size": 1, "open_timeout": 0.5, "unavailable_after": 0, "acquire_timeout": 0.5}


def make(address: str | None, *, config: dict[str, Any] | None = None, **keywords: Any) -> DatabasePool:
    return DatabasePool(address, PoolConfig(**{**AT_ONCE, **(config or {})}), **keywords)


async def use(pool: Any) -> None:
    await pool.open()
    assert await pool.fetchval("select 1") == 1
    await pool.check()
    await pool.fetchval("select nonsense")


def with_fault(way: Given, fault: str) -> Given:
    return Given(way.address, {**way.keywords, **FAULTS[fault]}, way.env)


@pytest.mark.parametrize("way", WAYS)
def test_no_way_tells_a_password_wherever_the_server_should_be(way: str, tmp_path: Path) -> None:
    for place in PLACES.values():
        run_and_listen(AWKWARD, WAYS[way](AWKWARD, place, tmp_path), make, use)
    for secret in SIMPLE if "raw" in way else ():
        run_and_listen(secret, WAYS[way](secret, PLACES["nobody there"], tmp_path), make, use)


@few_examples
@given(
    secret=secrets(),
    way=st.sampled_from(sorted(WAYS)),
    place=st.sampled_from(sorted(PLACES)),
    rest=st.sampled_from(RESTS),
)
def test_no_password_is_told(
    tmp_path_factory: pytest.TempPathFactory, secret: Secret, way: str, place: str, rest: str
) -> None:
    given = WAYS[way](secret, PLACES[place], tmp_path_factory.getbasetemp())
    if given.address and "?" not in given.address:
        given = Given(given.address + rest, given.keywords, given.env)
    run_and_listen(secret, given, make, use)


async def set_password(server: embedded.PostgresServer, password: str) -> None:
    connection = await asyncpg.connect(server.dsn)
    try:
        quoted = await connection.fetchval("select quote_literal($1::text)", password)
        await connection.execute("drop role if exists app")
        await connection.execute(f"create role app login password {quoted}")
    finally:
        await connection.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_tells_nothing_that_a_pool_passes_on(
    postgres: embedded.PostgresServer, fault: str, tmp_path: Path
) -> None:
    asyncio.run(set_password(postgres, AWKWARD.raw))
    at = f"{postgres.host}:{postgres.port}"
    for way in WAYS.values():
        run_and_listen(AWKWARD, with_fault(way(AWKWARD, at, tmp_path), fault), make, use)


@few_examples
@given(secret=secrets(), way=st.sampled_from(sorted(WAYS)), fault=st.sampled_from(sorted(FAULTS)), right=st.booleans())
def test_a_server_that_accepts_or_refuses_a_password_makes_nobody_tell_it(
    postgres: embedded.PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
    secret: Secret,
    way: str,
    fault: str,
    right: bool,
) -> None:
    asyncio.run(set_password(postgres, secret.raw if right else "another"))
    given = WAYS[way](secret, f"{postgres.host}:{postgres.port}", tmp_path_factory.getbasetemp())
    run_and_listen(secret, with_fault(given, fault), make, use)


@pytest.mark.parametrize("way", ["URL", "query", "keyword", "function", "keywords", "PGPASSWORD"])
def test_these_ways_do_give_the_password(postgres: embedded.PostgresServer, way: str, tmp_path: Path) -> None:
    """Or else the other tests would prove little."""

    async def ask(pool: Any) -> None:
        assert await pool.fetchval("select current_user") == "app"
        answered.append(way)

    answered: list[str] = []
    asyncio.run(set_password(postgres, AWKWARD.raw))
    run_and_listen(AWKWARD, WAYS[way](AWKWARD, f"{postgres.host}:{postgres.port}", tmp_path), make, ask)
    assert answered == [way]
