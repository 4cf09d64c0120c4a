"""`Parameters`: what a tool may be called with, as JSON Schema, checked before anything runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from jsonschema.exceptions import ValidationError

from aiopool.configfile import is_unicode, show_path, suggest
from aiopool.configvalues import FLAG, TEXT
from aiopool.telling import ToolFailure
from aiopool.toolserver.schema import PARAMETER_KEYS, Checker, is_of, read_schema, show
from aiopool.toolserver.section import Section

#: What every provider of models accepts.
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
_OWN_KEYS = {"name": TEXT, "required": FLAG}
#: Keys that are seen in files for other servers, and what to write here.
_REMEDIES = {
    "validation": "write `enum`, `pattern`, `min`, `max`, `min_length` or `max_length` on the parameter itself",
    "minLength": "write `min_length`",
    "maxLength": "write `max_length`",
    "minItems": "write `min_items`",
    "maxItems": "write `max_items`",
}
#: How many problems of one call are told at once.
_TOLD = 5
#: Deeper than any sane argument, and far from where Python's recursion ends.
_DEEPEST = 64


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
        # Told first is what is missing or unknown, of many problems.
        self._checker = Checker(dict(sorted(self.schema.items(), key=lambda item: item[0] == "properties")))

    def complete(self, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
        """A copy of the arguments, with the defaults of those that are missing; raises `InvalidArguments`.

        What JSON Schema calls an integer is an `int` afterwards: a client may have written 1.0.
        """
        if not isinstance(arguments, Mapping | None):
            raise InvalidArguments("the arguments must be an object with the parameters' names as keys")
        given: dict[str, Any] = _sound({**self._defaults, **(arguments or {})})
        # More would only cost time: one wrong item in a long list means that all are wrong.
        errors = islice(self._checker.iter_errors(given), 4 * _TOLD)
        if problems := list(dict.fromkeys(problem for error in errors for problem in _told(error))):
            more = ["…"] if len(problems) > _TOLD else []
            raise InvalidArguments("; ".join([*problems[:_TOLD], *more]))
        properties = self.schema["properties"]
        return {name: _with_integers(given[name], properties[name]) for name in self.names if name in given}


def _sound(value: Any, place: tuple[str | int, ...] = ()) -> Any:
    """A copy of what JSON can hold; refuses the rest, which validators let pass and drivers stumble over."""
    if len(place) > _DEEPEST:
        raise InvalidArguments(f"{_name(place[:1])} is nested more than {_DEEPEST} levels deep")
    if isinstance(value, str):
        if not is_unicode(value):
            raise InvalidArguments(f"{_name(place)} holds half a character (a lone surrogate), which is no valid text")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not is_unicode(key):
                raise InvalidArguments(f"{_name(place)} has a key that is no valid text")
        return {key: _sound(item, (*place, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sound(item, (*place, number)) for number, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArguments(f"{_name(place)} is not a finite number, which JSON does not know")
    if value is None or isinstance(value, bool | int | float):
        return value
    raise InvalidArguments(f"{_name(place)} is of the type {type(value).__name__}, which JSON does not know")


def _with_integers(value: Any, schema: Any) -> Any:
    """The same with an int for every float that the schema calls an integer."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, float) and is_of(schema, "integer") and not is_of(schema, "number"):
        return int(value) if value.is_integer() else value
    if isinstance(value, list) and "items" in schema:
        return [_with_integers(item, schema["items"]) for item in value]
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        return {key: _with_integers(item, properties.get(key, others)) for key, item in value.items()}
    return value


_LIMITS = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "pattern": "must match the pattern {}",
    "const": "must be {}",
}


def _told(error: ValidationError) -> Iterator[str]:
    """One problem or more, in words that name the argument; values are cut short."""
    name = _name(tuple(error.absolute_path))
    given: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "required":
            for missing in wanted:
                if missing not in given:
                    yield f"{_name((*error.absolute_path, missing))} is missing"
        case "additionalProperties" if wanted is False:
            known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
            for extra in islice((key for key in given if key not in known), _TOLD):
                place = f" of {name}" if error.absolute_path else ""
                # Likeness is measured in quadratic time.
                yield f"there is no parameter {show(extra)}{place}{suggest(extra[:64], known)}"
        case "type":
            types = [wanted] if isinstance(wanted, str) else wanted
            yield f"{name} must be of type {' or '.join(types)}, not {show(given)}"
        case "enum":
            yield f"{name} must be one of {', '.join(map(show, wanted[:50]))}, not {show(given)}"
        case str() as limit if limit in _LIMITS:
            yield f"{name} {_LIMITS[limit].format(show(wanted))}, not {show(given)}"
        case _:
            yield f"{name} does not fit {show(error.validator)}: {show(wanted)}"


def _name(place: tuple[str | int, ...]) -> str:
    return f"argument {show_path(place)}" if place else "the arguments"


def read_parameters(tool: Section) -> Parameters:
    """What stands under `parameters` of a tool; problems are noted."""
    properties: dict[str, dict[str, Any]] = {}
    required: list[str] = []
    for section in tool.sections("parameters"):
        section.refuse_unknown(_OWN_KEYS | PARAMETER_KEYS, _REMEDIES)
        own, schema = section.read(_OWN_KEYS), read_schema(section)
        name = own.get("name")
        if name is None:
            if "name" not in section:
                section.refuse("has no `name`; add one")
        elif not _NAME.fullmatch(name):
            section.refuse("must be at most 64 letters, digits and _ . - and begin with a letter", "name")
        elif name in properties:
            section.refuse("is the name of an earlier parameter, too; give it another", "name")
        else:
            properties[name] = schema
            # A default is what makes a parameter optional, whatever else is said of it: files for Gantz say both.
            if own.get("required") and "default" not in section:
                required.append(name)
    return Parameters(properties, tuple(required))
