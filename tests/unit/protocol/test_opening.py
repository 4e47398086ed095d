"""The opening handshake: what is refused and how, and what the 101 says."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from support.peers import ACCEPT, KEY, handshake_environ
from websockets.extensions.permessage_deflate import PerMessageDeflate
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException

from flask_wsviews.config import Settings
from flask_wsviews.protocol.opening import (
    Offer,
    UpgradeRequired,
    asks_for_websocket,
    check_request,
    is_handshake,
)
from flask_wsviews.protocol.origin import check_origin
from flask_wsviews.protocol.response import (
    choose_subprotocol,
    negotiate_extensions,
    response_fields,
    serialize_response,
)


def offer(subprotocols: tuple[str, ...] = (), extensions: str = "") -> Offer:
    return Offer(KEY, subprotocols, extensions)


# -- the request --------------------------------------------------------------------------------


def test_a_valid_request() -> None:
    assert check_request(handshake_environ()) == Offer(KEY, (), "")


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_UPGRADE": "WebSocket"},
        {"HTTP_UPGRADE": " h2c , WEBSOCKET "},
        {"HTTP_UPGRADE": "websocket,h2c"},
        {"HTTP_CONNECTION": "upgrade"},
        {"HTTP_CONNECTION": "keep-alive, Upgrade"},
        {"HTTP_CONNECTION": "keep-alive ,UPGRADE , close"},
        {"HTTP_SEC_WEBSOCKET_VERSION": " 13 "},
        {"HTTP_SEC_WEBSOCKET_KEY": f" {KEY} "},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "0"},
        {"SERVER_PROTOCOL": "HTTP/2"},
        {"SERVER_PROTOCOL": None},
    ],
)
def test_valid_variations(changes: dict[str, str | None]) -> None:
    environ = handshake_environ(**changes)
    assert is_handshake(environ)
    assert check_request(environ).key == KEY


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"REQUEST_METHOD": "POST"}, 405),
        ({"REQUEST_METHOD": "HEAD"}, 405),
        ({"REQUEST_METHOD": "get"}, 405),
        ({"HTTP_UPGRADE": None}, 426),
        ({"HTTP_UPGRADE": ""}, 426),
        ({"HTTP_UPGRADE": "h2c"}, 426),
        ({"HTTP_UPGRADE": "websockets"}, 426),
        ({"HTTP_UPGRADE": None, "HTTP_CONNECTION": None}, 426),
        ({"HTTP_CONNECTION": None}, 400),
        ({"HTTP_CONNECTION": "keep-alive"}, 400),
        ({"HTTP_CONNECTION": "upgraded"}, 400),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, 400),
        ({"SERVER_PROTOCOL": "HTTP/0.9"}, 400),
        ({"CONTENT_LENGTH": "1"}, 400),
        ({"CONTENT_LENGTH": "nonsense"}, 400),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, 400),
        ({"HTTP_SEC_WEBSOCKET_VERSION": None}, 426),
        ({"HTTP_SEC_WEBSOCKET_VERSION": ""}, 426),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 426),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "13, 8"}, 426),
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": ""}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": "not base64!"}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": KEY[:-1]}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": f"{KEY} {KEY}"}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": f"{KEY[:-2]}é="}, 400),
        *(
            ({"HTTP_SEC_WEBSOCKET_KEY": base64.b64encode(bytes(size)).decode()}, 400)
            for size in (1, 15, 17, 32)
        ),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": "a b"}, 400),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": "a,(b)"}, 400),
    ],
)
def test_refused_requests(changes: dict[str, str | None], status: int) -> None:
    with pytest.raises(HTTPException) as caught:
        check_request(handshake_environ(**changes))
    assert caught.value.code == status
    assert caught.value.description


def test_405_names_the_method() -> None:
    with pytest.raises(HTTPException) as caught:
        check_request(handshake_environ(REQUEST_METHOD="POST"))
    assert ("Allow", "GET") in caught.value.get_headers()


@pytest.mark.parametrize("changes", [{"HTTP_UPGRADE": None}, {"HTTP_SEC_WEBSOCKET_VERSION": "8"}])
def test_426_says_what_to_upgrade_to(changes: dict[str, Any]) -> None:
    with pytest.raises(UpgradeRequired) as caught:
        check_request(handshake_environ(**changes))
    response = caught.value.get_response()
    assert response.status_code == 426
    assert response.headers["Upgrade"] == "websocket"
    assert response.headers["Sec-WebSocket-Version"] == "13"
    assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("upgrade", "connection", "asks", "means_it"),
    [
        ("websocket", "Upgrade", True, True),
        ("websocket", "close", True, False),
        ("websocket", None, True, False),
        ("h2c", "Upgrade", False, False),
        (None, "Upgrade", False, False),
        (None, None, False, False),
    ],
)
def test_what_a_request_is(
    upgrade: str | None, connection: str | None, asks: bool, means_it: bool
) -> None:
    environ = handshake_environ(HTTP_UPGRADE=upgrade, HTTP_CONNECTION=connection)
    assert asks_for_websocket(environ) is asks
    assert is_handshake(environ) is means_it


# -- the origin ---------------------------------------------------------------------------------

OWN = "https://example.org"


@pytest.mark.parametrize(
    ("origin", "own", "allowed"),
    [
        (None, OWN, ()),
        ("https://example.org", OWN, ()),
        ("HTTPS://EXAMPLE.ORG", OWN, ()),
        ("https://example.org:443", OWN, ()),
        ("https://example.org", "https://example.org:443", ()),
        ("http://example.org", "http://example.org:80", ()),
        ("http://example.org:8080", "http://example.org:8080", ()),
        ("https://example.org", "wss://example.org", ()),
        ("http://example.org", "ws://Example.org:80", ()),
        ("http://[::1]:5000", "http://[::1]:5000", ()),
        ("http://[::1]", "http://[::1]:80", ()),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]", ()),
        ("https://other.org", OWN, ({"https://other.org"},)),
        ("https://other.org:443", OWN, ({"https://other.org"},)),
        ("https://other.org", OWN, (set(), {"https://other.org"})),
        ("https://other.org", OWN, ("*",)),
        ("https://other.org", OWN, (set(), "*")),
        ("null", OWN, ({"null"},)),
        ("null", OWN, ("*",)),
        ("nonsense", OWN, ("*",)),
    ],
)
def test_origins_that_may_connect(origin: str | None, own: str, allowed: tuple[Any, ...]) -> None:
    check_origin(handshake_environ(HTTP_ORIGIN=origin), own, *allowed)


@pytest.mark.parametrize(
    ("origin", "own", "allowed"),
    [
        ("https://other.org", OWN, ()),
        ("http://example.org", OWN, ()),
        ("https://example.org:8443", OWN, ()),
        ("https://www.example.org", OWN, ()),
        ("https://example.org.evil.org", OWN, ()),
        ("https://example.org", "https://example.org:8443", ()),
        ("https://other.org", OWN, (set(), {"https://another.org"})),
        ("null", OWN, ()),
        ("null", OWN, ({"https://other.org"},)),
        ("null", "null", ()),
        ("", OWN, ()),
        ("nonsense", OWN, ()),
        ("nonsense", "nonsense", ()),
        ("https://example.org/page", OWN, ()),
        ("https://example.org:port", OWN, ()),
        ("http://[::1", "http://[::1", ()),
        ("http://[::2]", "http://[::1]", ()),
    ],
)
def test_origins_that_may_not_connect(origin: str, own: str, allowed: tuple[Any, ...]) -> None:
    with pytest.raises(Forbidden) as caught:
        check_origin(handshake_environ(HTTP_ORIGIN=origin), own, *allowed)
    assert "WSVIEWS_ALLOWED_ORIGINS" in str(caught.value.description)


def test_a_refused_origin_is_escaped_in_the_page() -> None:
    with pytest.raises(Forbidden) as caught:
        check_origin(handshake_environ(HTTP_ORIGIN="https://<script>"), OWN)
    page = caught.value.get_response().get_data(as_text=True)
    assert "<script>" not in page


# -- subprotocols -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "offered"),
    [
        (None, ()),
        ("chat", ("chat",)),
        ("b, a", ("b", "a")),
        ("b ,a,, c", ("b", "a", "c")),
        ("v1.json", ("v1.json",)),
    ],
)
def test_offered_subprotocols(header: str | None, offered: tuple[str, ...]) -> None:
    environ = handshake_environ(HTTP_SEC_WEBSOCKET_PROTOCOL=header)
    assert check_request(environ).subprotocols == offered


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


def test_the_request_keeps_its_extensions() -> None:
    environ = handshake_environ(HTTP_SEC_WEBSOCKET_EXTENSIONS=DEFLATE)
    assert check_request(environ).extensions == DEFLATE


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
