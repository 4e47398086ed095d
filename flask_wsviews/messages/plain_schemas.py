"""A short way for plain schemas and the values that need no conversion.

Most messages are objects of texts and numbers that are just what their schema says. Marshmallow
takes several microseconds for each field of theirs, and hands the same values on. What it would
return is returned here without it. Of everything else, errors above all, it is the judge:
whoever gets ``None`` here has to ask it.

A schema is plain if its fields are those below, without hooks, overridden methods, nested schemas
or validators of one's own, when it is first used; what is changed in it later isn't noticed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from marshmallow import EXCLUDE, Schema, fields, missing, validate

#: Fields that hand a value of exactly this type on as it is.
_TYPES: dict[type[fields.Field[Any]], type] = {
    fields.String: str,
    fields.Integer: int,
    fields.Float: float,
    fields.Boolean: bool,
    fields.List: list,
}

# They have no side effects, so they can be called again by marshmallow.
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
    """What becomes of one field.

    :param source: the key that its value has.
    :param target: the key that it gets.
    :param kind: the type of its values.
    :param inner: that of what is in a list.
    :param may_be_none: whether ``None`` is handed on.
    :param may_be_missing: whether it is left out if it is missing.
    :param validators: of the value.
    :param inner_validators: of each value in a list.
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
    """The short ways that a schema has; ``None`` for those that it hasn't.

    :param known: the keys that are loaded; ``None`` if others are left out.
    """

    load: tuple[_Item, ...] | None
    known: frozenset[str] | None
    dump: tuple[_Item, ...] | None
    check: tuple[_Item, ...] | None


_plans: WeakKeyDictionary[Schema, _Plans] = WeakKeyDictionary()
_NO_PLANS = _Plans(None, None, None, None)


def load_plain(schema: Schema, data: Any) -> dict[str, Any] | None:
    """What ``schema.load(data)`` returns, or ``None`` if that has to be called."""
    plans = _plans_of(schema)
    if plans.load is None or type(data) is not dict:
        return None
    if plans.known is not None and not plans.known.issuperset(data):
        return None
    return _copied(data, plans.load)


def dump_plain(schema: Schema, data: Any) -> dict[str, Any] | None:
    """What ``schema.dump(data)`` returns, or ``None`` if that has to be called."""
    plans = _plans_of(schema)
    if plans.dump is None or type(data) is not dict:
        return None
    return _copied(data, plans.dump)


def is_surely_valid(schema: Schema, dumped: Any) -> bool:
    """Whether what was dumped is what the schema says; otherwise it has to be looked at."""
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
        # Marshmallow will come to the same, and say it better.
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
    except TypeError:  # it says what it is equal to, so it can't be a key
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
    # A dot stands for an object inside.
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
    # An empty one counts here, other than in loading.
    attribute = name if field.attribute is None else field.attribute
    # Of what isn't in a dictionary marshmallow takes the attribute.
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
    # on_bind_field() may put a method of its own on a field.
    if changed or any(callable(getattr(type(field), name, None)) for name in vars(field)):
        return None
    if isinstance(field, fields.Boolean):
        yes, no = field.truthy, field.falsy
        if True not in yes or False in yes or False not in no:
            return None
    return _TYPES.get(type(field))


def key_of(name: str, field: fields.Field[Any]) -> str:
    """The key that a field has in a message; an empty one is one, too."""
    return name if field.data_key is None else field.data_key
