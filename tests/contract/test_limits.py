"""Limits of what clients may do, on every engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from support import servers
from support.engines import small_modes
from support.raw import RawClient, frame
from support.redis_server import redis_server
from support.servers import Server, poll
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Opcode
from websockets.sync.client import ClientConnection, connect

APP = "limited:app"
MODES = small_modes(APP)
SETTINGS = {"SET_MAX_CONNECTIONS_PER_ADDRESS": "5", "SET_MAX_CONTROL_FRAMES": "20"}


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
    with connect(server.ws("/silent")) as ws:
        assert end(ws) == (1001, "no message for 0.5 s")


def test_a_connection_does_not_last_for_ever(server):
    with connect(server.ws("/short")) as ws:
        assert end(ws) == (1012, "it has lasted long enough: please reconnect")


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
def test_endless_control_frames(server, opcode):
    with RawClient(server).open("/echo") as client:
        # In one piece, so that they come within a second.
        client.sock.sendall(frame(opcode) * 200)
        while (received := client.recv()).opcode is not Opcode.CLOSE:
            assert not received.data
        assert Close.parse(received.data) == Close(1008, "too many control frames")


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

    with poll(open_five, 20):
        assert status(server) == 429
        # Pages don't count.
        server.get("/")
    # Handshakes that are refused, by the view or by Flask, don't count.
    for path in ("/echo?refuse=1", "/nowhere"):
        for _ in range(6):
            assert status(server, path) in (403, 404, 429)
    poll(lambda: status(server) == 101, 20)


def test_places_are_reserved_while_handshakes_wait(server):
    poll(lambda: json.loads(server.get("/connections")) == [0, 0], 20)
    with ExitStack() as stack:

        def opens(_: int) -> int:
            try:
                stack.enter_context(connect(server.ws("/slow")))
            except InvalidStatus as refused:
                return int(refused.response.status_code)
            return 101

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(opens, range(20)))
    assert sorted(answers) == [101] * 5 + [429] * 15
    poll(lambda: json.loads(server.get("/connections")) == [0, 0], 20)


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
            # A connection that is counted by itself needs no storage.
            with connect(one.ws("/function")) as ws:
                exchange(ws, 3)
                ws.send("one too many")
                assert end(ws)[0] == 1008
        assert one.log.count("rate limits are off because their storage fails") == 1
        assert "Traceback" not in one.log + two.log


@pytest.mark.parametrize("mode", ["gevent", "threads", "coroutines", "asyncio"])
def test_a_storage_that_hangs(mode, tmp_path: Path):
    command, env = MODES[mode]
    with redis_server(tmp_path) as redis:
        storage = {"SET_RATE_LIMIT_STORAGE": json.dumps(redis.url), "SET_BROKER_TIMEOUT": "0.5"}
        with servers.running(command, tmp_path / "log", {**env, **storage}) as server:
            with connect(server.ws("/rate/hangs")) as ws:
                exchange(ws, 1)
                redis.pause()
                try:
                    exchange(ws, 5)
                finally:
                    redis.resume()
                assert "rate limits are off because their storage fails" in server.log
                # It isn't asked at once again, but after a while.
                with pytest.raises(ConnectionClosed) as caught:
                    poll(lambda: exchange(ws, 1), 20)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1008
            assert "rate limits are on again" in server.log
            assert "Traceback" not in server.log


@pytest.mark.parametrize("mode", ["gevent", "threads", "coroutines", "asyncio"])
def test_a_slow_storage_keeps_nobody_else_waiting(mode, tmp_path: Path):
    command, env = MODES[mode]
    with redis_server(tmp_path) as redis:
        storage = {"SET_RATE_LIMIT_STORAGE": json.dumps(redis.url), "SET_BROKER_TIMEOUT": "120"}
        with (
            servers.running(command, tmp_path / "log", {**env, **storage}) as server,
            connect(server.ws("/rate/slow")) as ws,
            connect(server.ws("/echo")) as other,
        ):
            exchange(ws, 1)
            redis.pause()
            try:
                ws.send("counted later")
                exchange(other, 5)
                with pytest.raises(TimeoutError):
                    ws.recv(timeout=0)
            finally:
                redis.resume()
            assert ws.recv(timeout=15) == "counted later"
