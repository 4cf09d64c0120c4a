"""Templates: filled in one pass, whatever the values hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopool.toolserver.template import Template

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,9}", fullmatch=True)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda item: st.lists(item, max_size=3))


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> None:
    """Pure functions leave nothing, and to look for it takes longer than they do."""


@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), data=st.data())
def test_what_is_put_in_is_never_looked_at_again(names: list[str], data: st.DataObject) -> None:
    values = {name: f"{{{{{data.draw(st.sampled_from(names))}}}}}" for name in names}
    text = "".join(f"<{{{{{name}}}}}>" for name in names)
    assert Template(text).render(values) == "".join(f"<{values[name]}>" for name in names)


@given(st.text(alphabet=st.sampled_from("{}ab .#")), NAMES, st.text())
def test_text_without_placeholders_stays_as_it_is(text: str, name: str, value: str) -> None:
    template = Template(text)
    if not template.names:
        assert template.render({name: value}) == text


@given(JSON)
def test_values_that_are_no_text_are_written_as_json(value: object) -> None:
    shown = Template("{{v}}").render({"v": value})
    if isinstance(value, str):
        assert shown == value
    elif value is None:
        assert shown == ""
    else:
        assert json.loads(shown) == value


def test_a_missing_argument_is_nothing() -> None:
    assert Template("<{{ a }}>").render({}) == "<>"


def test_every_value_passes_through_the_quotes() -> None:
    assert Template("x={{a}} y={{ b }}").render({"a": "1", "b": True}, lambda text: f"'{text}'") == "x='1' y='true'"


def test_a_text_that_is_one_placeholder_knows_it() -> None:
    assert Template(" {{ query }}\n").whole == "query"
    assert Template("{{query}};").whole is None
    assert Template("{{a}}{{b}}").whole is None


@pytest.mark.parametrize("text", ["{{.Names}}", "{{json .}}", "{{}}", "{{1}}", "{a}", "{{a", "{{a b}}", "{{ünï}}"])
def test_what_programs_such_as_docker_are_handed_is_no_placeholder(text: str) -> None:
    template = Template(text)
    assert template.render({"a": "x"}) == text
    assert template.strangers([]) == []


def test_a_placeholder_in_braces_of_json_is_found() -> None:
    assert Template('{"a": {"b": {{x}}}}').render({"x": 1}) == '{"a": {"b": 1}}'


def test_an_unknown_placeholder_is_told_with_what_may_be_meant() -> None:
    problem = "{{qery}} is no parameter of this tool; did you mean 'query'?"
    assert Template("{{qery}} {{limit}}").strangers(["query", "limit"]) == [problem]


@pytest.mark.parametrize("text", ["{{#if a}}", "{{/if}}", "{{ if a }}", "{{- range .Items }}", "{{^a}}"])
def test_conditions_and_loops_are_refused(text: str) -> None:
    [problem] = Template(text).strangers(["a"])
    assert "condition or a loop" in problem


def test_a_parameter_may_be_called_end() -> None:
    assert Template("{{end}}").strangers(["end"]) == []
