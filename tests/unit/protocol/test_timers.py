"""Timers of a connection: keepalive, idle timeout and lifetime."""

from __future__ import annotations

import pytest
from support.peers import (
    Peer,
    close,
    more,
    ping,
    pong,
    sent_close,
    sent_text,
    text,
)
from websockets.frames import Close, Opcode

from flask_wsviews.protocol.state import State

# -- keepalive -------------------------------------------------------------------------------------

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


# -- idle timeout and lifetime ---------------------------------------------------------------------


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
