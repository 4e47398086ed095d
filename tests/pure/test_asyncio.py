"""The asyncio engine's driver, where a server can't bring about what happens to it."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from servers import poll

from flask_wsviews import AsyncioWebSocket, WebSocketView
from flask_wsviews.client import WebSocketClient
from flask_wsviews.testing import WebSocketTestClient, websocket_connect

from .helpers import binary, more, ping, pong, text


@pytest.fixture(params=["uvloop", "selector"])
def websocket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncioWebSocket:
    """The extension, on either event loop."""
    if request.param == "selector":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    return AsyncioWebSocket()


@pytest.fixture
def ends() -> list[int]:
    """The codes that connections have ended with."""
    return []


@pytest.fixture
def app(websocket: AsyncioWebSocket, ends: list[int]) -> Iterator[Flask]:
    app = Flask("site")
    websocket.init_app(app)

    class Base(WebSocketView):
        def on_connect(self, ws: WebSocketClient) -> None:
            ws.send("a reply that nobody reads")

        def on_close(self, ws: WebSocketClient, code: int, reason: str) -> None:
            ends.append(code)

    @websocket.route("/silent")
    class Silent(Base):
        def on_message(self, ws: WebSocketClient, message: Any) -> None:
            pass

    @websocket.route("/silent-coroutine")
    class SilentCoroutine(Base):
        async def on_message(self, ws: Any, message: Any) -> None:
            pass

    @websocket.route("/echo-coroutine")
    class EchoCoroutine(Base):
        async def on_message(self, ws: Any, message: Any) -> None:
            await ws.send(message)

    yield app
    websocket.stop()


# What a client sends last, before it resets the connection.
LAST_WORDS = {
    "a part of a frame": text("a text")[:-1],
    "a part of a binary frame": binary(b"x" * 1000)[:-1],
    "a head": text("a text")[:1],
    "a fragment": text("a ", fin=False),
    "fragments": text("a ", fin=False) + more("b ", fin=False),
    "a message": text("a text"),
    "a message and a part of one": text("a text") + text("another")[:5],
    "messages": text("a text") + text("another"),
    "a Ping": ping(b"x"),
    "a Pong": pong(b"x"),
    "more than is read at once": binary(b"x" * 70_000) + text("a part")[:-1],
}


@pytest.mark.parametrize("path", ["/silent", "/silent-coroutine", "/echo-coroutine"])
@pytest.mark.parametrize("last", LAST_WORDS.values(), ids=LAST_WORDS)
def test_a_reset_that_comes_with_data_ends_the_connection(
    last: bytes, path: str, app: Flask, websocket: AsyncioWebSocket, ends: list[int]
) -> None:
    with app.test_client() as client:
        ws = websocket_connect(client, path)
        # The end of a Unix socket with something unread in it is a reset.
        assert ws._sock.recv(1, socket.MSG_PEEK)
        reset_with(last, ws, websocket)
        assert poll(lambda: ends) == [1006]
        ws.vanish()


def reset_with(last: bytes, ws: WebSocketTestClient, websocket: AsyncioWebSocket) -> None:
    """Send *last* and reset the connection, while the loop can't see one without the other."""
    done = threading.Event()

    def work() -> None:
        ws._sock.setblocking(False)
        ws._sock.sendall(last)
        ws._sock.close()
        done.set()

    loop(websocket).call_soon_threadsafe(work)
    assert done.wait(10)


def loop(websocket: AsyncioWebSocket) -> Any:
    return websocket.engine._the_worker().loop  # type: ignore[attr-defined]
