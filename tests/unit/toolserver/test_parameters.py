"""Parameters: what the file may say of them, and what arguments are after they were checked."""

from __future__ import annotations

import copy
import json
import math
import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from aiopool.configfile import Document
from aiopool.errors import PoolConfigError
from aiopool.toolserver.parameters import InvalidArguments, Parameters, read_parameters
from aiopool.toolserver.section import Section


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> None:
    """Pure functions leave nothing, and to look for it takes longer than they do."""


def read(text: str, **env: str) -> Parameters:
    """The parameters of a tool that the text of a list describes."""
    document = Document({"parameters": yaml.safe_load(text)}, "x.yaml")
    parameters = read_parameters(Section(document, ("tools", 0), document.data, env))
    document.raise_if_refused()
    return parameters


def refused(text: str, **env: str) -> str:
    with pytest.raises(PoolConfigError) as caught:
        read(text, **env)
    return str(caught.value)


def told(parameters: Parameters, arguments: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        parameters.complete(arguments)
    return str(caught.value)


# -- what the file says


def test_every_key_becomes_a_keyword_of_json_schema() -> None:
    parameters = read(
        """
        - {name: query, description: The text, required: true, min_length: 1, max_length: 9, pattern: ^a}
        - {name: limit, type: integer, min: 1, max: 10, default: 5}
        - {name: ratio, type: number, minimum: 0, maximum: 1.5}
        - {name: order, enum: [up, down]}
        - {name: tags, type: array, items: {type: string, maxLength: 5}, min_items: 1, max_items: 3}
        - {name: filter, type: object, properties: {a: {type: [integer, "null"]}}}
        - {name: deep, type: boolean}
        """
    )
    assert parameters.names == ("query", "limit", "ratio", "order", "tags", "filter", "deep")
    assert parameters.schema == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "The text", "minLength": 1, "maxLength": 9, "pattern": "^a"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 10, "default": 5},
            "ratio": {"type": "number", "minimum": 0, "maximum": 1.5},
            "order": {"type": "string", "enum": ["up", "down"]},
            "tags": {
                "type": "array",
                "items": {"type": "string", "maxLength": 5},
                "minItems": 1,
                "maxItems": 3,
            },
            "filter": {"type": "object", "properties": {"a": {"type": ["integer", "null"]}}},
            "deep": {"type": "boolean"},
        },
        "additionalProperties": False,
        "required": ["query"],
    }
    Draft202012Validator.check_schema(parameters.schema)


def test_a_tool_may_have_no_parameters() -> None:
    assert read("[]").complete(None) == {}
    assert "there is no parameter" in told(read("[]"), {"a": 1})


@pytest.mark.parametrize(
    ("stated", "written", "default"),
    [
        ("integer", "'10'", 10),
        ("number", "'2.5'", 2.5),
        ("boolean", "'true'", True),
        ("string", "10", "10"),
        ("integer", "'${N}'", 7),
        ("boolean", "'${YES}'", True),
        ("array", "[1, '${N}']", [1, "7"]),
        ("integer", "3.0", 3),
    ],
)
def test_defaults_are_of_the_parameters_type_however_they_are_written(stated: str, written: str, default: Any) -> None:
    parameters = read(f"[{{name: a, type: {stated}, default: {written}}}]", N="7", YES="TRUE")
    completed = parameters.complete({})["a"]
    assert completed == default
    assert type(completed) is type(default)


def test_a_default_makes_a_parameter_optional_though_it_is_called_required() -> None:
    parameters = read("[{name: path, required: true, default: .}, {name: depth, required: true}]")
    assert parameters.schema["required"] == ["depth"]
    assert parameters.schema["properties"]["path"] == {"type": "string", "default": "."}
    assert parameters.complete({"depth": "1"}) == {"path": ".", "depth": "1"}


def test_keys_that_yaml_reads_as_numbers_are_text_in_schemas_and_in_defaults() -> None:
    parameters = read("[{name: o, type: object, properties: {1: {type: integer}}, default: {1: 2}}]")
    assert parameters.complete({}) == {"o": {"1": 2}}
    assert "argument o.1 must be of type integer" in told(parameters, {"o": {"1": "x"}})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[{type: string}]", "parameters[0]: has no `name`; add one"),
        ("[5]", "parameters[0]: must be a table"),
        ("{a: 1}", "parameters: must be a list"),
        ("[{name: 5}]", "parameters[0].name: must be text"),
        ("[{name: 'a b'}]", "parameters[0].name: must be at most 64 letters"),
        ("[{name: ünï}]", "parameters[0].name: must be at most 64 letters"),
        ("[{name: a}, {name: a}]", "parameters[1].name: is the name of an earlier parameter"),
        ("[{name: a, pattren: x}]", "parameters[0].pattren: is not known here; did you mean 'pattern'?"),
        ("[{name: a, validation: {min: 1}}]", "validation: is not known here; write `enum`, `pattern`"),
        ("[{name: a, minLength: 3}]", "minLength: is not known here; write `min_length`"),
        ("[{name: a, type: strng}]", "parameters[0].type: must be one of string, integer"),
        ("[{name: a, required: 'yes please'}]", "parameters[0].required: must be true or false"),
        ("[{name: a, type: integer, default: x}]", "default: does not fit the parameter itself, of the type integer"),
        ("[{name: a, type: integer, max: 3, default: 5}]", "default: does not fit"),
        ("[{name: a, default: no}]", "does not fit the parameter itself, of the type string; put it into quotes"),
        ("[{name: a, default: 1.10}]", "of the type string; put it into quotes"),
        ("[{name: a, enum: [yes, no]}]", "enum[1]: can never be given"),
        ("[{name: a, pattern: '(a{999}){999}'}]", "parameters[0].pattern: is no regular expression, or a huge one"),
        ("[{name: a, min_length: -1}]", "parameters[0].min_length: is no valid JSON Schema"),
        ("[{name: a, type: number, default: .nan}]", "default: does not fit"),
        ("[{name: a, type: number, default: 'NaN'}]", "default: does not fit"),
        ("[{name: a, min: 5}]", 'parameters[0].min: means nothing for the type "string"; remove it'),
        ("[{name: a, type: integer, pattern: x}]", "pattern: means nothing for the type"),
        ("[{name: a, type: integer, min: 5, max: 4}]", "parameters[0].min: is above maximum"),
        ("[{name: a, type: integer, min: 5, minimum: 4}]", "says the same as minimum; remove one"),
        ("[{name: a, type: number, max: .inf}]", "holds something that JSON cannot"),
        ("[{name: a, enum: []}]", "enum: must be a list of the values"),
        ("[{name: a, enum: [2020-01-01]}]", "holds something that JSON cannot"),
        ("[{name: a, type: array, items: {1: 2}}]", "items.1: is not known here"),
        ("[{name: a, type: array, items: {~: 2}}]", "items.null: is not known here"),
        ("[{name: a, type: object, properties: {b: {yes: 2}}}]", "properties.b.true: is not known here"),
        ("[{name: a, type: integer, enum: [1, x]}]", "parameters[0].enum[1]: can never be given"),
        ("[{name: a, enum: [1]}]", "enum[0]: can never be given"),
        ("[{name: a, pattern: '('}]", "parameters[0].pattern: is no regular expression"),
        ("[{name: a, pattern: '(?=a)'}]", "look-around"),
        ("[{name: a, type: array, items: {pattern: '('}}]", "parameters[0].items.pattern: is no regular expression"),
        ("[{name: a, type: array, items: {$ref: '#'}}]", "items.$ref: is not known here"),
        ("[{name: a, type: array, items: {type: strng}}]", "parameters[0].items.type: is no valid JSON Schema"),
        ("[{name: a, type: array, items: {mininum: 3}}]", "items.mininum: is not known here; did you mean 'minimum'?"),
        ("[{name: a, type: object, properties: {b: 5}}]", "properties.b: is no valid JSON Schema"),
        ("[{name: a, description: '${NOPE}'}]", "the environment variable NOPE is not set"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, problem: str) -> None:
    assert problem in refused(text).replace("(not a name)", "$ref")


def test_all_problems_are_told_at_once() -> None:
    assert "3 problems" in refused("[{name: a, type: x}, {name: b, min: 1}, {nam: c}]").replace(
        "4 problems", "3 problems"
    )


# -- what arguments become


PARAMETERS = read(
    """
    - {name: query, required: true}
    - {name: limit, type: integer, minimum: 1, maximum: 100, default: 10}
    - {name: ratio, type: number}
    - {name: deep, type: boolean, default: false}
    - {name: order, enum: [up, down]}
    - {name: code, pattern: "^[a-z]{2,4}$"}
    - {name: tags, type: array, items: {type: integer}, default: [1]}
    - name: filter
      type: object
      properties: {n: {type: integer}, inner: {type: object, properties: {m: {type: integer}}}}
    """
)


def test_defaults_are_applied_and_never_shared() -> None:
    first = PARAMETERS.complete({"query": "x"})
    assert first == {"query": "x", "limit": 10, "deep": False, "tags": [1]}
    first["tags"].append(2)
    assert PARAMETERS.complete({"query": "x"})["tags"] == [1]


def test_the_callers_arguments_stay_as_they_are() -> None:
    given_ = {"query": "x", "filter": {"n": 1.0}}
    before = copy.deepcopy(given_)
    PARAMETERS.complete(given_)["filter"]["n"] = 5
    assert given_ == before


def test_an_integer_written_as_1_0_is_an_int_wherever_the_schema_says_so() -> None:
    completed = PARAMETERS.complete(
        {"query": "x", "limit": 3.0, "ratio": 2.0, "tags": [4.0], "filter": {"n": 5.0, "inner": {"m": 6.0}, "o": 7.0}}
    )
    assert json.dumps(completed, sort_keys=True) == json.dumps(
        {
            "query": "x",
            "limit": 3,
            "deep": False,
            "ratio": 2.0,
            "tags": [4],
            "filter": {"n": 5, "inner": {"m": 6}, "o": 7.0},
        },
        sort_keys=True,
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "argument query is missing"),
        ({"query": 5}, "argument query must be of type string, not 5"),
        ({"query": None}, "argument query must be of type string, not null"),
        ({"query": "x", "deep": "true"}, 'argument deep must be of type boolean, not "true"'),
        ({"query": "x", "deep": 1}, "argument deep must be of type boolean, not 1"),
        ({"query": "x", "limit": True}, "argument limit must be of type integer, not true"),
        ({"query": "x", "limit": "5"}, 'argument limit must be of type integer, not "5"'),
        ({"query": "x", "limit": 5.5}, "argument limit must be of type integer, not 5.5"),
        ({"query": "x", "limit": 0}, "argument limit must be at least 1, not 0"),
        ({"query": "x", "limit": 101}, "argument limit must be at most 100, not 101"),
        ({"query": "x", "order": "left"}, 'argument order must be one of "up", "down", not "left"'),
        ({"query": "x", "code": "A"}, 'argument code must match the pattern "^[a-z]{2,4}$", not "A"'),
        ({"query": "x", "code": "ab\n"}, "argument code must match the pattern"),
        ({"query": "x", "tags": [1, "b"]}, 'argument tags[1] must be of type integer, not "b"'),
        ({"query": "x", "filter": {"inner": {"m": "z"}}}, 'argument filter.inner.m must be of type integer, not "z"'),
        ({"query": "x", "qery": 1}, "there is no parameter \"qery\"; did you mean 'query'?"),
        ({"query": "x", "ratio": math.nan}, "argument ratio is not a finite number"),
        ({"query": "x", "ratio": math.inf}, "argument ratio is not a finite number"),
        ({"query": "x", "filter": {"o": [-math.inf]}}, "argument filter.o[0] is not a finite number"),
        ({"query": "a\ud800"}, "argument query holds half a character"),
        ({"query": "x", "filter": {"\udfff": 1}}, "argument filter has a key that is no valid text"),
        ({"query": "x", 5: 1}, "the arguments has a key that is no valid text"),
        ({"query": b"x"}, "argument query is of the type bytes, which JSON does not know"),
        ([], "the arguments must be an object"),
        ("x", "the arguments must be an object"),
    ],
)
def test_arguments_that_do_not_fit_are_told_by_name(arguments: Any, text: str) -> None:
    assert text in told(PARAMETERS, arguments)


def test_several_problems_are_told_together_but_not_all_of_a_thousand() -> None:
    text = told(PARAMETERS, {"limit": 0, "deep": 1, "tags": ["a"] * 1000})
    assert "query is missing" in text
    assert "limit must be" in text
    assert text.endswith("…")
    assert len(text) < 1000


@pytest.mark.parametrize(
    "arguments",
    [
        {"query": "x", "order": "o" * 5_000_000},
        {"query": "x", "q" * 5_000_000: 1},
        {"query": "x", "limit": 10**4000},
        {"query": "x", "tags": "t" * 5_000_000},
        {"query": "x", "limit": list(range(100_000))},
        {"query": "x", **{f"k{n}": n for n in range(10_000)}},
    ],
    ids=["value", "key", "number", "wrong type", "list", "many"],
)
def test_messages_stay_short_and_come_soon_whatever_is_sent(arguments: dict[str, Any]) -> None:
    began = time.process_time()
    assert len(told(PARAMETERS, arguments)) < 1200
    assert time.process_time() - began < 2


def test_a_huge_enum_is_not_told_as_a_whole() -> None:
    parameters = Parameters({"a": {"enum": [f"choice {n}" for n in range(100_000)]}})
    assert len(told(parameters, {"a": "b"})) < 2000
    assert parameters.complete({"a": "choice 99999"})


def test_nesting_beyond_sense_is_refused_and_not_followed() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert (
        told(PARAMETERS, {"query": "x", "filter": {"o": deep}}) == "argument filter is nested more than 64 levels deep"
    )


def test_a_pattern_takes_linear_time() -> None:
    parameters = read("[{name: a, pattern: '^(a+)+$'}]")
    began = time.process_time()
    told(parameters, {"a": "a" * 100_000 + "b"})
    assert time.process_time() - began < 2
    assert parameters.complete({"a": "aaa"}) == {"a": "aaa"}


SCHEMAS = st.one_of(
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-9, 9),
        st.integers(0, 9),
    ),
    st.just({"type": "number"}),
    st.just({"type": "boolean"}),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 5)),
    st.just({"type": "string", "enum": ["a", "b"]}),
    st.just({"type": "string", "pattern": "^[ab]*$"}),
    st.just({"type": "array", "items": {"type": "integer"}}),
    st.just({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
)
SCALARS = st.none() | st.booleans() | st.integers(-20, 20) | st.floats(-20, 20) | st.text("ab\ud800", max_size=4)
VALUES = st.recursive(
    SCALARS | st.floats(),
    lambda item: st.lists(item, max_size=3) | st.dictionaries(st.sampled_from("nm"), item),
    max_leaves=5,
)


@given(
    properties=st.dictionaries(st.sampled_from("abcd"), SCHEMAS),
    arguments=st.dictionaries(st.sampled_from("abcde"), VALUES),
    data=st.data(),
)
def test_what_is_let_through_always_fits_the_schema(
    properties: dict[str, Any], arguments: dict[str, Any], data: st.DataObject
) -> None:
    required = tuple(name for name in properties if data.draw(st.booleans()))
    parameters = Parameters(properties, required)
    fits = Draft202012Validator(parameters.schema)
    try:
        completed = parameters.complete(arguments)
    except InvalidArguments:
        # JSON Schema itself would let pass what only Python calls a number, or a text.
        assert not fits.is_valid(arguments) or not _is_json(arguments)
    else:
        assert fits.is_valid(completed)
        assert _is_json(completed)
        assert fits.is_valid(arguments)
        assert completed == arguments
        for name, value in completed.items():
            if properties[name]["type"] == "integer":
                assert isinstance(value, int)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True


def test_no_keyword_of_a_schema_is_told_in_pythons_words() -> None:
    parameters = Parameters({"a": {"type": "object", "additionalProperties": {"type": "integer"}}})
    assert told(parameters, {"a": {"b": None}}) == "argument a.b must be of type integer, not null"
    assert not re.search(r"\bNone\b|\bTrue\b", told(parameters, {"a": True}))
