"""Limits of what clients may do, on every engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import servers
from raw import RawClient
from redis_server import redis_server
from servers import Server, poll
from test_groups import MODES as GROUP_MODES
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.sync.client import ClientConnection, connect

APP = "limited:app"
ASYNCIO = {"ENGINE": "AsyncioWebSocket"}
COROUTINES = {**ASYNCIO, "HOOKS": "async"}
MODES = {
    "gevent": (servers.uwsgi(APP, "--gevent", "20"), {"ENGINE": "GeventWebSocket"}),
    "threads": (servers.uwsgi(APP, "--threads", "20"), {"ENGINE": "WebSocket"}),
    "asyncio": (servers.uwsgi(APP, "--threads", "4"), ASYNCIO),
    "coroutines": (servers.uwsgi(APP, "--threads", "4"), COROUTINES),
    "werkzeug": (servers.flask_run(APP), {"ENGINE": "WebSocket"}),
}
SETTINGS = {
    "SET_MAX_CONNECTIONS_PER_ADDRESS": "5",
    "SET_MAX_CONTROL_FRAMES": "20",
    "SET_IDLE_TIMEOUT": "1.0",
}
assert MODES.keys() <= GROUP_MODES.keys()


@pytest.fixture(scope="module", params=MODES)
def server(request, tmp_path_factory) -> Iterator[Server]:
    command, env = MODES[request.param]
    log = tmp_path_factory.mktemp("limits") / "log"
    with servers.running(command, log, {**env, **SETTINGS}) as made:
        yield made
    assert "Traceback" not in made.log, made.log


def end(ws: ClientConnection) -> tuple[int, str]:
    """How the server ends a connection; what it says before is dropped."""
    with pytest.raises(ConnectionClosed) as caught:
        receive_all(ws)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def receive_all(ws: ClientConnection) -> None:
    while True:
        ws.recv(timeout=15)


def exchange(ws: ClientConnection, count: int) -> None:
    for number in range(count):
        ws.send(str(number))
        assert ws.recv(timeout=15) == str(number)


@pytest.mark.parametrize("path", ["/rate/{}", "/function"])
def test_too_many_messages(server, path):
    path = path.format(uuid4().hex)
    with connect(server.ws(path)) as ws:
        exchange(ws, 3)
        ws.send("one too many")
        assert end(ws) == (1008, "too many messages: 3 per 1 hour at most")


def test_a_key_counts_for_several_connections(server):
    path = f"/rate/{uuid4().hex}"
    with connect(server.ws(path)) as ws:
        exchange(ws, 2)
    with connect(server.ws(path)) as ws:
        exchange(ws, 1)
        ws.send("one too many")
        assert end(ws)[0] == 1008
    with connect(server.ws(f"{path}-other")) as ws:
        exchange(ws, 3)


def test_a_silent_client(server):
    with connect(server.ws("/echo")) as ws:
        assert end(ws) == (1001, "no message for 1 s")


def test_endless_control_frames(server):
    with RawClient(server).open("/echo") as client:
        for _ in range(21):
            client.send(Opcode.PING, b"x")
        while (received := client.recv()).opcode is Opcode.PONG:
            continue
        assert received.opcode is Opcode.CLOSE
        assert bytes(received.data)[2:] == b"too many control frames"


def status(server: Server, path: str = "/echo") -> int:
    try:
        with connect(server.ws(path)):
            return 101
    except InvalidStatus as refused:
        return int(refused.response.status_code)


def test_connections_of_an_address(server):
    # Those of other tests may not be over yet.
    def open_five() -> ExitStack | None:
        with ExitStack() as stack:
            try:
                for _ in range(5):
                    stack.enter_context(connect(server.ws("/echo")))
            except InvalidStatus:
                return None
            return stack.pop_all()

    with poll(open_five):
        assert status(server) == 429
        assert "There are too many WebSockets from this address" not in server.log
        server.get("/")
    # Handshakes that are refused, by the view or by Flask, don't count.
    for path in ("/echo?refuse=1", "/nowhere"):
        for _ in range(6):
            assert status(server, path) in (403, 404, 429)
    poll(lambda: status(server) == 101)


@pytest.mark.parametrize("mode", ["gevent", "threads", "coroutines", "asyncio"])
def test_rates_of_all_workers_together(mode, tmp_path: Path):
    command, env = MODES[mode]
    with redis_server(tmp_path) as redis:
        storage = {"SET_RATE_LIMIT_STORAGE": json.dumps(redis.url)}
        with (
            servers.running(command, tmp_path / "one", {**env, **storage}) as one,
            servers.running(command, tmp_path / "two", {**env, **storage}) as two,
        ):
            with connect(one.ws("/rate/shared")) as ws:
                exchange(ws, 2)
            with connect(two.ws("/rate/shared")) as ws:
                exchange(ws, 1)
                ws.send("one too many")
                assert end(ws)[0] == 1008
            redis.kill()
            with connect(one.ws("/rate/shared")) as ws:
                exchange(ws, 10)
        assert one.log.count("rates aren't limited, as their storage fails") == 1
        assert "Traceback" not in one.log + two.log


def test_a_connection_does_not_last_for_ever(tmp_path: Path):
    command, env = MODES["gevent"]
    settings = {"SET_MAX_LIFETIME": "0.5"}
    with (
        servers.running(command, tmp_path / "log", {**env, **settings}) as server,
        connect(server.ws("/echo")) as ws,
    ):
        assert end(ws)[0] == 1012
