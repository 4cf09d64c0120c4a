"""Whatever fails, however it hangs together: neither the model nor the log is told a secret."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import pytest
import redis.exceptions
from hypothesis import given
from hypothesis import strategies as st

from aiopool import PoolTimeout, PoolUnavailable
from aiopool.telling import explain
from tests.security.secret import AWKWARD, SIMPLE, Secret, few_examples, secrets
from tests.security.told import listening

Make = Callable[[Secret], Exception]


def postgres(state: str, message: str, **more: str) -> Exception:
    keys = {"detail": "D", "hint": "H"}
    error: Exception = asyncpg.PostgresError.new(
        {"C": state, "M": message, **{keys[key]: value for key, value in more.items()}}
    )
    return error


def refused(status: int, address: str) -> Exception:
    request = httpx.Request("GET", "http://api.example.com", headers={"X-Address": address.encode().hex()})
    return httpx.HTTPStatusError(address, request=request, response=httpx.Response(status, request=request))


def because(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def dsn(secret: Secret) -> str:
    return f"postgresql://app:{secret.quoted}@db.example/app"


#: Errors as drivers raise them, with what they are known to quote.
FAILURES: dict[str, Make] = {
    "a value": lambda s: ValueError(f"cannot parse {s.raw}"),
    "a key": lambda s: KeyError(s.raw),
    "a system call": lambda s: FileNotFoundError(2, "No such file or directory", s.raw),
    "a connection": lambda s: ConnectionRefusedError(111, f"Connect call failed {s.raw}"),
    "a name": lambda s: socket.gaierror(-2, f"Name or service not known: {s.raw}"),
    "a timeout": lambda s: TimeoutError(f"no answer from {dsn(s)}"),
    "the address of a database": lambda s: asyncpg.exceptions._base.ClientConfigurationError(  # type: ignore[attr-defined]
        f"invalid DSN: {s.raw}"
    ),
    "a login": lambda s: postgres("28P01", f'password authentication failed for user "{s.raw}"'),
    "no such database": lambda s: postgres("3D000", f'database "{s.raw}" does not exist'),
    "a lost connection": lambda s: postgres("08006", f"could not connect to {s.raw}"),
    "a foreign server": lambda s: postgres("XX000", "could not connect", detail=f"{dsn(s)} is not there"),
    "a foreign server, raw": lambda s: postgres("XX000", f"could not connect to postgresql://app:{s.raw}@db"),
    "a setting": lambda s: postgres("XX000", "invalid connection option", hint=f"password={s.raw}"),
    "a login at Redis": lambda s: redis.exceptions.AuthenticationError(f"WRONGPASS {s.raw}"),
    "a login that is no command": lambda s: redis.exceptions.ResponseError(
        f"unknown command `HELLO`, with args beginning with: `3` `AUTH` `default` `{s.raw}`"
    ),
    "a lost Redis": lambda s: redis.exceptions.ConnectionError(f"Error 111 connecting to {s.raw}:6379."),
    "a client's mistake": lambda s: redis.exceptions.DataError(f"Invalid input: {s.raw}"),
    "a request": lambda s: httpx.ConnectError(f"cannot connect to {s.raw}"),
    "a protocol": lambda s: httpx.UnsupportedProtocol(f"Request URL {s.raw} is missing a protocol"),
    "an answer": lambda s: refused(401, dsn(s)),
    "a pool that is down": lambda s: because(PoolUnavailable("pool 'x' can't open: check"), OSError(s.raw)),
    "a pool in vain": lambda s: because(
        PoolTimeout("…", stats={"name": "x", "in_use": 0, "max_size": 1, "waiting": 1}), OSError(s.raw)
    ),
}

#: What may hold an error.
WRAPS: dict[str, Callable[[Exception, Secret], Exception]] = {
    "itself": lambda error, _: error,
    "a group": lambda error, s: ExceptionGroup(f"failed with {s.raw}", [error, RuntimeError(s.raw)]),
    "a cause": lambda error, s: because(RuntimeError(f"failed with {s.raw}"), error),
    "a cause of a timeout": lambda error, _: because(TimeoutError(), error),
    "a group in a group": lambda error, s: ExceptionGroup(s.raw, [ExceptionGroup(s.quoted, [error])]),
}


def assert_nothing_is_told(secret: Secret, make: Make, wrap: Callable[[Exception, Secret], Exception]) -> None:
    def fail(password: str) -> None:
        error = wrap(make(secret), secret)
        error.add_note(f"with {password}")
        raise error

    with listening() as told:
        try:
            fail(secret.raw)
        except Exception as exc:
            told.add("the text", explain(exc))
    told.assert_nothing_of(Secret(secret.raw, (dsn(secret), "db.example")))


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("wrap", WRAPS)
def test_no_failure_tells_a_password(failure: str, wrap: str) -> None:
    for secret in (AWKWARD, *SIMPLE):
        assert_nothing_is_told(secret, FAILURES[failure], WRAPS[wrap])


@few_examples
@given(secret=secrets(), failure=st.sampled_from(sorted(FAILURES)), wrap=st.sampled_from(sorted(WRAPS)))
def test_no_password_is_told(secret: Secret, failure: str, wrap: str) -> None:
    assert_nothing_is_told(secret, FAILURES[failure], WRAPS[wrap])


def test_what_a_model_asked_for_is_told_or_else_the_other_tests_would_prove_little() -> None:
    error: Any = postgres("42703", f'column "{AWKWARD.raw}" does not exist')
    assert AWKWARD.told_in(explain(error))
