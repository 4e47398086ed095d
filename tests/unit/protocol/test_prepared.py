"""Messages for many: one frame for all, compressed or not, and what slow clients do without."""

from __future__ import annotations

import pytest
from support.peers import Peer, close_payload, frames_in
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from flask_wsviews.exceptions import ConnectionClosed
from flask_wsviews.protocol.prepared import PreparedMessage

POLICIES = ("close", "drop-oldest", "drop-newest")


def deflate(bits: int = 15, *, no_takeover: bool = False) -> PerMessageDeflate:
    return PerMessageDeflate(False, no_takeover, 15, bits)


def inflate(client: PerMessageDeflate, frame: Frame) -> bytes:
    return bytes(client.decode(frame).data)


def send(peer: Peer, message: PreparedMessage, policy: str = "close") -> int:
    return peer.connection.send_prepared(message, policy, peer.now)


@pytest.mark.parametrize("message", ["grüße", b"\x00\xff", bytearray(b"x"), memoryview(b"y"), ""])
def test_a_prepared_message_is_as_a_sent_one(message: str | bytes) -> None:
    one, two = Peer(), Peer()
    assert send(one, PreparedMessage(message)) == 0
    two.connection.send(message)
    assert one.written() == two.written()


def test_what_is_no_message() -> None:
    with pytest.raises(TypeError, match="str or bytes, not dict"):
        PreparedMessage({})  # type: ignore[arg-type]


def test_the_frame_is_made_once_for_each_way_to_compress_it() -> None:
    message = PreparedMessage("x" * 1000)
    plain = message.serialize([])
    assert message.serialize([]) is plain
    compressed = message.serialize([deflate()])
    assert message.serialize([deflate()]) is compressed
    assert message.serialize([deflate(10)]) is not compressed
    assert len(compressed) < len(plain)


@pytest.mark.parametrize("bits", [9, 15])
@pytest.mark.parametrize("no_takeover", [False, True])
def test_prepared_and_own_messages_mix_with_compression(bits: int, no_takeover: bool) -> None:
    peer = Peer(extensions=[deflate(bits, no_takeover=no_takeover)])
    # The client's part: it keeps its window from message to message.
    client = PerMessageDeflate(no_takeover, False, bits, 15)
    texts = ["the same words again and again " * 20, "and other words, again and again " * 20]
    shared = [PreparedMessage(text) for text in texts]
    expected = []
    for number in range(12):
        if number % 3:
            peer.connection.send(texts[number % 2])
        else:
            send(peer, shared[number % 2])
        expected.append(texts[number % 2].encode())
    frames = frames_in_with_rsv(peer.written())
    assert [inflate(client, frame) for frame in frames] == expected


def frames_in_with_rsv(data: bytes) -> list[Frame]:
    """Frames as they are, for whoever inflates them later."""
    buffer = bytearray(data)
    frames = []
    while buffer:
        length, start = buffer[1] & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        payload = bytes(buffer[start : start + length])
        frames.append(Frame(Opcode(buffer[0] & 0x0F), payload, True, bool(buffer[0] & 0x40)))
        del buffer[: start + length]
    return frames


@pytest.mark.parametrize("policy", POLICIES)
def test_a_single_message_may_be_larger_than_the_bound(policy: str) -> None:
    peer = Peer(max_send_buffer=10)
    assert send(peer, PreparedMessage("x" * 100), policy) == 0
    assert peer.sent() == [(Opcode.TEXT, b"x" * 100)]


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_is_sent_after_the_end(policy: str) -> None:
    peer = Peer()
    peer.close(1000)
    with pytest.raises(ConnectionClosed):
        send(peer, PreparedMessage("x"), policy)


def fill(peer: Peer, *texts: str, policy: str) -> list[int]:
    return [send(peer, PreparedMessage(text), policy) for text in texts]


def test_a_slow_client_is_closed() -> None:
    peer = Peer(max_send_buffer=20)
    assert fill(peer, "a" * 8, "b" * 8, "c", policy="close") == [0, 0, 1]
    assert peer.sent()[2] == (Opcode.CLOSE, close_payload(1008, "the client is too slow"))


def test_the_newest_are_dropped() -> None:
    peer = Peer(max_send_buffer=20)
    assert fill(peer, "a" * 8, "b" * 8, "c", "d", policy="drop-newest") == [0, 0, 1, 1]
    assert peer.connection.send_backlog == 20
    assert [payload for _, payload in peer.sent()] == [b"a" * 8, b"b" * 8]
    assert fill(peer, "e", policy="drop-newest") == [0]


def test_the_oldest_are_dropped_but_what_may_be_half_written() -> None:
    peer = Peer(max_send_buffer=30)
    peer.connection.send("own")
    dropped = fill(peer, "a" * 8, "b" * 8, "c" * 8, "d" * 18, policy="drop-oldest")
    assert dropped == [0, 0, 1, 2]
    assert peer.connection.send_backlog == 25
    assert [payload for _, payload in peer.sent()] == [b"own", b"d" * 18]


def test_own_messages_are_not_dropped_for_others() -> None:
    peer = Peer(max_send_buffer=20)
    assert fill(peer, "a" * 8, policy="drop-oldest") == [0]
    peer.connection.send("own words")
    assert fill(peer, "b" * 8, policy="drop-oldest") == [1]
    assert [payload for _, payload in peer.sent()] == [b"a" * 8, b"own words"]


def test_a_half_written_message_goes_out_whole() -> None:
    peer = Peer(max_send_buffer=30)
    fill(peer, "a" * 20, policy="drop-oldest")
    head = bytes(peer.connection.output()[:5])
    peer.connection.output_written(5, peer.now)
    assert fill(peer, "b" * 8, "c" * 8, policy="drop-oldest") == [0, 1]
    [one, two] = frames_in(head + peer.written())
    assert (bytes(one.data), bytes(two.data)) == (b"a" * 20, b"c" * 8)


def test_compressed_messages_can_be_dropped() -> None:
    peer = Peer(extensions=[deflate()], max_send_buffer=60)
    client = PerMessageDeflate(False, False, 15, 15)
    texts = [f"{letter * 9}{'the same words ' * 9}" for letter in "abcdef"]
    for text in texts:
        send(peer, PreparedMessage(text), "drop-oldest")
    peer.connection.send(texts[0])
    received = [inflate(client, frame).decode() for frame in frames_in_with_rsv(peer.written())]
    assert received[0] == texts[0]
    assert received[-2:] == [texts[-1], texts[0]]
    assert len(received) < 7


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_notices_are_not_dropped(policy: str) -> None:
    peer = Peer(max_send_buffer=30)
    fill(peer, "a" * 8, "b" * 8, policy=policy)
    # There is room for it, and none when the others come.
    assert send(peer, PreparedMessage("1 lost", is_notice=True), policy) == 0
    fill(peer, "c" * 18, "d" * 18, policy=policy)
    for _ in range(100):
        assert send(peer, PreparedMessage("2 lost", is_notice=True), policy) == 0
    assert peer.connection.send_backlog < 70
    texts = [payload.decode() for _, payload in peer.sent()]
    assert [text for text in texts if "lost" in text] == ["1 lost", "2 lost"]
    assert peer.connection.messages_sent == len(texts)


def test_a_slow_client_is_closed_rather_than_noticed() -> None:
    peer = Peer(max_send_buffer=20)
    fill(peer, "a" * 8, "b" * 8, policy="close")
    assert send(peer, PreparedMessage("lost", is_notice=True), "close") == 1
    assert peer.sent()[2][0] is Opcode.CLOSE
