"""The other tests of this folder can fail: whatever leaks on purpose is found, and ordinary text is not."""

from __future__ import annotations

import asyncio
import base64
import logging
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool import ConnectionPool, PoolConfig, PoolManager, PoolUnavailable
from aiopool.adapters import hush
from tests.security.secret import AWKWARD, Secret, few_examples, secrets
from tests.security.told import Told, listening

Code = Callable[[str], str]
CODINGS: dict[str, Code] = {
    "itself": str,
    "percent-encoded": lambda raw: quote(raw, safe=""),
    "percent-encoded with slashes": quote,
    "percent-encoded twice": lambda raw: quote(quote(raw, safe=""), safe=""),
    "as a form": quote_plus,
    "a repr": repr,
    "a repr of bytes": lambda raw: repr(raw.encode()),
    "in lower case": str.lower,
    "in upper case": str.upper,
    "in an address": lambda raw: f"postgresql://app:{quote(raw, safe='')}@db.example/app",
    "as a header": lambda raw: f"Basic {base64.b64encode(f'user:{raw}'.encode()).decode()}",
    "its beginning": lambda raw: raw[:8],
    "its end": lambda raw: raw[-8:],
}


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
@few_examples
@given(secret=secrets())
def test_a_secret_is_found_in_any_coding(coding: Code, secret: Secret) -> None:
    assert secret.told_in(f"before {coding(secret.raw)} after")


@few_examples
@given(secret=secrets(), at=st.integers(0, 30))
def test_six_characters_are_found(secret: Secret, at: int) -> None:
    at = min(at, len(secret.raw) - 6)
    assert secret.told_in(f"({secret.raw[at : at + 6]})")


def test_an_address_is_not_to_be_told_as_a_whole_even_without_its_password() -> None:
    secret = Secret("qxzjvk", wholes=("postgresql://app@db.example/app",))
    assert secret.told_in("cannot open 'postgresql://app@db.example/app'")
    assert not secret.told_in("cannot open a connection to db.example")


@few_examples
@given(secret=secrets())
def test_ordinary_text_holds_no_secret(secret: Secret) -> None:
    folder = Path(__file__).parents[2] / "aiopool"
    assert not any(secret.told_in(path.read_text()) for path in (folder / "pool.py", folder / "adapters/postgres.py"))


async def _opens_badly(told: Told) -> None:
    """The driver's error quotes what it was given, as some do."""

    async def connect() -> object:
        raise ValueError(f"cannot parse {AWKWARD.raw}")

    pool = ConnectionPool(connect, PoolConfig(min_size=1))
    pool.subscribe(told.event)
    try:
        await pool.open()
    except PoolUnavailable as exc:
        told.lines.clear()
        told.error(exc)


class _Telling:
    def __init__(self, told: str) -> None:
        self._told = told

    def __repr__(self) -> str:
        return self._told

    def stats(self) -> dict[str, object]:
        return {"name": self._told, "size": 1}

    def close(self) -> None: ...


def _log(told: Told) -> None:
    logging.getLogger("asyncpg.some.part").debug("connecting with %s", AWKWARD.raw)


def _log_an_exception(told: Told) -> None:
    try:
        raise RuntimeError(AWKWARD.raw)
    except RuntimeError:
        logging.getLogger("aiopool").exception("it failed")


def _raise_where_nobody_listens(told: Told) -> None:
    class Dies:
        def __del__(self) -> None:
            raise RuntimeError(AWKWARD.quoted)

    Dies()


def _note(told: Told) -> None:
    error = PoolUnavailable("down")
    error.add_note(AWKWARD.raw)
    told.error(error)


def _context(told: Told) -> None:
    error = PoolUnavailable("down")
    error.__context__ = ExceptionGroup("several", [OSError(AWKWARD.raw)])
    error.__suppress_context__ = True  # no traceback shows it, but whoever walks the chain does
    told.error(error)


def _attribute(told: Told) -> None:
    error = PoolUnavailable("down")
    error.dsn = AWKWARD.raw  # type: ignore[attr-defined]
    told.error(error)
    assert AWKWARD.raw.encode() in pickle.dumps(error)


def _local(told: Told) -> None:
    try:
        PoolManager().register(AWKWARD.raw, object())  # type: ignore[arg-type]
    except TypeError as exc:
        exc.args = ("silent",)
        told.error(exc)


LEAKS: dict[str, Callable[[Told], object]] = {
    "a log line": _log,
    "a log line's traceback": _log_an_exception,
    "a cause": lambda told: asyncio.run(_opens_badly(told)),
    "a note": _note,
    "a context": _context,
    "an attribute": _attribute,
    "a local of ours": _local,
    "an unraisable error": _raise_where_nobody_listens,
    "a warning": lambda told: warnings.warn(AWKWARD.quoted, stacklevel=1),
    "stdout": lambda told: print(AWKWARD.raw),  # noqa: T201
    "stderr": lambda told: print(AWKWARD.raw, file=sys.stderr),  # noqa: T201
    "a repr": lambda told: told.thing(_Telling(AWKWARD.raw)),
    "statistics": lambda told: told.add("stats()", repr(_Telling(AWKWARD.raw).stats())),
    "a manager's statistics": lambda told: told.pool(_Telling(AWKWARD.raw)),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_what_leaks_on_purpose_is_caught(leak: Callable[[Told], object]) -> None:
    with listening() as told:
        leak(told)
    with pytest.raises(AssertionError, match="tells"):
        told.assert_nothing_of(AWKWARD)


def test_hushing_reaches_the_parts_of_a_group() -> None:
    error = ExceptionGroup("several", [ValueError("AUTH xyzzyplugh is unknown")])
    hush(error, "xyzzyplugh")
    assert "xyzzyplugh" not in repr(error.exceptions)
