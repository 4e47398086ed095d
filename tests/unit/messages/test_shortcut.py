"""The shortcut for plain schemas: it returns what marshmallow returns, or None."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from marshmallow import (
    EXCLUDE,
    INCLUDE,
    RAISE,
    Schema,
    ValidationError,
    fields,
    post_dump,
    post_load,
    pre_load,
    validate,
    validates,
    validates_schema,
)

from flask_wsviews.messages.dumped import dump_errors
from flask_wsviews.messages.shortcut import dump_plain, is_surely_valid, load_plain


class Say(Schema):
    text = fields.Str(required=True, validate=validate.Length(1, 5))
    number = fields.Int(allow_none=True, data_key="n")
    share = fields.Float(attribute="part")
    loud = fields.Bool()
    tags = fields.List(fields.Str(validate=validate.Length(max=3)), validate=validate.Length(max=2))
    lengths = fields.List(fields.Float())


GOOD = {
    "text": "hello",
    "n": 1,
    "share": 0.5,
    "loud": True,
    "tags": ["a", "b"],
    "lengths": [1.5],
}


class Plain(Schema):
    """A plain schema."""

    text = fields.Str(required=True)


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> Say:
    """A schema whose fields must not be asked any more."""
    schema = Say()
    assert load_plain(schema, GOOD) is not None
    for name in ("deserialize", "serialize"):
        monkeypatch.setattr(fields.Field, name, lambda *args, **kwargs: pytest.fail("asked"))
    return schema


def test_good_values_need_no_marshmallow(unasked: Say) -> None:
    loaded = load_plain(unasked, GOOD)
    assert loaded == {
        "text": "hello",
        "number": 1,
        "part": 0.5,
        "loud": True,
        "tags": ["a", "b"],
        "lengths": [1.5],
    }
    assert loaded["tags"] is not GOOD["tags"]
    assert dump_plain(unasked, loaded) == GOOD
    assert is_surely_valid(unasked, GOOD)


@pytest.mark.parametrize(
    "change",
    [
        {"text": None},
        {"text": b"bytes"},
        {"text": type("Text", (str,), {})("x")},
        {"text": ""},
        {"n": True},
        {"n": "1"},
        {"n": 1.0},
        {"share": float("nan")},
        {"share": float("inf")},
        {"share": 1},
        {"loud": 1},
        {"tags": ("a",)},
        {"tags": ["a", 1]},
        {"tags": ["long"]},
        {"tags": ["a", "b", "c"]},
        {"lengths": [float("nan")]},
        {"unknown": 1},
    ],
)
def test_others_are_marshmallows(change: dict[str, Any]) -> None:
    assert load_plain(Say(), {**GOOD, **change}) is None


@pytest.mark.parametrize("data", [None, [], "text", [GOOD], OrderedDict(GOOD), {"n": 1}])
def test_incomplete_objects_and_other_types(data: Any) -> None:
    assert load_plain(Say(), data) is None
    assert not is_surely_valid(Say(), data)
    if not isinstance(data, dict) or type(data) is not dict:
        assert dump_plain(Say(), data) is None


class WithHook(Plain):
    @pre_load
    def before(self, data: Any, **kwargs: Any) -> Any:
        return data


class WithLast(Plain):
    @post_load
    def after(self, data: Any, **kwargs: Any) -> Any:
        return data


class WithValidator(Plain):
    @validates("text")
    def check(self, value: str, **kwargs: Any) -> None: ...


class WithSchemaValidator(Plain):
    @validates_schema
    def check(self, data: Any, **kwargs: Any) -> None: ...


class WithOwnLoad(Plain):
    def load(self, *args: Any, **kwargs: Any) -> Any:
        return super().load(*args, **kwargs)


class WithOwnDictionary(Plain):
    dict_class = OrderedDict


class WithOwnField(Schema):
    text = type("Text", (fields.Str,), {})()


class WithOwnCheck(Schema):
    text = fields.Str(validate=lambda value: None)


class WithOwnCheckInside(Schema):
    text = fields.List(fields.Str(validate=lambda value: None))


class WithAConversion(Schema):
    text = fields.Str(post_load=str.strip)


class WithYes(Schema):
    text = fields.Bool(truthy={"yes"})


class WithNo(Schema):
    text = fields.Bool(falsy={"no"})


class WithDots(Schema):
    text = fields.Str(attribute="a.b")


class Inside(Schema):
    text = fields.Nested(Plain)


class ListOfLists(Schema):
    text = fields.List(fields.List(fields.Str()))


class ListOfDates(Schema):
    text = fields.List(fields.Date())


@pytest.mark.parametrize(
    "schema",
    [
        WithHook(),
        WithLast(),
        WithValidator(),
        WithSchemaValidator(),
        WithOwnLoad(),
        WithOwnDictionary(),
        WithOwnField(),
        WithOwnCheck(),
        WithOwnCheckInside(),
        WithAConversion(),
        WithYes(),
        WithNo(),
        WithDots(),
        Inside(),
        ListOfLists(),
        ListOfDates(),
        Plain(many=True),
        Plain(partial=True),
    ],
    ids=lambda schema: type(schema).__name__,
)
def test_schemas_that_are_not_plain(schema: Schema) -> None:
    for value in ("text", True, False, ["text"], [["text"]]):
        assert load_plain(schema, {"text": value}) is None


def test_an_overridden_method_of_an_instance() -> None:
    schema = Plain()
    schema._deserialize = lambda *args, **kwargs: {"text": "mine"}  # type: ignore[method-assign]
    assert load_plain(schema, {"text": "x"}) is None


@pytest.mark.parametrize("method", ["deserialize", "_deserialize", "_serialize", "_validate"])
def test_a_method_that_was_put_on_a_field(method: str) -> None:
    class Bound(Schema):
        text = fields.Str()
        texts = fields.List(fields.Str())

        def on_bind_field(self, field_name: str, field_obj: Any) -> None:
            changed = getattr(field_obj, "inner", field_obj)
            setattr(changed, method, lambda value, *args, **kwargs: "mine")

    for name, value in {"text": "x", "texts": ["x"]}.items():
        schema = Bound(only=(name,))
        assert load_plain(schema, {name: value}) is None
        assert dump_plain(schema, {name: value}) is None
        assert not is_surely_valid(schema, {name: value})


def test_a_schema_that_answers_for_its_attributes() -> None:
    class Answering(Plain):
        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__(name)

    assert load_plain(Answering(), {"text": "x"}) is None
    assert dump_plain(Answering(), {"text": "x"}) is None


def test_empty_names() -> None:
    class Empty(Schema):
        by_key = fields.Str(data_key="", required=True)
        from_attribute = fields.Str(attribute="")

    data = {"by_key": "a", "": "b"}
    assert dump_plain(Empty(), data) == Empty().dump(data) == {"": "a", "from_attribute": "b"}
    assert is_surely_valid(Empty(), {"": "a"})
    assert dump_errors(Empty(), {"": "a"}) == {}
    loaded = {"by_key": "a", "from_attribute": "b"}
    assert load_plain(Empty(), {"": "a", "from_attribute": "b"}) == loaded
    assert Empty().load({"": "a", "from_attribute": "b"}) == loaded


def test_what_is_left_out() -> None:
    class Defaults(Schema):
        text = fields.Str(load_default="none", dump_default="nothing")
        items = fields.Str()  # a method of dictionaries has that name

    assert load_plain(Defaults(), {"text": "x"}) == {"text": "x"}
    assert load_plain(Defaults(), {}) is None
    assert dump_plain(Defaults(), {"items": "x"}) is None
    assert dump_plain(Defaults(), {"text": "x"}) is None
    assert dump_plain(Defaults(), {"text": "x", "items": "y"}) == {"text": "x", "items": "y"}


def test_unknown_keys() -> None:
    data = {"text": "x", "more": 1}
    assert load_plain(Plain(unknown=EXCLUDE), data) == {"text": "x"}
    assert load_plain(Plain(unknown=INCLUDE), data) is None
    assert load_plain(Plain(unknown=RAISE), data) is None
    assert is_surely_valid(Plain(), data)


def test_an_unknown_key_beside_fields_with_the_same_one() -> None:
    class Twice(Schema):
        one = fields.Str(data_key="text", load_only=True)
        other = fields.Str(data_key="text")

    assert load_plain(Twice(), {"text": "x"}) == {"one": "x", "other": "x"}
    assert load_plain(Twice(), {"text": "x", "more": 1}) is None


def test_a_schema_that_can_not_be_a_key() -> None:
    class Equal(Plain):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

    assert load_plain(Equal(), {"text": "x"}) is None
    assert dump_plain(Equal(), {"text": "x"}) is None
    assert not is_surely_valid(Equal(), {"text": "x"})


def test_fields_of_one_direction() -> None:
    class Account(Schema):
        name = fields.Str(required=True)
        secret = fields.Str(required=True, load_only=True)
        id = fields.Int(dump_only=True)

    assert load_plain(Account(), {"name": "a", "secret": "s"}) == {"name": "a", "secret": "s"}
    assert load_plain(Account(), {"name": "a", "secret": "s", "id": 1}) is None
    assert dump_plain(Account(), {"name": "a", "secret": "s", "id": 1}) == {"name": "a", "id": 1}
    assert is_surely_valid(Account(), {"name": "a", "id": 1})


def test_numbers_that_are_dumped_as_text() -> None:
    class Numbers(Schema):
        one = fields.Int(as_string=True)

    class Lists(Schema):
        some = fields.List(fields.Int(as_string=True))

    assert dump_plain(Numbers(), {"one": 1}) is None
    assert dump_plain(Lists(), {"some": [1]}) is None


def test_a_schema_with_a_hook_for_what_goes_out() -> None:
    class Out(Plain):
        @post_dump
        def after(self, data: Any, **kwargs: Any) -> Any:
            return data

    assert dump_plain(Out(), {"text": "x"}) is None
    assert load_plain(Out(), {"text": "x"}) == {"text": "x"}


# -- beside marshmallow ---------------------------------------------------------------------------

VALIDATORS = st.sampled_from(
    [
        [],
        [validate.Length(max=3)],
        [validate.Range(min=0, max=5)],
        [validate.OneOf(["a", 1, True])],
        [validate.Regexp("^[a-c]*$")],
        [validate.NoneOf(["a", 1]), validate.Equal("b")],
    ]
)
NAMES = st.sampled_from(["a", "b", "c", "items", ""])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10)
    | st.floats()
    | st.sampled_from(["", "a", "b", "abcd", "1", "true"])
    | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def field(draw: st.DrawFn) -> fields.Field[Any]:
    kind = draw(
        st.sampled_from([fields.Str, fields.Int, fields.Float, fields.Bool, fields.Raw, "list"])
    )
    options: dict[str, Any] = {
        "validate": draw(VALIDATORS),
        "required": draw(st.booleans()),
        "allow_none": draw(st.booleans()),
    }
    if draw(st.booleans()):
        options["data_key"] = draw(NAMES)
    if draw(st.booleans()):
        options["attribute"] = draw(NAMES)
    if draw(st.booleans()):
        options["dump_default"] = draw(st.sampled_from(["a", 1]))
    if not options["required"] and draw(st.booleans()):
        options["load_default"] = draw(st.sampled_from(["a", None, list]))
    if kind is fields.Int and draw(st.booleans()):
        options["strict"] = True
    if kind == "list":
        inner = draw(st.sampled_from([fields.Str, fields.Int, fields.Float, fields.Bool]))
        return fields.List(inner(validate=draw(VALIDATORS)), **options)
    made: fields.Field[Any] = kind(**options)
    return made


@st.composite
def schema(draw: st.DrawFn) -> Schema:
    members = draw(st.dictionaries(NAMES, field(), max_size=3))
    unknown = draw(st.sampled_from([RAISE, EXCLUDE, INCLUDE]))
    try:
        made: Schema = Schema.from_dict(members)(unknown=unknown)
    except ValueError:  # two fields have the same key
        reject()
    return made


def same(one: Any, other: Any) -> bool:
    """Whether two results are the same, to the types and the order of keys."""
    return repr(one) == repr(other)


@given(schema(), st.dictionaries(NAMES, VALUES, max_size=3))
def test_loading_beside_marshmallow(schema: Schema, data: dict[str, Any]) -> None:
    loaded = load_plain(schema, data)
    if loaded is not None:
        assert same(loaded, schema.load(data))


@given(schema(), st.dictionaries(NAMES, VALUES, max_size=3))
def test_dumping_beside_marshmallow(schema: Schema, data: dict[str, Any]) -> None:
    dumped = dump_plain(schema, data)
    if dumped is not None:
        assert same(dumped, schema.dump(data))


@given(schema(), st.dictionaries(NAMES, VALUES, max_size=3))
def test_checking_beside_the_long_way(schema: Schema, data: dict[str, Any]) -> None:
    if is_surely_valid(schema, data):
        assert dump_errors(schema, data) == {}


def test_an_error_is_marshmallows_own() -> None:
    assert load_plain(Say(), {"text": ""}) is None
    with pytest.raises(ValidationError, match="Length must be between 1 and 5"):
        Say().load({"text": ""})
