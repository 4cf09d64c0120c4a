"""For every way to give a password of Redis and every way to fail: nothing that is told holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio as redis
from hypothesis import given
from hypothesis import strategies as st
from redis.credentials import UsernamePasswordCredentialProvider as Provider

from aiopool import PoolConfig, embedded
from aiopool.adapters.redis import RedisPool
from tests.security.echo import serving
from tests.security.secret import AWKWARD, SIMPLE, Secret, few_examples, secrets
from tests.security.ways import Given, run_and_listen

Way = Callable[[Secret, str], Given]

WAYS: dict[str, Way] = {
    "URL": lambda s, at: Given(f"redis://:{s.quoted}@{at}/0"),
    "URL, raw": lambda s, at: Given(f"redis://:{s.raw}@{at}/0"),
    "URL with a user": lambda s, at: Given(f"redis://app:{s.quoted}@{at}/0"),
    "URL, the password as the user": lambda s, at: Given(f"redis://{s.quoted}@{at}/0"),
    "URL for TLS": lambda s, at: Given(f"rediss://app:{s.quoted}@{at}/0"),
    "URL of a socket": lambda s, at: Given(f"unix://app:{s.quoted}@/nowhere/{at}"),
    "query": lambda s, at: Given(f"redis://{at}/0?password={s.quoted}"),
    "query, raw": lambda s, at: Given(f"redis://{at}/0?password={s.raw}"),
    "as a wrong number": lambda s, at: Given(f"redis://{at}/0?socket_timeout={s.quoted}"),
    "wrong scheme": lambda s, at: Given(f"http://app:{s.quoted}@{at}/0"),
    "no scheme": lambda s, at: Given(f"app:{s.raw}@{at}/0"),
    "the password itself": lambda s, at: Given(s.raw),
    "the password with a scheme": lambda s, at: Given(f"{s.raw}://app@{at}/0"),
    "keyword": lambda s, at: Given(f"redis://{at}/0", {"password": s.raw}),
    "keywords": lambda s, at: Given(None, {**_host(at), "username": "app", "password": s.raw}),
    "keyword for TLS": lambda s, at: Given(f"rediss://{at}/0", {"password": s.raw, "ssl_password": s.raw}),
    "provider": lambda s, at: Given(f"redis://{at}/0", {"credential_provider": Provider("app", s.raw)}),
    "RESP3": lambda s, at: Given(f"redis://app:{s.quoted}@{at}/0", {"protocol": 3}),
}


def _host(at: str) -> dict[str, Any]:
    host, _, port = at.rpartition(":")
    return {"host": host, "port": int(port)} if port.isdigit() else {"host": at}


#: Where no server is. Nobody listens on port 1.
PLACES = {
    "nobody there": "127.0.0.1:1",
    "no port": "127.0.0.1:port",
    "IPv6": "[::1]:1",
    "half an IPv6": "[::1",
}

FAULTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an unknown database": {"db": 99},
    "a timeout that is none": {"socket_timeout": "nonsense"},
    "an unknown keyword": {"nonsense": 1},
    "too little time": {"config": {"open_timeout": 1e-6}},
}
AT_ONCE = {"min_size": 1, "max_size": 1, "open_timeout": 0.5, "unavailable_after": 0, "acquire_timeout": 0.5}
ADMIN = "admin-of-these-tests"


def make(address: str | None, *, config: dict[str, Any] | None = None, **keywords: Any) -> RedisPool:
    return RedisPool(address, config=PoolConfig(**{**AT_ONCE, **(config or {})}), **keywords)


async def use(pool: Any) -> None:
    await pool.open()
    await pool.set("key", "value")
    assert await pool.get("key") == "value"
    await pool.client.execute_command("NONSENSE", "value")


def with_fault(way: Given, fault: str) -> Given:
    return Given(way.address, {**way.keywords, **FAULTS[fault]}, way.env)


@pytest.mark.parametrize("way", WAYS)
def test_no_way_tells_a_password_wherever_the_server_should_be(way: str) -> None:
    for place in PLACES.values():
        run_and_listen(AWKWARD, WAYS[way](AWKWARD, place), make, use)
    for secret in SIMPLE if "raw" in way else ():
        run_and_listen(secret, WAYS[way](secret, PLACES["nobody there"]), make, use)


@few_examples
@given(secret=secrets(), way=st.sampled_from(sorted(WAYS)), place=st.sampled_from(sorted(PLACES)))
def test_no_password_is_told(secret: Secret, way: str, place: str) -> None:
    run_and_listen(secret, WAYS[way](secret, PLACES[place]), make, use)


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_repeats_what_it_was_sent_makes_nobody_tell_it(way: str) -> None:
    async with serving() as at:
        await asyncio.to_thread(run_and_listen, AWKWARD, WAYS[way](AWKWARD, at), make, use)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server() -> AsyncIterator[embedded.RedisServer]:
    async with embedded.redis(settings={"requirepass": ADMIN}) as server:
        yield server


async def set_password(server: embedded.RedisServer, password: str) -> None:
    async with redis.Redis.from_url(server.url) as client:
        for user, rest in (("default", [f">{ADMIN}"]), ("app", ["on", "~*", "+@all"])):
            await client.execute_command("ACL", "SETUSER", user, "resetpass", f">{password}", *rest)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_tells_nothing_that_a_pool_passes_on(server: embedded.RedisServer, fault: str) -> None:
    asyncio.run(set_password(server, AWKWARD.raw))
    for way in WAYS.values():
        run_and_listen(AWKWARD, with_fault(way(AWKWARD, f"{server.host}:{server.port}"), fault), make, use)


@few_examples
@given(secret=secrets(), way=st.sampled_from(sorted(WAYS)), fault=st.sampled_from(sorted(FAULTS)), right=st.booleans())
def test_a_server_that_accepts_or_refuses_a_password_makes_nobody_tell_it(
    server: embedded.RedisServer, secret: Secret, way: str, fault: str, right: bool
) -> None:
    asyncio.run(set_password(server, secret.raw if right else "another"))
    run_and_listen(secret, with_fault(WAYS[way](secret, f"{server.host}:{server.port}"), fault), make, use)


@pytest.mark.parametrize("way", ["URL", "URL with a user", "query", "keyword", "keywords", "provider", "RESP3"])
def test_these_ways_do_give_the_password(server: embedded.RedisServer, way: str) -> None:
    """Or else the other tests would prove little."""

    async def ask(pool: Any) -> None:
        answered.append(await pool.set("key", "value"))

    answered: list[bool] = []
    asyncio.run(set_password(server, AWKWARD.raw))
    run_and_listen(AWKWARD, WAYS[way](AWKWARD, f"{server.host}:{server.port}"), make, ask)
    assert answered == [True]
