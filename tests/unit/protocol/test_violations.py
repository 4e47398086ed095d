"""Violations of the protocol and of limits: the close code, and what happens before it."""

from __future__ import annotations

from typing import Any

import pytest
from support.peers import (
    EURO,
    Peer,
    binary,
    close,
    close_payload,
    frame,
    more,
    ping,
    pong,
    sent_close,
    sent_text,
    text,
)
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode

from flask_wsviews.protocol.state import State

VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "orphan continuation": (more("a"), 1002),
    "orphan continuation, not the last": (more("a", fin=False), 1002),
    "text inside a fragmented text": (text("a", fin=False) + text("b"), 1002),
    "binary inside a fragmented text": (text("a", fin=False) + binary(b"b"), 1002),
    "fragment inside a fragmented binary": (
        binary(b"a", fin=False) + binary(b"b", fin=False),
        1002,
    ),
    "unmasked text": (text("a", masked=False), 1002),
    "unmasked ping": (ping(b"a", masked=False), 1002),
    "unmasked, in a message": (text("a", fin=False) + more("b", masked=False), 1002),
    **{f"reserved opcode {code}": (frame(code), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 15)},
    **{f"reserved bits {bits:03b}": (text("a", rsv=bits), 1002) for bits in range(1, 8)},
    "reserved bit of a ping": (ping(rsv=4), 1002),
    "reserved bit of a continuation": (text("a", fin=False) + more("b", rsv=1), 1002),
    "ping of 126 bytes": (ping(b"x" * 126), 1002),
    "pong of 126 bytes": (pong(b"x" * 126), 1002),
    "close frame of 126 bytes": (close(1000, "x" * 124), 1002),
    "ping that announces 64 KiB": (ping(announced=65536), 1002),
    "ping that announces 2**63": (ping(announced=2**63), 1002),
    "fragmented ping": (ping(b"a", fin=False), 1002),
    "fragmented pong": (pong(fin=False), 1002),
    "fragmented close frame": (frame(Opcode.CLOSE, close_payload(1000), fin=False), 1002),
    "close frame of one byte": (frame(Opcode.CLOSE, b"\x03"), 1002),
    **{
        f"close code {code}": (close(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "reason that isn't UTF-8": (close(1000, b"\xff"), 1007),
    "reason cut inside a character": (close(1000, EURO[:2]), 1007),
    "text that isn't UTF-8": (text(b"a\xffb"), 1007),
    "text cut inside a character": (text(EURO[:2]), 1007),
    "surrogate": (text(b"\xed\xa0\x80"), 1007),
    "overlong": (text(b"\xc0\xaf"), 1007),
    "beyond Unicode": (text(b"\xf4\x90\x80\x80"), 1007),
    "invalid across fragments": (text(EURO[:1], fin=False) + more("a"), 1007),
    "fragmented text cut inside a character": (text("a", fin=False) + more(EURO[:1]), 1007),
    "empty end inside a character": (text(EURO[:1], fin=False) + more(""), 1007),
    "first fragment isn't UTF-8": (text(b"\xff", fin=False), 1007),
    "middle fragment isn't UTF-8": (text("a", fin=False) + more(b"\xff", fin=False), 1007),
    "frame larger than the limit": (binary(b"x" * 1001), 1009),
    "frame that announces more": (binary(b"", announced=1001), 1009),
    "frame that announces 2**63": (binary(b"", announced=2**63), 1009),
    "fragments larger than the limit": (text("x" * 600, fin=False) + more("x" * 401), 1009),
    "fragment that announces more than is left": (
        binary(b"x" * 600, fin=False) + more(b"", announced=401),
        1009,
    ),
    "fragments a byte larger": (binary(b"x" * 1000, fin=False) + more(b"x"), 1009),
    "too many fragments": (text("a", fin=False) + more("b", fin=False) * 7 + more("c"), 1009),
    "too many empty fragments": (text("", fin=False) + more("", fin=False) * 8, 1009),
}
LIMITS = {"max_message_size": 1000, "max_fragments": 8}

violations = pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS)


@violations
def test_a_violation_ends_the_connection_with_its_code(data: bytes, code: int) -> None:
    peer = Peer(**LIMITS)
    peer.feed(data + text("ignored"), text("ignored"))
    assert peer.take() == []
    sent = peer.sent_close()
    assert sent.code == code
    assert sent.reason
    connection = peer.connection
    assert connection.state is State.CLOSED
    assert (connection.close_code, connection.close_reason) == (code, sent.reason)
    assert not connection.aborted
    assert connection.next_deadline is None


@violations
def test_a_violation_is_found_byte_by_byte(data: bytes, code: int) -> None:
    peer = Peer(**LIMITS)
    peer.feed_bytes(data)
    assert peer.take() == []
    assert peer.sent_close().code == code


@violations
def test_messages_ahead_of_a_violation_are_delivered(data: bytes, code: int) -> None:
    peer = Peer(**LIMITS)
    peer.feed(text("one") + text("tw", fin=False) + more("o") + data)
    assert peer.sent() == []
    for message in ("one", "two"):
        assert peer.connection.state is State.OPEN
        assert peer.connection.next_message() == message
        peer.connection.send(f"re: {message}")
    assert peer.connection.next_message() is None
    *replies, (opcode, payload) = peer.sent()
    assert replies == [sent_text("re: one"), sent_text("re: two")]
    assert opcode is Opcode.CLOSE
    assert Close.parse(payload).code == code


def test_a_long_explanation_fits_into_the_close_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: Any) -> None:
        raise ProtocolError("é" * 200)

    monkeypatch.setattr(Frame, "check", check)
    peer = Peer()
    peer.feed(ping())
    monkeypatch.undo()
    assert peer.take() == []
    assert peer.sent_close().reason == "é" * 61


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (binary(b"", announced=1001), "a message has more than 1000 bytes"),
        (binary(b"x" * 999, fin=False) + more(b"xx"), "a message has more than 1000 bytes"),
        (text("", fin=False) + more("", fin=False) * 8, "a message has more than 8 fragments"),
    ],
)
def test_the_close_frame_names_the_limit(data: bytes, reason: str) -> None:
    peer = Peer(**LIMITS)
    peer.feed(data)
    peer.take()
    assert peer.sent() == [sent_close(1009, reason)]


@pytest.mark.parametrize("data", [data for data, code in VIOLATIONS.values() if code != 1009])
def test_a_violation_while_closing_ends_it_without_a_second_close_frame(data: bytes) -> None:
    peer = Peer()
    peer.close(4000)
    assert peer.sent() == [sent_close(4000)]
    peer.feed(data)
    assert peer.connection.state is State.CLOSED
    assert (peer.connection.close_code, peer.connection.close_reason) == (1006, "")
    assert peer.sent() == []
