"""Sending: what is queued, written, and waits for a slow peer."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support.peers import (
    Peer,
    binary,
    close,
    frames_in,
    more,
    ping,
    sent_text,
    text,
)
from websockets.frames import Opcode

from flask_wsviews.exceptions import ConnectionClosed, WSViewsError
from flask_wsviews.protocol.queues import WRITE_SIZE
from flask_wsviews.protocol.state import State

# -- sending ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "opcode", "payload"),
    [
        ("héllo", Opcode.TEXT, "héllo".encode()),
        ("", Opcode.TEXT, b""),
        (b"\xff", Opcode.BINARY, b"\xff"),
        (b"", Opcode.BINARY, b""),
        (bytearray(b"ab"), Opcode.BINARY, b"ab"),
        (memoryview(b"abcd")[::2], Opcode.BINARY, b"ac"),
        ("x" * 70000, Opcode.TEXT, b"x" * 70000),
    ],
)
def test_send(message: Any, opcode: Opcode, payload: bytes) -> None:
    peer = Peer()
    peer.connection.send(message)
    assert peer.sent() == [(opcode, payload)]


@pytest.mark.parametrize("message", [None, 1, ["a"], {"a": 1}, object()])
def test_send_takes_nothing_else(message: Any) -> None:
    peer = Peer()
    with pytest.raises(TypeError, match=type(message).__name__):
        peer.connection.send(message)
    assert peer.sent() == []
    assert peer.connection.state is State.OPEN


def test_send_refuses_text_that_has_no_utf8() -> None:
    peer = Peer()
    with pytest.raises(UnicodeEncodeError):
        peer.connection.send("\ud800")
    peer.connection.send("fine")
    assert peer.sent() == [sent_text("fine")]


def test_a_buffer_may_change_after_it_was_sent() -> None:
    peer = Peer()
    buffer = bytearray(b"before")
    peer.connection.send(buffer)
    buffer[:] = b"after!"
    assert peer.sent() == [(Opcode.BINARY, b"before")]


@pytest.mark.parametrize("message", ["text", b"binary", None])
def test_send_on_a_closed_connection(message: Any) -> None:
    peer = Peer()
    peer.feed(close(4000, "bye"))
    peer.take()
    with pytest.raises(ConnectionClosed, match=r"4000 \(bye\)") as caught:
        peer.connection.send(message)
    assert (caught.value.code, caught.value.reason) == (4000, "bye")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, WSViewsError)


def test_send_after_close() -> None:
    peer = Peer()
    peer.close(4000)
    with pytest.raises(ConnectionClosed) as caught:
        peer.connection.send("late")
    assert caught.value.code == 1006
    assert caught.value.reason == "close() was called"


# -- output and backpressure -----------------------------------------------------------------------


def test_the_preface_goes_out_first() -> None:
    peer = Peer(preface=b"HTTP/1.1 101\r\n\r\n")
    assert peer.connection.send_backlog == 16
    peer.connection.send("hi")
    assert peer.written() == b"HTTP/1.1 101\r\n\r\n\x81\x02hi"


def test_there_is_no_output_at_first() -> None:
    peer = Peer()
    assert peer.connection.output() == b""
    assert peer.connection.send_backlog == 0


def test_partial_writes_lose_nothing() -> None:
    peer = Peer()
    for number in range(20):
        peer.connection.send(f"message {number}")
    connection = peer.connection
    total = connection.send_backlog
    written = b""
    for size in (0, 1, 2, 50, 0, 7, *[11] * 40):
        chunk = bytes(connection.output()[:size])
        if not chunk and size:
            break
        connection.output_written(len(chunk), peer.now)
        written += chunk
        assert connection.send_backlog == total - len(written)
    assert connection.output() == b""
    assert [bytes(frame.data).decode() for frame in frames_in(written)] == [
        f"message {number}" for number in range(20)
    ]


def test_what_is_sent_during_a_partial_write_follows_it() -> None:
    peer = Peer()
    peer.connection.send("first")
    first = bytes(peer.connection.output()[:3])
    peer.connection.output_written(3, peer.now)
    peer.connection.send("second")
    peer.feed(ping(b"p"))
    frames = frames_in(first + peer.written())
    assert [bytes(frame.data) for frame in frames] == [b"first", b"second", b"p"]


def test_small_frames_are_joined_into_one_write() -> None:
    peer = Peer()
    for _ in range(10):
        peer.connection.send("x")
    assert peer.connection.output() == b"\x81\x01x" * 10
    assert peer.connection.output() == b"\x81\x01x" * 10
    assert peer.connection.send_backlog == 30


def test_joining_ends_at_the_write_size() -> None:
    peer = Peer()
    for _ in range(10):
        peer.connection.send(b"x" * (WRITE_SIZE // 4))
    sizes = []
    while chunk := peer.connection.output():
        sizes.append(len(chunk))
        peer.connection.output_written(len(chunk), peer.now)
    frame_size = WRITE_SIZE // 4 + 4
    assert sizes == [4 * frame_size, 4 * frame_size, 2 * frame_size]


def test_a_large_frame_is_not_copied_for_joining() -> None:
    peer = Peer()
    peer.connection.send(b"x" * WRITE_SIZE)
    peer.connection.send("small")
    first = peer.connection.output()
    assert len(first) == WRITE_SIZE + 10
    assert peer.connection.output() is first


def test_reading_pauses_while_the_inbox_is_full() -> None:
    size = sys.getsizeof("0123456789")
    peer = Peer(max_receive_buffer=3 * size)
    peer.feed(text("0123456789") * 2)
    assert not peer.connection.reading_paused
    peer.feed(text("0123456789"))
    assert peer.connection.reading_paused
    assert peer.connection.next_message() == "0123456789"
    assert not peer.connection.reading_paused


def test_empty_messages_fill_the_inbox_too() -> None:
    peer = Peer(max_receive_buffer=1000)
    peer.feed(binary(b"") * 50)
    assert peer.connection.reading_paused


def test_reading_pauses_while_the_peer_does_not_read() -> None:
    peer = Peer(max_send_buffer=100)
    peer.connection.send(b"x" * 98)
    assert peer.connection.send_backlog == 100
    assert not peer.connection.reading_paused
    peer.feed(ping())
    assert peer.connection.reading_paused
    peer.written()
    assert peer.connection.send_backlog == 0
    assert not peer.connection.reading_paused


@pytest.mark.parametrize("data", [close(1000), more("orphan"), None])
def test_reading_pauses_behind_the_end(data: bytes | None) -> None:
    peer = Peer()
    peer.feed(text("untaken"))
    if data is None:
        peer.hang_up()
    else:
        peer.feed(data)
    assert peer.connection.reading_paused


def test_reading_goes_on_while_closing_and_closed() -> None:
    # To take what the peer still sends off the kernel's hands.
    peer = Peer(max_receive_buffer=1, max_send_buffer=1)
    peer.feed(text("fills the inbox"))
    peer.connection.send("fills the outbox")
    assert peer.connection.reading_paused
    peer.close()
    assert not peer.connection.reading_paused
    peer.feed(close(1000))
    assert peer.connection.state is State.CLOSED
    assert not peer.connection.reading_paused
