"""What adapters do with the words of a driver that may hold a part of a password."""

from __future__ import annotations

import contextlib
import traceback
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given

from aiopool.adapters import complaint, hush
from tests.security.secret import AWKWARD, Secret, few_examples, secrets

ADDRESSES = [
    "postgresql://app:{}@db.example/app",
    "redis://:{}@db.example:port/0",
    "https://app:{}@[::1",
    "postgresql://db.example/app?password={}",
    "host=db.example password={}",
    "{}",
]


@pytest.mark.parametrize("address", ADDRESSES)
@few_examples
@given(secret=secrets())
@example(secret=Secret("JJQXZJ\tJQZ"))
def test_a_complaint_about_an_address_has_no_part_of_its_password(address: str, secret: Secret) -> None:
    for password in (secret.raw, secret.quoted):
        held = address.format(password)
        errors = [ValueError(f"cannot read {held!r}")]
        with contextlib.suppress(ValueError):
            errors += [ValueError(f"unknown: {part!r}") for part in urlsplit(held)]
            errors += [ValueError(f"unknown: {key}={value}") for key, value in parse_qs(urlsplit(held).query).items()]
        for error in errors:
            assert not secret.told_in(complaint(error, held))


def test_a_complaint_with_none_of_its_words_is_told() -> None:
    assert complaint(ValueError("Invalid IPv6 URL"), "redis://:hunter2@[::1") == " (Invalid IPv6 URL)"


@few_examples
@given(secret=secrets())
@example(secret=Secret("\tJJQXZJJQXZ"))
@example(secret=Secret("\xe9JJQXZJJQXZ"))
def test_an_error_that_repeats_a_password_loses_its_words_and_keeps_its_class(secret: Secret) -> None:
    error = ConnectionError("cannot log in")
    error.__cause__ = ValueError(f"unknown command `AUTH` with `{secret.raw}`")
    error.__cause__.__context__ = UnicodeEncodeError("ascii", secret.raw, 0, 1, "no")
    hush(error, None, secret.raw)
    told = "".join(traceback.format_exception(error)) + repr(error.__cause__) + repr(error.__cause__.__context__)
    assert not secret.told_in(told)
    assert "ConnectionError: cannot log in" in told
    assert "ValueError: its words repeat a part of the password" in told


def test_an_error_that_repeats_nothing_stays_as_it_is() -> None:
    error = ConnectionError("nobody is there")
    hush(error, AWKWARD.raw, AWKWARD.quoted)
    assert str(error) == "nobody is there"
