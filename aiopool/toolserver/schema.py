"""The JSON Schema of one parameter: how the file writes it, and how it is checked."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic_core import SchemaError as WrongPattern
from pydantic_core import SchemaValidator, core_schema

from aiopool.configfile import suggest
from aiopool.configvalues import COUNT, NUMBER, TEXT, ValueType, one_of
from aiopool.envvars import EnvText
from aiopool.toolserver.section import Section

TYPES = ("string", "integer", "number", "boolean", "array", "object")
#: What may stand in a schema, and the types that it means something for (none: for all). A keyword that is not here
#: is refused: that is what makes a misspelt one visible, and no `$ref` can lead into a circle or to another machine.
KEYWORDS: dict[str, tuple[str, ...]] = {
    "type": (),
    "title": (),
    "description": (),
    "default": (),
    "enum": (),
    "const": (),
    "minimum": ("integer", "number"),
    "maximum": ("integer", "number"),
    "minLength": ("string",),
    "maxLength": ("string",),
    "pattern": ("string",),
    "format": ("string",),
    "items": ("array",),
    "minItems": ("array",),
    "maxItems": ("array",),
    "properties": ("object",),
    "required": ("object",),
    "additionalProperties": ("object",),
}
#: Levels; validators take many frames of Python's stack for each.
_DEEPEST = 32
_PAIRS: tuple[tuple[str, str], ...] = (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems"))

Path = tuple[str | int, ...]


@functools.lru_cache(maxsize=1_000)
def _matcher(pattern: str) -> SchemaValidator:
    # Rust's expressions take linear time, whatever the text: Python's own can be made to run for years. And their
    # `$` is the end, as in JavaScript, and not also what stands before a last line break.
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _match(_: Any, pattern: str, text: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(text, str) and not _matcher(pattern).isinstance_python(text):
        yield ValidationError("does not match")


#: JSON Schema 2020-12 with patterns that cannot be used against us.
Checker: Any = validators.extend(Draft202012Validator, {"pattern": _match})  # type: ignore[no-untyped-call]


def is_of(schema: Mapping[str, Any], name: str) -> bool:
    """Whether this type is one of those that the schema names."""
    stated = schema.get("type", ())
    return name == stated or (not isinstance(stated, str) and name in stated)


def problems(schema: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """What is wrong with a schema, and where; no value is quoted."""
    if _is_deep(schema):
        yield path, f"is nested more than {_DEEPEST} levels deep; write it out flat"
        return
    try:
        json.dumps(schema, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError):
        yield path, "holds something that JSON cannot: a date, or a number without end; put it into quotes"
        return
    try:
        # Its own idea of a pattern is Python's.
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as exc:
        where = (*path, *exc.absolute_path)
        wanted = f"; it must be of type {exc.validator_value}" if exc.validator == "type" else ""
        yield where, f"is no valid JSON Schema{wanted}"
        return
    yield from _problems(schema, path)


def _is_deep(value: Any) -> bool:
    layer = [value]
    for _ in range(_DEEPEST):
        parents = [each for each in layer if isinstance(each, Mapping | list)]
        if not parents:
            return False
        layer = [item for each in parents for item in (each.values() if isinstance(each, Mapping) else each)]
    return True


def _problems(schema: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(schema, Mapping):
        return
    for keyword in schema:
        if keyword not in KEYWORDS:
            yield (*path, keyword), f"is not known here{suggest(keyword, KEYWORDS)}"
        elif (types := KEYWORDS[keyword]) and "type" in schema and not any(is_of(schema, each) for each in types):
            yield (*path, keyword), f"means nothing for the type {show(schema['type'])}; remove it"
    for least, most in _PAIRS:
        if schema.get(least, -math.inf) > schema.get(most, math.inf):
            yield (*path, least), f"is above {most}, so that no value fits; change one of them"
    if "pattern" in schema:
        try:
            _matcher(schema["pattern"])
        except WrongPattern:
            yield (
                (*path, "pattern"),
                "is no regular expression, or a huge one, or one with look-around or back-references; write it simpler",
            )
            return  # nothing can be checked with it
    yield from _problems(schema.get("items"), (*path, "items"))
    yield from _problems(schema.get("additionalProperties"), (*path, "additionalProperties"))
    for name, each in schema.get("properties", {}).items():
        yield from _problems(each, (*path, "properties", name))
    without = Checker({key: value for key, value in schema.items() if key not in ("enum", "const", "default")})
    try:
        for number, choice in enumerate(schema.get("enum", ())):
            if not without.is_valid(choice):
                yield (
                    (*path, "enum", number),
                    "can never be given, as it does not fit the type and bounds; put text such as 1 and no into quotes",
                )
    except WrongPattern:
        pass  # told where it stands


def show(value: Any) -> str:
    """A value as JSON writes it, cut short in the middle."""
    text = json.dumps(value[:200] if isinstance(value, str) else value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:80]}…{text[-30:]}"


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError
    return dict(value)


#: What a parameter may say in the file, and the JSON Schema keyword for it.
_KEYS: dict[str, tuple[str, ValueType]] = {
    "type": ("type", one_of(*TYPES)),
    "description": ("description", TEXT),
    "enum": ("enum", ValueType("a list of the values that are allowed", _list)),
    "minimum": ("minimum", NUMBER),
    "min": ("minimum", NUMBER),
    "maximum": ("maximum", NUMBER),
    "max": ("maximum", NUMBER),
    "min_length": ("minLength", COUNT),
    "max_length": ("maxLength", COUNT),
    "pattern": ("pattern", TEXT),
    "items": ("items", ValueType("a JSON Schema, such as {type: string}", _table)),
    "min_items": ("minItems", COUNT),
    "max_items": ("maxItems", COUNT),
    "properties": ("properties", ValueType("a table of JSON Schemas", _table)),
}
_DEFAULT = ValueType("a value", lambda value: value)
#: Every key of a parameter, but for `name` and `required`, which are none of its schema's.
PARAMETER_KEYS: dict[str, ValueType] = {key: value_type for key, (_, value_type) in _KEYS.items()} | {
    "default": _DEFAULT
}


def read_schema(parameter: Section) -> dict[str, Any]:
    """The JSON Schema of a parameter; what is wrong is noted, and then it is but its type."""
    values = parameter.read(PARAMETER_KEYS)
    schema: dict[str, Any] = {"type": values.get("type", "string")}
    written: dict[str, str] = {}
    for key, (keyword, _) in _KEYS.items():
        if key in values:
            if keyword in written:
                parameter.refuse(f"says the same as {written[keyword]}; remove one", key)
            schema[keyword], written[keyword] = values[key], key
    schema = _plain(schema)
    wrong = list(problems(schema))
    for path, problem in wrong:
        parameter.refuse(problem, *(written.get(str(step), step) for step in path[:1]), *path[1:])
    if wrong:
        return {"type": schema["type"]}
    if "default" in values:
        default = _plain(_default(values["default"], schema["type"]))
        if any(problems({"default": default})) or not Checker(schema).is_valid(default):
            quotes = "; put it into quotes" if schema["type"] == "string" else ""
            parameter.refuse(f"does not fit the parameter itself, of the type {schema['type']}{quotes}", "default")
        else:
            schema["default"] = default
    return schema


def _plain(value: Any) -> Any:
    """A copy in which every key is text, as JSON has it, and not what YAML reads: `1`, `yes`, nothing.

    What JSON cannot hold stays as it is: `problems` has the words for it.
    """
    try:
        return json.loads(json.dumps(value))
    except (ValueError, TypeError, RecursionError):
        return value


def _default(value: Any, stated: str) -> Any:
    """Defaults may come from the environment, which has but text, and Gantz takes every default for text."""
    if isinstance(value, str) and stated in ("integer", "number", "boolean"):
        try:
            return json.loads(value.lower() if isinstance(value, EnvText) else value)
        except ValueError:
            return value
    # Of a whole number it is clear how it was written, nearly always; of 1.10 and `no` it is not.
    return str(value) if stated == "string" and type(value) is int else value
