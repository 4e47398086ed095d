"""A new engine, broker or server is one class and one line: nothing else knows their names.

The contract's tests run with the three of them as well: ``toys`` in support.engines.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from support import toys
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from flask_wsviews import WebSocket, WebSocketView
from flask_wsviews.testing import websocket_connect


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    toys.register()
    yield
    toys.unregister()


@pytest.fixture
def app() -> Iterator[Flask]:
    app = Flask("site")
    app.config["WSVIEWS_BROKER_URL"] = "toy://here"
    websocket = WebSocket(app, engine="toy")

    @websocket.route("/room")
    class Room(WebSocketView):
        groups = ["room"]
        history = 10

        def resume_from(self, ws: Any, group: str) -> Any:
            return self.since

        def on_handshake(self, ws: Any) -> None:
            from flask import request

            self.since = request.args.get("since")

        def on_joined(self, ws: Any, joined: Any) -> None:
            self.position = joined.position

        def on_connect(self, ws: Any) -> None:
            ws.send(f"at {self.position}")

        def on_message(self, ws: Any, message: Any) -> None:
            websocket.broadcast("room", message)

    yield app
    websocket.stop()


def test_an_engine_and_a_broker(app: Flask) -> None:
    websocket: WebSocket = app.extensions["wsviews"]
    assert websocket.engine.name == "toy"
    with app.test_client() as client:
        with websocket_connect(client, "/room") as one:
            position = str(one.receive()).removeprefix("at ")
            assert isinstance(websocket.groups.broker, toys.ToyBroker)
            with websocket_connect(client, "/room") as two:
                two.receive()
                one.send("to both")
                assert one.receive() == two.receive() == "to both"
        with websocket_connect(client, f"/room?since={position}") as later:
            assert later.receive() == "to both"


def test_the_commands_know_them(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = app.test_cli_runner()
    found = runner.invoke(args=["ws", "doctor"])
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert "toy" in found.output.splitlines()[0]
    # Any program will do: it isn't started.
    monkeypatch.setenv("FLASK_UWSGI_BINARY", sys.executable)
    found = runner.invoke(args=["ws", "run", "--dry-run", "--wsgi", "site:app"])
    assert found.exit_code == 0, found.output
    assert "--threads 8" in found.output


def test_a_server(app: Flask) -> None:
    server = toys.make(app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with connect(f"ws://127.0.0.1:{server.server_port}/room") as ws:
            assert str(ws.recv(timeout=10)).startswith("at ")
            ws.send("echo")
            assert ws.recv(timeout=10) == "echo"
            [farewell] = toys.ToyAdapter.farewells
            farewell(1012)
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(timeout=10)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1012
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        toys.ToyAdapter.farewells.clear()
