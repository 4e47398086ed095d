"""The end of a connection: closing handshakes, violations and broken connections."""

from __future__ import annotations

import pytest
from support.peers import (
    Peer,
    binary,
    close,
    more,
    ping,
    pong,
    sent_close,
    sent_text,
    text,
)
from websockets.frames import Opcode

from flask_wsviews.exceptions import ConnectionClosed
from flask_wsviews.protocol.connection import CLOSE_GRACE
from flask_wsviews.protocol.state import State

# -- the peer closes -------------------------------------------------------------------------------


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


# -- we close --------------------------------------------------------------------------------------


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


# -- the end without a close frame -----------------------------------------------------------------


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


# -- Ping and Pong ---------------------------------------------------------------------------------


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
