"""The testing client, with every engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import uvloop
from flask import Flask, abort, request, session
from support.engines import EXTENSIONS_AND_COROUTINES
from support.servers import poll

import flask_wsviews
from flask_wsviews import CloseConnection, ConnectionClosed, WebSocket, WebSocketView
from flask_wsviews.testing import (
    Broadcast,
    HandshakeRejected,
    async_websocket_connect,
    captured_broadcasts,
    websocket_connect,
)

pytest_plugins = ["pytester"]

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

NOBODY = "6f9619ff-8b86-4011-b42d-00c04fc964ff"


@pytest.fixture(params=EXTENSIONS_AND_COROUTINES)
def websocket(request: pytest.FixtureRequest) -> Iterator[WebSocket]:
    app = Flask("site")
    app.config.update(SECRET_KEY="secret", TESTING=True)
    is_async = request.param == "coroutines"
    made = getattr(flask_wsviews, "AsyncioWebSocket" if is_async else request.param)(app)
    add_views(made, is_async=is_async)
    yield made
    made.stop()


def add_views(websocket: WebSocket, *, is_async: bool) -> None:
    app = websocket.app
    assert app is not None

    @app.post("/login/<name>")
    def login(name):
        session["name"] = name
        return ""

    @app.post("/news")
    def news():
        websocket.broadcast("lobby", request.get_data(as_text=True), exclude=NOBODY)
        return ""

    class Views(WebSocketView):
        groups = ("lobby",)
        subprotocols = ("v2", "v1")

        def on_handshake(self, ws):
            if "refuse" in request.args:
                abort(403, "not you")
            session["seen"] = session.get("seen", 0) + 1
            ws.response_headers["X-Name"] = session.get("name", "nobody")

        def answer(self, message):
            if message == "raise":
                raise ValueError("in a hook")
            if message == "close":
                raise CloseConnection(4001, "as you wish")
            return message

        def on_close(self, ws, code, reason):
            app.config["CLOSED"] = (code, reason)

    if is_async:

        @websocket.route("/views")
        class Coroutines(Views):
            async def on_message(self, ws, message):
                await ws.send(self.answer(message))
    else:

        @websocket.route("/views")
        class Plain(Views):
            def on_message(self, ws, message):
                ws.send(self.answer(message))

    @websocket.route("/json")
    def as_json(ws):
        for message in ws:
            ws.send_json({"got": message})


@pytest.fixture
def app(websocket: WebSocket) -> Flask:
    assert websocket.app is not None
    return websocket.app


def test_messages_of_all_kinds(app):
    with app.test_client() as client, websocket_connect(client, "/views") as ws:
        for message in ("text", "", "grüße", b"\x00\xff", b"", "x" * 200_000):
            ws.send(message)
            assert ws.receive() == message
        ws.ping(b"hello")
        ws.receive_nothing(0.05)
        assert ws.response.status_code == 101
        assert ws.close_code is None
    assert app.config["CLOSED"] == (1000, "")
    with websocket_connect(app.test_client(), "/json") as ws:
        ws.send_json([1, "ü"])
        assert ws.receive_json() == {"got": app.json.dumps([1, "ü"])}


def test_cookies_are_those_of_the_test_client(app):
    with app.test_client() as client:
        client.post("/login/ann")
        with websocket_connect(client, "/views") as ws:
            assert ws.response.headers["X-Name"] == "ann"
        with client.session_transaction() as kept:
            assert kept["seen"] == 1
            kept["name"] = "bob"
        with websocket_connect(client, "/views") as ws:
            assert ws.response.headers["X-Name"] == "bob"


@pytest.mark.parametrize(
    ("path", "origin", "status", "body"),
    [
        ("/views?refuse=1", None, 403, "not you"),
        ("/nowhere", None, 404, "Not Found"),
        ("/views", "https://evil.example", 403, ""),
    ],
)
def test_a_handshake_that_is_refused(app, path, origin, status, body):
    with pytest.raises(HandshakeRejected) as caught:
        websocket_connect(app.test_client(), path, origin=origin)
    assert caught.value.status_code == caught.value.response.status_code == status
    assert body in caught.value.response.text
    assert str(status) in str(caught.value)


def test_subprotocols_and_headers(app):
    options = {"subprotocols": ["v1", "v0"], "headers": {"X-More": "yes"}}
    with websocket_connect(app.test_client(), "/views", **options) as ws:
        assert ws.subprotocol == "v1"
    with websocket_connect(app.test_client(), "/views") as ws:
        assert ws.subprotocol is None


def test_the_server_closes(app):
    with websocket_connect(app.test_client(), "/views") as ws:
        ws.send("close")
        ws.assert_closed(4001, "as you wish")
        assert (ws.close_code, ws.close_reason) == (4001, "as you wish")
        with pytest.raises(ConnectionClosed):
            ws.receive()
        with pytest.raises(ConnectionClosed):
            ws.send("too late")
    with websocket_connect(app.test_client(), "/views") as ws:
        ws.send("one")
        with pytest.raises(AssertionError, match="a message came before the end: 'one'"):
            ws.assert_closed()
        with pytest.raises(AssertionError, match=r"hasn't closed within 0\.05 s"):
            ws.assert_closed(timeout=0.05)
        with pytest.raises(TimeoutError, match=r"no message within 0\.05 s"):
            ws.receive(0.05)
        ws.send("close")
        with pytest.raises(AssertionError, match="not 1000"):
            ws.assert_closed(1000)


def test_what_a_hook_raises_reaches_the_test(app):
    def talk() -> None:
        with websocket_connect(app.test_client(), "/views") as ws:
            ws.send("raise")
            ws.receive()

    with pytest.raises(ValueError, match="in a hook"):
        talk()

    def say_and_leave() -> None:
        with websocket_connect(app.test_client(), "/views") as ws:
            ws.send("raise")

    with pytest.raises(ValueError, match="in a hook"):
        say_and_leave()
    app.testing = False
    with websocket_connect(app.test_client(), "/views") as ws:
        ws.send("raise")
        ws.assert_closed(1011)


def test_many_clients_and_broadcasts(app):
    with app.test_client() as client, captured_broadcasts(app) as broadcasts:
        clients = [websocket_connect(client, "/views") for _ in range(20)]
        for ws in clients:
            ws.send("ready")
            assert ws.receive() == "ready"
        client.post("/news", data="hello all")
        for ws in clients:
            assert ws.receive() == "hello all"
        for ws in clients:
            ws.__exit__(None, None, None)
    assert broadcasts == [Broadcast("lobby", "hello all", frozenset({NOBODY}))]
    client.post("/news", data="to nobody")
    assert len(broadcasts) == 1


def test_a_client_that_vanishes(app):
    with websocket_connect(app.test_client(), "/views") as ws:
        ws.send("a")
        ws.receive()
        ws.vanish()
    assert app.config["CLOSED"] == (1006, "")
    assert ws.close_code == 1006


def test_coroutines(app):
    async def talk() -> None:
        async with async_websocket_connect(app.test_client(), "/views") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            await ws.send("close")
            await ws.assert_closed(4001)
        async with async_websocket_connect(app.test_client(), "/json") as ws:
            await ws.send_json({"a": 1})
            assert "got" in await ws.receive_json()
            await ws.close()

    asyncio.run(talk())


def test_nothing_is_left(app, websocket):
    threads = threading.active_count()
    for _ in range(3):
        with websocket_connect(app.test_client(), "/views") as ws:
            ws.send("a")
            assert ws.receive() == "a"
        websocket.stop()
    poll(lambda: threading.active_count() <= threads)


def test_there_is_no_extension():
    with pytest.raises(RuntimeError, match="no WebSocket"):
        websocket_connect(Flask("plain").test_client(), "/")


def test_a_server_that_breaks_the_protocol(app):
    with websocket_connect(app.test_client(), "/json") as ws:
        ws._transport.sock.send(b"\x83\x00")
        with pytest.raises(AssertionError, match="the server breaks the protocol"):
            ws.receive()


def test_a_message_that_should_not_come(app):
    with websocket_connect(app.test_client(), "/json") as ws:
        ws.send("a")
        with pytest.raises(AssertionError, match="a message came"):
            ws.receive_nothing(5)
        ws._transport.sock.send(b"\x81\x01{")
        with pytest.raises(AssertionError, match="the message isn't JSON"):
            ws.receive_json()


def test_the_fixtures_of_the_plugin(pytester):
    pytester.makepyfile(
        """
        import pytest
        from flask import Flask
        from flask_wsviews import WebSocket

        @pytest.fixture
        def app():
            app = Flask("site")
            websocket = WebSocket(app)

            @websocket.route("/echo", groups=["all"])
            def echo(ws):
                ws.send("joined")
                for message in ws:
                    ws.send(message)
                    websocket.broadcast("all", message.upper())

            return app

        def test_echo(ws_client, broadcasts):
            one, two = ws_client("/echo"), ws_client("/echo")
            assert one.receive() == two.receive() == "joined"
            two.send("ready")
            assert two.receive() == "ready"
            assert two.receive() == one.receive() == "READY"
            assert [each.message for each in broadcasts] == ["READY"]
            assert ws_client.client.get("/nowhere").status_code == 404
        """
    )
    pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider").assert_outcomes(passed=1)
