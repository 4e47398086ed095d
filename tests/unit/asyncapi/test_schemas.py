"""marshmallow schemas as JSON Schema: what one takes the other takes, too."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import re
from typing import Any

import pytest
from flask.json.provider import DefaultJSONProvider
from jsonschema import Draft7Validator
from marshmallow import EXCLUDE, INCLUDE, Schema, ValidationError, fields, validate

from flask_wsviews.asyncapi.schemas import COMPONENTS, Schemas


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Person(Schema):
    """Somebody.

    More about them.
    """

    id = fields.Int(dump_only=True, required=True)
    name = fields.Str(required=True)
    password = fields.Str(load_only=True)


class Loose(Schema):
    class Meta:
        unknown = EXCLUDE

    x = fields.Int(strict=True)


class Group(Schema):
    owner = fields.Nested(Person)
    loose = fields.Nested(Loose)


class Node(Schema):
    value = fields.Int(strict=True, required=True)
    next = fields.Nested(lambda: Node(), allow_none=True)


def validator(schemas: Schemas, schema: Any) -> Draft7Validator:
    Draft7Validator.check_schema(schema)
    return Draft7Validator({**schema, "components": {"schemas": schemas.components()}})


def check(
    field: Any, good: list[Any], bad: list[Any], outgoing: list[Any] | None = None
) -> dict[str, Any]:
    """What marshmallow loads is valid, and what it refuses isn't; returns the field's schema."""
    schema = Schema.from_dict({"f": field})()
    schemas = Schemas()
    loaded = schemas.loaded(schema)
    dumped = schemas.dumped(schema)
    for_loading = validator(schemas, schemas.named(loaded))
    for value in good:
        schema.load({"f": value})
        assert for_loading.is_valid({"f": value}), (loaded, value)
    for value in bad:
        with pytest.raises(ValidationError):
            schema.load({"f": value})
        assert not for_loading.is_valid({"f": value}), (loaded, value)
    for_dumping = validator(schemas, dumped)
    for value in outgoing or []:
        sent = json.loads(
            json.dumps(schema.dump({"f": value}), default=DefaultJSONProvider.default)
        )
        for_dumping.validate(sent)
    found: dict[str, Any] = loaded["properties"]["f"]
    return found


NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("field", "good", "bad", "outgoing"),
    [
        (fields.Int(strict=True), [1, -3], [None, "x", 1.5], [7]),
        (fields.Float(), [1, 1.5], [None, "x"], [1.5]),
        (fields.Str(), ["", "x"], [None, 1, []], ["x"]),
        (fields.Bool(), [True, False], [None, "x", []], [True]),
        (fields.Str(allow_none=True), ["x", None], [1], [None]),
        (fields.Constant("c"), ["c"], [], ["c"]),
        (fields.Decimal(), [1, 1.5, "1.5"], [None, []], [1.5]),
        (fields.Decimal(as_string=True), [1.5, "1.5"], [None], [1.5]),
        (fields.Enum(Colour), ["RED"], ["GREEN", 1], [Colour.RED]),
        (fields.Enum(Colour, allow_none=True), ["RED", None], ["GREEN"], [Colour.RED, None]),
        (fields.Enum(Colour, by_value=fields.Int), [1], [3], [Colour.BLUE]),
        (fields.AwareDateTime(), ["2026-01-02T03:04:05+00:00"], [None, 1], [NOW]),
        (fields.NaiveDateTime(), ["2026-01-02T03:04:05"], [None], [NOW.replace(tzinfo=None)]),
        (fields.DateTime(format="timestamp"), [1.5], ["x"], [NOW]),
        (fields.Date(), ["2026-01-02"], [None, 1], [NOW.date()]),
        (fields.Time(), ["03:04:05"], [None, 1], [NOW.time()]),
        (fields.TimeDelta(), [5], [None, "x"], [datetime.timedelta(seconds=5)]),
        (fields.Email(), ["a@example.org"], [None, 1], ["a@example.org"]),
        (fields.Url(), ["https://example.org/"], [None, 1], ["https://example.org/"]),
        (fields.UUID(), ["12345678-1234-5678-1234-567812345678"], [None, 1], []),
        (fields.IP(), ["127.0.0.1", "::1"], [None, []], []),
        (fields.IPv4(), ["127.0.0.1"], [None], []),
        (fields.Raw(allow_none=True), [1, "x", [], None], [], [{"any": 1}]),
        (fields.List(fields.Int(strict=True)), [[], [1]], [None, 1, ["x"]], [[1]]),
        (fields.Dict(values=fields.Int(strict=True)), [{}, {"a": 1}], [[], {"a": "x"}], [{"a": 1}]),
        (fields.Tuple((fields.Str(), fields.Bool())), [["x", True]], [["x"], ["x", 7.5]], []),
        (fields.Nested(Person), [{"name": "x", "password": "y"}], [{}, {"name": 1}, 1], []),
        (fields.Nested(Person), [], [{"name": "x", "id": 1}], [{"name": "x", "id": 1}]),
        (fields.Nested(Person, allow_none=True), [None, {"name": "x"}], [1], [None]),
        (fields.Nested(Person, many=True), [[], [{"name": "x"}]], [{}, [1]], []),
        (
            fields.Nested(Node),
            [{"value": 1, "next": {"value": 2, "next": None}}],
            [{"value": "x"}],
            [],
        ),
        (fields.Nested(Loose), [{"x": 1, "more": 2}], [{"x": "y"}], [{"x": 1}]),
        (fields.Nested(Loose(unknown=INCLUDE)), [{"x": 1, "more": 2}], [1], []),
        (fields.Pluck(Person, "name"), ["x"], [1, {}], [{"name": "x"}]),
        (fields.Pluck(Person, "name", many=True), [["x"]], [[1]], [[{"name": "x"}]]),
        (fields.Int(strict=True, validate=validate.Range(1, 5)), [1, 5], [0, 6], []),
        (
            fields.Int(
                strict=True, validate=validate.Range(1, 5, min_inclusive=False, max_inclusive=False)
            ),
            [2, 4],
            [1, 5],
            [],
        ),
        (fields.Int(strict=True, validate=validate.Range(min=1)), [1], [0], []),
        (fields.Date(validate=validate.Range(min=NOW.date())), ["2026-02-01"], [None], []),
        (fields.Str(validate=validate.Length(2, 3)), ["ab", "abc"], ["a", "abcd"], []),
        (fields.Str(validate=validate.Length(equal=2)), ["ab"], ["a"], []),
        (fields.Str(validate=validate.Regexp("ab+")), ["ab", "abbx"], ["xab"], []),
        (fields.Str(validate=validate.Regexp("^ab+$")), ["ab"], ["xab"], []),
        (fields.Str(validate=validate.Regexp(re.compile("a|b"))), ["a", "bx"], ["xb"], []),
        (fields.Str(validate=validate.OneOf(["a", "b"])), ["a"], ["c"], []),
        (
            fields.Str(validate=validate.OneOf(["a", "b"]), allow_none=True),
            ["a", None],
            ["c"],
            [None],
        ),
        (fields.Str(validate=validate.NoneOf(["a", "b", "a"])), ["c"], ["a"], []),
        (fields.Str(validate=validate.Equal("a")), ["a"], ["b"], []),
        (
            fields.List(fields.Str(), validate=validate.ContainsOnly(["a", "b"])),
            [[], ["a", "a"]],
            [["c"]],
            [],
        ),
        (
            fields.Str(validate=validate.And(validate.Length(min=2), validate.Regexp("a"))),
            ["ab"],
            ["a", "ba"],
            [],
        ),
        (fields.Dict(validate=validate.Length(1, 2)), [{"a": 1}], [{}], []),
        (fields.IPInterface(), ["127.0.0.1/8"], [None], []),
        (fields.DateTime(format="rfc"), ["Fri, 02 Jan 2026 03:04:05 -0000"], [None], [NOW]),
        (fields.DateTime(format="%Y"), ["2026"], [None], [NOW]),
        (fields.Date(validate=validate.OneOf([NOW.date()])), ["2026-01-02"], ["2026-01-03"], []),
        (fields.Str(validate=validate.OneOf(["a", "a"])), ["a"], ["b"], []),
        (
            fields.Decimal(validate=validate.Range(max=decimal.Decimal("1.5"))),
            [1.5],
            [2],
            [],
        ),
        (
            fields.Nested(Person, metadata={"description": "Who."}),
            [{"name": "x"}],
            [{"name": 1}],
            [],
        ),
        (fields.Function(lambda obj: "x", lambda value: value), [1, "x"], [], ["x"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, fields.Field) else "",
)
def test_fields(field: Any, good: list[Any], bad: list[Any], outgoing: list[Any]) -> None:
    check(field, good, bad, outgoing)


def test_what_a_field_says_of_itself_is_kept() -> None:
    field = fields.Str(load_default="x", metadata={"description": "A text."})
    assert check(field, ["x"], [1]) == {"type": "string", "default": "x", "description": "A text."}
    assert "default" not in Schemas().dumped(Schema.from_dict({"f": field})())["properties"]["f"]
    stamp = check(fields.DateTime(format="timestamp"), [1.5], [])
    assert "example" not in stamp
    assert stamp["examples"]


def test_each_way_has_its_fields_and_its_strictness() -> None:
    schemas = Schemas()
    assert schemas.loaded(Person()) == {
        "type": "object",
        "description": "Somebody.",
        "properties": {"name": {"type": "string"}, "password": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    dumped = schemas.dumped(Person())
    assert sorted(dumped["properties"]) == ["id", "name"]
    assert "additionalProperties" not in dumped


def test_components_are_shared_where_both_ways_agree() -> None:
    schemas = Schemas()
    loaded = schemas.loaded(Schema.from_dict({"g": fields.Nested(Group)})())
    dumped = schemas.dumped(Schema.from_dict({"g": fields.Nested(Group)})())
    components = schemas.components()
    assert list(components) == ["Group", "GroupInput", "Loose", "Person", "PersonInput"]
    assert schemas.named(loaded)["properties"]["g"] == {"$ref": f"{COMPONENTS}GroupInput"}
    assert dumped["properties"]["g"] == {"$ref": f"{COMPONENTS}Group"}
    owner = components["GroupInput"]["properties"]["owner"]
    assert owner == {"$ref": f"{COMPONENTS}PersonInput"}
    assert components["Group"]["properties"]["owner"] == {"$ref": f"{COMPONENTS}Person"}


def test_what_refers_to_a_component_that_differs_differs_itself() -> None:
    class Inner(Schema):
        class Meta:
            unknown = INCLUDE

        secret = fields.Str(load_only=True)

    class Middle(Schema):
        class Meta:
            unknown = EXCLUDE

        inner = fields.Nested(Inner)

    schema = Schema.from_dict({"m": fields.List(fields.Nested(Middle))})()
    schemas = Schemas()
    loaded = schemas.loaded(schema)
    schemas.dumped(schema)
    assert list(schemas.components()) == ["Inner", "InnerInput", "Middle", "MiddleInput"]
    items = schemas.named(loaded)["properties"]["m"]["items"]
    assert items == {"$ref": f"{COMPONENTS}MiddleInput"}


def test_variants_of_a_class_are_told_apart() -> None:
    variants = {"a": Loose(), "b": Loose(unknown=INCLUDE), "c": Person(only=("name",)), "d": Person}
    schema = Schema.from_dict({name: fields.Nested(one) for name, one in variants.items()})()
    schemas = Schemas()
    properties = schemas.named(schemas.loaded(schema))["properties"]
    assert properties["a"] == {"$ref": f"{COMPONENTS}Loose"}
    assert properties["b"]["additionalProperties"] is True
    assert properties["c"] != properties["d"]


def test_classes_of_one_name_are_told_apart() -> None:
    first = type("Thing", (Schema,), {"a": fields.Int()})
    second = type("ThingSchema", (Schema,), {"b": fields.Int()})
    schemas = Schemas()
    schemas.dumped(Schema.from_dict({"x": fields.Nested(first), "y": fields.Nested(second)})())
    assert list(schemas.components()) == ["Thing", "Thing2"]


def test_a_list_of_objects() -> None:
    assert Schemas().loaded(Node(many=True))["type"] == "array"


def test_a_schema_named_by_a_text() -> None:
    class Registered(Schema):
        a = fields.Int()

    schemas = Schemas()
    schemas.dumped(Schema.from_dict({"x": fields.Nested("Registered")})())
    assert Registered.__name__ in schemas.components()
