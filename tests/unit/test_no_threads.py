"""Handlers whose thread can't be started: they give their places back for later ones."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from flask_wsviews import AsyncioWebSocket, ConnectionClosed, WebSocketView
from flask_wsviews.app_state import state_of
from flask_wsviews.groups import broker_thread
from flask_wsviews.testing import websocket_connect

THREADS = 2


@pytest.fixture
def app() -> Iterator[Flask]:
    app = Flask("site")
    app.config["WSVIEWS_THREADS"] = THREADS
    websocket = AsyncioWebSocket(app)

    @websocket.route("/function")
    def function(ws: Any) -> None:
        for message in ws:
            ws.send(message)

    @websocket.route("/hook")
    class Hook(WebSocketView):
        def on_message(self, ws: Any, message: Any) -> None:
            ws.send(message)

    @websocket.route("/operation")
    async def operation(ws: Any) -> None:
        """As joining a group does, where its broker isn't in memory."""
        async for message in ws:
            fanout = state_of(app).groups._fanout.get()
            await ws.send(await fanout.thread.call(str, message))

    @websocket.route("/gives-up")
    async def gives_up(ws: Any) -> None:
        driver = ws._driver
        before = driver._loop_thread.free_functions
        for _ in range(THREADS + 1):
            # As when the task is cancelled before its thread begins.
            driver.call_in_thread(threading.Event().wait, keep=True).is_given_up = True
            while driver._loop_thread.free_functions < before:
                await asyncio.sleep(0.001)
        await ws.send("all given back")

    yield app
    websocket.stop()


@pytest.mark.parametrize("path", ["/function", "/hook", "/operation"])
def test_a_place_whose_thread_could_not_be_started(
    app: Flask, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def fail(self: threading.Thread) -> None:
        if self.name.startswith(("wsviews-function", "wsviews-hook", "wsviews-groups")):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(broker_thread, "MAX_PENDING", THREADS)
    with app.test_client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            for _ in range(THREADS + 1):
                with websocket_connect(client, path) as ws:
                    # A function's connection may be closed by then.
                    with contextlib.suppress(ConnectionClosed):
                        ws.send("in vain")
                    ws.assert_closed(1011)
        with websocket_connect(client, path) as ws:
            ws.send("at last")
            assert ws.receive() == "at last"


def test_a_place_that_is_given_up_before_its_thread_begins(app: Flask) -> None:
    with app.test_client() as client, websocket_connect(client, "/gives-up") as ws:
        assert ws.receive() == "all given back"
