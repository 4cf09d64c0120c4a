"""Variables in a configuration's texts."""

from __future__ import annotations

import os
from typing import Any

import pytest

from aiopool.envvars import BROKEN, EnvError, EnvText, expand, expand_tree

ENV = {"HOST": "db", "PORT": "5432", "EMPTY": "", "TRICKY": "a${HOST}b$1"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${HOST}", "db"),
        ("postgresql://${HOST}:${PORT}/x", "postgresql://db:5432/x"),
        ("${HOST}${PORT}", "db5432"),
        ("${EMPTY}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("${HOST:-unused}", "db"),
        ("${HOST:?must be set}", "db"),
        ("${NONE:-redis://${HOST}:${PORT:-1}/0}", "redis://db:5432/0"),
        ("${HOST:-${NONE}}", "db"),
    ],
)
def test_variables_are_replaced(text: str, expanded: str) -> None:
    assert expand(text, ENV) == expanded


@pytest.mark.parametrize("text", ["", "$1", "$HOST", "$$", "$$HOST", "${1}", "${}", "100%", "{HOST}", "a $ {HOST}"])
def test_all_other_text_stays_as_it_is(text: str) -> None:
    assert expand(text, ENV) == text


def test_bytes_that_are_no_text_are_an_error_which_does_not_show_them() -> None:
    for text, env in (("a${RAW}", {"RAW": os.fsdecode(b"hunter2\xff")}), ("hunter2\ud800", {})):
        with pytest.raises(
            EnvError, match=r"holds half a character \(a lone surrogate\), or bytes that are no"
        ) as caught:
            expand(text, env)
        assert "hunter2" not in str(caught.value)


def test_what_a_variable_holds_is_not_expanded_again() -> None:
    assert expand("${TRICKY}", ENV) == "a${HOST}b$1"


@pytest.mark.parametrize("text", ["${NONE}", "a${NONE}b", "${NONE:-${NONE}}"])
def test_an_unset_variable_is_an_error_with_the_remedy(text: str) -> None:
    with pytest.raises(EnvError, match=r"variable NONE is not set; set it, or write \$\{NONE:-default\}"):
        expand(text, ENV)


@pytest.mark.parametrize("name", ["NONE", "EMPTY"])
def test_an_author_may_say_what_to_do_about_an_unset_or_empty_variable(name: str) -> None:
    with pytest.raises(EnvError, match=f"variable {name} is not set: ask Ann"):
        expand(f"${{{name}:? ask Ann }}", ENV)


@pytest.mark.parametrize("text", ["${HOST-x}", "${HOST:x}", "${HOST.x}", "${HO ST}"])
def test_a_variable_that_is_written_wrongly_is_an_error(text: str) -> None:
    with pytest.raises(EnvError, match="is not understood: write"):
        expand(text, ENV)


@pytest.mark.parametrize("text", ["${HOST", "${HOST:-${PORT}"])
def test_a_brace_that_is_not_closed_is_an_error(text: str) -> None:
    with pytest.raises(EnvError, match="no closing brace"):
        expand(text, ENV)


def test_an_error_never_shows_the_rest_of_the_text() -> None:
    with pytest.raises(EnvError) as caught:
        expand("postgresql://me:hunter2@${NONE}/x", ENV)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "whole"),
    [("${PORT}", True), ("${NONE:-5}", True), ("${PORT}s", False), ("5", False), ("${PORT}${PORT}", False)],
)
def test_only_a_text_that_is_one_variable_may_stand_for_a_number(text: str, whole: bool) -> None:
    assert isinstance(expand(text, ENV), EnvText) is whole


def test_a_tree_is_expanded_into_a_copy_and_all_its_problems_are_told() -> None:
    told: list[Any] = []
    tree = {"a": ["${HOST}", 1], "b": {"c": "${NONE}"}, "d": ["${NONE}"]}
    expanded = expand_tree(tree, ENV, ("pools",), lambda path, problem: told.append(path))
    assert expanded is BROKEN
    assert told == [("pools", "b", "c"), ("pools", "d", 0)]
    assert tree["a"] == ["${HOST}", 1]
    assert expand_tree(tree["a"], ENV, (), lambda *_: None) == ["db", 1]
