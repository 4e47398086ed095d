"""Frames, and the shortcut for plain ones: it agrees with the assembler."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import websockets.utils
from hypothesis import given
from hypothesis import strategies as st
from support.peers import GRIN, binary, bounded, close, frame, more, ping, pong, text
from websockets.frames import Frame, Opcode

import flask_wsviews
from flask_wsviews.config import Settings
from flask_wsviews.protocol import plain_frames
from flask_wsviews.protocol.connection import Connection
from flask_wsviews.protocol.frames import BINARY, TEXT, payload_of, serialize
from flask_wsviews.protocol.plain_frames import read_plain
from flask_wsviews.protocol.state import State

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 200_000]


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_all_sizes(size: int) -> None:
    messages: list[str | bytes] = []
    data = text("x" * size) + binary(b"\xff" * size)
    assert read_plain(data, None, messages) == len(data)
    assert messages == ["x" * size, b"\xff" * size]
    for message, opcode in (("x" * size, Opcode.TEXT), (b"\xff" * size, Opcode.BINARY)):
        payload = message.encode() if isinstance(message, str) else message
        assert serialize(*payload_of(message)) == Frame(opcode, payload).serialize(mask=False)


@pytest.mark.parametrize("size", SIZES)
def test_the_limit_of_one_message(size: int) -> None:
    for message, data in (("x" * size, text("x" * size)), (b"\xff" * size, binary(b"\xff" * size))):
        for limit in (None, size, 10**30):
            messages: list[str | bytes] = []
            assert read_plain(data, limit, messages) == len(data)
            assert messages == [message]
        assert read_plain(data[:-1], None, []) == 0
        assert read_plain(data + b"x", None, []) == len(data)
        if size:
            assert read_plain(data, size - 1, []) == 0


def test_what_bytes_may_be() -> None:
    for message in (b"ab", bytearray(b"ab"), memoryview(b"ab")):
        assert payload_of(message) == (BINARY, b"ab")
    assert payload_of("ab") == (TEXT, b"ab")
    with pytest.raises(TypeError, match=r"not int; send_json\(\) takes objects"):
        payload_of(5)  # type: ignore[arg-type]


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
        read = [plain_frames._read_plain, plain_frames.read_plain]
        ends = [outcome(one, part, limit, into) for one, into in zip(read, messages, strict=True)]
        assert ends[0] == ends[1]
        assert messages[0] == messages[1]


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
