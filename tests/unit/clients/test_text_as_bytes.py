"""Handlers that expect text as bytes, as Flask-uWSGI-WebSocket gave it, on every engine."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from flask import Blueprint, Flask
from marshmallow import Schema, fields

import flask_wsviews
from flask_wsviews import AsyncioWebSocket, WebSocket, WebSocketView
from flask_wsviews.observers import Observer
from flask_wsviews.testing import WebSocketTestClient, websocket_connect

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

ENGINES = ["WebSocket", "GeventWebSocket", "AsyncioWebSocket", "AsyncWebSocket", "coroutines"]
BINARY = b"\xff\x00"


class Say(Schema):
    text = fields.Str(required=True)


class Watcher(Observer):
    watches_messages = True

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def received(self, ws: Any, message: Any) -> None:
        self.seen.append(message)

    def sent(self, ws: Any, message: Any) -> None: ...


def add_plain(websocket: WebSocket) -> None:
    @websocket.route("/function")
    def function(ws: Any) -> None:
        while (message := ws.receive()) is not None:
            ws.send(message.decode().upper().encode() if message != BINARY else message)

    @websocket.route("/iterated")
    def iterated(ws: Any) -> None:
        for message in ws:
            ws.send(message.upper())

    @websocket.route("/text-only", binary=False)
    def text_only(ws: Any) -> None:
        for message in ws:
            ws.send(message.upper())

    @websocket.route("/polled")
    def polled(ws: Any) -> None:
        while not (message := ws.recv_nb()):
            pass
        ws.send(message.decode())

    @websocket.route("/sending")
    def sending(ws: Any) -> None:
        ws.send(b"text")
        ws.send(b"binary", binary=True)
        ws.send_binary(b"binary")
        ws.send(BINARY)
        ws.send("text")

    class View(WebSocketView):
        def on_message(self, ws: Any, message: Any) -> None:
            ws.send(message.decode().upper().encode())

    class TextOnly(WebSocketView):
        binary = False

        def on_message(self, ws: Any, message: Any) -> None:
            ws.send(message.upper())

    class Typed(WebSocketView):
        message_schema = Say

        def on_message(self, ws: Any, message: Any) -> None:
            ws.send_json(message)

    for view in (View, TextOnly, Typed):
        websocket.add_url_rule(f"/{view.__name__}", view_func=view)


def add_coroutines(websocket: WebSocket) -> None:
    @websocket.route("/function")
    async def function(ws: Any) -> None:
        while (message := await ws.receive()) is not None:
            await ws.send(message.decode().upper().encode() if message != BINARY else message)

    @websocket.route("/iterated")
    async def iterated(ws: Any) -> None:
        async for message in ws:
            await ws.send(message.upper())

    @websocket.route("/text-only", binary=False)
    async def text_only(ws: Any) -> None:
        async for message in ws:
            await ws.a_send(message.upper())

    @websocket.route("/polled")
    async def polled(ws: Any) -> None:
        while not (message := ws.recv_nb()):
            await asyncio.sleep(0)
        ws.send_nb(message)

    @websocket.route("/sending")
    async def sending(ws: Any) -> None:
        ws.send_nb(b"text")
        await ws.send(b"binary", binary=True)
        await ws.send_binary(b"binary")
        await ws.send(BINARY)
        await ws.send("text")

    class View(WebSocketView):
        async def on_message(self, ws: Any, message: Any) -> None:  # type: ignore[override]
            await ws.send(message.decode().upper().encode())

    class TextOnly(WebSocketView):
        binary = False

        async def on_message(self, ws: Any, message: Any) -> None:  # type: ignore[override]
            await ws.send(message.upper())

    class Typed(WebSocketView):
        message_schema = Say

        async def on_message(self, ws: Any, message: Any) -> None:  # type: ignore[override]
            await ws.send_json(message)

    for view in (View, TextOnly, Typed):
        websocket.add_url_rule(f"/{view.__name__}", view_func=view)


@pytest.fixture(params=ENGINES)
def websocket(request: pytest.FixtureRequest) -> Iterator[WebSocket]:
    app = Flask("site")
    app.testing = True
    is_async = request.param == "coroutines"
    made: WebSocket = getattr(flask_wsviews, "AsyncioWebSocket" if is_async else request.param)(app)
    app.config["WSVIEWS_TEXT_AS_BYTES"] = True
    (add_coroutines if is_async else add_plain)(made)
    yield made
    made.stop()


@pytest.fixture
def connect(websocket: WebSocket) -> Any:
    app = websocket.app
    assert app is not None

    def connect(path: str) -> Any:
        return websocket_connect(app.test_client(), path)

    return connect


@pytest.mark.parametrize("path", ["/function", "/View", "/iterated", "/text-only"])
def test_text_is_bytes_and_goes_back_as_text(connect: Any, path: str) -> None:
    with connect(path) as ws:
        for text in ("hello", "", "grüße"):
            ws.send(text)
            # Of bytes, upper() leaves alone what isn't ASCII.
            wanted = (
                text.upper()
                if path in ("/function", "/View")
                else "".join(letter.upper() if letter.isascii() else letter for letter in text)
            )
            assert ws.receive() == wanted


def test_binary_messages_stay_what_they_are(connect: Any) -> None:
    with connect("/function") as ws:
        ws.send(BINARY)
        assert ws.receive() == BINARY


def test_polling(connect: Any) -> None:
    with connect("/polled") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def test_sending(connect: Any) -> None:
    with connect("/sending") as ws:
        assert [ws.receive() for _ in range(5)] == ["text", b"binary", b"binary", BINARY, "text"]


@pytest.mark.parametrize(
    ("path", "sent", "received"),
    [("/TextOnly", "hello", "HELLO"), ("/Typed", '{"text": "hello"}', '{"text": "hello"}')],
)
def test_views_that_look_into_messages_get_text(
    connect: Any, path: str, sent: str, received: str
) -> None:
    with connect(path) as ws:
        ws.send(sent)
        assert ws.receive().replace('":"', '": "') == received


def test_observers_see_what_came(websocket: WebSocket, connect: Any) -> None:
    watcher = Watcher()
    websocket.add_observer(watcher)
    with connect("/function") as ws:
        ws.send("hello")
        assert ws.receive() == "HELLO"
    assert watcher.seen == ["hello"]


# -- the example of Flask-uWSGI-WebSocket that needs it -----------------------------------------


class Redis:
    """Stands for a server: who subscribes to a channel gets what is published there."""

    def __init__(self) -> None:
        self._queues: dict[str, list[asyncio.Queue[str]]] = {}

    def subscribe(self, channel: str) -> asyncio.Queue[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.setdefault(channel, []).append(queue)
        return queue

    async def publish(self, channel: str, text: str) -> None:
        assert isinstance(text, str)
        for queue in self._queues.get(channel, []):
            queue.put_nowait(text)


def test_a_publisher_and_its_subscribers() -> None:
    """A handler with ``yield from`` that decodes what it receives, and encodes what it sends."""
    redis = Redis()
    app = Flask("site")
    app.config["WSVIEWS_TEXT_AS_BYTES"] = True
    blueprint = Blueprint("channels", "channels")
    websocket = AsyncioWebSocket(app)

    # That of asyncio was the same before Python 3.11.
    @blueprint.route("/<string:channel>")
    @types.coroutine
    def chat(ws: Any, channel: str) -> Any:
        yield from ws.send(f"Welcome to channel <{channel}>")
        task = asyncio.get_event_loop().create_task(forward(ws, redis.subscribe(channel)))
        while True:
            message = yield from ws.receive()
            if message is None:
                break
            yield from redis.publish(channel, message.decode("utf-8"))
        task.cancel()
        yield from asyncio.wait([task]).__await__()

    # Tasks take no generators from Python 3.12 on.
    async def forward(ws: Any, queue: Any) -> None:
        while ws.connected:
            text = await queue.get()
            if ws.connected:
                await ws.send(text.encode("utf-8"))

    websocket.register_blueprint(blueprint, url_prefix="/websocket")

    def joined(ws: WebSocketTestClient) -> WebSocketTestClient:
        assert ws.receive() == "Welcome to channel <news>"
        return ws

    with (
        app.test_client() as client,
        websocket_connect(client, "/websocket/news") as one,
        websocket_connect(client, "/websocket/news") as two,
    ):
        for ws in (one, two):
            joined(ws)
        one.send("grüße")
        assert [one.receive(), two.receive()] == ["grüße"] * 2
    websocket.stop()


def test_names_of_the_old_package() -> None:
    assert issubclass(flask_wsviews.AsyncWebSocket, WebSocket)
    assert flask_wsviews.AsyncWebSocketClient is flask_wsviews.WebSocketClient
    assert flask_wsviews.AsyncWebSocket.middleware is flask_wsviews.AsyncWebSocketMiddleware
    assert issubclass(flask_wsviews.EngineError, flask_wsviews.GeventNotInstalled)
    assert issubclass(flask_wsviews.EngineError, flask_wsviews.AsyncioNotAvailable)
