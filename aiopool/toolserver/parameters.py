"""`Parameters`: what a tool may be called with, as JSON Schema, checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match

from aiopool.configvalues import COUNT, FLAG, NUMBER, TEXT, ValueType, one_of
from aiopool.telling import ToolFailure
from aiopool.toolserver.section import Section

TYPES = ("string", "integer", "number", "boolean", "array", "object")


def _anything(value: Any) -> Any:
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError
    return dict(value)


#: What a parameter may say, and the JSON Schema keyword for it.
_BOUNDS: dict[str, tuple[str, ValueType]] = {
    "enum": ("enum", ValueType("a list of the values that are allowed", _list)),
    "minimum": ("minimum", NUMBER),
    "min": ("minimum", NUMBER),
    "maximum": ("maximum", NUMBER),
    "max": ("maximum", NUMBER),
    "min_length": ("minLength", COUNT),
    "max_length": ("maxLength", COUNT),
    "pattern": ("pattern", TEXT),
    "items": ("items", ValueType("a JSON Schema, such as {type: string}", _table)),
    "properties": ("properties", ValueType("a table of JSON Schemas", _table)),
}
_KEYS: dict[str, ValueType] = {
    "name": TEXT,
    "type": one_of(*TYPES),
    "description": TEXT,
    "required": FLAG,
    "default": ValueType("a value", _anything),
    **{key: value_type for key, (_, value_type) in _BOUNDS.items()},
}
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}")


class InvalidArguments(ToolFailure):
    """The arguments are not what the tool's schema allows; says which, and what is."""


class Parameters:
    """The parameters of one tool, in the order of the file."""

    def __init__(self, properties: Mapping[str, Mapping[str, Any]], required: tuple[str, ...] = ()) -> None:
        self.names = tuple(properties)
        #: JSON Schema 2020-12, as clients get it.
        self.schema: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
        if required:
            self.schema["required"] = list(required)
        self._defaults = {name: each["default"] for name, each in properties.items() if "default" in each}
        self._validator = Draft202012Validator(self.schema)

    def complete(self, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        """The arguments with the defaults of those that are missing; raises `InvalidArguments`."""
        given = {**self._defaults, **(arguments or {})}
        if error := best_match(self._validator.iter_errors(given)):
            raise InvalidArguments(_told(error))
        return given


def _told(error: ValidationError) -> str:
    place = ".".join(map(str, error.absolute_path))
    return f"argument {place}: {error.message}" if place else f"arguments: {error.message}"


def read_parameters(tool: Section) -> Parameters:
    """What stands under `parameters` of a tool; problems are noted."""
    properties: dict[str, dict[str, Any]] = {}
    required: list[str] = []
    for section in tool.sections("parameters"):
        values = section.read(_KEYS)
        section.refuse_unknown(_KEYS)
        name = values.get("name")
        if name is None:
            if "name" not in section:
                section.refuse("has no `name`; add one")
            continue
        if not _NAME.fullmatch(name):
            section.refuse("must be letters, digits and _ . - and begin with a letter", "name")
        elif name in properties:
            section.refuse("is the name of an earlier parameter, too; give it another", "name")
        else:
            properties[name] = _property(section, values)
            if values.get("required"):
                required.append(name)
                if "default" in values:
                    section.refuse("is never used, as the parameter is required; remove one of the two", "default")
    return Parameters(properties, tuple(required))


def _property(section: Section, values: Mapping[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": values.get("type", "string")}
    if "description" in values:
        schema["description"] = values["description"]
    for key, (keyword, _) in _BOUNDS.items():
        if key in values:
            if keyword in schema:
                section.refuse(f"says the same as {keyword}; remove one", key)
            schema[keyword] = values[key]
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        # Its message would quote the value.
        section.refuse(f"is no valid JSON Schema (at {'.'.join(map(str, exc.absolute_path)) or 'its top'})")
        return {"type": schema["type"]}
    if "default" in values:
        if Draft202012Validator(schema).is_valid(values["default"]):
            schema["default"] = values["default"]
        else:
            section.refuse(f"does not fit the parameter itself, a {schema['type']}", "default")
    return schema
