"""What views say of their groups, with the testing client, on every engine."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from flask import Flask, g, request
from marshmallow import Schema, fields
from support.engines import EXTENSIONS_AND_COROUTINES
from support.servers import poll

import flask_wsviews
from flask_wsviews import (
    ConnectionClosed,
    Group,
    GroupError,
    RegistrationError,
    WebSocket,
    WebSocketView,
    message,
)
from flask_wsviews.groups import Delivery
from flask_wsviews.testing import (
    Disconnect,
    WebSocketTestClient,
    captured_broadcasts,
    captured_disconnects,
    websocket_connect,
)

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()


@pytest.fixture(params=EXTENSIONS_AND_COROUTINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def websocket(engine: str) -> Iterator[WebSocket]:
    app = Flask("site")
    made = getattr(flask_wsviews, "AsyncioWebSocket" if engine == "coroutines" else engine)(app)
    yield made
    made.stop()


def hook(engine: str, function: Any) -> Any:
    """A hook that does what *function* does, and awaits what that returns, on coroutines."""
    if engine != "coroutines":
        return function

    async def wait(self: Any, ws: Any, *args: Any, **kwargs: Any) -> None:
        result = function(self, ws, *args, **kwargs)
        if hasattr(result, "__await__"):
            await result

    return wait


def add(websocket: WebSocket, engine: str, rule: str, name: str, **attributes: Any) -> None:
    """A view that sends the names of its groups when it begins."""

    def on_connect(self: Any, ws: Any, **view_args: Any) -> Any:
        return ws.send(" ".join(sorted(ws.groups)))

    attributes.setdefault("on_connect", on_connect)
    hooks = {
        key: hook(engine, value) if key in ("on_connect", "on_message", "on_close") else value
        for key, value in attributes.items()
    }
    websocket.add_url_rule(rule, name, type(name, (WebSocketView,), hooks))


def open_at(websocket: WebSocket, path: str) -> WebSocketTestClient:
    assert websocket.app is not None
    return websocket_connect(websocket.app.test_client(), path)


def close_code(ws: WebSocketTestClient) -> int | None:
    with ws, pytest.raises(ConnectionClosed):
        ws.receive()
    return ws.close_code


def test_a_variable_names_no_other_group(
    websocket: WebSocket, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Any, ws: Any, group: str) -> bool:
        return False

    add(websocket, engine, "/rooms/<path:room>", "room", groups=["room:{room}"])
    add(websocket, engine, "/any/<path:name>", "anything", groups=["{name}"])
    add(websocket, engine, "/pairs/<a>/<b>", "pair", groups=["{a}/{b}"])
    # Registered later, on a blueprint and by hand.
    blueprint = flask_wsviews.Blueprint("staff", "staff")
    staff = type("Staff", (WebSocketView,), {"groups": ["room:{room}:staff"]})
    staff.authorize_group = refuse  # type: ignore[attr-defined]
    blueprint.add_websocket_rule("/staff/<room>", view_func=staff)
    assert websocket.app is not None
    websocket.app.register_blueprint(blueprint)
    websocket.configure_group("lobby", history=5)
    websocket.configure_group("user:{id}")
    for path in (
        "/rooms/7:staff",
        "/rooms/7%3Astaff",
        "/rooms/a:b/c",
        "/rooms/a/b",
        "/any/lobby",
        "/any/user:5",
        "/any/room:7",
        "/any/room:7:staff",
        "/any/a/b",
        "/pairs/room:7/staff",
        "/pairs/user:1/2",
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert close_code(open_at(websocket, path)) == 1008, path
        [record] = caplog.records
        assert record.exc_info is None
        assert "1008" in record.getMessage()
    for path, name in (
        ("/rooms/a.b", "room:a.b"),
        ("/rooms/7", "room:7"),
        ("/any/lobby2", "lobby2"),
        ("/pairs/a/b", "a/b"),
    ):
        with open_at(websocket, path) as ws:
            assert ws.receive() == name


def test_converters_that_make_numbers(websocket: WebSocket, engine: str) -> None:
    uuid = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    add(websocket, engine, "/users/<uuid:id>", "user", groups=["user-{id}"])
    add(websocket, engine, "/at/<int(signed=True):x>/<float:y>", "at", groups=["at-{x}.{y}"])
    for path, name in ((f"/users/{uuid}", f"user-{uuid}"), ("/at/-5/1.5", "at--5.1.5")):
        with open_at(websocket, path) as ws:
            assert ws.receive() == name


def test_a_preprocessor_may_take_variables(websocket: WebSocket, engine: str) -> None:
    app = websocket.app
    assert app is not None

    @app.url_value_preprocessor
    def take_tenant(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.tenant = (values or {}).pop("tenant", None)

    def on_connect(self: Any, ws: Any, **view_args: Any) -> Any:
        return ws.send(f"{ws.group} {sorted(view_args)}")

    attributes = {"groups": ["{tenant}:{room}"], "on_connect": on_connect}
    add(websocket, engine, "/<tenant>/<room>", "room", **attributes)

    @websocket.route("/function/<tenant>/<room>", groups=["f:{tenant}:{room}"])
    def function(ws: Any, room: str) -> None:
        ws.send(f"{ws.group} {room} {sorted(request.view_args or {})}")

    with open_at(websocket, "/acme/7") as ws:
        assert ws.receive() == "acme:7 ['room']"
    with open_at(websocket, "/function/acme/7") as ws:
        assert ws.receive() == "f:acme:7 7 ['room']"
    assert close_code(open_at(websocket, "/a:b/7")) == 1008


def test_a_name_that_a_client_sends(
    websocket: WebSocket, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Exception] = []

    def on_message(self: Any, ws: Any, message: str) -> Any:
        name, *rest = message.split("|")
        return ws.join(name, *rest)

    def authorize_group(self: Any, ws: Any, group: str) -> bool:
        return group != "secret"

    def on_error(self: Any, ws: Any, error: Exception) -> None:
        seen.append(error)

    attributes = {"authorize_group": authorize_group, "on_error": on_error}
    add(websocket, engine, "/join", "join", on_message=on_message, **attributes)
    for name, code in (("{x}", 1008), (" a", 1008), ("x" * 256, 1008), ("secret", 1008)):
        caplog.clear()
        ws = open_at(websocket, "/join")
        assert ws.receive() == ""
        ws.send(name)
        assert close_code(ws) == code
        assert not [record for record in caplog.records if record.exc_info]
    assert {type(error) for error in seen} == {GroupError}
    # This group has no history: that is for the developer to know.
    ws = open_at(websocket, "/join")
    assert ws.receive() == ""
    ws.send("team|5-0")
    assert close_code(ws) == 1011
    assert "'team'" in caplog.text


def test_a_join_that_nobody_awaits(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("site")
    websocket = flask_wsviews.AsyncioWebSocket(app)

    @websocket.route("/")
    async def join(ws: Any) -> None:
        ws.join(await ws.receive(), since=await ws.receive() or None)
        await ws.receive()

    for name, since, code in (("{x}", "", 1008), ("team", "5-0", 1011)):
        ws = open_at(websocket, "/")
        ws.send(name)
        ws.send(since)
        assert close_code(ws) == code
    websocket.stop()


def test_the_group_of_a_view_that_has_one(websocket: WebSocket, engine: str) -> None:
    closed: list[str] = []

    def on_connect(self: Any, ws: Any, **view_args: Any) -> Any:
        try:
            name = ws.group
        except GroupError as error:
            name = str(error)
        ws.join("another")
        return ws.send(name)

    def on_message(self: Any, ws: Any, message: str) -> Any:
        return websocket.broadcast(ws.group, message)

    def on_close(self: Any, ws: Any, code: int, reason: str) -> None:
        closed.append(ws.group)

    attributes = {"on_connect": on_connect, "on_message": on_message, "on_close": on_close}
    add(websocket, engine, "/one/<room>", "one", groups=("room:{room}",), **attributes)
    del attributes["on_close"]
    add(websocket, engine, "/two/<room>", "two", groups=("lobby", "two:{room}"), **attributes)
    add(websocket, engine, "/none", "none", **attributes)
    with open_at(websocket, "/one/7") as ws:
        assert ws.receive() == "room:7"
        ws.send("hello")
        assert ws.receive() == "hello"
    assert closed == ["room:7"]
    for path in ("/two/7", "/none"):
        with open_at(websocket, path) as ws:
            assert "exactly one group" in str(ws.receive())


def test_disconnections(websocket: WebSocket, engine: str) -> None:
    app = websocket.app
    assert app is not None
    closed: list[tuple[str, int, str]] = []
    left: list[str] = []

    def on_connect(self: Any, ws: Any, **view_args: Any) -> Any:
        return ws.send(ws.id)

    def on_message(self: Any, ws: Any, message: str) -> Any:
        return websocket.disconnect(connection=message, code=4003)

    def on_close(self: Any, ws: Any, code: int, reason: str) -> None:
        closed.append((ws.group, code, reason))

    hooks = {"on_connect": on_connect, "on_message": on_message, "on_close": on_close}
    add(websocket, engine, "/<room>", "room", groups=["room:{room}"], presence=True, **hooks)

    @websocket.on_leave("room:{room}")
    def leave(group: str, member: Any) -> None:
        left.append(member.id)

    @app.post("/close/<room>")
    def close(room: str) -> str:
        websocket.broadcast(f"room:{room}", "goodbye")
        websocket.disconnect(group=f"room:{room}", code=4001, reason="closed")
        return ""

    with captured_disconnects(app) as disconnects, captured_broadcasts(app) as broadcasts:
        one, two, other = (open_at(websocket, path) for path in ("/1", "/1", "/2"))
        ids = [str(ws.receive()) for ws in (one, two, other)]
        app.test_client().post("/close/1")
        for ws in (one, two):
            assert ws.receive() == "goodbye"
            assert close_code(ws) == 4001
            assert ws.close_reason == "closed"
        other.send(ids[2])
        assert close_code(other) == 4003
        # A thread of the application's.
        again = open_at(websocket, "/1")
        name = str(again.receive())
        with app.app_context():
            thread = threading.Thread(target=websocket.disconnect, kwargs={"connection": name})
            thread.start()
            thread.join(10)
        assert close_code(again) == 1008
    assert disconnects == [
        Disconnect("room:1", None, 4001, "closed"),
        Disconnect(None, ids[2], 4003, ""),
        Disconnect(None, name, 1008, ""),
    ]
    assert [each.message for each in broadcasts] == ["goodbye"]
    assert sorted(closed) == [
        ("room:1", 1008, ""),
        ("room:1", 4001, "closed"),
        ("room:1", 4001, "closed"),
        ("room:2", 4003, ""),
    ]
    poll(lambda: sorted(left) == sorted([*ids, name]))


def test_options_for_each_group(websocket: WebSocket, engine: str) -> None:
    groups = [Group("list:{id}", history=10), "typing:{id}", Group("here:{id}", presence=True)]

    def resume_from(self: Any, ws: Any, group: str) -> str | None:
        return request.args.get("since")

    add(websocket, engine, "/<id>", "items", groups=groups, resume_from=resume_from)

    @websocket.route("/function/<id>", groups=[groups[2]])
    def function(ws: Any, **view_args: str) -> None:
        ws.send(ws.group)

    for kind, conflicting in {"a": "list:{x}", "b": Group("here:{x}", history=5)}.items():
        with pytest.raises(RegistrationError, match="conflicting options for group"):
            add(websocket, engine, f"/{kind}/<x>", kind, groups=[conflicting])

    def publish(group: str, message: str, **options: Any) -> str | None:
        result = websocket.broadcast(group, message, **options)
        return getattr(result, "_result", result)

    with open_at(websocket, "/7") as ws:
        assert ws.receive() == "here:7 list:7 typing:7"
        first = publish("list:7", "one")
        assert first is not None
        assert publish("typing:7", "typing") is None
        assert publish("list:7", "moving", keep=False) is None
        assert publish("list:7", "two") is not None
        assert [ws.receive() for _ in range(4)] == ["one", "typing", "moving", "two"]
    with open_at(websocket, f"/7?since={first}") as ws:
        assert [ws.receive() for _ in range(2)] == ["two", "here:7 list:7 typing:7"]
        assert websocket.count("here:7") == 1
        with pytest.raises(GroupError, match="presence"):
            websocket.count("list:7")
    with open_at(websocket, "/function/7") as ws:
        assert ws.receive() == "here:7"


def test_lost_messages_are_told(websocket: WebSocket, engine: str) -> None:
    class Said(Schema):
        text = fields.Str()

    class Say(Said):
        pass

    def resume_from(self: Any, ws: Any, group: str) -> str:
        return "1-0"

    def on_joined(self: Any, ws: Any, joined: Any) -> Any:
        return ws.send_json({"joined": joined.lost})

    def on_message(self: Any, ws: Any, message: str) -> None:
        pass

    @message("say", schema=Say)
    def say(self: Any, ws: Any, data: Any) -> None:
        pass

    common = {"history": 5, "resume_from": resume_from, "on_joined": hook(engine, on_joined)}
    add(websocket, engine, "/a", "emits", groups=["a"], emits={"said": Said}, **common)
    add(websocket, engine, "/b", "handlers", groups=["b"], say=say, **common)
    add(websocket, engine, "/c", "schema", groups=["c"], message_schema=Say, **common)
    add(websocket, engine, "/d", "raw", groups=["d"], on_message=on_message, **common)

    for path, is_told in (("/a", True), ("/b", True), ("/c", True), ("/d", False)):
        with open_at(websocket, path) as ws:
            if is_told:
                lost = ws.receive_json()
                assert (lost["type"], lost["code"]) == ("error", "messages_lost")
            assert ws.receive_json() == {"joined": True}
            assert ws.receive() == path[1:]
            # A gap that comes later.
            groups = websocket.groups
            groups._fanout.get().deliver(Delivery(path[1:], None, lost=True))
            websocket.broadcast(path[1:], '{"after": 1}')
            if is_told:
                assert ws.receive_json()["code"] == "messages_lost"
            assert ws.receive_json() == {"after": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        {"pattern": 5},
        {"pattern": "{"},
        {"pattern": "a", "history": 0},
        {"pattern": "a", "history_seconds": -1},
        {"pattern": "a", "presence": "yes"},
    ],
    ids=["number", "brace", "history", "seconds", "presence"],
)
def test_what_is_no_group(arguments: dict[str, Any]) -> None:
    with pytest.raises(RegistrationError):
        Group(**arguments)


def test_commands_and_documents_know_the_groups(websocket: WebSocket, engine: str) -> None:
    class Said(Schema):
        text = fields.Str()

    app = websocket.app
    assert app is not None
    groups = [Group("list:{id}", history=10), "typing:{id}"]
    add(websocket, engine, "/<id>", "items", groups=groups, emits={"said": Said})
    shown = app.test_cli_runner().invoke(args=["ws", "routes"])
    assert "list:{id}, typing:{id}" in shown.output
    written = app.test_cli_runner().invoke(args=["ws", "asyncapi"])
    messages = json.loads(written.output)["components"]["messages"]
    said = next(one for name, one in messages.items() if name.endswith("said"))
    assert "message_id" in said["payload"]["properties"]
    # The frame that tells of lost messages.
    assert any(name.endswith("error") for name in messages)
