"""The asyncio engine's driver, where a server can't bring about what happens to it."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from support.peers import binary, more, ping, pong, text
from support.servers import poll

from flask_wsviews import AsyncioWebSocket, ConnectionClosed, WebSocketView
from flask_wsviews.client import WebSocketClient
from flask_wsviews.testing import WebSocketTestClient, websocket_connect


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
        assert ws._frames._sock.recv(1, socket.MSG_PEEK)
        reset_with(last, ws, websocket)
        assert poll(lambda: ends) == [1006]
        ws.vanish()


def reset_with(last: bytes, ws: WebSocketTestClient, websocket: AsyncioWebSocket) -> None:
    """Send *last* and reset the connection, while the loop can't see one without the other."""
    done = threading.Event()

    def work() -> None:
        ws._frames._sock.setblocking(False)
        ws._frames._sock.sendall(last)
        ws._frames._sock.close()
        done.set()

    loop(websocket).call_soon_threadsafe(work)
    assert done.wait(10)


def loop(websocket: AsyncioWebSocket) -> Any:
    return websocket.engine._loop_thread.get().loop  # type: ignore[attr-defined]


# -- closing, and what others send ----------------------------------------------------------------


def test_it_is_not_connected_right_after_close(app: Flask, websocket: AsyncioWebSocket) -> None:
    class Plain(WebSocketView):
        def on_connect(self, ws: Any) -> None:
            ws.send(str(ws.connected))

        def on_message(self, ws: Any, message: Any) -> None:
            if message == "in a thread":
                thread = threading.Thread(target=ws.close)
                thread.start()
                thread.join()
            else:
                ws.close()
            connected = ws.connected
            try:
                ws.send("too late")
            except ConnectionClosed:
                seen.append((connected, "refused"))
            else:
                seen.append((connected, "dropped"))

    class Coroutines(Plain):
        async def on_connect(self, ws: Any) -> None:  # type: ignore[override]
            await ws.send(str(ws.connected))

    class CoroutineMessages(Plain):
        async def on_message(self, ws: Any, message: Any) -> None:  # type: ignore[override]
            super().on_message(ws, message)

    seen: list[tuple[bool, str]] = []
    views = (Plain, Coroutines, CoroutineMessages)
    for view in views:
        websocket.add_url_rule(f"/{view.__name__}", view_func=view)
    for view in views:
        for message in ("at once", "in a thread"):
            if view is not Plain and message == "in a thread":
                continue
            with app.test_client() as client, websocket_connect(client, f"/{view.__name__}") as ws:
                assert ws.receive() == "True"
                ws.send(message)
                ws.assert_closed(1000)
            poll(lambda: seen)
            assert seen.pop() == (False, "refused")


MEGABYTE = 1024 * 1024


def receive_all(ws: WebSocketTestClient) -> int:
    """How many bytes come before the end."""
    received = 0
    try:
        while True:
            received += len(ws.receive())
    except ConnectionClosed:
        return received


def test_what_other_threads_send_waits_for_the_loop_within_a_bound(
    app: Flask, websocket: AsyncioWebSocket, ends: list[int]
) -> None:
    opened: list[WebSocketClient] = []

    @websocket.route("/held")
    class Held(WebSocketView):
        def on_handshake(self, ws: WebSocketClient) -> None:
            opened.append(ws)

        def on_close(self, ws: WebSocketClient, code: int, reason: str) -> None:
            ends.append(code)

    gate, began = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        gate.wait(30)

    with app.test_client() as client, websocket_connect(client, "/held") as ws:
        assert poll(lambda: opened[0].connected)
        loop(websocket).call_soon_threadsafe(hold)
        assert began.wait(10)
        driver: Any = opened[0]._driver
        for _ in range(100):
            opened[0].send("x" * 100_000)
            assert driver._handed_over <= MEGABYTE
        assert not opened[0].connected
        gate.set()
        received = receive_all(ws)
        assert ws.close_code == 1008
        assert 0 < received <= MEGABYTE
        assert poll(lambda: driver._handed_over == 0)


@contextmanager
def connected(
    app: Flask, websocket: AsyncioWebSocket
) -> Iterator[tuple[WebSocketTestClient, WebSocketClient]]:
    """Both ends of a connection: the testing client's, and the one that hooks hold."""
    opened: list[WebSocketClient] = []

    @websocket.route("/open")
    class Open(WebSocketView):
        def on_handshake(self, ws: WebSocketClient) -> None:
            opened.append(ws)

    with app.test_client() as client, websocket_connect(client, "/open") as ws:
        assert poll(lambda: opened[0].connected)
        yield ws, opened[0]


def test_a_single_message_may_be_larger_than_the_bound(
    app: Flask, websocket: AsyncioWebSocket
) -> None:
    with connected(app, websocket) as (ws, server):
        server.send(b"x" * 1_000_000)
        assert len(ws.receive()) == 1_000_000


def test_a_client_that_keeps_up_gets_all_that_a_busy_thread_sends(
    app: Flask, websocket: AsyncioWebSocket
) -> None:
    with connected(app, websocket) as (ws, server):
        thread = threading.Thread(target=lambda: [server.send("x" * 100) for _ in range(20_000)])
        thread.start()
        for _ in range(20_000):
            assert ws.receive() == "x" * 100
        thread.join()
