"""Looks for bytes that break the frame path or the handshake: ``make fuzz``.

``python tests/fuzz/fuzz.py connection|handshake|messages [SECONDS]`` lets atheris make inputs,
guided by what they reach. It ends with an error, and leaves a file with the input, if one raises
what it may not, if the short way for plain frames says something else than the long one, or if
something is kept that should not be.
"""

from __future__ import annotations

import json
import sys

import atheris

with atheris.instrument_imports(include=["flask_wsviews", "websockets"]):
    from marshmallow import Schema, fields
    from werkzeug.exceptions import HTTPException

    from flask_wsviews import InvalidMessage, WebSocketView, message
    from flask_wsviews.config import Settings
    from flask_wsviews.protocol.connection import Connection
    from flask_wsviews.protocol.opening import check_request
    from flask_wsviews.protocol.origin import check_origin
    from flask_wsviews.protocol.response import negotiate_extensions

SETTINGS = Settings(
    max_message_size=1000, max_fragments=20, max_receive_buffer=4000, compression=True
)


def story(chunks: list[bytes], *, takes_plain: bool, deflate: bool) -> list[object]:
    """What a connection makes of chunks of bytes."""
    extensions = []
    if deflate:
        offer = check_request({**ENVIRON, "HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate"})
        extensions, _ = negotiate_extensions(offer, SETTINGS)
    connection = Connection(SETTINGS, 0.0, extensions=extensions)
    connection.takes_plain = takes_plain
    told: list[object] = []
    written = b""
    for number, chunk in enumerate(chunks):
        now = float(number)
        connection.receive_data(chunk, now)
        while (received := connection.next_message()) is not None:
            told.append(received)
        while output := connection.output():
            written += output
            connection.output_written(len(output), now)
        assert len(connection._buffer) <= 2100 + len(chunk), len(connection._buffer)
    connection.receive_eof(99.0)
    connection.tick(99.0)
    while (received := connection.next_message()) is not None:
        told.append(received)
    return [*told, written, connection.state, connection.close_code]


def fuzz_connection(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    deflate = provider.ConsumeBool()
    chunks = []
    while provider.remaining_bytes():
        chunks.append(provider.ConsumeBytes(provider.ConsumeIntInRange(1, 200)))
    chunks = [chunk for chunk in chunks if chunk]
    short = story(chunks, takes_plain=True, deflate=deflate)
    assert short == story(chunks, takes_plain=False, deflate=deflate)


ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "PATH_INFO": "/",
    "HTTP_HOST": "example.org",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}
HEADERS = [
    "HTTP_UPGRADE",
    "HTTP_CONNECTION",
    "HTTP_SEC_WEBSOCKET_KEY",
    "HTTP_SEC_WEBSOCKET_VERSION",
    "HTTP_SEC_WEBSOCKET_PROTOCOL",
    "HTTP_SEC_WEBSOCKET_EXTENSIONS",
    "HTTP_ORIGIN",
    "SERVER_PROTOCOL",
    "REQUEST_METHOD",
]


def fuzz_handshake(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    environ = dict(ENVIRON)
    for name in HEADERS:
        if provider.ConsumeBool():
            environ[name] = provider.ConsumeBytes(60).decode("latin-1")
    try:
        offer = check_request(environ)
        check_origin(environ, "https://example.org", frozenset(), frozenset())
        _, header = negotiate_extensions(offer, SETTINGS)
    except HTTPException:
        return
    assert header is None or header.isprintable()
    assert all(name.isprintable() for name in offer.subprotocols)


class Say(Schema):
    """Some of what fields can be."""

    text = fields.Str(required=True)
    number = fields.Int()
    when = fields.DateTime()
    tags = fields.List(fields.Str())


class View(WebSocketView):
    """Takes messages by their type."""

    @message("say", schema=Say)
    def say(self, ws, data):
        """Does nothing."""


def fuzz_messages(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    text = provider.ConsumeUnicodeNoSurrogates(400)
    if provider.ConsumeBool():
        text = json.dumps({"type": "say", "text": text, "number": text[:5], "ref": text[5:9]})
    try:
        View.protocol.take(text, json.loads)
    except InvalidMessage:
        return


TARGETS = {"connection": fuzz_connection, "handshake": fuzz_handshake, "messages": fuzz_messages}


def main() -> None:
    name = sys.argv[1]
    seconds = sys.argv[2] if len(sys.argv) > 2 else "60"
    options = [f"-max_total_time={seconds}", "-max_len=2000", "-timeout=10", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
