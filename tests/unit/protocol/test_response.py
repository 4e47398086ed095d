"""The opening handshake's response: subprotocols, extensions, and the 101."""

from __future__ import annotations

from typing import Any

import pytest
from support.peers import ACCEPT, KEY
from websockets.extensions.permessage_deflate import PerMessageDeflate
from werkzeug.exceptions import BadRequest

from flask_wsviews.config import Settings
from flask_wsviews.protocol.opening import (
    Offer,
)
from flask_wsviews.protocol.response import (
    choose_subprotocol,
    negotiate_extensions,
    response_fields,
    serialize_response,
)


def offer(subprotocols: tuple[str, ...] = (), extensions: str = "") -> Offer:
    return Offer(KEY, subprotocols, extensions)


# -- subprotocols -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("supported", "offered", "chosen"),
    [
        ((), (), None),
        ((), ("a",), None),
        (("a",), (), None),
        (("a",), ("b",), None),
        (("a",), ("A",), None),
        (("a", "b"), ("b", "a"), "a"),
        (["x", "b"], ("a", "b"), "b"),
    ],
)
def test_the_server_prefers(supported: Any, offered: tuple[str, ...], chosen: str | None) -> None:
    assert choose_subprotocol(supported, offer(offered)) == chosen


# -- extensions ---------------------------------------------------------------------------------


DEFLATE = "permessage-deflate; client_max_window_bits"


@pytest.mark.parametrize("header", ["", DEFLATE, "not, (parsable"])
def test_no_compression_unless_configured(header: str) -> None:
    assert negotiate_extensions(offer(extensions=header), Settings()) == ([], None)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown_parameter",
        "permessage-deflate; server_max_window_bits=99",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    ],
)
def test_no_compression_without_a_usable_offer(header: str) -> None:
    settings = Settings(compression=True)
    assert negotiate_extensions(offer(extensions=header), settings) == ([], None)


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        (DEFLATE, "permessage-deflate"),
        ("permessage-deflate", "permessage-deflate"),
        (f"x-other; a=1, {DEFLATE}", "permessage-deflate"),
        (f"permessage-deflate; unknown, {DEFLATE}", "permessage-deflate"),
        (f"{DEFLATE}, {DEFLATE}", "permessage-deflate"),
        (
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover",
        ),
        (
            'permessage-deflate; server_max_window_bits="10"',
            "permessage-deflate; server_max_window_bits=10",
        ),
    ],
)
def test_compression(header: str, answer: str) -> None:
    settings = Settings(compression=True)
    extensions, accepted = negotiate_extensions(offer(extensions=header), settings)
    [extension] = extensions
    assert isinstance(extension, PerMessageDeflate)
    assert accepted is not None
    first, *parameters = accepted.split("; ")
    wanted, *wanted_parameters = answer.split("; ")
    assert first == wanted
    assert set(wanted_parameters) <= set(parameters)


def test_compression_is_bounded_by_default() -> None:
    extensions, accepted = negotiate_extensions(
        offer(extensions=DEFLATE), Settings(compression=True)
    )
    [extension] = extensions
    assert extension.local_max_window_bits == 12  # type: ignore[attr-defined]
    assert extension.remote_max_window_bits == 12  # type: ignore[attr-defined]
    assert accepted is not None
    assert "no_context_takeover" not in accepted


def test_compression_as_it_is_set() -> None:
    settings = Settings(
        compression=True,
        compression_level=1,
        compression_window_bits=15,
        compression_context_takeover=False,
    )
    [extension], accepted = negotiate_extensions(offer(extensions=DEFLATE), settings)
    assert accepted is not None
    assert "server_no_context_takeover; client_no_context_takeover" in accepted
    assert extension.compress_settings == {"level": 1, "memLevel": 8}  # type: ignore[attr-defined]


def test_a_view_decides_on_compression() -> None:
    off, on = Settings(), Settings(compression=True)
    assert negotiate_extensions(offer(extensions=DEFLATE), on, False) == ([], None)
    assert len(negotiate_extensions(offer(extensions=DEFLATE), off, True)[0]) == 1
    assert len(negotiate_extensions(offer(extensions=DEFLATE), on, None)[0]) == 1


@pytest.mark.parametrize("header", ["(", "permessage-deflate; =", "permessage-deflate;;"])
def test_extensions_that_can_not_be_parsed(header: str) -> None:
    with pytest.raises(BadRequest) as caught:
        negotiate_extensions(offer(extensions=header), Settings(compression=True))
    assert "Sec-WebSocket-Extensions" in str(caught.value.description)


# -- the 101 ------------------------------------------------------------------------------------

ALWAYS = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", ACCEPT),
]


def test_the_least_answer() -> None:
    assert response_fields(offer(), None, None) == ALWAYS


def test_the_full_answer() -> None:
    headers = [("Set-Cookie", "a=1"), ("X-Own", "yes"), ("Set-Cookie", "b=2")]
    assert response_fields(offer(), "chat", "permessage-deflate", headers) == [
        *ALWAYS,
        ("Sec-WebSocket-Protocol", "chat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        *headers,
    ]


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "CONTENT-LENGTH",
        "content-type",
        "Sec-WebSocket-Accept",
        "sec-websocket-extensions",
        "Sec-Websocket-Protocol",
        "Transfer-Encoding",
        "Upgrade",
    ],
)
def test_the_application_can_not_change_the_handshake(name: str) -> None:
    assert response_fields(offer(), None, None, [(name, "mine")]) == ALWAYS


@pytest.mark.parametrize("bad", ["\r\nX-Evil: 1", "\n", "\r", "\0"])
@pytest.mark.parametrize("place", ["name", "value", "subprotocol"])
def test_line_breaks_are_refused(bad: str, place: str) -> None:
    fields = {"name": "X-Name", "value": "value", "subprotocol": "chat"}
    fields[place] += bad
    with pytest.raises(ValueError, match="line break"):
        response_fields(offer(), fields["subprotocol"], None, [(fields["name"], fields["value"])])


def test_the_answer_on_the_wire() -> None:
    assert serialize_response([("Upgrade", "websocket"), ("X-Name", "é")]) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-Name: \xe9\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Name", "\N{SNOWMAN}"),
        ("X-Name", "\x01"),
        ("X-Name", "\x7f"),
        ("X Name", "value"),
        ("X:Name", "value"),
        ("X-N\xe4me", "value"),
        ("", "value"),
    ],
)
def test_headers_that_can_not_be_sent(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"header.*{name}"):
        response_fields(offer(), None, None, [(name, value)])


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-Number", 5), ("X-Bytes", b"value"), ("X-None", None), (b"X-Bytes", "value"), (5, "value")],
    ids=["number", "bytes", "none", "name-bytes", "name-number"],
)
def test_headers_of_a_middleware_that_are_not_text(name: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="must be text"):
        response_fields(offer(), None, None, [(name, value)])


@pytest.mark.parametrize("value", ["", "plain", "caf\xe9", "a\tb", " padded ", "\xa0"])
def test_headers_that_can_be_sent(value: str) -> None:
    assert ("X-Name", value) in response_fields(offer(), None, None, [("X-Name", value)])
