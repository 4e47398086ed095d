"""State goes on ``self`` and on ``ws`` under any name that an application likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from marshmallow import Schema, fields

from flask_wsviews import AsyncioWebSocket, WebSocket, WebSocketView, message
from flask_wsviews.client import WebSocketClient
from flask_wsviews.registration.function_view import FunctionView
from flask_wsviews.testing import websocket_connect


class Said(Schema):
    text = fields.Str()


class Junk:
    """Nothing that can be called, looked into, or compared."""

    def __bool__(self) -> bool:
        raise AssertionError("somebody has looked at it")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("somebody has looked at it")

    __hash__ = None  # type: ignore[assignment]


#: Every name that the framework knows of, whether for an option, a hook or its own use.
NAMES = sorted(
    {name for name in (*dir(WebSocketView), *dir(FunctionView)) if not name.startswith("__")}.union(
        {"emits", "function", "say", "keep_g"}
    )
    # Flask calls that one by itself.
    .difference({"dispatch_request"})
)


class Base(WebSocketView):
    """Fills its instance with state of such names, at a time that a test says."""

    at = ""
    groups = ("lobby",)
    presence = True
    history = 3
    subprotocols = ("v2", "v1")
    rate_limit = "1000/second"
    query_schema = Said
    idle_timeout = 1000
    ends: list[str] = []

    def __init__(self) -> None:
        self.fill("__init__")

    def fill(self, hook: str) -> None:
        if hook == self.at:
            state = vars(self)
            state.update(dict.fromkeys(NAMES, Junk()))

    def on_handshake(self, ws: Any) -> None:
        self.fill("on_handshake")

    def resume_from(self, ws: Any, group: str) -> None:
        self.fill("resume_from")


class Raw(Base):
    def on_connect(self, ws: Any) -> None:
        self.fill("on_connect")
        ws.send("welcome")

    def on_message(self, ws: Any, message: Any) -> None:
        self.fill("on_message")
        if message == "fail":
            raise ValueError(message)
        ws.join("another")
        ws.send(message)

    def on_error(self, ws: Any, error: Exception) -> bool:
        ws.send("handled")
        return True

    def on_close(self, ws: Any, code: int, reason: str) -> None:
        self.ends.append("closed")


class CoroutineRaw(Base):
    async def on_connect(self, ws: Any) -> None:
        self.fill("on_connect")
        await ws.send("welcome")

    async def on_message(self, ws: Any, message: Any) -> None:
        self.fill("on_message")
        if message == "fail":
            raise ValueError(message)
        await ws.join("another")
        await ws.send(message)

    async def on_error(self, ws: Any, error: Exception) -> bool:
        await ws.send("handled")
        return True

    async def on_close(self, ws: Any, code: int, reason: str) -> None:
        self.ends.append("closed")


class Typed(Base):
    def on_connect(self, ws: Any) -> None:
        self.fill("on_connect")

    @message("say", schema=Said, reply=Said)
    def say(self, ws: Any, data: Any) -> Any:
        self.fill("on_message")
        return data


class CoroutineTyped(Base):
    @message("say", schema=Said, reply=Said)
    async def say(self, ws: Any, data: Any) -> Any:
        self.fill("on_message")
        return data


WHEN = ["__init__", "on_handshake", "resume_from", "on_connect", "on_message"]
EXTENSIONS = [WebSocket, AsyncioWebSocket]


@pytest.fixture(params=EXTENSIONS)
def extension(request: pytest.FixtureRequest) -> type[WebSocket]:
    kind: type[WebSocket] = request.param
    return kind


@pytest.fixture
def site(extension: type[WebSocket]) -> Iterator[Callable[[type[Base]], Flask]]:
    app = Flask("site")
    websocket = extension(app)

    def add(view: type[WebSocketView]) -> Flask:
        websocket.add_url_rule("/named", view_func=view)
        return app

    yield add
    websocket.stop()


def made(view: type[Base], extension: type[WebSocket], at: str) -> type[Base]:
    """The view, of the kind that the extension can run, with an end that is noted."""
    if extension is AsyncioWebSocket:
        view = {Raw: CoroutineRaw, Typed: CoroutineTyped}.get(view, view)
    return type("Made", (view,), {"at": at, "ends": []})


@pytest.mark.parametrize("at", WHEN)
def test_state_under_any_name(
    at: str, extension: type[WebSocket], site: Callable[[type[Base]], Flask]
) -> None:
    view = made(Raw, extension, at)
    app = site(view)
    with (
        app.test_client() as client,
        websocket_connect(client, "/named?text=x", subprotocols=["v1"]) as ws,
    ):
        assert ws.subprotocol == "v1"
        assert ws.receive() == "welcome"
        for text in ("one", "two"):
            ws.send(text)
            assert ws.receive() == text
        ws.send("fail")
        assert ws.receive() == "handled"
        ws.close()
        assert ws.close_code == 1000
    assert view.ends == ["closed"]


@pytest.mark.parametrize("at", WHEN)
def test_state_of_a_typed_view_under_any_name(
    at: str, extension: type[WebSocket], site: Callable[[type[Base]], Flask]
) -> None:
    app = site(made(Typed, extension, at))
    with app.test_client() as client, websocket_connect(client, "/named") as ws:
        for _ in range(2):
            ws.send_json({"type": "say", "text": "x"})
            assert ws.receive_json() == {"type": "say", "text": "x"}
            ws.send_json({"type": "say", "text": 1})
            assert ws.receive_json()["type"] == "error"
        ws.close()
        assert ws.close_code == 1000


def test_plain_views_on_asyncio() -> None:
    app = Flask("site")
    websocket = AsyncioWebSocket(app)
    websocket.add_url_rule("/named", view_func=type("Made", (Raw,), {"at": "on_handshake"}))
    with app.test_client() as client, websocket_connect(client, "/named") as ws:
        assert ws.receive() == "welcome"
        ws.send("fail")
        assert ws.receive() == "handled"
    websocket.stop()


def test_a_hook_may_be_set_on_the_instance(
    extension: type[WebSocket], site: Callable[[Any], Flask]
) -> None:
    class Stages(WebSocketView):
        def on_message(self, ws: Any, message: Any) -> Any:
            self.on_message = self.later  # type: ignore[method-assign]
            return ws.send("first")

        def later(self, ws: Any, message: Any) -> Any:
            self.on_message = None  # type: ignore[method-assign, assignment]
            return ws.send("later")

    app = site(Stages)
    with app.test_client() as client, websocket_connect(client, "/named") as ws:
        for answer in ("first", "later", "first"):
            ws.send("x")
            assert ws.receive() == answer


class Tool:
    """What can be called and isn't bound."""

    def __call__(self, ws: Any, message: Any) -> Any:
        return ws.send("by a tool")


@pytest.mark.parametrize("own", [None, "junk"])
@pytest.mark.parametrize("kind", ["static", "class", "object"])
def test_a_hook_that_is_no_plain_method(
    kind: str, own: str | None, site: Callable[[Any], Flask]
) -> None:
    def static(ws: Any, message: Any) -> Any:
        return ws.send("by a tool")

    def of_class(cls: Any, ws: Any, message: Any) -> Any:
        return ws.send("by a tool")

    hooks = {"static": staticmethod(static), "class": classmethod(of_class), "object": Tool()}

    class View(WebSocketView):
        on_message: Any = hooks[kind]

        def on_handshake(self, ws: Any) -> None:
            if own is not None:
                self.on_message = own

    app = site(View)
    with app.test_client() as client, websocket_connect(client, "/named") as ws:
        ws.send("x")
        assert ws.receive() == "by a tool"


# -- the client ---------------------------------------------------------------------------------

#: What an application might want to remember of a connection.
STATE = ["user", "name", "room", "session", "state", "data", "token", "protocol", "view", "key"]


def test_state_on_the_client(extension: type[WebSocket], site: Callable[[Any], Flask]) -> None:
    class View(WebSocketView):
        groups = ("lobby",)

        def on_handshake(self, ws: Any) -> None:
            for name in STATE:
                setattr(ws, name, f"its {name}")

        def on_message(self, ws: Any, message: Any) -> Any:
            return ws.send_json([getattr(ws, name) for name in STATE])

    app = site(View)
    with app.test_client() as client, websocket_connect(client, "/named") as ws:
        ws.send("x")
        assert ws.receive_json() == [f"its {name}" for name in STATE]


def test_what_the_client_tells_can_not_be_set() -> None:
    client = WebSocketClient({})
    for name in ("id", "groups", "connected", "close_code", "close_reason", "traffic", "fd"):
        with pytest.raises(AttributeError, match=name):
            setattr(client, name, "junk")
