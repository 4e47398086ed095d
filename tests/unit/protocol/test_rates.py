"""Rates: how many messages and control frames a client may send."""

from __future__ import annotations

import pytest
from support.peers import (
    Peer,
    more,
    ping,
    pong,
    text,
)
from websockets.frames import Close, Opcode

from flask_wsviews.protocol.state import State


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
