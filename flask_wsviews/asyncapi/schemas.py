"""marshmallow schemas as JSON Schema, by apispec with corrections.

A schema may load something else than it dumps: ``dump_only`` and ``load_only`` fields differ, and
only loading refuses unknown fields. A nested schema becomes a component, named after its class. If
the two directions differ, the component for loading is called ``…Input``.
"""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import INCLUDE, RAISE, Schema

from .corrections import JSONSchema, correct, flattened
from .text import first_line

__all__ = ["COMPONENTS", "JSONSchema", "Schemas"]

COMPONENTS = "#/components/schemas/"


class Schemas:
    """Converts schemas, and collects those that they nest."""

    def __init__(self) -> None:
        self._names: dict[type[Any], str] = {}
        self._loads = _Direction(self._names, loads=True)
        self._dumps = _Direction(self._names, loads=False)

    def loaded(self, schema: Schema) -> JSONSchema:
        """Return the JSON Schema of what *schema* loads."""
        return self._loads.convert(schema)

    def dumped(self, schema: Schema) -> JSONSchema:
        """Return the JSON Schema of what *schema* dumps."""
        return self._dumps.convert(schema)

    def components(self) -> dict[str, JSONSchema]:
        """Return the nested schemas by name. Call it after the last conversion."""
        differing = self._names_that_differ()
        found = dict(self._dumps.components)
        for name, schema in self._loads.components.items():
            found[f"{name}Input" if name in differing else name] = self.named(schema)
        return dict(sorted(found.items()))

    def named(self, loaded: Any) -> Any:
        """Return a schema for loading with its references renamed to the components' final names.

        Call it after the last conversion.
        """
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
            # A schema that refers to a differing one differs, too.
            more = {
                name
                for name in loads.keys() & dumps.keys() - differing
                if any(f'"{COMPONENTS}{other}"' in _text(loads[name]) for other in differing)
            }
            if not more:
                return differing
            differing |= more


class _Direction:
    """Converts schemas for loading, or for dumping."""

    def __init__(self, names: dict[type[Any], str], *, loads: bool) -> None:
        plugin = _Plugin(schema_name_resolver=lambda schema: _name_of(schema, names))
        self._spec = APISpec("", "", "3.1.0", plugins=[plugin])
        assert isinstance(plugin.converter, _Converter)
        self._converter = plugin.converter
        self._converter.loads = loads

    def convert(self, schema: Schema) -> JSONSchema:
        with warnings.catch_warnings():
            # apispec warns each time it numbers a variant of a class.
            warnings.filterwarnings("ignore", module="apispec")
            converted: JSONSchema = self._converter.schema2jsonschema(schema)
        return {"type": "array", "items": converted} if schema.many else converted

    @property
    def components(self) -> dict[str, JSONSchema]:
        found: dict[str, JSONSchema] = self._spec.components.schemas
        return found


class _Converter(OpenAPIConverter):
    """apispec's converter for one direction, with corrections."""

    loads = True

    def schema2jsonschema(self, schema: Any) -> JSONSchema:
        found: JSONSchema = super().schema2jsonschema(schema)
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
        converted = super().fields2jsonschema(kept, partial=partial)
        found: JSONSchema = converted
        return found

    def resolve_nested_schema(self, schema: Any) -> JSONSchema:
        instance = schema() if isinstance(schema, type) else schema
        if isinstance(instance, Schema) and instance.unknown != instance.opts.unknown:
            # apispec identifies a component by its class and fields, without this option.
            return self.schema2jsonschema(instance)
        found: JSONSchema = super().resolve_nested_schema(schema)
        return found

    def field2property(self, field: Any) -> JSONSchema:
        field = copy.copy(field)
        field.validators = list(flattened(field.validators))
        found: JSONSchema = super().field2property(field)
        correct(found, field, self.field2property, loads=self.loads)
        return found


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def _name_of(schema: Any, names: dict[type[Any], str]) -> str:
    """Return a unique name for a schema's class."""
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


def _text(schema: JSONSchema) -> str:
    return str(schema).replace("'", '"')
