"""permessage-deflate (RFC 7692): compressed messages both ways."""

from __future__ import annotations

import random
import zlib

import pytest
from support.peers import (
    EURO,
    Peer,
    binary,
    deflated,
    more,
    ping,
    sent_close,
    text,
)
from websockets.extensions.permessage_deflate import (
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Opcode

from flask_wsviews.protocol.prepared import PreparedMessage


def test_compressed_messages_arrive() -> None:
    peer, client = deflated()
    client.send_text(b"compress me " * 50)
    client.send_binary(b"\x00" * 5000)
    client.send_text(b"")
    client.send_text(EURO[:1], fin=False)
    client.send_ping(b"between")
    client.send_continuation(EURO[1:], fin=True)
    data = b"".join(client.data_to_send())
    assert len(data) < 300
    peer.feed_bytes(data)
    assert peer.take() == ["compress me " * 50, b"\x00" * 5000, "", "\N{EURO SIGN}"]
    assert peer.sent() == [(Opcode.PONG, b"between")]


def test_small_messages_are_sent_as_they_are() -> None:
    peer, _ = deflated(compression_min_size=10)
    for message, first in (("x" * 9, 0x81), ("x" * 10, 0xC1)):
        peer.connection.send(message)
        assert peer.written()[0] == first
        assert peer.connection.send_prepared(PreparedMessage(message), "close", peer.now) == 0
        assert peer.written()[0] == first


def test_sent_messages_are_compressed() -> None:
    peer, client = deflated()
    peer.connection.send("compress me " * 50)
    peer.connection.send(b"\x01" * 100_000)
    peer.feed(ping(b"plain"))
    data = peer.written()
    assert len(data) < 500
    client.receive_data(data)
    assert [bytes(event.data) for event in client.events_received()] == [
        b"compress me " * 50,
        b"\x01" * 100_000,
        b"plain",
    ]


def test_a_message_need_not_be_compressed() -> None:
    peer, _ = deflated()
    peer.feed_bytes(text("plain") + text(EURO[:1], fin=False) + more(EURO[1:]))
    assert peer.take() == ["plain", "\N{EURO SIGN}"]


@pytest.mark.parametrize("fragments", [1, 4])
@pytest.mark.parametrize(("size", "code"), [(1000, None), (1004, 1009), (1_000_000, 1009)])
def test_the_limit_is_for_what_is_inflated(size: int, code: int | None, fragments: int) -> None:
    peer, client = deflated(max_message_size=1000)
    part = bytes(size // fragments)
    client.send_binary(part, fin=fragments == 1)
    for left in range(fragments - 2, -1, -1):
        client.send_continuation(part, fin=left == 0)
    peer.feed(b"".join(client.data_to_send()))
    messages = peer.take()
    assert peer.connection.close_code == code
    assert messages == ([bytes(1000)] if code is None else [])


@pytest.mark.parametrize("fragments", [1, 4])
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("limit", [100, 1000, 100_000, 1024 * 1024])
def test_what_does_not_compress_may_be_as_long_as_the_limit(
    limit: int, level: int, fragments: int
) -> None:
    for size, code in ((limit - 1, None), (limit, None), (limit + 1, 1009)):
        peer, client = deflated(max_message_size=limit)
        client.extensions[0].encoder = zlib.compressobj(level, wbits=-15)  # type: ignore[attr-defined]
        message = random.Random(limit).randbytes(size)
        step = -(-size // fragments)
        parts = [message[at : at + step] for at in range(0, size, step)]
        client.send_binary(parts[0], fin=len(parts) == 1)
        for number, part in enumerate(parts[1:], 2):
            client.send_continuation(part, fin=number == len(parts))
        data = b"".join(client.data_to_send())
        assert len(data) > size
        peer.feed(data)
        assert peer.take() == ([message] if code is None else [])
        assert peer.connection.close_code == code


@pytest.mark.parametrize("size", [1001, 1100, 100_000])
def test_a_plain_frame_that_is_too_long_is_found_by_its_head(size: int) -> None:
    peer, _ = deflated(max_message_size=1000)
    peer.feed(binary(bytes(size))[:14])
    assert peer.take() == []
    assert peer.sent_close().code == 1009


def test_text_that_is_not_utf8_when_inflated() -> None:
    peer, client = deflated()
    client.send_text(b"a" * 50 + b"\xff")
    peer.feed_bytes(b"".join(client.data_to_send()))
    assert peer.take() == []
    assert peer.sent_close().code == 1007


def test_compressed_bytes_need_not_look_like_utf8() -> None:
    peer, client = deflated()
    words = " ".join(str(number * number) for number in range(200)).encode()
    client.send_text(words[:300], fin=False)
    client.send_continuation(words[300:], fin=True)
    data = b"".join(client.data_to_send())
    with pytest.raises(UnicodeDecodeError):
        zlib.compress(words).decode()
    peer.feed_bytes(data)
    assert peer.take() == [words.decode()]


# RFC 7692 7.2.3.4: "Hello", with the last block marked as final.
FINAL_HELLO = bytes.fromhex("f348cdc9c9070000")


def test_a_final_block_ends_a_message_only() -> None:
    peer, client = deflated()
    peer.feed(text(FINAL_HELLO, rsv=4) * 2)
    peer.feed(text(FINAL_HELLO[:-1], rsv=4, fin=False) + more(b"", fin=False) + more(b"\0"))
    client.send_text(b"compressed as usual")
    peer.feed(b"".join(client.data_to_send()))
    assert peer.take() == ["Hello", "Hello", "Hello", "compressed as usual"]


def test_nothing_is_kept_behind_a_final_block() -> None:
    peer, _ = deflated()
    peer.feed(text(FINAL_HELLO[:-1], rsv=4, fin=False))
    assert peer.connection._extensions[0].decoder.unused_data == b""  # type: ignore[attr-defined]
    peer, _ = deflated()
    peer.feed(text(FINAL_HELLO + b"more", rsv=4))
    assert peer.take() == []
    assert peer.sent() == [sent_close(1002, "data after a final block")]


def test_a_final_block_of_a_client_that_keeps_no_context() -> None:
    factory = ServerPerMessageDeflateFactory()
    offer = [("client_no_context_takeover", None)]
    _, extension = factory.process_request_params(offer, [])
    peer = Peer(extensions=[extension])
    peer.feed(text(FINAL_HELLO, rsv=4) * 2 + text("plain"))
    assert peer.take() == ["Hello", "Hello", "plain"]


@pytest.mark.parametrize("data", [text(b"\xff\xff\xff", rsv=4), text("a", rsv=6), ping(rsv=4)])
def test_bad_compressed_frames(data: bytes) -> None:
    peer, _ = deflated()
    peer.feed(data)
    assert peer.take() == []
    assert peer.sent_close().code == 1002
