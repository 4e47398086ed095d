"""Properties of any stream of bytes, both ways."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from support.peers import (
    Peer,
    binary,
    bounded,
    close,
    deflated,
    frame,
    more,
    ping,
    pong,
    text,
    websockets_client,
)
from websockets.frames import Close, Opcode

from flask_wsviews.protocol.state import State

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
