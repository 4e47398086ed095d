"""Clients that mean harm, or vanish: they cost their own connection, and no other one."""

from __future__ import annotations

import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support import servers
from support.engines import GEVENT, MODES, UWSGI_MODES
from support.journal import journal, of_kind, opened
from support.raw import VANISHING, RawClient, close_frame, frame, request
from support.servers import Server
from websockets.frames import Opcode
from websockets.sync.client import connect

FRAGMENTS = 16 * 1024
SILENT = 10_000


def check_others(server: Server) -> None:
    with connect(server.ws("/echo")) as ws:
        ws.send("unharmed")
        assert ws.recv(timeout=10) == "unharmed"


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY, Opcode.CONT])
def test_a_frame_that_announces_more_than_there_is_memory(server, opcode):
    head = struct.pack("!BBQ4s", opcode, 0xFF, 1 << 62, b"mask")
    with RawClient(server).open("/echo") as client:
        if opcode is Opcode.CONT:
            client.send(Opcode.TEXT, "begun", fin=False)
        client.sock.sendall(head + b"x" * 1000)
        assert client.recv_close().code == 1009
    check_others(server)


def test_a_message_in_endless_fragments(server):
    with RawClient(server).open("/echo") as client:
        client.send(Opcode.BINARY, b"", fin=False)
        fragment = frame(Opcode.CONT, b"", fin=False)
        for _ in range(16):
            client.sock.sendall(fragment * (FRAGMENTS // 16))
        close = client.recv_close()
        assert (close.code, close.reason) == (
            1009,
            f"a message has more than {FRAGMENTS} fragments",
        )
    check_others(server)


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
def test_endless_control_frames(server, opcode):
    with RawClient(server).open("/echo") as client:
        # However they fall into seconds, one of four has too many.
        client.sock.sendall(frame(opcode, b"x") * 2010)
        while (received := client.recv()).opcode is Opcode.PONG:
            continue
        assert received.opcode is Opcode.CLOSE
        assert struct.unpack("!H", bytes(received.data)[:2]) == (1008,)
    check_others(server)


def test_a_flood_of_empty_messages_holds_nobody_up(server):
    count = 5000
    with RawClient(server).open("/ends") as flood, ExitStack() as stack:
        others = [stack.enter_context(connect(server.ws("/echo"))) for _ in range(3)]
        for part in range(5):
            flood.sock.sendall(frame(Opcode.TEXT) * (count // 5))
            for ws in others:
                ws.send(f"during part {part}")
                assert ws.recv(timeout=10) == f"during part {part}"


def test_a_header_is_not_split(server):
    headers = {"Sec-WebSocket-Protocol": "v1, v2\x0bSet-Cookie: a=b"}
    with RawClient(server) as client:
        status, fields = client.request("/guarded", headers)
        assert status in (400, 401, 403)
        assert all("a=b" not in value for _, value in fields)
    with RawClient(server) as client:
        status, fields = client.request("/echo", {"Origin": "https://evil.example\x0bX-Bad: 1"})
        assert status in (400, 403)
        assert all("evil" not in value for _, value in fields)


def test_a_message_ahead_of_a_refusal_is_never_handled(server, key):
    with RawClient(server) as client:
        handshake = request(f"/views/all/refused?key={key}", server)
        client.sock.sendall(handshake + frame(Opcode.TEXT, "raise value"))
        assert client.sock.recv(12) == b"HTTP/1.1 401"
    check_others(server)
    assert of_kind(server, key, "message") == []
    assert of_kind(server, key, "connect") == []


def test_nothing_is_handled_after_a_close_frame(server, key):
    with opened(server, key) as client:
        client.sock.sendall(
            frame(Opcode.TEXT, "before") + close_frame(1000) + frame(Opcode.TEXT, "after")
        )
        journal(server, key, until="close")
    assert of_kind(server, key, "message") == [["before", 1]]
    assert of_kind(server, key, "close") == [[1000, ""]]


@pytest.mark.parametrize("state", VANISHING)
@pytest.mark.parametrize("way", ["reset", "end of stream"])
def test_a_client_that_vanishes(server, key, state, way):
    with opened(server, key) as client:
        client.sock.sendall(VANISHING[state])
        if way == "reset":
            client.reset()
        else:
            client.sock.shutdown(socket.SHUT_RDWR)
        journal(server, key, until="close")
    assert of_kind(server, key, "close") == [[1006, ""]]
    assert of_kind(server, key, "message") == []


def test_clients_that_reset_on_gevents_other_loop(tmp_path):
    """libuv reports the reset once, with what came before it."""
    command = servers.gunicorn("contract:app", "-k", "gevent")
    env = {**GEVENT, "GEVENT_LOOP": "libuv"}
    with servers.running(command, tmp_path / "log", env) as server:
        keys = [f"reset-{number}" for number in range(20)]
        for key in keys:
            with opened(server, key) as client:
                client.sock.sendall(VANISHING["in a frame"])
                client.reset()
        for key in keys:
            journal(server, key, until="close")


def test_clients_that_vanish_in_their_handshake(server):
    handshake = request("/echo", server)
    for cut in (1, 20, len(handshake) - 1):
        with RawClient(server) as client:
            client.sock.sendall(handshake[:cut])
            client.reset()
    check_others(server)


def test_a_slow_handshake_and_a_slow_frame(server):
    with RawClient(server) as slow, connect(server.ws("/echo")) as other:

        def send_slowly(data: bytes) -> None:
            for number in range(len(data)):
                slow.sock.sendall(data[number : number + 1])
                other.send(str(number))
                assert other.recv(timeout=10) == str(number)

        # Each byte is a packet of its own, and the server has seen it before the next one comes.
        slow.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send_slowly(request("/echo", server))
        assert slow.read_head()[0] == 101
        send_slowly(frame(Opcode.TEXT, "at last"))
        assert slow.recv_message() == b"at last"


@pytest.mark.parametrize("mode", UWSGI_MODES)
def test_a_handshake_that_comes_to_no_end(mode, tmp_path: Path):
    command, env = MODES[mode]
    limit = ["--http-headers-timeout", "1"] if "router" in mode else ["--socket-timeout", "1"]
    with (
        servers.running(lambda port: [*command(port), *limit], tmp_path / "log", env) as server,
        RawClient(server, timeout=30) as slow,
        connect(server.ws("/echo")) as other,
    ):
        slow.sock.sendall(request("/echo", server)[:-2])
        assert slow.at_eof()
        other.send("still there")
        assert other.recv(timeout=10) == "still there"


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """How many sockets a test may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("mode", UWSGI_MODES)
def test_connects_without_a_handshake(mode, many_descriptors, tmp_path: Path):
    command, env = MODES[mode]
    with (
        servers.running(command, tmp_path / "log", env) as server,
        connect(server.ws("/echo")) as first,
    ):

        def check_first(text: str) -> None:
            first.send(text)
            assert first.recv(timeout=10) == text

        def stay_silent(stack: ExitStack) -> None:
            sock = stack.enter_context(closing(socket.socket()))
            # Beyond a hundred they wait in the queue of the socket, or before it.
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", server.port))

        for number in range(20):
            with ExitStack() as few:
                for _ in range(50):
                    stay_silent(few)
                check_first(f"round {number}")
        with connect(server.ws("/echo"), open_timeout=60) as later:
            later.send("served")
            assert later.recv(timeout=10) == "served"
        # How long it takes until uWSGI has got over these is the kernel's affair.
        with ExitStack() as many:
            for number in range(min(SILENT, many_descriptors)):
                stay_silent(many)
                if number % 500 == 0:
                    check_first(f"beside {number}")
        check_first("still there")


def test_a_client_that_has_only_said_its_last_word(server, key):
    """Half-closed without a close frame, it counts as gone, whether it reads on or not."""
    with opened(server, key) as client:
        client.sock.shutdown(socket.SHUT_WR)
        journal(server, key, until="close")
        assert client.at_eof()
    assert of_kind(server, key, "close") == [[1006, ""]]
