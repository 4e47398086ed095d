"""The check of what schemas have dumped."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

import pytest
from marshmallow import Schema, ValidationError, fields, post_dump, pre_load, validate

from flask_wsviews.messages.dumped import dump_errors


class Colour(enum.Enum):
    RED = 1


class Person(Schema):
    id = fields.Int(dump_only=True, required=True)
    name = fields.Str(required=True, validate=validate.Length(min=1))
    password = fields.Str(load_only=True, required=True)


class Everything(Schema):
    at = fields.AwareDateTime()
    day = fields.Date()
    price = fields.Decimal(as_string=True)
    exact = fields.Decimal()
    key = fields.UUID(data_key="theKey")
    colour = fields.Enum(Colour)
    constant = fields.Constant("c")
    optional = fields.Str(allow_none=True)
    person = fields.Nested(Person)
    people = fields.Nested(Person, many=True)
    listed = fields.List(fields.Nested(Person), validate=validate.Length(max=2))
    named = fields.Dict(keys=fields.Str(), values=fields.Nested(Person))
    plain = fields.Dict(keys=fields.Str(), values=fields.Int())
    pair = fields.Tuple((fields.Int(), fields.Nested(Person)))
    numbers = fields.Tuple((fields.Int(), fields.Int()))
    name_of = fields.Pluck(Person, "name")
    names_of = fields.Pluck(Person, "name", many=True)
    upper = fields.Function(lambda obj: "UP")
    again = fields.Nested(lambda: Everything(only=("day", "again")))

    @pre_load
    def refuse(self, data: Any, **kwargs: Any) -> Any:
        raise AssertionError("this is for input")

    @post_dump
    def add(self, data: Any, **kwargs: Any) -> Any:
        return {**data, "extra": 1}


ANNE = {"id": 1, "name": "Anne", "password": "secret"}
NOBODY = {"id": 2, "name": ""}
VALUES = {
    "at": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    "day": datetime.date(2026, 1, 2),
    "price": decimal.Decimal("1.10"),
    "exact": decimal.Decimal("1.10"),
    "key": uuid.uuid4(),
    "colour": Colour.RED,
    "optional": None,
    "person": ANNE,
    "people": [ANNE, ANNE],
    "listed": [ANNE],
    "named": {"a": ANNE},
    "plain": {"a": 1},
    "pair": (1, ANNE),
    "numbers": (1, 2),
    "name_of": ANNE,
    "names_of": [ANNE],
    "again": {"day": datetime.date(2026, 1, 2)},
}


def errors_of(**values: Any) -> dict[Any, Any]:
    schema = Everything()
    return dump_errors(schema, schema.dump(values))


def test_what_a_schema_dumps_of_good_values_is_good() -> None:
    assert errors_of(**VALUES) == {}
    assert errors_of() == {}


WRONG_NAME = {"name": ["Shorter than minimum length 1."]}


@pytest.mark.parametrize(
    ("name", "value", "errors"),
    [
        ("at", datetime.datetime(2026, 1, 2), ["Not a valid aware datetime."]),
        ("day", None, ["Field may not be null."]),
        ("person", {"name": "x"}, {"id": ["Missing data for required field."]}),
        ("person", NOBODY, WRONG_NAME),
        ("people", [ANNE, NOBODY], {1: WRONG_NAME}),
        ("listed", [NOBODY], {0: WRONG_NAME}),
        ("listed", [ANNE] * 3, ["Longer than maximum length 2."]),
        ("named", {"b": NOBODY}, {"b": WRONG_NAME}),
        ("pair", (1, NOBODY), {1: WRONG_NAME}),
        ("name_of", NOBODY, ["Shorter than minimum length 1."]),
        ("names_of", [ANNE, NOBODY], {1: ["Shorter than minimum length 1."]}),
        ("again", {"again": {"day": None}}, {"again": {"day": ["Field may not be null."]}}),
    ],
)
def test_what_is_wrong_is_found(name: str, value: Any, errors: Any) -> None:
    assert errors_of(**{name: value}) == {name: errors}


def test_errors_go_by_the_key_that_is_sent() -> None:
    assert dump_errors(Everything(), {"theKey": "no uuid"}) == {"theKey": ["Not a valid UUID."]}


def test_what_a_hook_has_made_of_it() -> None:
    class Wrapped(Schema):
        inner = fields.List(fields.Nested(Person))

        @post_dump
        def spoil(self, data: Any, **kwargs: Any) -> Any:
            return {"inner": "text"} if data["inner"] else []

    schema = Wrapped()
    assert dump_errors(schema, schema.dump({"inner": [ANNE]})) == {
        "inner": {"_schema": ["Not a list."]}
    }
    assert dump_errors(schema, schema.dump({"inner": []})) == {"_schema": ["Not an object."]}


def test_many() -> None:
    schema = Person(many=True)
    assert dump_errors(schema, schema.dump([ANNE, NOBODY])) == {1: WRONG_NAME}


def test_a_validator_of_the_application() -> None:
    def never(value: Any) -> None:
        raise ValidationError(f"never {len(value)}")

    class Strict(Schema):
        people = fields.Nested(Person, many=True, validate=never)

    schema = Strict()
    assert dump_errors(schema, schema.dump({"people": [ANNE]})) == {"people": ["never 1"]}
