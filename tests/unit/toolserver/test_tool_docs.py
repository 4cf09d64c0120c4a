"""What the page on tools says, held against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aiopool.toolserver import http, redis, sql
from aiopool.toolserver._redis_commands import DANGEROUS, UNFIT
from aiopool.toolserver._sql_rules import READING, WRITING

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "mcp" / "tools.md").read_text(encoding="utf-8")


def part(title: str) -> str:
    return PAGE.split(f"\n## `{title}`\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("body", [sql, redis, http], ids=lambda body: body.KEY)
def test_every_key_of_a_body_is_documented(body):
    assert {key for key in body._KEYS if not re.search(rf"\b{key}\b", part(body.KEY))} == set()


def test_the_words_that_a_statement_may_begin_with_are_documented():
    listed = next(each for each in part("sql").splitlines() if each.startswith("- It has to begin"))
    listed = part("sql")[part("sql").index(listed) :].split("This is defence")[0]
    assert set(re.findall(r"`([A-Z]+)`", listed)) == {word.upper() for word in READING | WRITING}


def test_the_commands_that_are_named_are_those_that_are_refused():
    spelled, never = (
        next(each for each in part("redis").split("\n- ") if key in each) for key in ("FLUSHALL", "MULTI")
    )
    assert set(re.findall(r"`([A-Z]+)`", spelled)) <= DANGEROUS
    assert set(re.findall(r"`([A-Z]+)`", never)) <= UNFIT
