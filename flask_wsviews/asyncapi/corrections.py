"""What apispec gets wrong, or leaves out, in the JSON Schema of a marshmallow field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

from marshmallow import fields, validate

JSONSchema = dict[str, Any]

# Keywords of OpenAPI that aren't in JSON Schema.
_FOREIGN = ("readOnly", "writeOnly", "x-minimum", "x-maximum", "min", "deprecated")


def correct(
    found: JSONSchema, field: Any, convert: Callable[[Any], JSONSchema], *, loads: bool
) -> None:
    """Correct the schema that apispec has made of a field, in place.

    :param field: with its validators flattened, see :func:`flattened`.
    :param convert: makes the corrected schema of another field.
    :param loads: whether the schema is for loading, otherwise for dumping.
    """
    _purge(found, field)
    if not loads:
        found.pop("default", None)
    found.update(_of_type(field, convert, loads))
    found.update(_of_validators(field))
    if "enum" in found:
        found["enum"] = _plain(field, found["enum"])
    if field.allow_none:
        _allow_null(found)
    if "$ref" in found and len(found) > 1:
        # Draft 7 ignores what stands beside a reference.
        found["allOf"] = [{"$ref": found.pop("$ref")}]


def flattened(validators: Iterable[Any]) -> Iterator[Any]:
    """Yield validators, with those inside of ``validate.And`` one by one."""
    for validator in validators:
        if isinstance(validator, validate.And):
            yield from flattened(validator.validators)
        else:
            yield validator


def _purge(found: JSONSchema, field: Any) -> None:
    """Remove keywords that aren't in JSON Schema, or are wrong for the field."""
    for keyword in _FOREIGN:
        found.pop(keyword, None)
    for keyword in ("format", "pattern"):
        if keyword in found and found[keyword] is None:
            del found[keyword]
    if "example" in found:
        found["examples"] = [found.pop("example")]
    if isinstance(field, (fields.IP, fields.NaiveDateTime)):
        # JSON Schema has no format for "IPv4 or IPv6", nor for a time without a zone.
        found.pop("format", None)
    if any(isinstance(validator, validate.Range) for validator in field.validators):
        # apispec makes exclusive limits inclusive: see _of_range().
        found.pop("minimum", None)
        found.pop("maximum", None)
    if any(isinstance(validator, validate.ContainsOnly) for validator in field.validators):
        # apispec puts it on the list instead of the items.
        found.pop("enum", None)
    if isinstance(field, fields.Mapping):
        for wrong, right in (("minLength", "minProperties"), ("maxLength", "maxProperties")):
            if wrong in found:
                found[right] = found.pop(wrong)


def _of_type(field: Any, convert: Callable[[Any], JSONSchema], loads: bool) -> JSONSchema:
    """Return what apispec leaves out for a field's type."""
    if isinstance(field, fields.Constant):
        return {"const": field.constant}
    if isinstance(field, fields.Decimal):
        if field.as_string and not loads:
            return {"type": "string"}
        # JSON has no decimals: values that aren't floats are written as text.
        return {"type": ["number", "string"]}
    if isinstance(field, fields.Tuple):
        items = [convert(item) for item in field.tuple_fields]
        return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
    if isinstance(field, fields.Url):
        return {"format": "uri"}
    if isinstance(field, fields.IP) and not isinstance(field, (fields.IPv4, fields.IPv6)):
        return {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
    if isinstance(field, fields.IPInterface):
        return {"type": "string"}
    return {}


def _of_validators(field: Any) -> JSONSchema:
    """Return what apispec leaves out, or gets wrong, for a field's validators."""
    found: JSONSchema = {}
    for validator in field.validators:
        if isinstance(validator, validate.Range):
            found.update(_of_range(validator))
        elif isinstance(validator, validate.Regexp):
            # marshmallow matches at the beginning of the text, JSON Schema anywhere in it.
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


def _plain(field: Any, values: Iterable[Any]) -> list[Any]:
    """Return values as JSON has them, without duplicates."""
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
