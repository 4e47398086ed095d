"""marshmallow schemas as JSON Schema: by apispec, and corrected where it isn't precise.

What a schema loads and what it dumps are two things: ``dump_only`` and ``load_only`` fields differ,
and unknown fields are refused on one way only. A schema that others nest becomes a component, by
its class's name; where the two ways differ, the one for loading is called ``…Input``.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import INCLUDE, RAISE, Schema, fields, validate

JSONSchema = dict[str, Any]

COMPONENTS = "#/components/schemas/"

# Keywords of OpenAPI that JSON Schema doesn't know.
_FOREIGN = ("readOnly", "writeOnly", "x-minimum", "x-maximum", "min", "deprecated")


class Schemas:
    """Collects the schemas of a document, and those that they nest."""

    def __init__(self) -> None:
        self._names: dict[type[Any], str] = {}
        self._loads = _Way(self._names, loads=True)
        self._dumps = _Way(self._names, loads=False)

    def loaded(self, schema: Schema) -> JSONSchema:
        """What *schema* takes."""
        return self._loads.convert(schema)

    def dumped(self, schema: Schema) -> JSONSchema:
        """What *schema* gives."""
        return self._dumps.convert(schema)

    def components(self) -> dict[str, JSONSchema]:
        """The nested schemas by name. Call it, and :meth:`named`, when all are collected."""
        differing = self._names_that_differ()
        found = dict(self._dumps.components)
        for name, schema in self._loads.components.items():
            found[f"{name}Input" if name in differing else name] = self.named(schema)
        return dict(sorted(found.items()))

    def named(self, loaded: Any) -> Any:
        """A schema for loading, its references by the names that the components have."""
        differing = self._names_that_differ()
        if isinstance(loaded, list):
            return [self.named(item) for item in loaded]
        if not isinstance(loaded, dict):
            return loaded
        found = {key: self.named(value) for key, value in loaded.items()}
        reference = found.get("$ref")
        if isinstance(reference, str) and reference.removeprefix(COMPONENTS) in differing:
            found["$ref"] = f"{reference}Input"
        return found

    def _names_that_differ(self) -> set[str]:
        loads, dumps = self._loads.components, self._dumps.components
        differing = {name for name in loads if name in dumps and loads[name] != dumps[name]}
        while True:
            # One that refers to such a component is such a component itself.
            more = {
                name
                for name in loads.keys() & dumps.keys() - differing
                if any(f'"{COMPONENTS}{other}"' in _text(loads[name]) for other in differing)
            }
            if not more:
                return differing
            differing |= more


class _Way:
    """The schemas of one direction."""

    def __init__(self, names: dict[type[Any], str], *, loads: bool) -> None:
        plugin = _Plugin(schema_name_resolver=lambda schema: _name_of(schema, names))
        self._spec = APISpec("", "", "3.1.0", plugins=[plugin])
        assert isinstance(plugin.converter, _Converter)
        self._converter = plugin.converter
        self._converter.loads = loads

    def convert(self, schema: Schema) -> JSONSchema:
        with warnings.catch_warnings():
            # It numbers variants of one class, and says so each time.
            warnings.filterwarnings("ignore", module="apispec")
            converted: JSONSchema = self._converter.schema2jsonschema(schema)
        return {"type": "array", "items": converted} if schema.many else converted

    @property
    def components(self) -> dict[str, JSONSchema]:
        found: dict[str, JSONSchema] = self._spec.components.schemas
        return found


class _Converter(OpenAPIConverter):
    """apispec's, for one direction, and with what it leaves out."""

    loads = True

    def schema2jsonschema(self, schema: Any) -> JSONSchema:
        found: JSONSchema = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        found.pop("additionalProperties", None)
        if self.loads and schema.unknown == RAISE:
            found["additionalProperties"] = False
        elif schema.unknown == INCLUDE:
            found["additionalProperties"] = True
        about = type(schema).__doc__
        if about and "description" not in found:
            found["description"] = first_line(about)
        return found

    def fields2jsonschema(self, fields: Any, *, partial: Any = None) -> JSONSchema:
        left_out = "dump_only" if self.loads else "load_only"
        kept = {name: field for name, field in fields.items() if not getattr(field, left_out)}
        converted = super().fields2jsonschema(kept, partial=partial)  # type: ignore[no-untyped-call]
        found: JSONSchema = converted
        return found

    def resolve_nested_schema(self, schema: Any) -> JSONSchema:
        instance = schema() if isinstance(schema, type) else schema
        if isinstance(instance, Schema) and instance.unknown != instance.opts.unknown:
            # A component is told from others by its class and fields only.
            return self.schema2jsonschema(instance)
        found: JSONSchema = super().resolve_nested_schema(schema)  # type: ignore[no-untyped-call]
        return found

    def field2property(self, field: Any) -> JSONSchema:
        field = copy.copy(field)
        field.validators = list(_flattened(field.validators))
        found: JSONSchema = super().field2property(field)
        _purge(found, field)
        if not self.loads:
            found.pop("default", None)
        found.update(_of_type(field, self))
        found.update(_of_validators(field))
        if "enum" in found:
            found["enum"] = _plain(field, found["enum"])
        if field.allow_none:
            _allow_null(found)
        if "$ref" in found and len(found) > 1:
            # Draft 7 looks at nothing beside a reference.
            found["allOf"] = [{"$ref": found.pop("$ref")}]
        return found


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def _purge(found: JSONSchema, field: Any) -> None:
    """Take out what apispec says and JSON Schema doesn't know, or what isn't so."""
    for keyword in _FOREIGN:
        found.pop(keyword, None)
    for keyword in ("format", "pattern"):
        if keyword in found and found[keyword] is None:
            del found[keyword]
    if "example" in found:
        found["examples"] = [found.pop("example")]
    if isinstance(field, (fields.IP, fields.NaiveDateTime)):
        # There is no format for either kind of address, nor for a time of no zone.
        found.pop("format", None)
    if any(isinstance(validator, validate.Range) for validator in field.validators):
        # What is exclusive comes out as inclusive.
        found.pop("minimum", None)
        found.pop("maximum", None)
    if any(isinstance(validator, validate.ContainsOnly) for validator in field.validators):
        # It is for the items, not for the list.
        found.pop("enum", None)
    if isinstance(field, fields.Mapping):
        for wrong, right in (("minLength", "minProperties"), ("maxLength", "maxProperties")):
            if wrong in found:
                found[right] = found.pop(wrong)


def _of_type(field: Any, converter: _Converter) -> JSONSchema:
    """What apispec doesn't say of a type of field."""
    if isinstance(field, fields.Constant):
        return {"const": field.constant}
    if isinstance(field, fields.Decimal):
        if field.as_string and not converter.loads:
            return {"type": "string"}
        # JSON has no decimals: what isn't a float is written as text.
        return {"type": ["number", "string"]}
    if isinstance(field, fields.Tuple):
        items = [converter.field2property(item) for item in field.tuple_fields]
        return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
    if isinstance(field, fields.Url):
        return {"format": "uri"}
    if isinstance(field, fields.IP) and not isinstance(field, (fields.IPv4, fields.IPv6)):
        return {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
    if isinstance(field, fields.IPInterface):
        return {"type": "string"}
    return {}


def _of_validators(field: Any) -> JSONSchema:
    """What apispec doesn't say, or not precisely, of a field's validators."""
    found: JSONSchema = {}
    for validator in field.validators:
        if isinstance(validator, validate.Range):
            found.update(_of_range(validator))
        elif isinstance(validator, validate.Regexp):
            # marshmallow looks at the beginning of the text, JSON Schema anywhere in it.
            pattern = str(validator.regex.pattern)
            found["pattern"] = pattern if pattern.startswith("^") else f"^(?:{pattern})"
        elif isinstance(validator, validate.NoneOf):
            found["not"] = {"enum": _plain(field, validator.iterable)}
        elif isinstance(validator, validate.ContainsOnly):
            found["items"] = {"enum": _plain(field.inner, validator.choices)}
    return found


def _of_range(validator: validate.Range) -> JSONSchema:
    low = "minimum" if validator.min_inclusive else "exclusiveMinimum"
    high = "maximum" if validator.max_inclusive else "exclusiveMaximum"
    bounds = {low: validator.min, high: validator.max}
    numbers = (int, float, Decimal)
    return {
        name: float(value) if isinstance(value, Decimal) else value
        for name, value in bounds.items()
        if isinstance(value, numbers)
    }


def _flattened(validators: Iterable[Any]) -> Iterator[Any]:
    for validator in validators:
        if isinstance(validator, validate.And):
            yield from _flattened(validator.validators)
        else:
            yield validator


def _plain(field: Any, values: Iterable[Any]) -> list[Any]:
    """Values as they are in JSON, each once."""
    found: list[Any] = []
    for value in values:
        is_plain = value is None or isinstance(value, (str, int, float))
        plain = value if is_plain else field.serialize("value", {"value": value})
        if plain not in found:
            found.append(plain)
    return found


def _allow_null(found: JSONSchema) -> None:
    if "type" in found:
        types = found["type"] if isinstance(found["type"], list) else [found["type"]]
        found["type"] = types if "null" in types else [*types, "null"]


def _name_of(schema: Any, names: dict[type[Any], str]) -> str:
    """A name for a schema's class that no other class has."""
    cls = schema if isinstance(schema, type) else type(schema)
    if cls not in names:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", cls.__name__.removesuffix("Schema") or cls.__name__)
        taken = set(names.values())
        number = 1
        unique = name
        while unique in taken:
            number += 1
            unique = f"{name}{number}"
        names[cls] = unique
    return names[cls]


def first_line(doc: str) -> str:
    """The summary of a docstring."""
    return doc.strip().partition("\n")[0].strip()


def _text(schema: JSONSchema) -> str:
    return str(schema).replace("'", '"')
