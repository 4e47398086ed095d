"""The server's opening handshake (RFC 6455 4.2.2): choose from the offer and write the 101."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension
from websockets.utils import accept_key
from werkzeug.exceptions import BadRequest

from ..config import Settings
from .opening import Offer

STATUS = "101 Switching Protocols"

_LINE_BREAKS = frozenset("\r\n\0")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# RFC 9110 5.5 allows a tab in a value.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# Fields that the handshake sets, and fields of a body, which a 101 doesn't have.
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


def choose_subprotocol(supported: Sequence[str], offer: Offer) -> str | None:
    """Return the first supported subprotocol that the client offers, or ``None``."""
    return next((name for name in supported if name in offer.subprotocols), None)


def negotiate_extensions(
    offer: Offer, settings: Settings, compression: bool | None = None
) -> tuple[list[Extension], str | None]:
    """Return the extensions to use and the header that announces them (RFC 7692 5).

    :param compression: whether to compress; ``None`` for the setting.
    :raises werkzeug.exceptions.BadRequest: if the client's header can't be parsed.
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
        # Ignored unless the client has offered it. Its window takes 32 KiB then.
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
    """Return the header fields of the 101 Switching Protocols.

    :param headers: fields of the application. Those that the handshake sets itself are left out.
    :raises ValueError: if :func:`check_field` refuses one.
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

    :raises ValueError: if the name or the value isn't text, the name isn't a token, or the value
        contains control characters or characters outside Latin-1. The message names the header.
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
            f"the header {name} contains characters outside Latin-1: {value!r}. "
            "Encode it, for example with urllib.parse.quote()"
        ) from error


def serialize_response(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return the bytes of the 101 Switching Protocols."""
    lines = [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([f"HTTP/1.1 {STATUS}", *lines, "", ""]).encode("latin-1")
