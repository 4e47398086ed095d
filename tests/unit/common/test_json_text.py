"""JSON as RFC 8259 has it, in and out, with every engine and every kind of provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import inf, nan
from typing import Any

import pytest
import uvloop
from flask import Flask
from flask.json.provider import DefaultJSONProvider, JSONProvider
from marshmallow import Schema, fields
from support.engines import EXTENSIONS_AND_COROUTINES

import flask_wsviews
from flask_wsviews import (
    OutgoingMessageError,
    Publisher,
    WebSocket,
    WebSocketView,
    message,
)
from flask_wsviews.common.json_text import NotJSON, dump_text, load_text
from flask_wsviews.groups.presence.store import checked_meta
from flask_wsviews.testing import WebSocketTestClient, captured_broadcasts, websocket_connect

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

INVALID = {"_schema": ["Not valid JSON."]}


class Bytes(JSONProvider):
    """Writes bytes, as orjson does."""

    def dumps(self, obj: Any, **kwargs: Any) -> Any:
        return json.dumps(obj).encode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return json.loads(s)


class Number(Schema):
    x = fields.Float(required=True)
    any = fields.Raw()


class Loose(Schema):
    x = fields.Float(allow_nan=True)
    any = fields.Raw()


VALUES = {"nan": nan, "inf": inf, "nested": {"a": [1, -inf]}, "text": "NaN Infinity", "1": 1}


class Views:
    """The same views, plain and as coroutines."""

    def __init__(self, websocket: WebSocket, is_async: bool) -> None:
        def made(function: Any) -> Any:
            if not is_async:
                return function

            async def handler(self: Any, ws: Any, data: Any) -> Any:
                answer = function(self, ws, data)
                return await answer if hasattr(answer, "__await__") else answer

            return handler

        def route(rule: str, **options: Any) -> Any:
            return websocket.route(rule, **options)

        class Routed(WebSocketView):
            emits = {"raw": Loose}

            @message("number", schema=Number, reply=Number)
            @made
            def number(self, ws: Any, data: Any) -> Any:
                return data

            @message("raw", reply=Loose)
            @made
            def raw(self, ws: Any, data: Any) -> Any:
                return {"any": VALUES[data["value"]]}

            @message("send")
            @made
            def send(self, ws: Any, data: Any) -> Any:
                return ws.send_json({"value": VALUES[data["value"]]})

        class Whole(WebSocketView):
            message_schema = Number

            def on_message(self, ws: Any, message: Any) -> Any:
                return ws.send_json(message)

        def function(ws: Any) -> None:
            while (data := ws.receive()) is not None:
                ws.send_json(data)

        async def coroutine(ws: Any) -> None:
            while (data := await ws.receive()) is not None:
                await ws.send_json(data)

        route("/routed")(Routed)
        route("/whole")(Whole)
        target = coroutine if is_async else function
        route("/function", endpoint="function", message_schema=Number)(target)


@pytest.fixture(params=EXTENSIONS_AND_COROUTINES)
def websocket(request: pytest.FixtureRequest) -> Iterator[WebSocket]:
    app = Flask("site")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    is_async = request.param == "coroutines"
    made: WebSocket = getattr(flask_wsviews, "AsyncioWebSocket" if is_async else request.param)(app)
    Views(made, is_async)
    yield made
    made.stop()


def app_of(websocket: WebSocket) -> Flask:
    assert websocket.app is not None
    return websocket.app


def answers(websocket: WebSocket, path: str, *texts: str) -> list[Any]:
    with app_of(websocket).test_client() as client, websocket_connect(client, path) as ws:
        found = []
        for text in texts:
            ws.send(text)
            found.append(_strict(ws))
        return found


def _strict(ws: WebSocketTestClient) -> Any:
    text = ws.receive()
    assert isinstance(text, str)

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} was sent")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("provider", [DefaultJSONProvider, Bytes])
@pytest.mark.parametrize("constant", ["NaN", "-Infinity"])
@pytest.mark.parametrize("path", ["/routed", "/whole", "/function"])
def test_incoming_constants_are_no_json(
    websocket: WebSocket, path: str, constant: str, provider: type[JSONProvider]
) -> None:
    app = app_of(websocket)
    app.json = provider(app)
    kind = '"type": "number", ' if path == "/routed" else ""
    bad, nested, fine = answers(
        websocket,
        path,
        f'{{{kind}"x": {constant}}}',
        f'{{{kind}"x": 1, "any": [{{"deep": {constant}}}]}}',
        f'{{{kind}"x": 1.5, "any": "NaN and -Infinity"}}',
    )
    assert bad["errors"] == nested["errors"] == INVALID
    assert bad["code"] == "invalid_message"
    assert fine["x"] == 1.5
    assert fine["any"] == "NaN and -Infinity"


@pytest.mark.parametrize("value", ["nan", "inf", "nested"])
@pytest.mark.parametrize("kind", ["raw", "send"])
@pytest.mark.parametrize("validate", [True, False])
def test_outgoing_constants_are_an_error(
    websocket: WebSocket, value: str, kind: str, validate: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(websocket)
    app.config["WSVIEWS_VALIDATE_OUTGOING"] = validate
    with app.test_client() as client, websocket_connect(client, "/routed") as ws:
        ws.send(json.dumps({"type": kind, "value": "1"}))
        _strict(ws)
        ws.send(json.dumps({"type": kind, "value": "text"}))
        assert "NaN Infinity" in str(_strict(ws))
        ws.send(json.dumps({"type": kind, "value": value}))
        ws.assert_closed(1011)
    assert "isn't JSON" in caplog.text


@pytest.mark.parametrize("value", [nan, inf, [-inf]])
def test_broadcasts_have_no_constants(websocket: WebSocket, value: Any) -> None:
    app = app_of(websocket)
    with (
        app.app_context(),
        captured_broadcasts(app) as broadcasts,
        pytest.raises(OutgoingMessageError, match="isn't JSON"),
    ):
        websocket.send_message("lobby", "raw", {"any": value})
    assert broadcasts == []


def test_a_provider_that_writes_bytes(websocket: WebSocket) -> None:
    app = app_of(websocket)
    app.json = Bytes(app)
    found = answers(
        websocket,
        "/routed",
        '{"type": "number", "x": 1, "ref": 2}',
        '{"type": "send", "value": "1"}',
        '{"type": "nothing"}',
        "{",
    )
    assert [one.get("x") for one in found] == [1.0, None, None, None]
    assert found[1] == {"value": 1}
    assert found[2]["code"] == "unknown_type"
    with app.app_context(), captured_broadcasts(app) as broadcasts:
        websocket.send_message("lobby", "raw", {"any": "ü"})
    [broadcast] = broadcasts
    assert isinstance(broadcast.message, str)


def test_a_test_client_sends_text_whatever_the_provider(websocket: WebSocket) -> None:
    app = app_of(websocket)
    app.json = Bytes(app)
    with app.test_client() as client, websocket_connect(client, "/whole") as ws:
        ws.send_json({"x": 1})
        assert ws.receive_json() == {"x": 1}


@pytest.mark.parametrize("ref", ["1e999", '{"a": [-1e999]}'])
def test_a_ref_that_can_not_be_sent_back(websocket: WebSocket, ref: str) -> None:
    found = answers(
        websocket,
        "/routed",
        f'{{"type": "number", "x": 1, "ref": {ref}}}',
        f'{{"type": "number", "x": "a", "ref": {ref}}}',
        '{"type": "number", "x": 1, "ref": 1e99}',
    )
    assert found[0] == found[1]
    assert found[0]["errors"] == {"ref": ["A number is too large."]}
    assert found[2]["ref"] == 1e99


def test_presence_has_no_constants() -> None:
    with pytest.raises(TypeError, match="meta must be a mapping"):
        checked_meta({"x": nan})


def test_a_publisher_sends_no_constants() -> None:
    with (
        Publisher("redis://127.0.0.1:1/0") as publisher,
        pytest.raises(OutgoingMessageError, match="isn't JSON"),
    ):
        publisher.send_message("lobby", "said", {"x": nan})


def test_a_command_refuses_constants() -> None:
    app = Flask("site")
    app.config["WSVIEWS_BROKER_URL"] = "redis://127.0.0.1:1/0"
    WebSocket(app)
    command = ["ws", "broadcast", "lobby", '{"x": NaN}', "--type", "said"]
    result = app.test_cli_runner().invoke(args=command)
    assert result.exit_code == 2
    assert "with --type MESSAGE must be JSON" in result.output


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_become_text(kind: Any) -> None:
    assert dump_text(lambda value: kind(b'"\xc3\xbc"'), None) == '"ü"'


def test_what_python_can_not_parse_is_the_providers_to_judge() -> None:
    assert load_text(lambda text: text, "{NaN") == "{NaN"
    assert load_text(json.loads, '"NaN"') == "NaN"
    with pytest.raises(NotJSON):
        load_text(json.loads, "[NaN]")
    assert dump_text(lambda value: "{NaN", None) == "{NaN"
