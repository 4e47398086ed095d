"""What type checkers make of the public names; ``make lint`` has mypy and pyright read it.

It is never run: a type that is another one than it says is an error of the checker's.
"""

from __future__ import annotations

from typing import Any

import flask
from marshmallow import Schema, fields
from typing_extensions import assert_type

from flask_wsviews import (
    AsyncioWebSocket,
    AsyncioWebSocketClient,
    Blueprint,
    GeventWebSocket,
    Group,
    GroupMember,
    Joined,
    Observer,
    Publisher,
    Summary,
    Traffic,
    WebSocket,
    WebSocketClient,
    WebSocketView,
    message,
)
from flask_wsviews.testing import WebSocketTestClient, websocket_connect

app = flask.Flask(__name__)
websocket = WebSocket(app, timeout=3.5, engine="auto")
bp = Blueprint("chat", __name__, url_prefix="/chat")


class Say(Schema):
    text = fields.Str(required=True)


@bp.websocket("/<room>")
class Chat(WebSocketView):
    """Decorators leave a class what it is."""

    groups = (Group("room:{room}", history=100, presence=True), "lobby")
    subprotocols = ("v1",)
    allowed_origins = "*"
    rate_limit = "20/second"
    emits = {"said": Say}

    def on_handshake(self, ws: WebSocketClient, room: str) -> flask.Response | None:
        assert_type(ws.environ, dict[str, Any])
        assert_type(ws.subprotocol, str | None)
        ws.response_headers["X-Room"] = room
        return None if room else flask.Response(status=404)

    def on_connect(self, ws: WebSocketClient, room: str) -> None:
        assert_type(ws.id, str)
        assert_type(ws.endpoint, str)
        assert_type(ws.connected, bool)
        assert_type(ws.traffic, Traffic)
        assert_type(ws.join(room, since=None, meta={"name": "bob"}), Joined)
        assert_type(ws.groups, frozenset[str])
        assert_type(ws.group, str)
        websocket.disconnect(connection=ws)
        websocket.broadcast(ws.group, "text", exclude=ws)
        ws.send("text")
        ws.send(b"bytes", binary=False)
        ws.send_json({"any": ["thing"]})
        ws.send_message("said", {"text": "Hi"})

    @message("say", schema=Say, reply=Say)
    def say(self, ws: WebSocketClient, data: dict[str, str]) -> dict[str, str]:
        return data

    def rate_limit_key(self, ws: WebSocketClient, room: str) -> str | None:
        return room

    def on_close(self, ws: WebSocketClient, code: int, reason: str) -> None:
        assert_type(ws.close_code, int | None)
        assert_type(ws.close_reason, str | None)


assert_type(Chat(), Chat)


@websocket.route("/echo", idle_timeout=5)
def echo(ws: WebSocketClient) -> None:
    for received in ws:
        assert_type(received, Any)
        ws.send(received)
    ws.close(4000, "done")


assert_type(echo(WebSocketClient({})), None)

asynchronous = AsyncioWebSocket(flask.Flask(__name__))


@asynchronous.route("/echo")
async def echo_async(ws: AsyncioWebSocketClient) -> None:
    async for received in ws:
        await ws.send(received)
    assert_type(await ws.receive(timeout=1.0), Any)
    assert_type(await ws.join("room"), Joined)
    await ws.close()


class AsynchronousView(WebSocketView):
    """Hooks may be coroutines."""

    async def on_handshake(self, ws: AsyncioWebSocketClient) -> tuple[str, int] | None:
        return ("Not now.", 503) if ws.query else None

    async def on_connect(self, ws: AsyncioWebSocketClient) -> None:
        await ws.send_json({})

    async def on_error(self, ws: AsyncioWebSocketClient, error: Exception) -> bool:
        return isinstance(error, LookupError)

    async def authorize_group(self, ws: AsyncioWebSocketClient, group: str) -> bool:
        return group != "secret"

    async def on_message(self, ws: AsyncioWebSocketClient, message: str | bytes) -> None:
        assert_type(await asynchronous.broadcast(ws.group, message, keep=False), str | None)
        assert_type(await asynchronous.disconnect(group=ws.group), None)
        await ws.send(message)


asynchronous.add_url_rule("/view", view_func=AsynchronousView.as_view("view"))

assert_type(websocket.broadcast("room", "text", exclude=None), str | None)
assert_type(websocket.broadcast("room", b"bytes", exclude=["id"], keep=False), str | None)
assert_type(websocket.disconnect(group="room", code=4001, reason="bye"), None)
assert_type(websocket.members("room"), list[GroupMember])
assert_type(websocket.count("room"), int)
GeventWebSocket().init_app(app)


@websocket.on_join("room:{room}")
def joined(group: str, member: GroupMember) -> None:
    assert_type(member.id, str)


class Counting(Observer):
    def disconnected(self, ws: WebSocketClient, summary: Summary) -> None:
        assert_type(summary.duration, float)
        assert_type(summary.traffic.bytes_sent, int)


websocket.add_observer(Counting())

with Publisher("redis://localhost/0") as publisher:
    assert_type(publisher.broadcast("room", b"bytes", history=10), str | None)

with app.test_client() as client, websocket_connect(client, "/echo") as test_client:
    assert_type(test_client, WebSocketTestClient)
    assert_type(test_client.receive(timeout=1.0), str | bytes)
    assert_type(test_client.close_code, int | None)
