"""The context variables that a hook sets are there in the next one, wherever that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
import structlog
from flask import Flask
from structlog.contextvars import bind_contextvars, get_contextvars, reset_contextvars

import flask_wsviews
from flask_wsviews import WebSocket, WebSocketView
from flask_wsviews.engines import asyncio_driver
from flask_wsviews.testing import websocket_connect

word: ContextVar[str] = ContextVar("word", default="nothing")


class Base(WebSocketView):
    """Each hook notes what those before it have set, and sets something itself."""

    seen: list[str]
    bound: Any

    def __init__(self) -> None:
        word.set("on_handshake")  # where it is made

    def note(self, name: str) -> None:
        self.seen.append(word.get())
        word.set(name)

    def connect(self) -> None:
        self.note("on_connect")
        self.bound = bind_contextvars(user="bob")

    def answer(self) -> str:
        self.note("on_message")
        if self.seen[-1] == "on_message":
            raise ValueError("for on_error")
        return str(get_contextvars())

    def fail(self) -> bool:
        self.note("on_error")
        return True

    def end(self) -> None:
        self.note("on_close")
        # That doesn't work in a copy of the context.
        reset_contextvars(**self.bound)
        self.seen.append(str(get_contextvars()))


class Plain(Base):
    def on_connect(self, ws: Any) -> None:
        self.connect()

    def on_message(self, ws: Any, message: Any) -> None:
        ws.send(self.answer())

    def on_error(self, ws: Any, error: Exception) -> bool:
        return self.fail()

    def on_close(self, ws: Any, code: int, reason: str) -> None:
        self.end()


class Coroutines(Base):
    async def on_connect(self, ws: Any) -> None:
        self.connect()

    async def on_message(self, ws: Any, message: Any) -> None:
        await ws.send(self.answer())

    async def on_error(self, ws: Any, error: Exception) -> bool:
        return self.fail()

    async def on_close(self, ws: Any, code: int, reason: str) -> None:
        self.end()


class CoroutineMessages(Plain):
    async def on_message(self, ws: Any, message: Any) -> None:  # type: ignore[override]
        await ws.send(self.answer())


class CoroutineEnds(Plain):
    async def on_connect(self, ws: Any) -> None:  # type: ignore[override]
        self.connect()

    async def on_close(self, ws: Any, code: int, reason: str) -> None:  # type: ignore[override]
        self.end()


KINDS: dict[str, tuple[str, type[Base]]] = {
    "blocking": ("WebSocket", Plain),
    "gevent": ("GeventWebSocket", Plain),
    "asyncio-plain": ("AsyncioWebSocket", Plain),
    "asyncio-coroutines": ("AsyncioWebSocket", Coroutines),
    "asyncio-coroutine-messages": ("AsyncioWebSocket", CoroutineMessages),
    "asyncio-coroutine-ends": ("AsyncioWebSocket", CoroutineEnds),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def websocket(kind: str) -> Iterator[WebSocket]:
    made: WebSocket = getattr(flask_wsviews, KINDS[kind][0])(Flask("site"))
    yield made
    made.stop()


@pytest.fixture
def seen(kind: str, websocket: WebSocket) -> list[str]:
    """What the hooks of the view have seen."""
    found: list[str] = []
    websocket.add_url_rule("/hooks", "hooks", type("Made", (KINDS[kind][1],), {"seen": found}))
    return found


def converse(websocket: WebSocket, seen: list[str]) -> None:
    """Open one connection, send three messages, and see what the hooks have seen."""
    assert websocket.app is not None
    del seen[:]
    with websocket.app.test_client() as client, websocket_connect(client, "/hooks") as ws:
        ws.send("one")
        assert ws.receive() == "{'user': 'bob'}"
        ws.send("two")
        ws.send("three")
        assert ws.receive() == "{'user': 'bob'}"
    assert seen == [
        "on_handshake",
        "on_connect",
        "on_message",
        "on_message",
        "on_error",
        "on_message",
        "{}",
    ]


def test_each_hook_sees_what_those_before_it_have_set(
    websocket: WebSocket, seen: list[str]
) -> None:
    for _ in range(2):
        copy_context().run(converse, websocket, seen)
    # And nothing of it gets out.
    assert word.get() == "nothing"
    assert structlog.contextvars.get_contextvars() == {}


@pytest.mark.parametrize("kind", ["asyncio-plain", "asyncio-coroutine-messages"], indirect=True)
def test_on_a_python_whose_tasks_take_no_context(
    websocket: WebSocket, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is Final, so part of the code once that is compiled.
    monkeypatch.setattr(asyncio_driver, "TASKS_TAKE_CONTEXTS", False)
    copy_context().run(converse, websocket, seen)


@pytest.mark.parametrize("kind", list(KINDS)[:3], indirect=True)
def test_a_function_route(websocket: WebSocket) -> None:
    @websocket.route("/function", decorators=[set_before])
    def function(ws: Any) -> None:
        for message in ws:
            ws.send(word.get())
            word.set(message)

    def talk() -> None:
        assert websocket.app is not None
        with websocket.app.test_client() as client, websocket_connect(client, "/function") as ws:
            for message, answer in (("one", "before"), ("two", "one")):
                ws.send(message)
                assert ws.receive() == answer

    # The handshake's decorator runs, and sets the variable, in the context of the test client.
    copy_context().run(talk)


def set_before(view: Any) -> Any:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        word.set("before")
        return view(*args, **kwargs)

    return wrapped
