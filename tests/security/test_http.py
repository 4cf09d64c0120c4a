"""For every way to give an HTTP client its credentials and every way to fail: nothing that is told holds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool import embedded
from aiopool.adapters.http import HTTPClientPool
from tests.security.secret import AWKWARD, SIMPLE, Secret, few_examples, secrets
from tests.security.ways import Given, run_and_listen

Way = Callable[[Secret, str], Given]


def printable(secret: Secret) -> str:
    """What a header takes."""
    return "".join(character for character in secret.raw if character.isascii() and character.isprintable()).strip()


#: Given a password and the server's scheme, host and port.
WAYS: dict[str, Way] = {
    "base_url": lambda s, at: Given(at.replace("://", f"://app:{s.quoted}@")),
    "base_url, raw": lambda s, at: Given(at.replace("://", f"://app:{s.raw}@")),
    "base_url, the token as the user": lambda s, at: Given(at.replace("://", f"://{s.quoted}@")),
    "wrong scheme": lambda s, at: Given(f"ftp://app:{s.quoted}@{at.partition('://')[2]}"),
    "no scheme": lambda s, at: Given(f"app:{s.raw}@{at.partition('://')[2]}"),
    "Authorization": lambda s, at: Given(at, {"headers": {"Authorization": f"Bearer {printable(s)}"}}),
    "Authorization, as it comes": lambda s, at: Given(at, {"headers": {"Authorization": f"Bearer {s.raw}"}}),
    "Authorization, from a file": lambda s, at: Given(at, {"headers": {"Authorization": f"Bearer {printable(s)}\n"}}),
    "a key": lambda s, at: Given(at, {"headers": {"X-Api-Key": printable(s)}}),
    "cookies": lambda s, at: Given(at, {"cookies": {"session": s.raw}}),
    "auth": lambda s, at: Given(at, {"auth": ("app", s.raw)}),
    "proxy": lambda s, at: Given("http://127.0.0.1", {"proxy": f"http://app:{s.quoted}@{at.partition('://')[2]}"}),
    "proxy, raw": lambda s, at: Given("http://127.0.0.1", {"proxy": f"http://app:{s.raw}@{at.partition('://')[2]}"}),
    "HTTP_PROXY, raw": lambda s, at: Given(
        "http://127.0.0.1", env={"HTTP_PROXY": f"http://app:{s.raw}@{at.partition('://')[2]}"}
    ),
    "HTTP_PROXY": lambda s, at: Given(
        "http://127.0.0.1", env={"HTTP_PROXY": f"http://app:{s.quoted}@{at.partition('://')[2]}"}
    ),
}

#: Where no server is. Nobody listens on port 1.
PLACES = {
    "nobody there": "http://127.0.0.1:1",
    "no port": "http://127.0.0.1:port",
    "IPv6": "http://[::1]:1",
    "half an IPv6": "http://[::1",
}

FAULTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "HTTP/1.1": {"http2": False},
    "an unknown authority": {"verify": True},
    "a file that is none": {"verify": "/nowhere/ca.pem"},
    "too little time": {"timeout": 1e-6},
    "a keyword that is none": {"nonsense": 1},
}


def make(address: str | None, **keywords: Any) -> HTTPClientPool:
    return HTTPClientPool(address, **{"timeout": 1, "verify": False, **keywords})


async def use(pool: Any) -> None:
    await pool.open()
    (await pool.get("/echo")).raise_for_status()
    (await pool.get("/status/401")).raise_for_status()


def with_fault(way: Given, fault: str) -> Given:
    return Given(way.address, {**way.keywords, **FAULTS[fault]}, way.env)


@pytest.mark.parametrize("way", WAYS)
def test_no_way_tells_a_password_wherever_the_server_should_be(way: str) -> None:
    for secret in (AWKWARD, *SIMPLE):
        for place in PLACES.values() if secret is AWKWARD else ["http://127.0.0.1:1"]:
            run_and_listen(secret, WAYS[way](secret, place), make, use)


@few_examples
@given(secret=secrets(), way=st.sampled_from(sorted(WAYS)), place=st.sampled_from(sorted(PLACES)))
def test_no_password_is_told(secret: Secret, way: str, place: str) -> None:
    run_and_listen(secret, WAYS[way](secret, PLACES[place]), make, use)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_tells_nothing_that_a_pool_passes_on(https_server: embedded.HTTPSServer, fault: str) -> None:
    for way in WAYS.values():
        run_and_listen(AWKWARD, with_fault(way(AWKWARD, https_server.url), fault), make, use)


@few_examples
@given(secret=secrets(), way=st.sampled_from(sorted(WAYS)), fault=st.sampled_from(sorted(FAULTS)))
def test_no_password_is_told_on_a_real_server(
    https_server: embedded.HTTPSServer, secret: Secret, way: str, fault: str
) -> None:
    run_and_listen(secret, with_fault(WAYS[way](secret, https_server.url), fault), make, use)


@pytest.mark.parametrize("way", ["base_url", "Authorization", "auth"])
def test_these_ways_do_give_the_password(https_server: embedded.HTTPSServer, way: str) -> None:
    """Or else the other tests would prove little."""

    async def ask(pool: Any) -> None:
        sent.append((await pool.get("/echo")).json()["headers"]["authorization"])

    sent: list[str] = []
    run_and_listen(AWKWARD, WAYS[way](AWKWARD, https_server.url), make, ask)
    assert AWKWARD.told_in(sent[0])
