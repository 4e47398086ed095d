"""The opening handshake's request: what is refused and how."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from support.peers import KEY, handshake_environ
from werkzeug.exceptions import HTTPException

from flask_wsviews.protocol.opening import (
    Offer,
    UpgradeRequired,
    asks_for_websocket,
    check_request,
    is_handshake,
)


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


def test_the_request_keeps_its_extensions() -> None:
    header = "permessage-deflate; client_max_window_bits"
    environ = handshake_environ(HTTP_SEC_WEBSOCKET_EXTENSIONS=header)
    assert check_request(environ).extensions == header
