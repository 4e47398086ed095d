"""Typed messages, on every engine and server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.raw import RawClient
from support.servers import Server
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect


def tell(ws: ClientConnection, **message: Any) -> None:
    ws.send(json.dumps(message))


def hear(ws: ClientConnection) -> Any:
    return json.loads(ws.recv(timeout=10))


def closed(ws: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosedError) as caught:
        ws.recv(timeout=10)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_messages_are_routed_and_answered(server: Server):
    with connect(server.ws("/typed/room/lobby")) as ws:
        assert hear(ws) == {"type": "joined", "text": "hello", "room": "lobby"}
        tell(ws, type="say", text="grüße", when="2026-01-02", ref={"id": 7})
        assert hear(ws) == {
            "type": "said",
            "text": "grüße",
            "room": "lobby",
            "when": "2026-01-02",
            "ref": {"id": 7},
        }
        tell(ws, type="say", text="quiet")
        tell(ws, type="say", text="rude", ref="r")
        assert hear(ws) == {
            "type": "error",
            "code": "invalid_message",
            "errors": {"text": ["Mind your language."]},
            "ref": "r",
        }
        tell(ws, type="values", more=[1])
        assert hear(ws) == {
            "type": "values",
            "when": "2026-01-02T03:04:05+00:00",
            "price": "1.10",
            "exact": "1.10",
            "key": "12345678-1234-5678-1234-567812345678",
            "untouched": "Fri, 02 Jan 2026 00:00:00 GMT",
        }


def test_a_flood_of_invalid_messages_does_not_end_the_conversation(server: Server):
    with connect(server.ws("/typed/room/lobby")) as ws:
        hear(ws)
        for _ in range(100):
            tell(ws, type="say", text="", more=1, ref=3)
            ws.send("{")
            tell(ws, type="shout")
        tell(ws, type="say", text="still there")
        for _ in range(100):
            invalid = hear(ws)
            assert sorted(invalid.pop("errors")) == ["more", "text"]
            assert invalid == {"type": "error", "code": "invalid_message", "ref": 3}
            assert hear(ws)["errors"] == {"_schema": ["Not valid JSON."]}
            unknown = hear(ws)
            assert unknown["code"] == "unknown_type"
            assert "say, values" in unknown["errors"]["type"][0]
        assert hear(ws)["text"] == "still there"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "say", "text": "abort"}, 1008),
        ({"type": "say", "text": "close"}, 4001),
        ({"type": "say", "text": "boom"}, 1011),
        ({"type": "wrong reply"}, 1011),
        ({"type": "undeclared reply"}, 1011),
        (b"binary", 1003),
    ],
)
def test_what_ends_a_conversation(server: Server, message: Any, code: int):
    with connect(server.ws("/typed/room/lobby")) as ws:
        hear(ws)
        ws.send(message if isinstance(message, bytes) else json.dumps(message))
        assert closed(ws)[0] == code
    if message == {"type": "wrong reply"}:
        assert "Room can't send this 'wrong reply', which doesn't match its schema" in server.log


def test_a_view_says_what_becomes_of_invalid_messages(server: Server):
    with connect(server.ws("/typed/strict")) as ws:
        tell(ws, text="fine", ref=1, more=2)
        assert hear(ws) == {"text": "fine"}
        tell(ws, text="", ref="r")
        assert hear(ws) == {"strikes": 1, "fields": ["text"], "ref": "r"}
        ws.send("no JSON")
        assert hear(ws) == {"strikes": 2, "fields": ["_schema"], "ref": None}
        ws.send("[]")
        assert closed(ws) == (1008, "three strikes")


def test_binary_messages_beside_typed_ones(server: Server):
    with connect(server.ws("/typed/both")) as ws:
        ws.send(b"abc")
        assert ws.recv(timeout=10) == b"cba"
        tell(ws, kind="twice", text="ab")
        assert hear(ws) == {"kind": "twice", "text": "abab"}
        tell(ws, kind="thrice")
        assert hear(ws)["kind"] == "error"


def test_a_function_gets_loaded_messages(server: Server):
    with connect(server.ws("/typed/function")) as ws:
        for text in ("first", "second"):
            tell(ws, text="", ref=1)
            error = hear(ws)
            assert (error["type"], error["ref"]) == ("error", 1)
            tell(ws, text=text)
            assert hear(ws) == {"type": "said", "text": text}
        ws.send(b"binary")
        assert closed(ws)[0] == 1003


def test_what_the_handshake_brings_is_loaded(server: Server):
    headers = {"X-Client-Version": "3"}
    url = server.ws("/typed/declares?limit=5&tag=a&tag=b&utm=x")
    with connect(url, additional_headers=headers) as ws:
        assert ws.response.headers["X-Limit"] == "5"
        assert hear(ws) == [{"limit": 5, "tag": ["a", "b"]}, {"version": 3}, "contract"]


def test_a_handshake_with_what_can_not_be_loaded(server: Server):
    with RawClient(server) as client:
        status, fields = client.request("/typed/declares?limit=x", {"Connection": "Upgrade"})
        assert status == 400
        assert ("content-type", "application/json") in fields
        assert json.loads(client.body()) == {
            "errors": {"query": {"limit": ["Not a valid integer."]}}
        }
    with RawClient(server) as client:
        assert client.request("/typed/declares")[0] == 400
        errors = json.loads(client.body())["errors"]
        assert errors == {"headers": {"X-Client-Version": ["Missing data for required field."]}}
