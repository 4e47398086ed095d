"""The client object that hooks hold."""

from __future__ import annotations

import decimal
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.json.provider import DefaultJSONProvider
from marshmallow import Schema, fields
from support.peers import (
    Peer,
    binary,
    close,
    handshake_environ,
    open_client,
    sent_close,
    sent_text,
    text,
)
from websockets.frames import Opcode

from flask_wsviews.client import WebSocketClient
from flask_wsviews.exceptions import ConnectionClosed, OutgoingMessageError
from flask_wsviews.messages.declared import make_protocol
from flask_wsviews.observers import Observer


@pytest.fixture
def opened() -> tuple[WebSocketClient, Peer]:
    return open_client(Flask("site"))


@pytest.fixture
def client(opened: tuple[WebSocketClient, Peer]) -> WebSocketClient:
    return opened[0]


@pytest.fixture
def peer(opened: tuple[WebSocketClient, Peer]) -> Peer:
    return opened[1]


# -- before the 101 -----------------------------------------------------------------------------


def unopened() -> WebSocketClient:
    client = WebSocketClient(handshake_environ(PATH_INFO="/chat"))
    client._offered = ("a", "b")
    return client


@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.send("x"),
        lambda client: client.send_binary(b"x"),
        lambda client: client.receive(),
        lambda client: client.recv(),
        lambda client: client.recv_nb(),
        lambda client: client.close(),
        lambda client: next(iter(client)),
    ],
)
def test_nothing_works_before_the_101(use: Any) -> None:
    with pytest.raises(RuntimeError, match="isn't open yet"):
        use(unopened())


def test_what_is_known_before_the_101() -> None:
    client = unopened()
    assert not client.connected
    assert client.fd == -1
    assert client.close_code is None
    assert client.close_reason is None
    assert client.subprotocol is None
    assert client.offered_subprotocols == ("a", "b")
    assert "/chat" in repr(client)
    assert "not open" in repr(client)
    assert client.id != unopened().id


def test_a_subprotocol_is_chosen_among_the_offered() -> None:
    client = unopened()
    client.subprotocol = "b"
    assert client.subprotocol == "b"
    with pytest.raises(ValueError, match="'c'; it offers a, b"):
        client.subprotocol = "c"
    assert client.subprotocol == "b"
    client.subprotocol = None
    assert client.subprotocol is None


def test_nothing_is_offered() -> None:
    client = WebSocketClient(handshake_environ())
    with pytest.raises(ValueError, match="it offers none"):
        client.subprotocol = "a"


def test_no_subprotocol_can_be_chosen_later(client: WebSocketClient) -> None:
    with pytest.raises(RuntimeError, match="the 101 has already been sent"):
        client.subprotocol = None


# -- open ---------------------------------------------------------------------------------------


def test_an_open_client(client: WebSocketClient) -> None:
    assert client.connected
    assert client.fd == 99
    assert client.close_code is None
    assert repr(client).endswith(" open>")
    assert "not open" not in repr(client)


def test_receive(client: WebSocketClient, peer: Peer) -> None:
    peer.feed(text("one") + binary(b"two") + close(4000, "bye"))
    assert client.receive() == "one"
    assert client.recv(timeout=3) == b"two"
    assert client.connected
    assert client.receive(5) is None
    assert not client.connected
    assert (client.close_code, client.close_reason) == (4000, "bye")
    assert client._driver is not None
    assert client._driver.timeouts == [None, 3, 5]  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_watched", [False, True])
def test_a_loop_over_the_messages_can_be_gone_on_with(
    client: WebSocketClient, peer: Peer, is_watched: bool
) -> None:
    if is_watched:
        client._watchers = (Observer(),)
        client._open(client._driver)
    peer.feed(text("one") + text("") + binary(b"") + text("four") + close(4000))
    messages = iter(client)
    assert next(messages) == "one"
    assert next(iter(client)) == ""
    assert list(messages) == [b"", "four"]
    assert list(client) == []


def test_recv_nb_tells_nothing_yet_from_nothing_more(client: WebSocketClient, peer: Peer) -> None:
    assert client.recv_nb() == ""
    peer.feed(text("one"))
    assert client.recv_nb() == "one"
    assert client.recv_nb() == ""
    peer.feed(close())
    assert client.recv_nb() is None
    assert client.recv_nb() is None


def test_iteration_ends_with_the_connection(client: WebSocketClient, peer: Peer) -> None:
    peer.feed(text("one") + text("") + binary(b"") + close())
    assert list(client) == ["one", "", b""]


@pytest.mark.parametrize(
    ("send", "opcode", "payload"),
    [
        (lambda c: c.send("é"), Opcode.TEXT, "é".encode()),
        (lambda c: c.send(b"\xff"), Opcode.BINARY, b"\xff"),
        (lambda c: c.send("é", binary=True), Opcode.BINARY, "é".encode()),
        (lambda c: c.send(b"\xff", binary=True), Opcode.BINARY, b"\xff"),
        (lambda c: c.send("é", binary=False), Opcode.TEXT, "é".encode()),
        (lambda c: c.send("é".encode(), binary=False), Opcode.TEXT, "é".encode()),
        (lambda c: c.send(memoryview(b"ab"), binary=False), Opcode.TEXT, b"ab"),
        (lambda c: c.send_binary("é"), Opcode.BINARY, "é".encode()),
        (lambda c: c.send_binary(bytearray(b"\xff")), Opcode.BINARY, b"\xff"),
        (lambda c: c.send_json({"b": [1, None]}), Opcode.TEXT, b'{"b": [1, null]}'),
    ],
)
def test_send(
    send: Any, opcode: Opcode, payload: bytes, client: WebSocketClient, peer: Peer
) -> None:
    send(client)
    assert peer.sent() == [(opcode, payload)]


@pytest.mark.parametrize("binary", [None, True, False])
def test_send_refuses_what_is_no_message(
    binary: bool | None, client: WebSocketClient, peer: Peer
) -> None:
    with pytest.raises(TypeError):
        client.send(object(), binary)  # type: ignore[arg-type]
    assert peer.sent() == []


def test_bytes_that_are_no_text(client: WebSocketClient, peer: Peer) -> None:
    with pytest.raises(UnicodeDecodeError):
        client.send(b"\xff", binary=False)
    assert peer.sent() == []


@pytest.mark.parametrize("binary", [None, True, False])
@pytest.mark.parametrize("message", ["x", b"\xff"])
def test_send_after_the_end(
    message: Any, binary: bool | None, client: WebSocketClient, peer: Peer
) -> None:
    peer.feed(close(4000))
    client.receive()
    with pytest.raises(ConnectionClosed) as caught:
        client.send(message, binary)
    assert caught.value.code == 4000


def test_close(client: WebSocketClient, peer: Peer) -> None:
    client.close(4001, "enough")
    assert peer.sent() == [sent_close(4001, "enough")]
    assert not client.connected
    assert client.close_code is None
    peer.feed(close(4001, "enough"))
    assert client.close_code == 4001
    client.close()
    assert peer.sent() == []


def test_close_has_defaults(client: WebSocketClient, peer: Peer) -> None:
    client.close()
    assert peer.sent() == [sent_close(1000)]


# -- sharedareas --------------------------------------------------------------------------------


@pytest.fixture
def sharedarea(monkeypatch: pytest.MonkeyPatch) -> None:
    area = "0123é".encode() + b"\xff"

    def read(number: int, position: int, length: int | None = None) -> bytes:
        assert number == 7
        return area[position:] if length is None else area[position : position + length]

    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(sharedarea_read=read))


@pytest.mark.usefixtures("sharedarea")
def test_send_from_a_sharedarea(client: WebSocketClient, peer: Peer) -> None:
    client.send_from_sharedarea(7, 2, 4)
    client.send_binary_from_sharedarea(7, 2, 2)
    client.send_binary_from_sharedarea(7, 5)
    with pytest.raises(UnicodeDecodeError):
        client.send_from_sharedarea(7, 0)
    assert peer.sent() == [
        (Opcode.TEXT, "23é".encode()),
        (Opcode.BINARY, b"23"),
        (Opcode.BINARY, b"\xa9\xff"),
    ]


def test_sharedareas_need_uwsgi(client: WebSocketClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", None)
    with pytest.raises(RuntimeError, match="--sharedarea"):
        client.send_from_sharedarea(0, 0)


# -- typed messages -----------------------------------------------------------------------------


class Note(Schema):
    text = fields.Str(required=True)
    price = fields.Decimal()


class Provider(DefaultJSONProvider):
    """Writes and reads in its own way, as one of orjson or msgspec does."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return "own" + super().dumps(obj, **kwargs)

    def loads(self, s: Any, **kwargs: Any) -> Any:
        return super().loads(s.removeprefix("own"), **kwargs)


@pytest.fixture
def typed(client: WebSocketClient) -> WebSocketClient:
    client.app.json = Provider(client.app)
    client._protocol = make_protocol("view", schema=Note, emits={"note": Note})
    client._loads_messages = True
    client._open(client._driver)
    return client


def test_typed_messages_go_through_the_json_provider(typed: WebSocketClient, peer: Peer) -> None:
    typed.send_message("note", {"text": "x", "price": decimal.Decimal("1.5")})
    assert peer.sent() == [sent_text('own{"price": "1.5", "text": "x", "type": "note"}')]
    with pytest.raises(OutgoingMessageError, match="required"):
        typed.send_message("note", {})
    assert peer.sent() == []
    peer.feed(text('own{"text": "x"}'))
    assert typed.receive() == {"text": "x"}


def test_invalid_messages_are_answered_and_left_out(typed: WebSocketClient, peer: Peer) -> None:
    peer.feed(text("own{}") + text('own{"text": "x"}') + close())
    assert list(typed) == [{"text": "x"}]
    [(opcode, payload), *_] = peer.sent()
    assert opcode is Opcode.TEXT
    assert json.loads(payload.removeprefix(b"own"))["code"] == "invalid_message"


def test_the_time_to_wait_is_for_all_of_them(typed: WebSocketClient, peer: Peer) -> None:
    peer.feed(text("own{}") + text('own{"text": "x"}'))
    assert typed.receive(timeout=5) == {"text": "x"}
    first, second = typed._driver.timeouts  # type: ignore[union-attr]
    assert 0 < second <= first <= 5


def test_recv_nb_of_typed_messages(typed: WebSocketClient, peer: Peer) -> None:
    assert typed.recv_nb() == ""
    peer.feed(text("own{}") + text('own{"text": "x"}') + close())
    assert typed.recv_nb() == ""
    assert typed.recv_nb() == {"text": "x"}
    assert typed.recv_nb() is None
