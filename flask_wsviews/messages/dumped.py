"""Whether what a schema has dumped is what the schema says: the check of outgoing messages.

Loading it again would be wrong: what is ``dump_only`` would be unknown, what is ``load_only``
missing, and hooks for input would run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError, fields, missing

from .plain_schemas import key_of


def dump_errors(schema: Schema, data: Any, *, many: bool | None = None) -> dict[Any, Any]:
    """What is wrong with *data*, in marshmallow's form; empty if nothing is.

    Each field's type, ``required``, ``allow_none`` and validators count. What a ``post_dump`` hook
    adds is let through.

    :param many: whether it is a list; the schema's own ``many`` by default.
    """
    if schema.many if many is None else many:
        return _list_errors(data, lambda item: dump_errors(schema, item, many=False))
    if not isinstance(data, Mapping):
        return {"_schema": ["Not an object."]}
    keys = ((key_of(name, field), field) for name, field in schema.dump_fields.items())
    return _found((key, _field_errors(field, data.get(key, missing))) for key, field in keys)


def _field_errors(field: fields.Field[Any], value: Any) -> Any:
    if value is missing or value is None or not _holds_schema(field):
        try:
            field.deserialize(value)
        except ValidationError as error:
            return error.messages
        return None
    return _errors_inside(field, value) or _validator_errors(field, value)


def _holds_schema(field: fields.Field[Any]) -> bool:
    """Whether a field has to be looked into, since it would load by a schema."""
    if isinstance(field, fields.List):
        return _holds_schema(field.inner)
    if isinstance(field, fields.Mapping):
        return field.value_field is not None and _holds_schema(field.value_field)
    if isinstance(field, fields.Tuple):
        return any(_holds_schema(item) for item in field.tuple_fields)
    return isinstance(field, fields.Nested)


def _errors_inside(field: fields.Field[Any], value: Any) -> Any:
    if isinstance(field, fields.Pluck):
        plucked = field.schema.dump_fields[field.field_name]
        if field.many:
            return _list_errors(value, lambda item: _field_errors(plucked, item))
        return _field_errors(plucked, value)
    if isinstance(field, fields.Nested):
        return dump_errors(field.schema, value, many=field.many or field.schema.many)
    if isinstance(field, fields.List):
        return _list_errors(value, lambda item: _field_errors(field.inner, item))
    if isinstance(field, fields.Tuple):
        # A tuple was dumped item by item, so there are as many as there are fields.
        pairs = zip(field.tuple_fields, value, strict=True)
        return _found((index, _field_errors(*pair)) for index, pair in enumerate(pairs))
    assert isinstance(field, fields.Mapping)
    assert field.value_field is not None
    inner = field.value_field
    return _found((key, _field_errors(inner, item)) for key, item in value.items())


def _validator_errors(field: fields.Field[Any], value: Any) -> Any:
    for validate in field.validators:
        try:
            validate(value)
        except ValidationError as error:
            return error.messages
    return None


def _list_errors(items: Any, errors_of: Callable[[Any], Any]) -> dict[Any, Any]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        return {"_schema": ["Not a list."]}
    return _found((index, errors_of(item)) for index, item in enumerate(items))


def _found(errors: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    return {key: problem for key, problem in errors if problem}
