"""What a view declares of its messages, and what becomes of them."""

from __future__ import annotations

import contextlib
import json
from enum import Enum
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import Schema, fields, validate
from support.peers import bounded

from flask_wsviews import (
    CloseConnection,
    ErrorMessage,
    InvalidMessage,
    OutgoingMessageError,
    RegistrationError,
    WebSocketView,
    message,
)
from flask_wsviews.messages.declared import make_protocol
from flask_wsviews.messages.protocol import MessageProtocol


class Say(Schema):
    text = fields.Str(required=True, validate=validate.Length(1, 10))


class Said(Schema):
    text = fields.Str(required=True)
    by = fields.Str()


class Typed(Schema):
    """Has fields of its own for what is usually ours."""

    type = fields.Str()
    ref = fields.Int()


class Chat(WebSocketView):
    emits = {"joined": Said}

    @message("say", schema=Say, reply=Said)
    def say(self, ws: Any, data: Any) -> Any:
        return data

    @message("leave")
    def leave(self, ws: Any, data: Any) -> None:
        return None


CHAT = Chat.protocol
WHOLE = make_protocol("whole", schema=Say)


def refused(protocol: MessageProtocol, text: str) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        protocol.take(text, json.loads)
    return caught.value


# -- what clients send --------------------------------------------------------------------------


def test_a_message_finds_its_handler() -> None:
    loaded = CHAT.take('{"type": "say", "text": "hi", "ref": 7}', json.loads)
    assert loaded.handler is CHAT.handlers["say"]
    assert (loaded.data, loaded.ref) == ({"text": "hi"}, 7)


def test_a_handler_without_a_schema_gets_the_rest_of_the_object() -> None:
    loaded = CHAT.take('{"type": "leave", "ref": null, "why": [1]}', json.loads)
    assert loaded.handler is CHAT.handlers["leave"]
    assert (loaded.data, loaded.ref) == ({"why": [1]}, None)


def test_a_message_schema_loads_each_message() -> None:
    assert WHOLE.take('{"text": "hi", "ref": "a"}', json.loads).data == {"text": "hi"}
    many = make_protocol("many", schema=Say(many=True))
    assert many.take('[{"text": "hi"}]', json.loads).data == [{"text": "hi"}]


def test_a_schema_may_have_fields_for_type_and_ref() -> None:
    class View(WebSocketView):
        @message("typed", schema=Typed)
        def typed(self, ws: Any, data: Any) -> None: ...

    taken = View.protocol.take('{"type": "typed", "ref": 3}', json.loads)
    assert (taken.data, taken.ref) == ({"type": "typed", "ref": 3}, 3)
    whole = make_protocol("whole", schema=Typed)
    assert whole.take('{"type": "x", "ref": 4}', json.loads).data == {"type": "x", "ref": 4}


@pytest.mark.parametrize("text", ["", "nothing", "{", '{"a": 1}}', "[" * 100_000, "9" * 10_000])
def test_what_is_no_json(text: str) -> None:
    error = refused(CHAT, text)
    assert (error.code, error.ref, error.message) == ("invalid_message", None, text)
    assert error.errors == {"_schema": ["Not valid JSON."]}


@pytest.mark.parametrize("text", ["null", "1", '"say"', "[]", "true"])
def test_what_is_no_object(text: str) -> None:
    assert refused(CHAT, text).errors == {"_schema": ["A message is a JSON object."]}
    assert refused(WHOLE, text).errors == {"_schema": ["Invalid input type."]}


def test_invalid_fields() -> None:
    error = refused(CHAT, '{"type": "say", "text": "", "more": 1, "ref": "r1"}')
    assert (error.code, error.ref) == ("invalid_message", "r1")
    assert error.errors == {
        "text": ["Length must be between 1 and 10."],
        "more": ["Unknown field."],
    }
    assert str(error).startswith("invalid_message: {'text'")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"type": "shout"}', "Unknown; known are say, leave."),
        ('{"type": ["say"]}', "Unknown; known are say, leave."),
        ('{"type": null}', "Unknown; known are say, leave."),
        ('{"text": "hi"}', "Missing; known are say, leave."),
    ],
)
def test_unknown_types(text: str, problem: str) -> None:
    error = refused(CHAT, text)
    assert (error.code, error.errors) == ("unknown_type", {"type": [problem]})


def test_binary_messages() -> None:
    assert WHOLE.take(b"\xff", json.loads).data == b"\xff"
    with pytest.raises(CloseConnection) as caught:
        make_protocol("text", binary=False).take(b"\xff", json.loads)
    assert caught.value.code == 1003


def test_without_schemas_nothing_is_looked_into() -> None:
    assert not MessageProtocol().is_typed
    assert MessageProtocol().take("{", json.loads).data == "{"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@bounded
@given(JSON | st.fixed_dictionaries({"type": st.just("say") | JSON, "text": JSON, "ref": JSON}))
def test_anything_is_taken_or_refused_with_its_ref(value: Any) -> None:
    for protocol in (CHAT, WHOLE):
        try:
            ref = protocol.load(value).ref
        except InvalidMessage as error:
            ref = error.ref
            json.dumps(protocol.dump_error(ErrorMessage(), error))
        assert ref == (value.get("ref") if isinstance(value, dict) else None)


class Colour(Enum):
    RED = 1


#: Every kind of field that marshmallow has, and what their parsers may stumble over.
KINDS: dict[str, fields.Field[Any]] = {
    "str": fields.Str(),
    "int": fields.Int(),
    "strict": fields.Int(strict=True),
    "float": fields.Float(),
    "any float": fields.Float(allow_nan=True),
    "decimal": fields.Decimal(),
    "places": fields.Decimal(places=2),
    "bool": fields.Bool(),
    "datetime": fields.DateTime(),
    "rfc": fields.DateTime(format="rfc"),
    "timestamp": fields.DateTime(format="timestamp"),
    "timestamp_ms": fields.DateTime(format="timestamp_ms"),
    "naive": fields.NaiveDateTime(),
    "aware": fields.AwareDateTime(),
    "time": fields.Time(),
    "date": fields.Date(),
    "seconds": fields.TimeDelta(),
    "days": fields.TimeDelta("days"),
    "uuid": fields.UUID(),
    "url": fields.Url(),
    "email": fields.Email(),
    "ip": fields.IP(),
    "interface": fields.IPInterface(),
    "enum": fields.Enum(Colour),
    "value": fields.Enum(Colour, by_value=True),
    "list": fields.List(fields.Int()),
    "tuple": fields.Tuple((fields.Int(), fields.Str())),
    "dict": fields.Dict(keys=fields.Int(), values=fields.Str()),
    "nested": fields.Nested(Say),
    "many": fields.Nested(Say, many=True),
    "pluck": fields.Pluck(Say, "text"),
    "constant": fields.Constant(3),
    "raw": fields.Raw(),
}
if version("marshmallow") < "4.4":
    # NaN seconds raise a ValueError there, and CPython 3.10 gets no later one.
    del KINDS["seconds"], KINDS["days"]

STUMBLING = st.sampled_from(
    [
        *(10**30, -(10**30), 1e308, float("nan"), float("inf")),
        *("Infinity", "nan", "1e999", "1" * 5000, "-1", "\ud800"),
        *("9999-99-99", "0000-01-01", "00:00:61", "2020-01-01T00:00:00+99:99"),
        *("::1%", "1.2.3.4/99", "http://[", "a@b"),
    ]
)
EVERYTHING = make_protocol("everything", schema=Schema.from_dict(dict(KINDS)))


@bounded
@given(STUMBLING | JSON)
def test_no_field_stumbles(value: Any) -> None:
    for kind in KINDS:
        with contextlib.suppress(InvalidMessage):
            EVERYTHING.load({kind: value})
    with pytest.raises(InvalidMessage) as refused:
        EVERYTHING.load(dict.fromkeys(KINDS, value))
    json.dumps(EVERYTHING.dump_error(ErrorMessage(), refused.value))


# -- what goes out ------------------------------------------------------------------------------


def test_a_message_goes_out_with_its_type_first() -> None:
    payload = CHAT.dump("joined", {"text": "x", "more": 1})
    assert json.dumps(payload) == '{"type": "joined", "text": "x"}'


def test_the_type_is_ours_to_say() -> None:
    protocol = make_protocol("view", emits={"typed": Typed})
    assert protocol.dump("typed", {"type": "another", "ref": 1}) == {"type": "typed", "ref": 1}


def test_a_message_that_is_not_declared() -> None:
    with pytest.raises(OutgoingMessageError, match=r"'left' isn't in Chat\.emits .*has 'joined'"):
        CHAT.dump("left", {})
    with pytest.raises(OutgoingMessageError, match=r"emits \(which is empty\)"):
        WHOLE.dump("left", {})


def test_a_message_that_its_schema_forbids() -> None:
    with pytest.raises(OutgoingMessageError, match=r"Chat can't send this 'joined'.*required"):
        CHAT.dump("joined", {"by": "me"})
    assert CHAT.dump("joined", {"by": "me"}, validate=False) == {"type": "joined", "by": "me"}


def test_a_reply_carries_the_ref() -> None:
    say = CHAT.handlers["say"]
    assert CHAT.dump_reply(say, {"text": "x"}, 7) == {"type": "say", "text": "x", "ref": 7}
    assert CHAT.dump_reply(say, {"text": "x"}, None) == {"type": "say", "text": "x"}
    with pytest.raises(OutgoingMessageError, match="required"):
        CHAT.dump_reply(say, {}, 7)


def test_a_reply_with_a_ref_of_its_own_keeps_it() -> None:
    class View(WebSocketView):
        @message("ask", reply=Typed, reply_type="answer")
        def ask(self, ws: Any, data: Any) -> Any: ...

    protocol = View.protocol
    payload = protocol.dump_reply(protocol.handlers["ask"], {"ref": 1}, 2)
    assert payload == {"type": "answer", "ref": 1}


def test_a_handler_that_declares_no_reply() -> None:
    with pytest.raises(OutgoingMessageError, match=r"Chat\.leave returned 'x'.* reply="):
        CHAT.dump_reply(CHAT.handlers["leave"], "x", None)


def test_error_frames() -> None:
    error = InvalidMessage({"text": ["bad"]}, ref=[1])
    schema = ErrorMessage()
    expected = {"type": "error", "code": "invalid_message", "errors": {"text": ["bad"]}}
    assert CHAT.dump_error(schema, error) == {**expected, "ref": [1]}
    error.ref = None
    assert CHAT.dump_error(schema, error) == expected


def test_error_frames_of_another_shape() -> None:
    class Problem(Schema):
        kind = fields.Constant("problem")
        details = fields.Raw(attribute="errors")

    error = InvalidMessage({"text": ["bad"]})
    kinds = make_protocol("view", discriminator="kind")
    assert kinds.dump_error(Problem(), error) == {"kind": "problem", "details": {"text": ["bad"]}}
    assert kinds.dump_error(ErrorMessage(), error)["kind"] == "error"


# -- what classes declare -----------------------------------------------------------------------


def test_handlers_are_inherited_overridden_and_taken_back() -> None:
    class Pings(WebSocketView):
        emits = {"ping": Said}

        @message("ping")
        def ping(self, ws: Any, data: Any) -> None: ...

    class Louder(Pings, Chat):
        emits = {"joined": Typed}
        leave = None

        def say(self, ws: Any, data: Any) -> Any:
            return {"text": data["text"].upper()}

        @message("pong", schema=Say)
        def ping(self, ws: Any, data: Any) -> None: ...

    protocol = Louder.protocol
    assert {type_: handler.name for type_, handler in protocol.handlers.items()} == {
        "say": "say",
        "pong": "ping",
    }
    assert isinstance(protocol.handlers["say"].reply, Said)
    assert isinstance(protocol.emits["joined"], Typed)
    assert isinstance(protocol.emits["ping"], Said)
    assert set(Chat.protocol.handlers) == {"say", "leave"}


def test_whether_binary_messages_are_taken() -> None:
    class Both(Chat):
        binary = True

        def on_message(self, ws: Any, message: Any) -> None: ...

    class TextOnly(WebSocketView):
        binary = False

    assert WebSocketView.protocol.binary
    assert not Chat.protocol.binary
    assert Both.protocol.binary
    assert not TextOnly.protocol.binary


def declare(**attributes: Any) -> type:
    return type("Wrong", (WebSocketView,), attributes)


def handler(*args: Any, **kwargs: Any) -> Any:
    return message(*args, **kwargs)(lambda self, ws, data: None)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"a": handler("x"), "b": handler("x")}, r"Wrong\.b and Wrong\.a both handle 'x'"),
        ({"a": handler("x"), "message_schema": Say}, "both message_schema and @message"),
        (
            {"a": handler("x"), "on_message": lambda self, ws, message: None},
            r"Wrong\.on_message gets no text beside @message handlers \(a\)",
        ),
        (
            {"a": handler("x"), "on_message": lambda self, ws, message: None, "binary": False},
            "on_message gets no text",
        ),
        (
            {"a": handler(7)},
            r"@message of Wrong\.a: a message's type must be a string .*, not 7",
        ),
        ({"a": handler("")}, "a message's type must be a string"),
        ({"a": handler("x", reply_type="")}, r"reply_type of Wrong\.a"),
        ({"a": handler("x", schema=dict)}, r"schema of Wrong\.a must be a marshmallow Schema"),
        ({"a": handler("x", reply=Say(many=True))}, r"reply of Wrong\.a has many=True"),
        ({"emits": {"x": "Say"}}, r"emits\['x'\] of Wrong must be a marshmallow Schema"),
        ({"emits": {1: Say}}, "emits of Wrong: a message's type must be a string"),
        ({"message_schema": 1}, "message_schema of Wrong"),
        ({"discriminator": ""}, "discriminator of Wrong"),
        ({"discriminator": "ref"}, "discriminator of Wrong"),
        ({"binary": "no"}, "binary of Wrong must be True or False"),
        ({"query_schema": 1}, "query_schema of Wrong"),
        ({"headers_schema": 1}, "headers_schema of Wrong"),
    ],
)
def test_contradictions_fail_when_the_class_is_made(
    attributes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RegistrationError, match=problem):
        declare(**attributes)
