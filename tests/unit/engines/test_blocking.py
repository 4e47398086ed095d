"""The blocking engine's driver, where a server can't bring about what happens to it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from support.peers import binary, bounded, close, text
from support.servers import poll

from flask_wsviews import WebSocket
from flask_wsviews.client import WebSocketClient
from flask_wsviews.config import Settings
from flask_wsviews.engines.blocking_driver import BlockingDriver
from flask_wsviews.engines.blocking_read import ReadingDriver
from flask_wsviews.engines.keeper import KEEPER_INTERVAL, Keeper
from flask_wsviews.engines.sockets import WAIT_SIZE
from flask_wsviews.protocol.connection import Connection
from flask_wsviews.servers.testing import PairTransport
from flask_wsviews.testing import websocket_connect


@pytest.fixture
def clients() -> list[WebSocketClient]:
    """Those that have connected."""
    return []


@pytest.fixture
def app(clients: list[WebSocketClient]) -> Iterator[Flask]:
    app = Flask("site")
    websocket = WebSocket(app)

    @websocket.route("/echo")
    def echo(ws: WebSocketClient) -> None:
        clients.append(ws)
        for message in ws:
            ws.send(message)

    yield app
    websocket.stop()


def test_a_socket_that_somebody_else_makes_non_blocking(
    app: Flask, clients: list[WebSocketClient]
) -> None:
    with app.test_client() as client, websocket_connect(client, "/echo") as ws:
        ws.send("one")
        assert ws.receive() == "one"
        driver = clients[0]._driver
        assert driver._blocks  # type: ignore[union-attr]
        driver._sock.setblocking(False)  # type: ignore[union-attr]
        for message in ("two", "three", "four"):
            ws.send(message)
            assert ws.receive() == message
        # It waits by poll() from now on, and doesn't try again and again.
        assert poll(lambda: not driver._blocks)  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [WAIT_SIZE - 9, WAIT_SIZE - 8, WAIT_SIZE - 7, 300_000])
def test_a_read_that_waits_may_bring_a_part_of_a_message(app: Flask, size: int) -> None:
    # The head of a frame of a few thousand bytes, with its mask, has eight.
    with app.test_client() as client, websocket_connect(client, "/echo") as ws:
        for message in ("x" * size, b"\xff" * size):
            ws.send(message)
            assert ws.receive() == message


def test_what_is_read_after_the_end_is_not_another_connection_s(
    app: Flask, clients: list[WebSocketClient]
) -> None:
    with app.test_client() as client:
        with websocket_connect(client, "/echo") as ended:
            ended.send("one")
            assert ended.receive() == "one"
        old = clients[0]._driver
        assert old is not None
        assert poll(lambda: old._released)
        with websocket_connect(client, "/echo") as ws:
            ws.send("two")
            assert ws.receive() == "two"
            new = clients[1]._driver
            assert new is not None
            # The number is used again, as it would be in a server.
            assert new._fd == old._fd
            old._read()
            old._write()
            ws.send("three")
            assert ws.receive() == "three"


def frame_of(message: str | bytes) -> bytes:
    return text(message) if isinstance(message, str) else binary(message)


@pytest.mark.parametrize("make", [BlockingDriver, ReadingDriver], ids=["poll", "read"])
@given(
    messages=st.lists(st.text(max_size=40) | st.binary(max_size=2 * WAIT_SIZE), max_size=6),
    cuts=st.lists(st.integers(1, 3 * WAIT_SIZE), max_size=8),
    timeout=st.sampled_from([None, 5.0]),
)
@settings(bounded, max_examples=25)
def test_waiting_in_poll_and_in_a_read_agree(
    make: type[BlockingDriver],
    messages: list[str | bytes],
    cuts: list[int],
    timeout: float | None,
) -> None:
    stream = b"".join(map(frame_of, messages)) + close(4000, "bye")
    parts = [stream[start:end] for start, end in pairwise([0, *sorted(set(cuts)), len(stream)])]
    keeper = Keeper()
    with kept_by(keeper, make) as (driver, peer):
        sender = threading.Thread(target=lambda: [peer.sendall(part) for part in parts])
        sender.start()
        received = list(iter(lambda: driver.receive(timeout), None))
        sender.join()
    keeper.stop()
    assert received == messages


class LateSocket(socket.socket):
    """Sends when a thread may have ended meanwhile."""

    thread: threading.Thread

    def send(self, *arguments: Any) -> int:
        self.thread.join(3 * KEEPER_INTERVAL)
        return super().send(*arguments)


@contextmanager
def kept_by(
    keeper: Keeper, make: type[BlockingDriver] = BlockingDriver
) -> Iterator[tuple[BlockingDriver, socket.socket]]:
    """A connection that a keeper looks after, and its peer."""
    ours, peer = socket.socketpair()
    with ours, peer:
        yield make(PairTransport(ours), Connection(Settings(), monotonic()), keeper), peer


def test_a_keeper_that_ends_before_it_is_woken() -> None:
    keeper = Keeper()
    # While there is a connection it looks around by itself.
    with kept_by(keeper), LateSocket(fileno=keeper._waker._in.detach()) as late:
        late.thread = keeper._runner
        keeper._waker._in = late
        keeper.stop()
    assert not keeper._runner.is_alive()


def test_a_keeper_that_has_ended_keeps_nobody() -> None:
    keeper = Keeper()
    keeper.stop()
    with kept_by(keeper) as (driver, _):
        keeper.watch(driver)
        keeper.remove(driver)


def test_a_keeper_without_a_thread_keeps_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("no thread")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="no thread"):
            Keeper()
    assert len(os.listdir("/proc/self/fd")) == before
