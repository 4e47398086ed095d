"""RFC 6455 over real sockets: what one client sends never touches another one."""

from __future__ import annotations

import pytest
from support.journal import journal
from support.raw import RawClient, close_frame, frame
from websockets.frames import Opcode
from websockets.sync.client import connect


def test_interleaved_fragments_reach_their_own_connections(server):
    with RawClient(server).open("/echo") as one, RawClient(server).open("/echo") as two:
        for index in range(10):
            opcode = Opcode.TEXT if index == 0 else Opcode.CONT
            one.send(opcode, f"one-{index} ", fin=index == 9)
            two.send(opcode, f"two-{index} ", fin=index == 9)
        assert one.recv_message().decode() == "".join(f"one-{i} " for i in range(10))
        assert two.recv_message().decode() == "".join(f"two-{i} " for i in range(10))


def test_an_orphan_fragment_closes_its_own_connection_only(server):
    with connect(server.ws("/echo")) as other, RawClient(server).open("/echo") as client:
        client.send(Opcode.CONT, "orphan")
        assert client.recv_close().code == 1002
        assert client.at_eof()
        other.send("unharmed")
        assert other.recv(timeout=10) == "unharmed"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x83\x80mask", 1002, id="reserved-opcode"),
        pytest.param(b"\xc1\x81mask\0", 1002, id="rsv1-without-extension"),
        pytest.param(b"\x81\x01x", 1002, id="not-masked"),
        pytest.param(b"\x09\x80mask", 1002, id="fragmented-ping"),
        pytest.param(frame(Opcode.TEXT, b"\xff"), 1007, id="not-utf8"),
        pytest.param(
            frame(Opcode.TEXT, b"\xce\xba", fin=False) + frame(Opcode.CONT, b"\xff", fin=False),
            1007,
            id="not-utf8-in-a-fragment",
        ),
        pytest.param(b"\x81\xfe\xff\xff\0\0\0\0\xce\xba\xff", 1007, id="not-utf8-inside-a-frame"),
        pytest.param(b"\x82\xff\0\0\0\1\0\0\0\0mask", 1009, id="announces-4-gib"),
        pytest.param(
            frame(Opcode.BINARY, b"x" * 600_000, fin=False) + frame(Opcode.CONT, b"x" * 600_000),
            1009,
            id="fragments-over-the-limit",
        ),
        pytest.param(frame(Opcode.CLOSE, b"\0"), 1002, id="close-code-of-one-byte"),
        pytest.param(frame(Opcode.CLOSE, b"\3\xed"), 1002, id="close-with-1005"),
    ],
)
def test_a_violation_is_answered_with_its_close_code(server, data, code):
    with RawClient(server).open("/echo") as client:
        client.sock.sendall(frame(Opcode.TEXT, "ahead of it") + data)
        # Messages ahead of the bad frame are handled first.
        assert client.recv_message() == b"ahead of it"
        assert client.recv_close().code == code
        assert client.at_eof()


def test_the_view_learns_what_the_client_did_wrong(server, key):
    with RawClient(server).open(f"/views/all/bob?key={key}") as client:
        client.recv()
        client.send(Opcode.TEXT, b"\xff")
        client.recv_close()
    assert ["close", 1007, "the text is not UTF-8", False] in journal(server, key, until="close")


def test_a_message_of_exactly_the_limit_passes(server):
    with RawClient(server).open("/echo") as client:
        for _ in range(4):
            client.send(Opcode.PING, "between fragments")
            assert client.recv().opcode is Opcode.PONG
        client.send(Opcode.BINARY, b"x" * 1_000_000, fin=False)
        client.send(Opcode.CONT, b"y" * 48_576)
        assert len(client.recv_message()) == 1_048_576


def test_a_frame_may_come_byte_by_byte(server):
    with RawClient(server).open("/echo") as client:
        for byte in frame(Opcode.TEXT, "grüße"):
            client.sock.sendall(bytes([byte]))
        assert client.recv_message().decode() == "grüße"


def test_the_peer_may_close_its_side_after_its_close_frame(server):
    if "router" in server.log_path.name:
        return  # uWSGI's router takes the end of one side for the end of both
    with RawClient(server).open("/echo") as client:
        client.sock.sendall(frame(Opcode.TEXT, "hi") + close_frame(1000))
        client.sock.shutdown(1)
        assert client.recv_message() == b"hi"
        assert client.recv_close().code == 1000
        assert client.at_eof()


def test_what_comes_after_the_handshake_request_is_read(server):
    # Not in its segment, which RFC 6455 4.1 forbids, but before the 101 has been read.
    with RawClient(server).open("/echo") as client:
        client.sock.sendall(b"".join(frame(Opcode.TEXT, str(n)) for n in range(1000)))
        assert [client.recv_message() for _ in range(1000)] == [
            str(n).encode() for n in range(1000)
        ]
