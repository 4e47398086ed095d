"""What hooks raise that means something to Python itself: it ends their connection with 1011.

The same on each engine, for plain hooks, coroutines and mixtures of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from marshmallow import Schema, fields
from support.servers import poll

from flask_wsviews import (
    AsyncioWebSocket,
    CloseConnection,
    InvalidMessage,
    WebSocket,
    WebSocketView,
    message,
)
from flask_wsviews.testing import websocket_connect


class Anything(Schema):
    n = fields.Int()


class Hooks(WebSocketView):
    """Calls what a test says in each of its hooks."""

    groups = ("lobby",)
    where = ""
    error: type[BaseException] = StopIteration
    ended: list[int] = []

    def at(self, hook: str) -> None:
        if hook == self.where or (hook == "on_error" and self.where == "both"):
            raise self.error("by a hook")
        if hook == "on_message" and self.where in ("on_error", "both"):
            raise ValueError("for on_error")


class Plain(Hooks):
    def authorize_group(self, ws: Any, group: str) -> bool:
        self.at("authorize_group")
        return True

    def on_joined(self, ws: Any, joined: Any) -> None:
        self.at("on_joined")

    def on_connect(self, ws: Any) -> None:
        self.at("on_connect")

    def on_message(self, ws: Any, message: Any) -> None:
        self.at("on_message")
        ws.send(message)

    def on_close(self, ws: Any, code: int, reason: str) -> None:
        self.ended.append(code)
        self.at("on_close")

    def on_error(self, ws: Any, error: Exception) -> None:
        self.at("on_error")


class Coroutines(Hooks):
    async def authorize_group(self, ws: Any, group: str) -> bool:
        self.at("authorize_group")
        return True

    async def on_joined(self, ws: Any, joined: Any) -> None:
        self.at("on_joined")

    async def on_connect(self, ws: Any) -> None:
        self.at("on_connect")

    async def on_message(self, ws: Any, message: Any) -> None:
        self.at("on_message")
        await ws.send(message)

    async def on_close(self, ws: Any, code: int, reason: str) -> None:
        self.ended.append(code)
        self.at("on_close")

    async def on_error(self, ws: Any, error: Exception) -> None:
        self.at("on_error")


class CoroutineMessages(Plain):
    async def on_message(self, ws: Any, message: Any) -> None:  # type: ignore[override]
        self.at("on_message")
        await ws.send(message)


class CoroutineEnds(Plain):
    async def on_close(self, ws: Any, code: int, reason: str) -> None:  # type: ignore[override]
        self.ended.append(code)
        self.at("on_close")


KINDS: dict[str, tuple[type[WebSocket], type[Hooks]]] = {
    "blocking": (WebSocket, Plain),
    "asyncio-plain": (AsyncioWebSocket, Plain),
    "asyncio-coroutines": (AsyncioWebSocket, Coroutines),
    "asyncio-coroutine-messages": (AsyncioWebSocket, CoroutineMessages),
    "asyncio-coroutine-ends": (AsyncioWebSocket, CoroutineEnds),
}

ERRORS = [StopIteration, StopAsyncIteration, GeneratorExit]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(kind: str) -> Iterator[Callable[..., Flask]]:
    """Makes the application, of a view with attributes of its own."""
    made: list[WebSocket] = []

    def make(**attributes: Any) -> Flask:
        extension, view = KINDS[kind]
        app = Flask("site")
        made.append(extension(app))
        attributes = {"ended": [], **attributes}
        made[0].add_url_rule("/hooks", view_func=type("Made", (view,), attributes))
        return app

    yield make
    for websocket in made:
        websocket.stop()


def noted(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "site"]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    "where", ["authorize_group", "on_joined", "on_connect", "on_message", "on_error", "both"]
)
def test_a_hook_that_raises_it_ends_its_connection(
    where: str, error: type[BaseException], site: Callable[..., Flask]
) -> None:
    ended: list[int] = []
    app = site(where=where, error=error, ended=ended)
    with app.test_client() as client, websocket_connect(client, "/hooks") as ws:
        if where not in ("authorize_group", "on_joined", "on_connect"):
            ws.send("hello")
        ws.assert_closed(1011)
    if where not in ("authorize_group", "on_joined"):
        # After GeneratorExit, as after all that ends a thread or a task, no answer is awaited.
        assert poll(lambda: ended)[0] in ((1006, 1011) if error is GeneratorExit else (1011,))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["authorize_group", "on_connect", "on_message", "on_error"])
def test_what_would_end_the_process_ends_its_connection(
    where: str, error: type[BaseException], site: Callable[..., Flask]
) -> None:
    ended: list[int] = []
    app = site(where=where, error=error, ended=ended)
    with app.test_client() as client:
        for _ in range(3):
            with websocket_connect(client, "/hooks") as ws:
                if where in ("on_message", "on_error"):
                    ws.send("hello")
                ws.assert_closed(1011)
    if where != "authorize_group":
        assert poll(lambda: len(ended) == 3)


@pytest.mark.parametrize("error", ERRORS)
def test_on_close_that_raises_it_disturbs_nobody(
    error: type[BaseException], site: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []
    app = site(where="on_close", error=error, ended=ended)
    with app.test_client() as client:
        for _ in range(2):
            with websocket_connect(client, "/hooks") as ws:
                ws.send("hello")
                assert ws.receive() == "hello"
        assert poll(lambda: len(ended) == 2)


def ends_with_1011(plain: Any, coroutine: Any, *messages: str) -> None:
    """Connect to a view of each kind, and see that it ends with 1011 Internal Error."""
    for extension, view in (
        (WebSocket, plain),
        (AsyncioWebSocket, plain),
        (AsyncioWebSocket, coroutine),
    ):
        app = Flask("site")
        websocket = extension(app)
        websocket.add_url_rule("/broken", "broken", view)
        with app.test_client() as client, websocket_connect(client, "/broken") as ws:
            for text in messages:
                ws.send(text)
            ws.assert_closed(1011)
        websocket.stop()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("text", ['{"type": "go", "n": 1}', '{"type": "go", "n": "x"}'])
def test_handlers_and_on_invalid(text: str, error: type[BaseException]) -> None:
    class View(WebSocketView):
        @message("go", schema=Anything)
        def go(self, ws: Any, data: Any) -> None:
            raise error("by a handler")

        def on_invalid(self, ws: Any, problem: InvalidMessage) -> None:
            raise error("by on_invalid")

    class CoroutineView(WebSocketView):
        @message("go", schema=Anything)
        async def go(self, ws: Any, data: Any) -> None:
            raise error("by a handler")

        def on_invalid(self, ws: Any, problem: InvalidMessage) -> None:
            raise error("by on_invalid")

    ends_with_1011(View, CoroutineView, text)


@pytest.mark.parametrize("error", ERRORS)
def test_functions(error: type[BaseException]) -> None:
    def plain(ws: Any) -> None:
        raise error("by a function")

    async def coroutine(ws: Any) -> None:
        raise error("by a function")

    ends_with_1011(plain, coroutine)


@pytest.mark.parametrize("error", ERRORS)
def test_error_handlers_and_teardown_functions(
    error: type[BaseException], kind: str, site: Callable[..., Flask]
) -> None:
    app = site(where="on_error")

    @app.errorhandler(ValueError)
    def handle(problem: ValueError) -> None:
        raise error("by an error handler")

    @app.teardown_request
    def tear_down(problem: BaseException | None) -> None:
        if problem is not None:
            raise error("by a teardown function")

    with app.test_client() as client, websocket_connect(client, "/hooks") as ws:
        ws.send("hello")
        ws.assert_closed(1011)


def test_a_receiver_of_the_signal_that_fails(
    site: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    from flask import got_request_exception

    app = site(where="on_message", error=ValueError)

    def fail(sender: Any, exception: Exception, **more: Any) -> None:
        raise StopIteration("by a receiver")

    with (
        got_request_exception.connected_to(fail, app),
        app.test_client() as client,
        websocket_connect(client, "/hooks") as ws,
    ):
        ws.send("hello")
        ws.assert_closed(1011)
    assert noted(caplog) == [
        "a receiver of got_request_exception failed",
        "Exception on WebSocket /hooks",
    ]


class Unusable(CloseConnection):
    """Changes what was checked when it was made."""

    def __init__(self, code: Any, reason: Any) -> None:
        super().__init__()
        self.code, self.reason = code, reason


@pytest.mark.parametrize(
    ("code", "reason"), [(4000, "x" * 124), (4000, "é" * 62), (999, ""), ("4000", ""), (4000, None)]
)
def test_a_close_that_can_not_be_sent_is_1011(
    code: Any, reason: Any, site: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Any, hook: str) -> None:
        if hook == "on_message":
            raise Unusable(code, reason)

    app = site(at=fail)
    with app.test_client() as client, websocket_connect(client, "/hooks") as ws:
        ws.send("hello")
        ws.assert_closed(1011)
    [record] = [one for one in caplog.records if one.name == "site"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], (ValueError, TypeError))
