"""The check of outgoing messages: whether a dumped object matches its schema.

Loading the object again would be wrong: ``dump_only`` fields would be unknown, ``load_only`` fields
would be missing, and the schema's input hooks would run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError, fields, missing


def key_of(name: str, field: fields.Field[Any]) -> str:
    """Return the key of a field in a message. An empty ``data_key`` is a key, too."""
    return name if field.data_key is None else field.data_key


def dump_errors(schema: Schema, data: Any, *, many: bool | None = None) -> dict[Any, Any]:
    """Return the error messages of dumped *data*, in marshmallow's form; empty if it is valid.

    The type, ``required``, ``allow_none`` and the validators of each field are checked. Keys that a
    ``post_dump`` hook added are ignored.

    :param many: whether *data* is a list; by default the schema's own ``many``.
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
    """Return whether a field contains a schema, so that its values can't simply be loaded."""
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
        # A tuple is dumped field by field, so both have the same length.
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
