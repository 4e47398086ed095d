"""Messages from frames, whole or in fragments, and their limits."""

from __future__ import annotations

import pytest
from support.peers import (
    EURO,
    GRIN,
    Peer,
    binary,
    close,
    frame,
    more,
    ping,
    pong,
    sent_close,
    text,
)
from websockets.frames import Opcode

from flask_wsviews.protocol.state import State

# -- messages --------------------------------------------------------------------------------------

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


# -- limits ----------------------------------------------------------------------------------------


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


# -- UTF-8 in frames that aren't complete ----------------------------------------------------------

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
