"""The short way for plain frames: it says what the long way does, and leaves the rest to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peers import binary, bounded, close, frame, more, ping, pong, text
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode

from flask_wsviews.config import Settings
from flask_wsviews.protocol import framing
from flask_wsviews.protocol.connection import Connection, State
from flask_wsviews.protocol.framing import (
    close_frame,
    payload_of,
    plain_binary_size,
    plain_frame,
    read_close,
    read_one,
    read_plain,
)

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 200_000]


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_all_sizes(size: int) -> None:
    messages: list[str | bytes] = []
    data = text("x" * size) + binary(b"\xff" * size)
    assert read_plain(data, None, messages) == len(data)
    assert messages == ["x" * size, b"\xff" * size]
    for message, opcode in (("x" * size, Opcode.TEXT), (b"\xff" * size, Opcode.BINARY)):
        payload = message.encode() if isinstance(message, str) else message
        assert plain_frame(message) == Frame(opcode, payload).serialize(mask=False)


@pytest.mark.parametrize("size", SIZES)
def test_one_message(size: int) -> None:
    for message, data in (("x" * size, text("x" * size)), (b"\xff" * size, binary(b"\xff" * size))):
        assert read_one(data, None) == message
        assert read_one(data, size) == message
        assert read_one(data, 10**30) == message
        assert read_one(data[:-1], None) is None
        assert read_one(data + b"x", None) is None
        if size:
            assert read_one(data, size - 1) is None


def test_what_bytes_may_be() -> None:
    for message in (b"ab", bytearray(b"ab"), memoryview(b"ab")):
        assert plain_frame(message) == b"\x82\x02ab"
        assert payload_of(message) == (Opcode.BINARY, b"ab")
    with pytest.raises(TypeError, match=r"not int; send_json\(\) takes objects"):
        plain_frame(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "bye"), (4999, "ü" * 61 + "x"), (1005, "")]
)
def test_close_frames(code: int, reason: str) -> None:
    assert read_close(close(code, reason) if code != 1005 else frame(8, b"")) == Close(code, reason)
    payload = b"" if code == 1005 else Close(code, reason).serialize()
    written = close_frame(None if code == 1005 else Close(code, reason))
    assert written == Frame(Opcode.CLOSE, payload).serialize(mask=False)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        close(1000)[:-1],
        close(1000) + b"x",
        ping(b"x"),
        frame(8, b"x" * 126),
        frame(8, b"", rsv=4),
        frame(8, b"", masked=False) + b"....",
    ],
)
def test_what_is_no_close_frame_is_left(other: bytes) -> None:
    assert read_close(other) is None


def test_bad_close_frames() -> None:
    with pytest.raises(ProtocolError):
        read_close(frame(8, b"\x03"))
    with pytest.raises(UnicodeDecodeError):
        read_close(frame(8, b"\x03\xe8\xff"))


@pytest.mark.parametrize(
    "other",
    [
        ping(b"x"),
        pong(b"x"),
        close(1000),
        text("a", fin=False),
        more("a"),
        text("a", rsv=4),
        text("a", rsv=1),
        text("a", masked=False) + b"....",
        frame(3, "a"),
        text("too long"),
        text("x" * 130)[:20],
        binary(b"x" * 70000)[:13],
        binary(b"x" * 70000)[:200],
        text("x" * 130)[:5],
        b"",
    ],
)
def test_the_rest_is_left(other: bytes) -> None:
    messages: list[str | bytes] = []
    assert read_one(other, 5) is None
    data = text("one") + binary(b"two") + other + text("three")
    at = len(text("one") + binary(b"two"))
    if other:
        data = data[: -len(text("three"))] if len(other) > 12 else data
        assert read_plain(data, 5, messages) == at
        assert messages == ["one", b"two"]


def test_text_that_is_not_utf_8() -> None:
    messages: list[str | bytes] = []
    with pytest.raises(UnicodeDecodeError):
        read_plain(text("one") + text(b"\xff") + text("two"), None, messages)
    assert messages == ["one"]
    with pytest.raises(UnicodeDecodeError):
        read_one(text(b"\xff"), None)


@pytest.mark.parametrize("size", SIZES)
def test_the_size_of_a_binary_frame_that_has_begun(size: int) -> None:
    whole = binary(b"x" * size)
    begun = whole[: max(14, len(whole) // 2)]
    expected = len(whole) if len(begun) >= 14 else 0
    assert plain_binary_size(begun, 200_000) == expected
    assert plain_binary_size(begun, None) == 0


def test_frames_that_are_looked_at_before_their_end() -> None:
    begun = binary(b"x" * 300)[:50]
    assert plain_binary_size(begun, 300) == 308
    assert plain_binary_size(begun, 299) == 0
    assert plain_binary_size(begun[:13], 300) == 0
    for other in (text("x" * 300), binary(b"x" * 300, masked=False), binary(b"x", fin=False)):
        assert plain_binary_size(other[:50] + bytes(14), 300) == 0


def story(chunks: list[bytes], settings: Settings, *, takes_plain: bool) -> list[Any]:
    """What a connection makes of chunks of bytes: messages, answers, and how it ends."""
    connection = Connection(settings, 0.0)
    connection.takes_plain = takes_plain
    told: list[Any] = []
    answers = b""
    for number, chunk in enumerate(chunks):
        connection.receive_data(chunk, float(number))
        while (message := connection.next_message()) is not None:
            told.append(message)
        while output := connection.output():
            answers += output
            connection.output_written(len(output), float(number))
    return [*told, answers, connection.state, connection.close_code, connection.close_reason]


frames = st.one_of(
    st.builds(text, st.text(max_size=200)),
    st.builds(binary, st.binary(max_size=200)),
    st.builds(binary, st.binary(min_size=126, max_size=400)),
    st.builds(lambda a, b: text(a, fin=False) + ping(b"p") + more(b), st.text(), st.text()),
    st.builds(ping, st.binary(max_size=20)),
    st.builds(close, st.sampled_from([1000, 1001, 3000, 4999])),
    st.just(close()),
    st.just(text(b"\xff\xfe")),
    st.just(text(b"a\xf0\x9f")),
    st.just(text("a", rsv=4)),
    st.just(binary(b"x", masked=False)),
    st.just(more("orphan")),
    st.binary(max_size=5),
)


@bounded
@given(
    st.lists(frames, max_size=8),
    st.lists(st.integers(0, 3000), max_size=10),
    st.sampled_from([None, 10, 150]),
)
def test_both_ways_say_the_same(parts: list[bytes], cuts: list[int], limit: int | None) -> None:
    data = b"".join(parts)
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[start:end] for start, end in zip(at, [*at[1:], len(data)], strict=True)]
    settings = Settings(max_message_size=limit)
    short = story([c for c in chunks if c], settings, takes_plain=True)
    assert short == story([c for c in chunks if c], settings, takes_plain=False)


def outcome(read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except UnicodeDecodeError as error:
        return error.args


@bounded
@given(
    st.lists(
        frames | st.builds(partial(frame, 2, b"some"), announced=st.integers(0, 2**64 - 1)),
        max_size=4,
    ),
    st.integers(0, 1000),
    st.sampled_from([None, 0, 10, 150, 10**30]),
)
def test_what_is_compiled_reads_the_same(parts: list[bytes], cut: int, limit: int | None) -> None:
    data = b"".join(parts)
    for part in (data, data[:cut]):
        messages: tuple[list[Any], list[Any]] = ([], [])
        read = [framing._read_plain, framing.read_plain]
        ends = [outcome(one, part, limit, into) for one, into in zip(read, messages, strict=True)]
        assert ends[0] == ends[1]
        assert messages[0] == messages[1]
        one = [outcome(read, part, limit) for read in (framing._read_one, framing.read_one)]
        assert one[0] == one[1]


def test_a_large_binary_message_comes_in_pieces() -> None:
    connection = Connection(Settings(), 0.0)
    payload = bytes(range(256)) * 1000
    data = binary(payload) + text("after") + ping(b"p")
    for start in range(0, len(data), 60_000):
        connection.receive_data(data[start : start + 60_000], 0.0)
    assert connection.next_message() == payload
    assert connection.next_message() == "after"
    assert connection.next_message() is None
    assert connection.output() == b"\x8a\x01p"
    assert connection.state is State.OPEN
