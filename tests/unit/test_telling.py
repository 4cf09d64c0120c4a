"""What a model is told of a failure, and what is kept from it."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from typing import Any

import asyncpg
import httpx
import pytest
import redis.exceptions

from aiopool import LeaseExpired, PoolClosed, PoolFull, PoolTimeout, PoolUnavailable
from aiopool.telling import MAX_TEXT, ToolFailure, explain
from tests.fakes import Backend, Step


def stats(**figures: int) -> dict[str, Any]:
    return {"name": "database", "in_use": 20, "max_size": 20, "waiting": 7, **figures}


# -- pools


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PoolTimeout("…", phase="wait", waited=2.0, stats=stats()),
            "pool 'database' is exhausted: 20 of 20 in use, 7 waiting, waited 2.0 s; retry later or raise max_size",
        ),
        (
            PoolTimeout("…", phase="wait", waited=0.004, stats=stats(in_use=3)),
            "pool 'database' had no connection in time: 3 of 20 in use, 7 waiting, waited 4 ms; retry later",
        ),
        (
            PoolTimeout("…", stats=stats()),
            "pool 'database' is exhausted: 20 of 20 in use, 7 waiting; retry later or raise max_size",
        ),
        (
            PoolTimeout("…", phase="open", waited=30, stats=stats(in_use=0)),
            "pool 'database' has no connection yet, and opening one takes long: 0 of 20 in use, 7 waiting, "
            "waited 30.0 s; retry later, or check the backend",
        ),
        (
            PoolTimeout("…", phase="validate", waited=1, stats=stats(in_use=0)),
            "pool 'database' got no answer in time when it checked a connection: 0 of 20 in use, 7 waiting, "
            "waited 1.0 s; retry later, or check the backend",
        ),
        (PoolTimeout("words of ours"), "words of ours"),
        (PoolFull("pool 'database' is full"), "pool 'database' is full"),
        (ToolFailure("Say which table."), "Say which table."),
    ],
)
def test_a_refusal_is_told_with_its_figures(error: Exception, text: str) -> None:
    assert explain(error) == text


async def test_of_a_real_pool_that_is_exhausted(make_pool: Any) -> None:
    pool = make_pool(Backend(), name="database", max_size=2, acquire_timeout=2)
    async with pool, pool.acquire(), pool.acquire():
        with pytest.raises(PoolTimeout) as caught:
            await pool.acquire()
    assert explain(caught.value) == (
        "pool 'database' is exhausted: 2 of 2 in use, 1 waiting, waited 2.0 s; retry later or raise max_size"
    )


async def test_of_a_real_pool_whose_backend_is_down_the_class_of_the_reason(make_pool: Any) -> None:
    down = Step(error=ConnectionRefusedError("10.0.0.5 says no to qxzjvkw"))
    pool = make_pool(Backend(opens=down), name="database", acquire_timeout=2, unavailable_after=None)
    with pytest.raises(PoolTimeout) as caught:
        await pool.acquire()
    assert explain(caught.value) == (
        "pool 'database' can't open connections (ConnectionRefusedError): 0 of 5 in use, 1 waiting, waited 2.0 s; "
        "retry later, or check the backend"
    )
    hasty = make_pool(Backend(opens=down), name="database", unavailable_after=0)
    with pytest.raises(PoolUnavailable) as refused:
        await hasty.acquire()
    assert re.fullmatch(
        r"pool 'database' can't open connections \(size=0 in_use=0 waiting=\d max_size=5, waited 0\.\d\ds\): its "
        r"backend is down or refuses connections \(ConnectionRefusedError\); retry later",
        explain(refused.value),
    )


async def test_of_a_closed_pool_and_of_a_lease_that_was_taken_back(make_pool: Any) -> None:
    pool = make_pool(Backend(), name="database", max_hold=1)

    async def hold_for_too_long() -> None:
        async with pool.acquire():
            await asyncio.sleep(2)
            raise OSError("it is closed")

    with pytest.raises(LeaseExpired) as caught:
        await hold_for_too_long()
    assert explain(caught.value).startswith("a lease of pool 'database' was held for longer than max_hold=1s")
    await pool.close()
    with pytest.raises(PoolClosed) as closed:
        await pool.acquire()
    assert explain(closed.value).startswith("pool 'database' is closed")


# -- databases


def postgres_error(state: str, message: str, **more: str) -> asyncpg.PostgresError:
    keys = {"detail": "D", "hint": "H", "position": "P"}
    fields = {"C": state, "M": message, **{keys[key]: value for key, value in more.items()}}
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(fields)
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            postgres_error("42703", 'column "nam" does not exist', position="8", hint='Perhaps "name".'),
            'column "nam" does not exist (SQLSTATE 42703, at character 8)\nHINT: Perhaps "name".',
        ),
        (
            postgres_error("23505", "duplicate key", detail="Key (token)=(1) already exists."),
            "duplicate key (SQLSTATE 23505)\nDETAIL: Key (token)=(1) already exists.",
        ),
        (
            postgres_error("57014", "canceling statement due to statement timeout"),
            "the query ran too long and the server cancelled it; let it do less: canceling statement due to "
            "statement timeout (SQLSTATE 57014)",
        ),
        (
            postgres_error("57014", "canceling statement due to user request"),
            "canceling statement due to user request (SQLSTATE 57014)",
        ),
        (
            postgres_error("28P01", 'password authentication failed for user "qxzjvkw"'),
            "the database refuses the login (SQLSTATE 28P01); the query is not at fault",
        ),
        (
            asyncpg.ConnectionDoesNotExistError("the server at 10.0.0.5 is gone"),
            "the connection to the database was lost (ConnectionDoesNotExistError); retry later",
        ),
        (
            asyncpg.InterfaceError("the server expects 1 argument for this query, 0 were passed"),
            "the server expects 1 argument for this query, 0 were passed",
        ),
    ],
)
def test_what_the_database_says_of_a_query_is_told(error: Exception, text: str) -> None:
    assert explain(error) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (redis.exceptions.ResponseError("WRONGTYPE Operation against a key"), "WRONGTYPE Operation against a key"),
        (
            redis.exceptions.ResponseError("unknown command 'HELLO', with args beginning with: 'AUTH' 'qxzjvkw'"),
            "unknown command 'HELLO'",
        ),
        (redis.exceptions.TimeoutError("Timeout reading from 10.0.0.5"), "Redis did not answer in time; retry later"),
        (
            redis.exceptions.AuthenticationError("qxzjvkw"),
            "Redis cannot be reached, or the connection to it was lost (AuthenticationError); retry later",
        ),
    ],
)
def test_what_redis_says_of_a_command_is_told(error: Exception, text: str) -> None:
    assert explain(error) == text


REQUEST = httpx.Request("GET", "https://user:qxzjvkw@api.example.com/?token=qxzjvkw")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            httpx.HTTPStatusError("qxzjvkw", request=REQUEST, response=httpx.Response(503, request=REQUEST)),
            "the HTTP server answered 503 Service Unavailable",
        ),
        (
            httpx.HTTPStatusError("qxzjvkw", request=REQUEST, response=httpx.Response(599, request=REQUEST)),
            "the HTTP server answered 599",
        ),
        (httpx.ConnectError("qxzjvkw"), "the HTTP server cannot be reached (ConnectError); retry later"),
        (httpx.ReadTimeout("qxzjvkw"), "the HTTP server did not answer in time (ReadTimeout); retry later"),
        (httpx.PoolTimeout(""), "no HTTP connection came free in time; retry later or raise max_connections"),
        (httpx.RemoteProtocolError("qxzjvkw"), "the HTTP request failed (RemoteProtocolError)"),
        (httpx.InvalidURL("qxzjvkw"), "the URL is not valid"),
        (
            ConnectionResetError("qxzjvkw"),
            "the backend cannot be reached, or the connection to it was lost (ConnectionResetError); retry later",
        ),
        (
            socket.gaierror("qxzjvkw"),
            "the backend cannot be reached, or the connection to it was lost (gaierror); retry later",
        ),
    ],
)
def test_of_a_request_what_became_of_it_is_told_and_no_address(error: Exception, text: str) -> None:
    assert explain(error) == text


# -- timeouts


async def test_a_handler_that_took_too_long_is_told_what_it_waited_for(make_pool: Any) -> None:
    pool = make_pool(Backend(), max_size=1)
    async with pool, pool.acquire():
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1):
                await pool.acquire()
    assert explain(caught.value) == "no connection came free in time; retry later or raise the pool's max_size"
    with pytest.raises(TimeoutError) as other:
        async with asyncio.timeout(1):
            await asyncio.sleep(2)
    assert explain(other.value) == "it took longer than it may, and was cancelled"


def test_a_timeout_of_ours_without_words_is_told_all_the_same() -> None:
    ours: dict[str, Any] = {"__name__": "aiopool.adapters.postgres"}
    exec("def wait(*words): raise TimeoutError(*words)", ours)
    for words, text in (((), "it took longer than it may, and was cancelled"), (("words of ours",), "words of ours")):
        with pytest.raises(TimeoutError) as caught:
            ours["wait"](*words)
        assert explain(caught.value) == text


# -- what is masked


def test_anything_else_is_an_internal_error_whose_place_is_logged_under_its_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        try:
            raise KeyError("qxzjvkw")
        except KeyError as exc:
            raise ValueError("qxzjvkw in words") from exc

    with pytest.raises(ValueError) as caught:
        fail()
    text = explain(caught.value)
    assert (match := re.fullmatch(r"internal error ([0-9a-f]{8}): see the server's log", text))
    (record,) = [each for each in caplog.records if each.name == "aiopool"]
    assert record.levelno == logging.ERROR
    said = record.getMessage()
    assert said.startswith(f"internal error {match[1]}: builtins.ValueError\n")
    assert "from builtins.KeyError" in said
    assert "in fail" in said
    assert "qxzjvkw in words" not in said.replace('raise ValueError("qxzjvkw in words")', "")
    assert explain(caught.value) != text


@pytest.mark.parametrize(
    "words",
    [
        "could not connect to postgresql://app:qxzjvkw@db/app",
        "the DSN postgresql://app:qx zj@db is wrong",
        "password=qxzjvkw is wrong",
        "Bearer qxzjvkwqxzjvkwqxzjvkw",
    ],
)
def test_words_of_a_server_that_look_like_a_credential_are_masked(words: str) -> None:
    for error in (postgres_error("XX000", words), redis.exceptions.ResponseError(words)):
        assert re.fullmatch(r"internal error [0-9a-f]{8}: see the server's log", explain(error))


@pytest.mark.parametrize(
    "error", [asyncpg.InterfaceError, asyncpg.UnknownPostgresError, redis.exceptions.ResponseError]
)
def test_an_error_that_lacks_what_it_should_have_is_told_or_masked_all_the_same(error: type[Exception]) -> None:
    class Mute(error):  # type: ignore[valid-type, misc]
        def __init__(self) -> None:
            Exception.__init__(self)

    assert isinstance(explain(Mute()), str)


def test_words_that_cannot_be_had_are_not_told() -> None:
    class Mute(ToolFailure):
        def __str__(self) -> str:
            raise RuntimeError("qxzjvkw")

    assert explain(Mute()).startswith("internal error")


def test_a_wrong_address_is_not_told() -> None:
    error = asyncpg.exceptions._base.ClientConfigurationError("invalid DSN: qxzjvkw")  # type: ignore[attr-defined]
    assert explain(error).startswith("internal error")


# -- groups


def test_of_a_group_each_part_is_told_once() -> None:
    group = ExceptionGroup(
        "qxzjvkw", [ToolFailure("one"), ExceptionGroup("qxzjvkw", [ToolFailure("two"), ToolFailure("one")])]
    )
    assert explain(group) == "one\ntwo"
    mixed = ExceptionGroup("qxzjvkw", [ValueError("qxzjvkw"), ToolFailure("one"), KeyError("qxzjvkw")])
    assert re.fullmatch(r"one\ninternal error [0-9a-f]{8}: see the server's log", explain(mixed))


def test_a_long_text_is_cut() -> None:
    text = explain(postgres_error("P0001", "://x/" * 1_000_000))
    assert len(text) == MAX_TEXT + 1
    assert text.endswith("…")
