"""The Pings of an application, and their Pongs."""

from __future__ import annotations

import pytest
from support.peers import Peer, ping, pong, text
from websockets.frames import Opcode

from flask_wsviews.exceptions import ConnectionClosed
from flask_wsviews.protocol.pongs import MAX_AWAITED, Pong, ping_payload


def reporting() -> Peer:
    peer = Peer()
    peer.connection.report_pongs()
    return peer


def test_a_pong_comes_in_order_with_the_messages() -> None:
    peer = reporting()
    peer.connection.ping(b"one")
    assert peer.sent() == [(Opcode.PING, b"one")]
    peer.feed(text("before") + pong(b"one") + text("after"))
    taken = peer.take()
    assert taken == ["before", b"one", "after"]
    assert [type(message) for message in taken] == [str, Pong, str]
    assert peer.connection.messages_received == 2


def test_a_pong_that_nobody_asked_for_is_not_reported() -> None:
    peer = reporting()
    peer.feed(pong(b"x") + pong(b""))
    assert peer.take() == []
    peer.connection.ping(b"one")
    peer.feed(pong(b"two") + pong(b"one") + pong(b"one"))
    assert peer.take() == [b"one"]


def test_a_pong_may_answer_the_last_of_several_pings() -> None:
    peer = reporting()
    for payload in (b"one", b"two", b"three"):
        peer.connection.ping(payload)
    peer.feed(pong(b"two") + pong(b"one") + pong(b"three"))
    assert peer.take() == [b"two", b"three"]


def test_equal_payloads_are_counted() -> None:
    peer = reporting()
    for _ in range(3):
        peer.connection.ping(b"")
    peer.feed(pong(b"") * 5)
    assert peer.take() == [b"", b"", b""]


def test_the_oldest_of_many_are_forgotten() -> None:
    peer = reporting()
    for number in range(MAX_AWAITED + 1):
        peer.connection.ping(str(number).encode())
    peer.feed(pong(b"0") + pong(b"1"))
    assert peer.take() == [b"1"]


def test_nothing_is_reported_unless_it_is_asked_for() -> None:
    peer = Peer()
    peer.connection.ping(b"one")
    peer.feed(pong(b"one") + text("after"))
    assert peer.take() == ["after"]


def test_the_heartbeat_is_not_reported() -> None:
    peer = reporting()
    interval = peer.connection.settings.ping_interval
    assert interval is not None
    peer.sleep(interval + 1)
    assert peer.sent() == [(Opcode.PING, b"")]
    peer.feed(pong(b"") + ping(b"theirs"))
    assert peer.take() == []


def test_a_pong_is_a_sign_of_life_and_no_message() -> None:
    peer = Peer(idle_timeout=10.0)
    peer.connection.report_pongs()
    peer.connection.ping(b"one")
    peer.sleep(6)
    peer.feed(pong(b"one"))
    assert peer.take() == [b"one"]
    peer.sleep(6)
    assert peer.sent()[-1][0] is Opcode.CLOSE


def test_after_the_end_no_ping_goes_out_and_no_pong_is_reported() -> None:
    peer = reporting()
    peer.connection.ping(b"one")
    peer.close()
    with pytest.raises(ConnectionClosed):
        peer.connection.ping(b"two")
    peer.feed(pong(b"one"))
    assert peer.take() == []


def test_what_a_ping_may_carry() -> None:
    assert ping_payload("grüße") == "grüße".encode()
    assert ping_payload(b"x" * 125) == b"x" * 125
    with pytest.raises(ValueError, match="126 bytes; at most 125"):
        ping_payload(b"x" * 126)
    with pytest.raises(TypeError, match="str or bytes, not int"):
        ping_payload(5)  # type: ignore[arg-type]
