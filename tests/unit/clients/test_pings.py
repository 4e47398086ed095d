"""``ws.ping()`` and ``on_pong``, on every engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, request
from marshmallow import Schema, fields
from support.engines import EXTENSIONS, EXTENSIONS_AND_COROUTINES

import flask_wsviews
from flask_wsviews import ConnectionClosed, Observer, WebSocket, WebSocketView, message
from flask_wsviews.testing import websocket_connect

Site = Callable[[Any], Flask]


@pytest.fixture(params=EXTENSIONS_AND_COROUTINES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(kind: str) -> Iterator[Site]:
    name = "AsyncioWebSocket" if kind == "coroutines" else kind
    made: list[WebSocket] = []

    def serve(view: Any) -> Flask:
        app = Flask("site")
        app.testing = True
        websocket: WebSocket = getattr(flask_wsviews, name)(app)
        made.append(websocket)
        websocket.add_url_rule("/pings", "pings", view)
        return app

    yield serve
    for websocket in made:
        websocket.stop()


def of_kind(kind: str, hooks: dict[str, Callable[..., Any]]) -> type[WebSocketView]:
    """A view with these plain hooks, or with coroutines that do the same."""
    if kind != "coroutines":
        return type("Pings", (WebSocketView,), hooks)

    def as_coroutine(hook: Callable[..., Any]) -> Callable[..., Any]:
        async def called(self: Any, *arguments: Any) -> None:
            result = hook(self, *arguments)
            if result is not None:
                await result

        return called

    coroutines = {name: as_coroutine(hook) for name, hook in hooks.items()}
    return type("Pings", (WebSocketView,), coroutines)


def test_pongs_come_to_on_pong(kind: str, site: Site) -> None:
    def on_connect(self: Any, ws: Any) -> Any:
        return ws.ping("hello")

    def on_message(self: Any, ws: Any, text: str) -> Any:
        ws.ping(text.encode())
        return ws.send(f"pinged {text}")

    def on_pong(self: Any, ws: Any, payload: bytes) -> Any:
        assert type(payload) is bytes
        return ws.send(f"{request.path}: {payload.decode()}")

    hooks = {"on_connect": on_connect, "on_message": on_message, "on_pong": on_pong}
    app = site(of_kind(kind, hooks))
    with app.test_client() as client, websocket_connect(client, "/pings") as ws:
        assert ws.receive() == "/pings: hello"
        for text in ("one", "two", ""):
            ws.send(text)
            assert ws.receive() == f"pinged {text}"
            assert ws.receive() == f"/pings: {text}"


def test_an_error_in_on_pong_ends_the_connection(site: Site) -> None:
    class Failing(WebSocketView):
        def on_connect(self, ws: Any) -> None:
            ws.ping()

        def on_pong(self, ws: Any, payload: bytes) -> None:
            raise LookupError("in on_pong")

    app = site(Failing)
    app.testing = False
    with app.test_client() as client, websocket_connect(client, "/pings") as ws:
        ws.assert_closed(1011)


def test_a_view_with_handlers_schemas_and_watchers(site: Site) -> None:
    class Said(Schema):
        text = fields.String(required=True)

    class Typed(WebSocketView):
        @message("say", schema=Said)
        def say(self, ws: Any, data: Any) -> None:
            ws.ping(data["text"])

        def on_pong(self, ws: Any, payload: bytes) -> None:
            ws.send(payload.decode())

    class Watching(Observer):
        watches_messages = True
        received_messages: list[Any] = []

        def received(self, client: Any, message: Any) -> None:
            self.received_messages.append(message)

    app = site(Typed)
    watching = Watching()
    app.extensions["wsviews"].add_observer(watching)
    with app.test_client() as client, websocket_connect(client, "/pings") as ws:
        ws.send_json({"type": "say", "text": "typed"})
        assert ws.receive() == "typed"
    assert len(watching.received_messages) == 1


def test_without_on_pong_they_are_left_out(site: Site) -> None:
    def echo(ws: Any) -> None:
        ws.ping("one")
        for text in ws:
            ws.ping(text)
            ws.send(text)

    app = site(echo)
    with app.test_client() as client, websocket_connect(client, "/pings") as ws:
        for text in ("a", "b"):
            ws.send(text)
            assert ws.receive() == text


@pytest.mark.parametrize("kind", EXTENSIONS, indirect=True)
def test_a_hook_that_receives_gets_messages_only(site: Site) -> None:
    class Asking(WebSocketView):
        def on_message(self, ws: Any, text: str) -> None:
            ws.ping("in between")
            ws.send("your name?")
            ws.send(f"hello {ws.receive(timeout=10)}")

        def on_pong(self, ws: Any, payload: bytes) -> None:
            ws.send("a Pong")

    app = site(Asking)
    with app.test_client() as client, websocket_connect(client, "/pings") as ws:
        ws.send("hi")
        assert ws.receive() == "your name?"
        ws.send("Ada")
        assert ws.receive() == "hello Ada"


def test_from_another_thread_and_after_the_end(site: Site) -> None:
    found: list[Any] = []

    class Keeping(WebSocketView):
        def on_connect(self, ws: Any) -> None:
            found.append(ws)
            ws.send("open")

        def on_pong(self, ws: Any, payload: bytes) -> None:
            ws.send(payload.decode())

    app = site(Keeping)
    with app.test_client() as client, websocket_connect(client, "/pings") as ws:
        assert ws.receive() == "open"
        thread = threading.Thread(target=found[0].ping, args=("from outside",))
        thread.start()
        thread.join()
        assert ws.receive() == "from outside"
        with pytest.raises(ValueError, match="at most 125"):
            found[0].ping("x" * 126)
    with pytest.raises(ConnectionClosed):
        found[0].ping()
