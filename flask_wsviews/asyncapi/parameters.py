"""The variables of a URL rule as an AsyncAPI channel's address and parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from werkzeug.routing import AnyConverter, FloatConverter, IntegerConverter, PathConverter
from werkzeug.routing.converters import UUIDConverter

if TYPE_CHECKING:
    from werkzeug.routing import Rule

# A variable part of a rule: <name>, <converter:name>, <converter(arguments):name>.
_VARIABLE = re.compile(r"<(?:[a-zA-Z_]\w*(?:\([^)]*\))?:)?([a-zA-Z_]\w*)>")


def address_of(rule: Rule) -> str:
    """Return the path with its variables in braces."""
    return _VARIABLE.sub(r"{\1}", rule.rule)


def parameters_of(rule: Rule) -> dict[str, Any]:
    """Return a parameter object for each variable of the path.

    AsyncAPI 3 has no types for parameters, so a description says what the converter accepts.
    """
    names = _VARIABLE.findall(rule.rule)
    return {name: _parameter(rule, name) for name in names}


def _parameter(rule: Rule, name: str) -> dict[str, Any]:
    converter = rule._converters[name]
    found: dict[str, Any] = {}
    if isinstance(converter, AnyConverter):
        found["enum"] = sorted(converter.items)
    elif isinstance(converter, IntegerConverter):
        found = {"description": _number("An integer", converter), "examples": ["1"]}
    elif isinstance(converter, FloatConverter):
        found = {"description": _number("A number", converter), "examples": ["1.5"]}
    elif isinstance(converter, UUIDConverter):
        found["description"] = "A UUID."
        found["examples"] = ["123e4567-e89b-42d3-a456-426614174000"]
    elif isinstance(converter, PathConverter):
        found["description"] = "A path; it may contain slashes."
    return found


def _number(what: str, converter: Any) -> str:
    limits = [
        f"{word} {limit}"
        for word, limit in (("from", converter.min), ("up to", converter.max))
        if limit is not None
    ]
    return " ".join([what, *limits]) + "."
