"""A client's opening handshake (RFC 6455 4.2.1): check the request and return what it offers.

A refusal is a Werkzeug HTTP exception, so that an application's error pages apply to it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from websockets.exceptions import InvalidHeader
from websockets.headers import parse_subprotocol
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

from ..typing import Environ

VERSION = "13"


class UpgradeRequired(HTTPException):
    """426 Upgrade Required: the request isn't a WebSocket handshake, or of another version."""

    code = 426
    description = "This resource is a WebSocket. Connect to it with a WebSocket client."

    def get_headers(self, *args: object, **kwargs: object) -> list[tuple[str, str]]:
        """Return the usual headers plus Upgrade and Sec-WebSocket-Version.

        RFC 9110 15.5.22 requires the first, RFC 6455 4.4 the second.
        """
        return [
            *super().get_headers(),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", VERSION),
        ]


@dataclass(frozen=True)
class Offer:
    """The parts of a valid handshake request that the response depends on.

    :param key: the ``Sec-WebSocket-Key``.
    :param subprotocols: the subprotocols on offer, in the client's order of preference.
    :param extensions: the ``Sec-WebSocket-Extensions`` header.
    """

    key: str
    subprotocols: tuple[str, ...]
    extensions: str


def asks_for_websocket(environ: Environ) -> bool:
    """Return whether a request's ``Upgrade`` header contains ``websocket``."""
    return _has_token(environ.get("HTTP_UPGRADE"), "websocket")


def is_handshake(environ: Environ) -> bool:
    """Return whether a request is meant as a handshake: ``Upgrade`` and ``Connection`` match."""
    return asks_for_websocket(environ) and _has_token(environ.get("HTTP_CONNECTION"), "upgrade")


def check_request(environ: Environ) -> Offer:
    """Check a handshake request against RFC 6455 4.2.1.

    :raises werkzeug.exceptions.HTTPException: 400, 405 or 426, with the reason.
    """
    if environ["REQUEST_METHOD"] != "GET":
        raise MethodNotAllowed(["GET"], "A WebSocket handshake is a GET request.")
    if not is_handshake(environ):
        if asks_for_websocket(environ):
            raise BadRequest("The Connection header of a handshake must contain Upgrade.")
        raise UpgradeRequired
    if environ.get("SERVER_PROTOCOL", "HTTP/1.1") < "HTTP/1.1":
        raise BadRequest("A WebSocket handshake needs HTTP/1.1 or later.")
    if environ.get("CONTENT_LENGTH", "") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ:
        # The bytes of a body would be read as frames.
        raise BadRequest("A WebSocket handshake has no body.")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != VERSION:
        raise UpgradeRequired(f"Sec-WebSocket-Version must be {VERSION}.")
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64.")
    subprotocols: tuple[str, ...] = ()
    offered = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL")
    if offered is not None:
        try:
            subprotocols = tuple(parse_subprotocol(offered))
        except InvalidHeader as error:
            raise BadRequest("Sec-WebSocket-Protocol is not a list of tokens.") from error
    return Offer(key, subprotocols, environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", ""))


def _has_token(header: str | None, token: str) -> bool:
    if not header:
        return False
    header = header.lower()
    return header == token or token in [one.strip() for one in header.split(",")]
