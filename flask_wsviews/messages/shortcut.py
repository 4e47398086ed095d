"""A shortcut past marshmallow, for plain schemas and values that need no conversion.

Most messages are objects of strings and numbers that match their schema. marshmallow takes several
microseconds for each field and returns the same values. The functions below return what marshmallow
would return, or ``None`` if marshmallow has to be called. They never report an error themselves.

A schema is plain if it has only the field types below, and no hooks, overridden methods, nested
schemas or custom validators. This is decided when the schema is first used; later changes to the
schema are ignored.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from marshmallow import EXCLUDE, Schema, fields, missing, validate

from .dumped import key_of

#: Fields that return a value of exactly this type unchanged.
_TYPES: dict[type[fields.Field[Any]], type] = {
    fields.String: str,
    fields.Integer: int,
    fields.Float: float,
    fields.Boolean: bool,
    fields.List: list,
}

# These have no side effects, so marshmallow may call them a second time.
_VALIDATORS = (
    validate.ContainsOnly,
    validate.Equal,
    validate.Length,
    validate.NoneOf,
    validate.OneOf,
    validate.Range,
    validate.Regexp,
)

_LOADING = (
    "load",
    "_do_load",
    "_deserialize",
    "_call_and_store",
    "_invoke_field_validators",
    "dict_class",
    "__getattribute__",
)
_LOAD_HOOKS = ("pre_load", "post_load", "validates", "validates_schema")
_DUMPING = ("dump", "_serialize", "get_attribute", "dict_class", "__getattribute__")
_DUMP_HOOKS = ("pre_dump", "post_dump")


class _Item(NamedTuple):
    """How one field is copied.

    :param source: the key of its value in the input.
    :param target: the key of its value in the result.
    :param kind: the type of its value.
    :param inner: the type of the items, if the value is a list.
    :param may_be_none: whether ``None`` is copied.
    :param may_be_missing: whether a missing value is left out.
    :param validators: the validators of the value.
    :param inner_validators: the validators of each item, if the value is a list.
    """

    source: str
    target: str
    kind: Any
    inner: Any
    may_be_none: bool
    may_be_missing: bool
    validators: tuple[Any, ...]
    inner_validators: tuple[Any, ...]


class _Plans(NamedTuple):
    """How a schema's fields are copied when it loads, dumps and checks; ``None`` for no shortcut.

    :param known: the only keys that are allowed when loading; ``None`` if other keys are ignored.
    """

    load: tuple[_Item, ...] | None
    known: frozenset[str] | None
    dump: tuple[_Item, ...] | None
    check: tuple[_Item, ...] | None


_plans: WeakKeyDictionary[Schema, _Plans] = WeakKeyDictionary()
_NO_PLANS = _Plans(None, None, None, None)


def load_plain(schema: Schema, data: Any) -> dict[str, Any] | None:
    """Return the result of ``schema.load(data)``, or ``None`` if that has to be called."""
    plans = _plans_of(schema)
    if plans.load is None or type(data) is not dict:
        return None
    if plans.known is not None and not plans.known.issuperset(data):
        return None
    return _copied(data, plans.load)


def dump_plain(schema: Schema, data: Any) -> dict[str, Any] | None:
    """Return the result of ``schema.dump(data)``, or ``None`` if that has to be called."""
    plans = _plans_of(schema)
    if plans.dump is None or type(data) is not dict:
        return None
    return _copied(data, plans.dump)


def is_surely_valid(schema: Schema, dumped: Any) -> bool:
    """Return whether *dumped* matches its schema; if ``False``, it has to be checked in full."""
    plans = _plans_of(schema)
    if plans.check is None or type(dumped) is not dict:
        return False
    return _copied(dumped, plans.check) is not None


def _copied(data: dict[str, Any], items: Iterable[_Item]) -> dict[str, Any] | None:
    copy: dict[str, Any] = {}
    try:
        for source, target, kind, inner, or_none, or_missing, validators, of_inner in items:
            value: Any = data.get(source, missing)
            if value is missing:
                if or_missing:
                    continue
                return None
            if value is None:
                if not or_none:
                    return None
            elif type(value) is not kind or (kind is float and not isfinite(value)):
                return None
            else:
                if inner is not None:
                    value = _copied_list(value, inner, of_inner)
                    if value is None:
                        return None
                for validator in validators:
                    validator(value)
            copy[target] = value
    except Exception:
        # marshmallow finds the same error, and describes it.
        return None
    return copy


def _copied_list(values: list[Any], kind: Any, validators: Iterable[Any]) -> list[Any] | None:
    for value in values:
        if type(value) is not kind or (kind is float and not isfinite(value)):
            return None
        for validator in validators:
            validator(value)
    return values.copy()


# -- which schemas are plain ----------------------------------------------------------------------


def _plans_of(schema: Schema) -> _Plans:
    try:
        plans = _plans.get(schema)
    except TypeError:  # the schema defines __eq__ without __hash__
        return _NO_PLANS
    if plans is None:
        plans = _plans[schema] = _make_plans(schema)
    return plans


def _make_plans(schema: Schema) -> _Plans:
    load = dump = None
    if _is_plain(schema, _LOADING, _LOAD_HOOKS) and not schema.partial:
        load = _items(schema.load_fields, _load_item)
    if _is_plain(schema, _DUMPING, _DUMP_HOOKS):
        dump = _items(schema.dump_fields, _dump_item)
    check = None if schema.many else _items(schema.dump_fields, _check_item)
    known = None
    if schema.unknown != EXCLUDE:
        known = frozenset(key_of(name, field) for name, field in schema.load_fields.items())
    return _Plans(load, known, dump, check)


def _is_plain(schema: Schema, methods: Iterable[str], hooks: Iterable[str]) -> bool:
    own: Mapping[str, Any] = getattr(schema, "_hooks", {})
    return (
        not schema.many
        and not any(own.get(hook) for hook in hooks)
        and all(
            inspect.getattr_static(schema, name, None) is inspect.getattr_static(Schema, name, None)
            for name in methods
        )
        and schema.dict_class is dict
    )


def _items(of: Mapping[str, fields.Field[Any]], make: Any) -> tuple[_Item, ...] | None:
    items = [make(name, field) for name, field in of.items()]
    if None in items:
        return None
    # marshmallow reads a dot as a path into a nested object.
    has_dots = any("." in key for item in items for key in (item.source, item.target))
    return None if has_dots else tuple(items)


def _load_item(name: str, field: fields.Field[Any]) -> _Item | None:
    item = _check_item(name, field)
    if item is None:
        return None
    may_be_missing = not field.required and field.load_default is missing
    return item._replace(target=field.attribute or name, may_be_missing=may_be_missing)


def _dump_item(name: str, field: fields.Field[Any]) -> _Item | None:
    item = _item(name, field)
    # An empty attribute counts here; when loading it doesn't.
    attribute = name if field.attribute is None else field.attribute
    # marshmallow reads an attribute of the dict if the key is missing.
    may_be_missing = field.dump_default is missing and not hasattr(dict, attribute)
    inner = field.inner if isinstance(field, fields.List) else field
    if item is None or getattr(inner, "as_string", False):
        return None
    return item._replace(
        source=attribute,
        target=key_of(name, field),
        may_be_none=True,
        may_be_missing=may_be_missing,
        validators=(),
        inner_validators=(),
    )


def _check_item(name: str, field: fields.Field[Any]) -> _Item | None:
    item = _item(name, field)
    inner = field.inner if isinstance(field, fields.List) else None
    of_inner = () if inner is None else tuple(inner.validators)
    validators = tuple(field.validators)
    if item is None or not all(type(one) in _VALIDATORS for one in (*validators, *of_inner)):
        return None
    return item._replace(validators=validators, inner_validators=of_inner)


def _item(name: str, field: fields.Field[Any]) -> _Item | None:
    kind = _type_of(field)
    inner = _type_of(field.inner) if isinstance(field, fields.List) else None
    if kind is None or (kind is list and inner in (None, list)):
        return None
    key = key_of(name, field)
    return _Item(key, key, kind, inner, field.allow_none, not field.required, (), ())


def _type_of(field: fields.Field[Any]) -> type | None:
    changed = getattr(field, "pre_load", None) or getattr(field, "post_load", None)
    # on_bind_field() may have replaced a method of the field.
    if changed or any(callable(getattr(type(field), name, None)) for name in vars(field)):
        return None
    if isinstance(field, fields.Boolean):
        yes, no = field.truthy, field.falsy
        if True not in yes or False in yes or False not in no:
            return None
    return _TYPES.get(type(field))
