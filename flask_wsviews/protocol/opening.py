"""The opening handshake (RFC 6455 4.2): what is checked, chosen, and answered.

A refusal is a Werkzeug HTTP exception, so that an application's error pages apply to it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension, parse_subprotocol
from websockets.utils import accept_key
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed

from ..common.origins import NULL, difference, is_among, normal_origin
from ..config import Settings
from ..typing import Environ

VERSION = "13"

STATUS = "101 Switching Protocols"

# How much of a foreign header is shown.
_SHOWN = 200

_LINE_BREAKS = frozenset("\r\n\0")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# A tab is allowed in a value.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# What the 101 says for itself, and what belongs to a body that it doesn't have.
_OWN_HEADERS = frozenset(
    (
        "connection",
        "content-length",
        "content-type",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "transfer-encoding",
        "upgrade",
    )
)


class UpgradeRequired(HTTPException):
    """426: the resource speaks WebSocket only, or not this version of it."""

    code = 426
    description = "This resource is a WebSocket. Connect to it with a WebSocket client."

    def get_headers(self, *args: object, **kwargs: object) -> list[tuple[str, str]]:
        """The usual headers, and what to upgrade to (RFC 9110 15.5.22, RFC 6455 4.4)."""
        return [
            *super().get_headers(),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", VERSION),
        ]


@dataclass(frozen=True)
class Offer:
    """What a client's valid handshake asks for.

    :param key: its ``Sec-WebSocket-Key``.
    :param subprotocols: what it offers, in its order of preference.
    :param extensions: its ``Sec-WebSocket-Extensions`` header.
    """

    key: str
    subprotocols: tuple[str, ...]
    extensions: str


def asks_for_websocket(environ: Environ) -> bool:
    """Whether a request has ``websocket`` among the protocols that it wants to upgrade to."""
    return _has_token(environ.get("HTTP_UPGRADE"), "websocket")


def is_handshake(environ: Environ) -> bool:
    """Whether a request means to become a WebSocket: both header fields are token lists."""
    return asks_for_websocket(environ) and _has_token(environ.get("HTTP_CONNECTION"), "upgrade")


def check_request(environ: Environ) -> Offer:
    """Check a handshake request against RFC 6455 4.2.1.

    :raises werkzeug.exceptions.HTTPException: 405, 426 or 400 with what is wrong.
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
        # Its bytes would be taken for frames.
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


def check_origin(environ: Environ, own: str, *allowed: frozenset[str] | str) -> None:
    """Refuse a page of another site (RFC 6455 10.2). Clients that aren't browsers send no Origin.

    :param own: the application's own origin, as its clients see it.
    :param allowed: sets of further origins, or ``"*"``.
    :raises werkzeug.exceptions.Forbidden: if the origin is neither.
    """
    header = environ.get("HTTP_ORIGIN")
    if header is None or "*" in allowed:
        return
    # Browsers send ASCII; others may send UTF-8, which a WSGI server takes for Latin-1.
    text = header if header.isascii() else _as_utf_8(header)
    origin = NULL if text == NULL else normal_origin(text)
    own_origin = normal_origin(own)
    sets = [one for one in allowed if not isinstance(one, str)]
    # What has been trimmed isn't the header any more.
    if origin is not None and text != text.strip():
        origin = None
    if origin is not None and (origin == own_origin or is_among(origin, sets)):
        return
    raise Forbidden(_why_refused(text[:_SHOWN], origin, own, own_origin))


def _as_utf_8(header: str) -> str:
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _why_refused(header: str, origin: str | None, own: str, own_origin: str | None) -> str:
    text = f"The handshake's Origin is {header!r}, but this application's own origin is {own!r}. "
    if origin and own_origin and (parts := difference(origin, own_origin)):
        verb = "differ" if " and " in parts else "differs"
        text += (
            f"Only the {parts} {verb}. Behind a proxy, have it pass on the scheme and the Host "
            "(with its port) that the client uses, and wrap app.wsgi_app in ProxyFix with "
            "x_proto=1, x_host=1 and x_port=1 where the proxy sets these headers. "
        )
    return f"{text}Pages of other origins may connect if WSVIEWS_ALLOWED_ORIGINS contains them."


def choose_subprotocol(supported: Sequence[str], offer: Offer) -> str | None:
    """The first subprotocol of ours that the client offers, or ``None`` (RFC 6455 4.2.2)."""
    return next((name for name in supported if name in offer.subprotocols), None)


def negotiate_extensions(
    offer: Offer, settings: Settings, compression: bool | None = None
) -> tuple[list[Extension], str | None]:
    """What is used of the client's extensions, and the header that says so (RFC 7692 5).

    :param compression: in place of what the settings say.
    :raises werkzeug.exceptions.BadRequest: if the header can't be parsed.
    """
    if compression is None:
        compression = settings.compression
    if not offer.extensions or not compression:
        return [], None
    bits = settings.compression_window_bits
    fresh = not settings.compression_context_takeover
    factory = ServerPerMessageDeflateFactory(
        server_no_context_takeover=fresh,
        client_no_context_takeover=fresh,
        server_max_window_bits=bits,
        # The client's only where it has said that it can: otherwise its window takes 32 KiB.
        client_max_window_bits=bits,
        compress_settings={"level": settings.compression_level, "memLevel": min(9, bits - 7)},
    )
    try:
        offered = parse_extension(offer.extensions)
    except InvalidHeader as error:
        raise BadRequest("Sec-WebSocket-Extensions is not a list of extensions.") from error
    for name, parameters in offered:
        if name != factory.name:
            continue
        try:
            accepted, extension = factory.process_request_params(parameters, [])
        except NegotiationError:
            continue
        return [extension], build_extension([(name, accepted)])
    return [], None


def response_fields(
    offer: Offer,
    subprotocol: str | None,
    extensions: str | None,
    headers: Collection[tuple[str, str]] = (),
) -> list[tuple[str, str]]:
    """The header fields of the 101 (RFC 6455 4.2.2).

    :param headers: what the application adds; fields that the handshake sets itself are left out.
    :raises ValueError: if one can't be sent; see :func:`check_field`.
    """
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(offer.key)),
    ]
    if subprotocol is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    if extensions is not None:
        fields.append(("Sec-WebSocket-Extensions", extensions))
    for name, value in (*fields, *headers):
        check_field(name, value)
    return fields + [field for field in headers if field[0].lower() not in _OWN_HEADERS]


def check_field(name: str, value: str) -> None:
    """Check a header field (RFC 9110 5.5 and 5.6.2).

    :raises ValueError: naming the header, if it isn't text, the name isn't a token, or the value
        contains control characters or what isn't in Latin-1.
    """
    if not (isinstance(name, str) and isinstance(value, str)):
        raise ValueError(f"the header {name!r} must be text, not {value!r}")
    if not _LINE_BREAKS.isdisjoint(name + value):
        raise ValueError(f"the header {name!r} contains a line break: {value!r}")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"the header name {name!r} isn't a token (RFC 9110)")
    if _CONTROLS.search(value):
        raise ValueError(f"the header {name} contains a control character: {value!r}")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the header {name} contains characters that aren't in Latin-1: {value!r}. "
            "Encode it, for instance with urllib.parse.quote()"
        ) from error


def serialize_response(fields: Iterable[tuple[str, str]]) -> bytes:
    """The 101 as it goes over the wire."""
    lines = [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([f"HTTP/1.1 {STATUS}", *lines, "", ""]).encode("latin-1")


def _has_token(header: str | None, token: str) -> bool:
    if not header:
        return False
    header = header.lower()
    return header == token or token in [one.strip() for one in header.split(",")]
