"""The connection by its bytes: what comes in, what goes out, and when."""

from __future__ import annotations

import importlib.util
import random
import sys
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import websockets.utils
from hypothesis import given
from hypothesis import strategies as st
from support.peers import (
    Peer,
    binary,
    bounded,
    close,
    close_payload,
    frame,
    frames_in,
    more,
    ping,
    pong,
    sent_close,
    sent_text,
    text,
)
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side
from websockets.protocol import State as ProtocolState

import flask_wsviews
from flask_wsviews.exceptions import ConnectionClosed, WSViewsError
from flask_wsviews.protocol.connection import CLOSE_GRACE
from flask_wsviews.protocol.prepared import PreparedMessage
from flask_wsviews.protocol.queues import WRITE_SIZE
from flask_wsviews.protocol.state import State

EURO = "\N{EURO SIGN}".encode()  # three bytes
GRIN = "\N{GRINNING FACE}".encode()  # four bytes


# -- messages -----------------------------------------------------------------------------------

STREAMS = {
    "text": (text("héllo"), ["héllo"]),
    "binary": (binary(b"\x00\xff\x80"), [b"\x00\xff\x80"]),
    "empty text": (text(""), [""]),
    "empty binary": (binary(b""), [b""]),
    "longest short length": (binary(b"x" * 125), [b"x" * 125]),
    "shortest 16-bit length": (text("x" * 126), ["x" * 126]),
    "longest 16-bit length": (binary(b"x" * 65535), [b"x" * 65535]),
    "shortest 64-bit length": (text("x" * 65536), ["x" * 65536]),
    "several": (text("a") + binary(b"b") + text("c"), ["a", b"b", "c"]),
    "text fragments": (text("Hel", fin=False) + more("l", fin=False) + more("o"), ["Hello"]),
    "binary fragments": (binary(b"\xff", fin=False) + more(b"\xfe"), [b"\xff\xfe"]),
    "empty text fragments": (text("", fin=False) + more("", fin=False) + more(""), [""]),
    "empty binary fragments": (binary(b"", fin=False) + more(b""), [b""]),
    "last fragment empty": (text("a", fin=False) + more("") + text("b"), ["a", "b"]),
    "first fragment empty": (text("", fin=False) + more("a") + text("b"), ["a", "b"]),
    "control frames between fragments": (
        text("a", fin=False) + ping(b"p") + more("b", fin=False) + pong() + more("c"),
        ["abc"],
    ),
    "three bytes, split 1 + 2": (text(EURO[:1], fin=False) + more(EURO[1:]), ["\N{EURO SIGN}"]),
    "three bytes, split 2 + 1": (text(EURO[:2], fin=False) + more(EURO[2:]), ["\N{EURO SIGN}"]),
    "four bytes, one by one": (
        text(GRIN[:1], fin=False)
        + more(GRIN[1:2], fin=False)
        + more(GRIN[2:3], fin=False)
        + more(GRIN[3:]),
        ["\N{GRINNING FACE}"],
    ),
    "split by a control frame": (
        text(b"a" + GRIN[:2], fin=False) + ping() + more(GRIN[2:] + b"z"),
        ["a\N{GRINNING FACE}z"],
    ),
    "highest characters": (text("\x7f\u07ff\uffff\U0010ffff"), ["\x7f\u07ff\uffff\U0010ffff"]),
    "message after a fragmented one": (
        text(EURO[:1], fin=False) + more(EURO[1:]) + text("plain") + binary(b"\xe2"),
        ["\N{EURO SIGN}", "plain", b"\xe2"],
    ),
}


@pytest.mark.parametrize("size", [None, 1, 2, 3, 7], ids=lambda size: f"reads of {size}")
@pytest.mark.parametrize(("data", "messages"), STREAMS.values(), ids=STREAMS)
def test_messages_arrive_whole_however_they_are_read(
    data: bytes, messages: list[str | bytes], size: int | None
) -> None:
    peer = Peer()
    if size is not None and len(data) > 1000:
        size *= 1000
    step = size or len(data)
    peer.feed(*(data[i : i + step] for i in range(0, len(data), step)))
    assert peer.take() == messages
    assert peer.connection.state is State.OPEN
    assert peer.connection.close_code is None
    assert peer.connection.close_reason is None


def test_messages_of_two_connections_keep_apart() -> None:
    one, two = Peer(), Peer()
    one.feed(text(b"one " + EURO[:1], fin=False))
    two.feed(text(b"two " + GRIN[:3], fin=False))
    one.feed(more(EURO[1:2], fin=False))
    two.feed(more(GRIN[3:], fin=False))
    one.feed(more(EURO[2:]))
    two.feed(more("."))
    assert one.take() == ["one \N{EURO SIGN}"]
    assert two.take() == ["two \N{GRINNING FACE}."]


def test_a_message_after_a_fragmented_empty_one_begins_anew() -> None:
    peer = Peer()
    peer.feed(text("", fin=False) + more("") + more("orphan"))
    assert peer.take() == [""]
    assert peer.connection.close_code == 1002


def test_the_compiled_part_of_websockets_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    # The source, even where a compiled module lies beside it.
    source = Path(flask_wsviews.__file__).parent / "protocol" / "frames.py"
    spec = importlib.util.spec_from_file_location("flask_wsviews.protocol.frames", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.apply_mask is websockets.utils.apply_mask
    buffer = bytearray(text(b"a" + GRIN))
    assert module.take_header(buffer).unmask(buffer) == b"a" + GRIN


def test_when_there_is_nothing_but_messages() -> None:
    peer = Peer(max_receive_buffer=100)
    assert peer.connection.has_only_messages
    peer.feed(text("a"))
    assert peer.connection.has_only_messages
    peer.feed(text("x" * 100))
    assert not peer.connection.has_only_messages
    peer.take()
    assert peer.connection.has_only_messages
    peer.feed(ping())
    assert not peer.connection.has_only_messages
    peer.sent()
    peer.feed(close(1000))
    assert not peer.connection.has_only_messages


def test_nothing_is_there_before_a_message_is_complete() -> None:
    peer = Peer()
    assert not peer.connection.has_news
    peer.feed(text("a", fin=False))
    assert peer.connection.next_message() is None
    assert not peer.connection.has_news
    peer.feed(more("b"))
    assert peer.connection.has_news
    assert peer.connection.next_message() == "ab"
    assert not peer.connection.has_news


def test_a_message_is_what_its_type_says() -> None:
    peer = Peer()
    peer.feed(binary(b"a", fin=False) + ping() + more(b"b") + text("c"))
    assert [type(message) for message in peer.take()] == [bytes, str]


# -- violations ---------------------------------------------------------------------------------

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


# -- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        binary(b"x" * 1000),
        binary(b"x" * 999, fin=False) + more(b"x"),
        binary(b"x" * 1000, fin=False) + more(b""),
        binary(b"", fin=False) + more(b"x" * 1000),
    ],
)
def test_a_message_may_be_as_large_as_the_limit(data: bytes) -> None:
    peer = Peer(max_message_size=1000)
    peer.feed(data, data)
    assert peer.take() == [b"x" * 1000] * 2
    assert peer.connection.state is State.OPEN


def test_a_message_may_have_as_many_fragments_as_the_limit() -> None:
    data = text("a", fin=False) + more("b", fin=False) * 6 + more("c")
    peer = Peer(max_fragments=8)
    peer.feed(data, data)
    assert peer.take() == ["abbbbbbc"] * 2
    assert peer.connection.state is State.OPEN


@pytest.mark.parametrize("limit", [2, 50, 1000])
def test_a_control_frame_does_not_count_for_the_limits(limit: int) -> None:
    peer = Peer(max_message_size=limit, max_fragments=2)
    longest = b"p" * 125
    peer.feed(binary(b"x" * (limit - 1), fin=False) + ping(longest) * 3 + pong(longest))
    peer.feed(more(b"y"))
    assert peer.take() == [b"x" * (limit - 1) + b"y"]
    assert peer.sent() == [(Opcode.PONG, longest)] * 3


@pytest.mark.parametrize(("limit", "size"), [(1, 2), (10, 125), (100, 101)])
def test_a_limit_below_the_longest_control_frame_is_kept(limit: int, size: int) -> None:
    peer = Peer(max_message_size=limit)
    peer.feed(text("x" * size))
    assert peer.take() == []
    assert peer.connection.close_code == 1009


def test_without_a_limit_any_size_passes() -> None:
    peer = Peer(max_message_size=None)
    size = 1024 * 1024 + 1
    peer.feed(frame(Opcode.BINARY, bytes(size), fin=False) + more(b"\x01"))
    [message] = peer.take()
    assert message == bytes(size) + b"\x01"


def test_without_a_limit_an_announced_size_is_waited_for() -> None:
    peer = Peer(max_message_size=None)
    peer.feed(text("some", announced=2**40))
    assert peer.take() == []
    assert peer.connection.state is State.OPEN


# -- UTF-8 in frames that aren't complete ---------------------------------------------------------

# What can't become UTF-8 any more, and after how many bytes that is certain.
HOPELESS = [
    (b"\x80", 1),
    (b"\xff", 1),
    (b"\xc0\xaf", 1),
    (b"\xf5\x80", 1),
    (b"\xc3(", 2),
    (b"\xe0\x80\x80", 2),
    (b"\xe2\x82(", 3),
    (b"\xed\xa0\x80", 3),  # Python's decoder waits for the whole surrogate
    (b"\xf0\x9f\x98(", 4),
    (b"\xf4\x90\x80\x80", 2),
]
HEADERS = {
    "text": lambda payload, announced: text(payload, announced=announced),
    "fragment": lambda payload, announced: text(payload, announced=announced, fin=False),
    "continuation": lambda payload, announced: (
        text(b"ok" + EURO[:1], fin=False) + more(EURO[1:] + payload, announced=announced)
    ),
}


@pytest.mark.parametrize("announced", [100, 1000, 70000], ids=lambda size: f"of {size}")
@pytest.mark.parametrize("head", HEADERS)
@pytest.mark.parametrize(("hopeless", "certain_after"), HOPELESS)
def test_invalid_text_is_found_at_once(
    hopeless: bytes, certain_after: int, head: str, announced: int
) -> None:
    valid = b"valid" + GRIN
    data = HEADERS[head](valid + hopeless, announced)
    at = len(data) - len(hopeless) + certain_after
    peer = Peer()
    peer.feed_bytes(data[: at - 1])
    assert not peer.connection.has_news
    peer.feed(data[at - 1 : at])
    assert peer.connection.has_news
    assert peer.take() == []
    assert peer.sent_close().code == 1007


@pytest.mark.parametrize("cut", range(1, 12))
def test_text_is_checked_once_however_it_is_cut(cut: int) -> None:
    payload = EURO + GRIN + b"abc" + EURO
    peer = Peer()
    data = text(payload)
    peer.feed(data[: 6 + cut], data[6 + cut :])
    assert peer.take() == [payload.decode()]


@pytest.mark.parametrize(
    "data",
    [
        binary(b"\xff\xff", announced=3),
        binary(b"\xff", fin=False) + more(b"\xff", announced=3),
        ping(b"\xff\xff", announced=3),
        text("a", fin=False) + ping(b"\xff", announced=3),
        text(b"\xff", announced=3, rsv=4),
    ],
    ids=["binary", "continued binary", "ping", "ping in a text", "reserved bit"],
)
def test_only_text_has_to_be_utf8(data: bytes) -> None:
    peer = Peer()
    peer.feed_bytes(data)
    assert not peer.connection.has_news


def test_text_is_checked_behind_a_control_frame() -> None:
    peer = Peer()
    peer.feed_bytes(text(b"a" + EURO[:1], fin=False) + ping(b"\xff"))
    assert not peer.connection.has_news
    peer.feed_bytes(more(b"a", announced=9))
    assert peer.take() == []
    assert peer.sent()[-1] == sent_close(1007, "the text is not UTF-8")


# -- the peer closes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, ""),
        (1001, "going away"),
        (1002, ""),
        (1003, ""),
        (1007, ""),
        (1011, ""),
        (1014, ""),
        (3000, "registered"),
        (4999, "x" * 123),
        (4000, "\N{GRINNING FACE}"),
    ],
)
def test_a_close_frame_is_answered(code: int, reason: str) -> None:
    peer = Peer()
    peer.feed(close(code, reason))
    connection = peer.connection
    assert connection.has_news
    assert connection.state is State.OPEN
    assert connection.close_code is None
    assert connection.close_reason is None
    assert peer.take() == []
    assert connection.state is State.CLOSED
    assert (connection.close_code, connection.close_reason) == (code, reason)
    sent = peer.sent_close()
    assert sent.code == code
    assert connection.has_news


def test_an_empty_close_frame_is_answered_by_an_empty_one() -> None:
    peer = Peer()
    peer.feed(close())
    peer.take()
    assert peer.sent() == [sent_close()]
    assert peer.connection.close_code == 1005
    assert peer.connection.close_reason == ""


def test_messages_ahead_of_a_close_frame_are_delivered_and_answered() -> None:
    peer = Peer()
    peer.feed(text("one") + text("two") + close(4000, "done") + text("three"), text("four"))
    assert peer.sent() == []
    for message in peer.messages():
        peer.connection.send(f"re: {message}")
    assert peer.sent() == [
        sent_text("re: one"),
        sent_text("re: two"),
        sent_close(4000, "done"),
    ]
    assert peer.connection.next_message() is None


def test_a_close_frame_in_the_middle_of_a_message_drops_it() -> None:
    peer = Peer()
    peer.feed(text("half", fin=False) + close(1001))
    assert peer.take() == []
    assert peer.connection.close_code == 1001


def test_nothing_is_sent_after_the_close_frame() -> None:
    peer = Peer()
    peer.feed(close(1000))
    peer.take()
    with pytest.raises(ConnectionClosed):
        peer.connection.send("late")
    peer.close(4000)
    peer.feed(ping(b"late"))
    peer.hang_up()
    peer.sleep(100)
    assert peer.sent() == [sent_close(1000)]
    assert peer.connection.close_code == 1000


def test_a_busy_hook_has_a_moment_to_answer_before_the_close_frame() -> None:
    peer = Peer()
    peer.feed(text("one") + text("two") + close(1000))
    assert peer.connection.next_message() == "one"
    assert peer.connection.next_deadline == peer.now + CLOSE_GRACE
    peer.sleep(CLOSE_GRACE / 2)
    assert peer.connection.state is State.OPEN
    peer.connection.send("in time")
    assert peer.sent() == [sent_text("in time")]
    peer.sleep(CLOSE_GRACE / 2)
    assert peer.connection.state is State.CLOSED
    assert peer.connection.next_deadline is None
    assert peer.connection.close_code == 1000
    assert peer.sent() == [sent_close(1000)]
    with pytest.raises(ConnectionClosed):
        peer.connection.send("too late")
    assert peer.take() == ["two"]
    assert peer.sent() == []


def test_a_violation_has_the_same_grace() -> None:
    peer = Peer()
    peer.feed(text("one") + more("orphan"))
    peer.sleep(CLOSE_GRACE)
    assert peer.connection.close_code == 1002
    assert peer.sent_close().code == 1002
    assert peer.take() == ["one"]


@pytest.mark.parametrize(
    ("interval", "pinged"), [(0.25, False), (0.25, True), (100, False), (None, False)]
)
def test_a_peer_that_has_closed_is_not_pinged(interval: float | None, pinged: bool) -> None:
    peer = Peer(ping_interval=interval, ping_timeout=0.25)
    if pinged:
        peer.sleep(0.25)
        assert peer.sent() == [(Opcode.PING, b"")]
    peer.feed(text("one") + close(4000))
    assert peer.connection.next_deadline == peer.now + CLOSE_GRACE
    for _ in range(7):
        peer.sleep(CLOSE_GRACE / 8)
    assert peer.sent() == []
    assert peer.connection.state is State.OPEN
    peer.sleep(CLOSE_GRACE / 8)
    assert peer.connection.close_code == 4000
    assert not peer.connection.aborted


# -- we close -----------------------------------------------------------------------------------


def test_close_starts_the_closing_handshake() -> None:
    peer = Peer(close_timeout=5)
    peer.close(4000, "enough")
    connection = peer.connection
    assert connection.state is State.CLOSING
    assert connection.close_code is None
    assert connection.close_reason is None
    assert connection.next_deadline == peer.now + 5
    assert peer.sent() == [sent_close(4000, "enough")]
    peer.feed(close(4000, "enough"))
    assert connection.state is State.CLOSED
    assert (connection.close_code, connection.close_reason) == (4000, "enough")
    assert connection.next_deadline is None
    assert connection.next_message() is None
    assert peer.sent() == []


def test_what_the_peer_answers_is_how_it_ended() -> None:
    peer = Peer()
    peer.close(1001)
    peer.feed(close(4001, "me too"))
    assert (peer.connection.close_code, peer.connection.close_reason) == (4001, "me too")


def test_an_empty_answer_is_1005() -> None:
    peer = Peer()
    peer.close()
    peer.feed(close())
    assert peer.connection.close_code == 1005


def test_nothing_is_delivered_after_close() -> None:
    peer = Peer()
    peer.feed(text("waiting"))
    peer.close()
    assert peer.sent() == [sent_close(1000)]
    assert not peer.connection.has_news
    peer.feed(text("late") + binary(b"late") + ping(b"late"))
    assert peer.take() == []
    assert peer.sent() == []
    assert peer.connection.state is State.CLOSING
    peer.feed(close(1000) + text("later"))
    assert peer.take() == []


def test_a_message_under_way_at_close_is_dropped() -> None:
    peer = Peer(max_message_size=10)
    peer.feed(text("half", fin=False))
    peer.close()
    peer.feed(more("whole") + text("another") + close(1000))
    assert peer.take() == []
    assert peer.connection.close_code == 1000


def test_close_twice_sends_one_close_frame() -> None:
    peer = Peer()
    peer.close(4000)
    deadline = peer.connection.next_deadline
    peer.now += 1
    peer.close(4001)
    assert peer.sent() == [sent_close(4000)]
    assert peer.connection.next_deadline == deadline


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        *((code, "") for code in (999, 1004, 1005, 1006, 1015, 2999, 5000)),
        (1000, "x" * 124),
        (1000, "é" * 62),
    ],
)
def test_close_refuses_what_a_close_frame_can_not_hold(code: int, reason: str) -> None:
    peer = Peer()
    with pytest.raises(ValueError, match="close"):
        peer.close(code, reason)
    assert peer.connection.state is State.OPEN
    assert peer.sent() == []


@pytest.mark.parametrize("data", [data for data, code in VIOLATIONS.values() if code != 1009])
def test_a_violation_while_closing_ends_it_without_a_second_close_frame(data: bytes) -> None:
    peer = Peer()
    peer.close(4000)
    assert peer.sent() == [sent_close(4000)]
    peer.feed(data)
    assert peer.connection.state is State.CLOSED
    assert (peer.connection.close_code, peer.connection.close_reason) == (1006, "")
    assert peer.sent() == []


def test_an_eof_while_closing_is_1006() -> None:
    peer = Peer()
    peer.close(4000)
    peer.hang_up()
    assert peer.connection.state is State.CLOSED
    assert peer.connection.close_code == 1006
    assert peer.sent() == [sent_close(4000)]


def test_the_closing_handshake_has_a_timeout() -> None:
    peer = Peer(close_timeout=5)
    peer.close()
    peer.feed(text("chatter"))
    peer.sleep(4.9)
    assert peer.connection.state is State.CLOSING
    assert not peer.connection.aborted
    peer.sleep(0.1)
    assert peer.connection.state is State.CLOSED
    assert peer.connection.aborted
    assert peer.connection.close_code == 1006


def test_no_ping_goes_out_while_closing() -> None:
    peer = Peer(ping_interval=1, close_timeout=5)
    peer.close()
    assert peer.sent() == [sent_close(1000)]
    peer.sleep(3)
    assert peer.sent() == []


@pytest.mark.parametrize(
    ("data", "code"), [(close(4000, "first"), 4000), (close(), 1005), (more("orphan"), 1002)]
)
def test_close_after_the_peer_has_ended_it_finishes_the_peers_way(data: bytes, code: int) -> None:
    peer = Peer()
    peer.feed(text("untaken") + data)
    peer.close(1001)
    assert peer.connection.state is State.CLOSED
    assert peer.connection.close_code == code
    assert peer.sent_close().code == code
    assert peer.take() == []


def test_close_after_an_eof_sends_nothing() -> None:
    peer = Peer()
    peer.feed(text("untaken"))
    peer.hang_up()
    peer.close(1001)
    assert peer.connection.state is State.CLOSED
    assert peer.connection.close_code == 1006
    assert peer.sent() == []
    assert peer.take() == []


# -- the end without a close frame --------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", b"\x81", text("x")[:-1], text("half", fin=False)])
def test_an_eof_without_a_close_frame_is_1006(rest: bytes) -> None:
    peer = Peer()
    peer.feed(rest)
    peer.hang_up()
    connection = peer.connection
    assert connection.state is State.CLOSED
    assert (connection.close_code, connection.close_reason) == (1006, "")
    assert not connection.aborted
    assert connection.has_news
    assert peer.take() == []
    assert peer.sent() == []


def test_messages_ahead_of_an_eof_are_delivered_first() -> None:
    peer = Peer()
    peer.feed(text("one") + text("two"))
    peer.hang_up()
    peer.feed(text("from nowhere"))
    assert peer.connection.next_message() == "one"
    assert peer.connection.close_code is None
    peer.connection.send("half-open")
    assert peer.take() == ["two"]
    assert peer.connection.close_code == 1006
    assert peer.sent() == [sent_text("half-open")]


def test_an_eof_after_a_close_frame_changes_nothing() -> None:
    peer = Peer()
    peer.feed(close(4000))
    peer.hang_up()
    peer.take()
    assert peer.connection.close_code == 4000
    assert peer.sent() == [sent_close(4000)]


def test_abort_drops_what_was_to_be_written() -> None:
    peer = Peer()
    peer.connection.send("unwritten")
    peer.connection.abort()
    connection = peer.connection
    assert connection.state is State.CLOSED
    assert connection.aborted
    assert connection.send_backlog == 0
    assert connection.output() == b""
    assert (connection.close_code, connection.close_reason) == (1006, "")
    assert connection.next_deadline is None
    with pytest.raises(ConnectionClosed):
        connection.send("late")


def test_messages_that_arrived_before_an_abort_can_be_taken() -> None:
    peer = Peer()
    peer.feed(text("one"))
    peer.connection.abort()
    peer.feed(text("two"))
    assert peer.take() == ["one"]


@pytest.mark.parametrize(
    ("data", "code"), [(close(4000, "bye"), 4000), (more("orphan"), 1002), (None, 1006)]
)
def test_abort_knows_how_the_peer_had_ended_it(data: bytes | None, code: int) -> None:
    peer = Peer()
    peer.feed(text("one"))
    if data is None:
        peer.hang_up()
    else:
        peer.feed(data)
    peer.connection.abort()
    assert peer.connection.close_code == code
    assert peer.take() == ["one"]
    assert peer.sent() == []


def test_abort_of_a_closed_connection_keeps_its_code() -> None:
    peer = Peer()
    peer.feed(close(4000))
    peer.take()
    peer.connection.abort()
    assert peer.connection.close_code == 4000
    assert peer.sent() == []


# -- Ping and Pong ------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"hello", b"\xff\x00", b"x" * 125])
def test_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    peer = Peer()
    peer.feed(ping(payload))
    assert peer.take() == []
    assert peer.sent() == [(Opcode.PONG, payload)]


def test_each_ping_is_answered_in_turn() -> None:
    peer = Peer()
    peer.feed(ping(b"1") + text("a") + ping(b"2") + ping(b"3"))
    assert peer.sent() == [(Opcode.PONG, b"1"), (Opcode.PONG, b"2"), (Opcode.PONG, b"3")]


@pytest.mark.parametrize("payload", [b"", b"unsolicited"])
def test_a_pong_is_ignored(payload: bytes) -> None:
    peer = Peer()
    peer.feed(pong(payload))
    assert peer.take() == []
    assert peer.sent() == []
    assert peer.connection.state is State.OPEN


# -- keepalive ----------------------------------------------------------------------------------

KEEPALIVE = {"ping_interval": 25.0, "ping_timeout": 20.0}


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    peer = Peer(**KEEPALIVE)
    start = peer.now
    assert peer.connection.next_deadline == start + 25
    peer.sleep(24.9)
    assert peer.sent() == []
    peer.now = start + 25
    peer.sleep(0)
    assert peer.sent() == [(Opcode.PING, b"")]
    assert peer.connection.awaits_pong
    assert peer.connection.next_deadline == start + 45
    peer.sleep(0)
    peer.sleep(19.9)
    assert peer.sent() == []
    assert peer.connection.state is State.OPEN
    peer.now = start + 45
    peer.sleep(0)
    connection = peer.connection
    assert connection.state is State.CLOSED
    assert connection.aborted
    assert (connection.close_code, connection.close_reason) == (1006, "")
    assert peer.sent() == [sent_close(1011, "no answer to a Ping")]
    assert connection.next_deadline is None


@pytest.mark.parametrize("answer", [pong(), ping(b"x"), text("hi"), b"\x81"])
def test_any_byte_is_a_sign_of_life(answer: bytes) -> None:
    peer = Peer(**KEEPALIVE)
    peer.sleep(25)
    peer.sleep(10)
    peer.feed(answer)
    assert not peer.connection.awaits_pong
    assert peer.connection.next_deadline == peer.now + 25
    peer.written()
    peer.sleep(24.9)
    assert peer.sent() == []
    peer.sleep(0.1)
    assert peer.sent() == [(Opcode.PING, b"")]


def test_a_peer_that_talks_is_not_pinged() -> None:
    peer = Peer(**KEEPALIVE)
    for _ in range(10):
        peer.sleep(20)
        peer.feed(text("hi"))
    peer.take()
    assert peer.sent() == []


def test_without_an_interval_nobody_is_pinged() -> None:
    peer = Peer(ping_interval=None)
    assert peer.connection.next_deadline is None
    peer.sleep(1_000_000)
    assert peer.sent() == []
    assert peer.connection.state is State.OPEN


def test_what_is_written_at_once_is_no_sign_of_life() -> None:
    peer = Peer(**KEEPALIVE)
    deadline = peer.connection.next_deadline
    peer.now += 10
    peer.connection.send("hello")
    assert peer.sent() == [sent_text("hello")]
    assert peer.connection.next_deadline == deadline


def test_progress_of_a_stalled_write_is_a_sign_of_life() -> None:
    peer = Peer(**KEEPALIVE)
    peer.connection.send(b"x" * 1000)
    peer.connection.output()
    peer.connection.output_written(400, peer.now)
    peer.sleep(25)
    assert peer.connection.next_deadline == peer.now + 20
    peer.now += 19
    peer.connection.output()
    peer.connection.output_written(1, peer.now)
    assert peer.connection.next_deadline == peer.now + 25


def test_a_write_that_stays_stalled_is_no_sign_of_life() -> None:
    peer = Peer(**KEEPALIVE)
    peer.connection.send(b"x" * 1000)
    peer.connection.output()
    peer.connection.output_written(0, peer.now)
    peer.sleep(25)
    deadline = peer.connection.next_deadline
    peer.now += 19
    peer.connection.output()
    peer.connection.output_written(0, peer.now)
    assert peer.connection.next_deadline == deadline
    peer.sleep(1)
    assert peer.connection.aborted
    assert peer.connection.close_code == 1006
    # A close frame would land in the middle of the message.
    assert [opcode for opcode, _ in peer.sent()] == [Opcode.BINARY, Opcode.PING]


def test_nobody_is_given_up_while_a_hook_lags_behind() -> None:
    peer = Peer(**KEEPALIVE, max_receive_buffer=1)
    peer.feed(text("unhandled"))
    peer.sleep(25)
    assert peer.sent() == [(Opcode.PING, b"")]
    for _ in range(3):
        peer.sleep(20)
        assert peer.connection.state is State.OPEN
        assert peer.connection.next_deadline == peer.now + 20
    assert peer.take() == ["unhandled"]
    assert peer.sent() == []
    peer.sleep(20)
    assert peer.connection.aborted


# -- sending ------------------------------------------------------------------------------------


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


# -- output and backpressure --------------------------------------------------------------------


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


# -- permessage-deflate -------------------------------------------------------------------------


def deflated(**settings: Any) -> tuple[Peer, Protocol]:
    """A connection with compression, and a client that has negotiated the same."""
    client_factory = ClientPerMessageDeflateFactory()
    offer = client_factory.get_request_params()
    answer, server_side = ServerPerMessageDeflateFactory().process_request_params(offer, [])
    client = websockets_client()
    client.extensions = [client_factory.process_response_params(answer, [])]
    return Peer(extensions=[server_side], **settings), client


def websockets_client() -> Protocol:
    return Protocol(Side.CLIENT, state=ProtocolState.OPEN, max_size=None)


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


# -- properties ---------------------------------------------------------------------------------

payloads = st.one_of(
    st.text(max_size=40).map(lambda message: (Opcode.TEXT, message.encode())),
    st.binary(max_size=40).map(lambda message: (Opcode.BINARY, message)),
    st.integers(120, 300).map(lambda size: (Opcode.TEXT, b"x" * size)),
)
control_frames = st.one_of(st.builds(ping, st.binary(max_size=9)), st.builds(pong))
endings = st.sampled_from(
    [b"", close(), close(4000, "bye"), more("orphan"), text(b"a\xff"), binary(b"", announced=9999)]
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[str | bytes]]:
    """What a client may send, and the messages that it means."""
    data, messages = b"", []
    for opcode, payload in draw(st.lists(payloads, max_size=4)):
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        spans = list(pairwise([0, *cuts, len(payload)]))
        for index, (start, stop) in enumerate(spans):
            if draw(st.booleans()):
                data += draw(control_frames)
            data += frame(
                Opcode.CONT if index else opcode,
                payload[start:stop],
                fin=index == len(spans) - 1,
            )
        messages.append(payload.decode() if opcode is Opcode.TEXT else payload)
    return data + draw(endings), messages


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts})
    return [data[start:stop] for start, stop in pairwise([0, *ends, len(data)])]


@bounded
@given(streams(), st.lists(st.integers(0, 600), max_size=30))
def test_a_stream_means_the_same_however_it_is_split(
    stream: tuple[bytes, list[str | bytes]], cuts: list[int]
) -> None:
    data, messages = stream
    whole, split, bytewise = (Peer(max_message_size=1000) for _ in range(3))
    whole.feed(data)
    assert whole.take() == messages
    sent = whole.sent()
    taken = []
    for chunk in chunked(data, cuts):
        split.feed(chunk)
        taken += split.take()
    assert taken == messages
    assert split.sent() == sent
    bytewise.feed_bytes(data)
    assert bytewise.take() == messages
    assert bytewise.sent() == sent
    outcomes = [(p.connection.state, p.connection.close_code) for p in (whole, split, bytewise)]
    assert outcomes == outcomes[:1] * 3


anything = st.one_of(
    st.binary(max_size=30),
    st.builds(
        frame,
        st.integers(0, 15),
        st.binary(max_size=30),
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 0, 1, 2, 4, 7]),
        masked=st.sampled_from([True, True, True, False]),
        announced=st.sampled_from([None, None, None, 0, 20, 126, 5000, 2**64 - 1]),
    ),
    st.sampled_from([text("ok"), text("a", fin=False), more("b"), ping(), close(1000)]),
)


@bounded
@given(st.lists(anything, max_size=12), st.booleans(), st.booleans())
def test_no_garbage_does_harm(chunks: list[bytes], compressed: bool, closing: bool) -> None:
    peer = deflated(max_message_size=500)[0] if compressed else Peer(max_message_size=500)
    for index, chunk in enumerate(chunks):
        if closing and index == len(chunks) // 2:
            peer.close(4000)
        peer.feed(chunk)
        for message in peer.messages():
            assert len(message) <= 500
    peer.hang_up()
    peer.take()
    assert peer.connection.state is State.CLOSED
    assert peer.connection.close_code in {1000, 1002, 1005, 1006, 1007, 1009, *range(3000, 5000)}
    opcodes = [opcode for opcode, _ in peer.sent()]
    assert set(opcodes) <= {Opcode.PONG, Opcode.CLOSE}
    assert opcodes.count(Opcode.CLOSE) <= 1


messages_to_send = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.binary(max_size=30),
        st.integers(100, 300).map(lambda size: b"x" * size),
        st.sampled_from(["y" * 70_000, b"z" * 66_000]),
    ),
    max_size=5,
)


@bounded
@given(
    messages_to_send,
    st.booleans(),
    st.lists(st.integers(1, 70_000), max_size=20),
    st.sampled_from([1000, 1001, 1011, 3000, 4999]),
    st.text(max_size=30),
)
def test_a_client_reads_what_the_server_sends(
    messages: list[str | bytes], compressed: bool, sizes: list[int], code: int, reason: str
) -> None:
    peer, client = deflated() if compressed else (Peer(), websockets_client())
    connection = peer.connection
    for message in messages:
        connection.send(message)
    peer.close(code, reason)
    received = []
    for size in [*sizes, *[100_000] * 10]:
        part = bytes(connection.output()[:size])
        if part:
            connection.output_written(len(part), peer.now)
            client.receive_data(part)
            received += client.events_received()
    assert connection.output() == b""
    *data_frames, close_frame = received
    assert client.parser_exc is None
    assert [
        bytes(event.data).decode() if event.opcode is Opcode.TEXT else bytes(event.data)
        for event in data_frames
    ] == messages
    assert Close.parse(close_frame.data) == Close(code, reason)
    # And it answers, which ends the connection.
    peer.feed(b"".join(client.data_to_send()))
    assert (connection.close_code, connection.close_reason) == (code, reason)


# -- other limits -------------------------------------------------------------------------------


def test_a_client_that_sends_no_message_is_closed() -> None:
    peer = Peer(idle_timeout=10, ping_interval=None)
    assert peer.connection.next_deadline == peer.now + 10
    peer.sleep(9)
    peer.feed(ping(b"no message"), pong())
    peer.feed(text("a"))
    assert peer.take() == ["a"]
    peer.sent()
    peer.sleep(9)
    peer.feed(text("b", fin=False) + more("c"))
    assert peer.take() == ["bc"]
    peer.sleep(9.9)
    assert peer.connection.state is State.OPEN
    peer.sleep(0.1)
    assert peer.sent_close() == Close(1001, "no message for 10 s")


def test_a_busy_hook_is_no_silence_of_the_client() -> None:
    peer = Peer(idle_timeout=10, ping_interval=None)
    peer.feed(text("a"))
    peer.sleep(10)
    assert peer.connection.state is State.OPEN
    assert peer.connection.next_deadline == peer.now + 10
    peer.take()
    peer.sleep(10)
    assert peer.sent_close().code == 1001


def test_a_connection_does_not_last_for_ever() -> None:
    peer = Peer(max_lifetime=60, idle_timeout=50, ping_interval=25)
    assert peer.connection.next_deadline == peer.now + 25
    peer.sleep(20)
    peer.feed(text("a"))
    peer.sleep(20)
    peer.feed(text("b"))
    assert peer.connection.next_deadline == peer.now + 20
    peer.sleep(20)
    assert peer.sent_close() == Close(1012, "it has lasted long enough: please reconnect")
    peer.feed(close(1012))
    assert peer.connection.close_code == 1012


def test_what_is_not_read_is_no_silence_of_the_client() -> None:
    peer = Peer(idle_timeout=10, ping_interval=None, max_send_buffer=100)
    peer.connection.send("x" * 200)
    assert peer.connection.reading_paused
    peer.sleep(10)
    assert peer.connection.state is State.OPEN
    peer.sent()
    peer.sleep(10)
    assert peer.sent_close().code == 1001


def test_times_leave_the_keepalive_as_it_is() -> None:
    peer = Peer(idle_timeout=30, ping_interval=25, ping_timeout=20)
    assert peer.connection.next_deadline == peer.now + 25
    peer.sleep(25)
    assert peer.sent() == [(Opcode.PING, b"")]
    assert peer.connection.next_deadline == peer.now + 5


def test_control_frames_are_counted_by_the_second() -> None:
    peer = Peer(max_control_frames=3)
    for _ in range(2):
        peer.feed(ping() + pong() + ping())
        assert len(peer.sent()) == 2
        peer.sleep(1.0)
    peer.feed(text("before") + ping() * 2 + pong() * 2 + text("after"))
    assert peer.take() == ["before"]
    *pongs, (opcode, payload) = peer.sent()
    assert len(pongs) == 2
    assert opcode is Opcode.CLOSE
    assert Close.parse(payload) == Close(1008, "too many control frames")
    assert peer.connection.close_code == 1008


def test_what_comes_while_closing_is_not_counted_as_messages() -> None:
    peer = Peer(rates=[(1, 1.0, "too many")])
    peer.close(1000)
    assert peer.sent_close().code == 1000
    peer.feed(text("a") * 3)
    assert (peer.take(), peer.connection.state) == ([], State.CLOSING)


def test_control_frames_while_closing_end_it() -> None:
    peer = Peer(max_control_frames=3)
    peer.close(1000)
    assert peer.sent_close().code == 1000
    peer.feed(ping() * 4)
    assert (peer.connection.state, peer.sent()) == (State.CLOSED, [])


RATE = (3, 2.0, "three in two seconds")


@pytest.mark.parametrize("fin", [True, False], ids=["plain", "fragmented"])
def test_messages_are_counted_from_the_first_one(fin: bool) -> None:
    message = text("a") if fin else text("a", fin=False) + more("")
    peer = Peer(rates=[RATE, (100, 60.0, "a hundred in a minute")])
    peer.sleep(1.9)
    peer.feed(message * 2)
    peer.sleep(1.9)
    peer.feed(message)
    assert peer.take() == ["a"] * 3
    peer.sleep(0.1)
    peer.feed(message * 3)
    assert (peer.take(), peer.sent()) == (["a"] * 3, [])
    peer.feed(ping(), message)
    assert peer.sent()[0] == (Opcode.PONG, b"")
    assert peer.take() == []
    assert peer.sent_close() == Close(1008, "three in two seconds")
    assert peer.connection.close_code == 1008


def test_each_rate_counts_for_itself() -> None:
    peer = Peer(rates=[RATE, (4, 60.0, "four in a minute")])
    peer.feed(text("a") * 3)
    peer.sleep(2)
    peer.feed(text("b") * 3)
    assert peer.take() == ["a", "a", "a", "b"]
    assert peer.sent_close() == Close(1008, "four in a minute")


def test_what_is_wrong_behind_too_many_messages_is_not_looked_at() -> None:
    peer = Peer(rates=[RATE])
    peer.feed(text("a") * 4 + text(b"\xff"))
    assert peer.take() == ["a"] * 3
    assert peer.sent_close().code == 1008
