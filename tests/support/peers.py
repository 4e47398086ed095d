"""The client's end of a connection under test: makes valid and invalid frames, and reads ours."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterable
from typing import Any

from flask import Flask
from hypothesis import settings
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side
from websockets.protocol import State as ProtocolState

from flask_wsviews.client import WebSocketClient
from flask_wsviews.config import Settings
from flask_wsviews.protocol.connection import Connection
from flask_wsviews.typing import Message, Sendable

MASK = bytes.fromhex("37fa213d")

EURO = "\N{EURO SIGN}".encode()  # three bytes
GRIN = "\N{GRINNING FACE}".encode()  # four bytes

# RFC 6455 1.3
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

UPGRADE_HEADERS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}

#: For property tests: few examples, no clock, nothing written to disk.
bounded = settings(max_examples=75, deadline=None, database=None)


# -- what a client sends ------------------------------------------------------------------------


def frame(
    opcode: int,
    payload: str | bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    announced: int | None = None,
) -> bytes:
    """Return a frame as it goes over the wire. It may be invalid.

    :param rsv: the three reserved bits as a number.
    :param announced: the length in the header, by default the real one.
    """
    data = payload.encode() if isinstance(payload, str) else payload
    length = len(data) if announced is None else announced
    head = bytes((fin << 7 | rsv << 4 | opcode,))
    bit = masked << 7
    if length < 126:
        head += bytes((bit | length,))
    elif length < 1 << 16:
        head += struct.pack("!BH", bit | 126, length)
    else:
        head += struct.pack("!BQ", bit | 127, length)
    if not masked:
        return head + data
    return head + MASK + bytes(byte ^ MASK[i % 4] for i, byte in enumerate(data))


def text(payload: str | bytes, **options: Any) -> bytes:
    return frame(Opcode.TEXT, payload, **options)


def binary(payload: bytes, **options: Any) -> bytes:
    return frame(Opcode.BINARY, payload, **options)


def more(payload: str | bytes, **options: Any) -> bytes:
    return frame(Opcode.CONT, payload, **options)


def ping(payload: bytes = b"", **options: Any) -> bytes:
    return frame(Opcode.PING, payload, **options)


def pong(payload: bytes = b"", **options: Any) -> bytes:
    return frame(Opcode.PONG, payload, **options)


def close(code: int | None = None, reason: str | bytes = b"") -> bytes:
    """Return a close frame; without a code, an empty one."""
    return frame(Opcode.CLOSE, close_payload(code, reason))


def close_payload(code: int | None = None, reason: str | bytes = b"") -> bytes:
    data = reason.encode() if isinstance(reason, str) else reason
    return b"" if code is None else struct.pack("!H", code) + data


# -- what the server sends ----------------------------------------------------------------------


def frames_in(data: bytes) -> list[Frame]:
    """Return the unmasked frames in *data*. An incomplete frame is an error."""
    buffer = bytearray(data)

    def read_exact(count: int) -> Generator[None, None, bytes]:
        if len(buffer) < count:
            raise EOFError(f"{len(buffer)} bytes of {count}")
        part = bytes(buffer[:count])
        del buffer[:count]
        return part
        yield

    frames = []
    while buffer:
        try:
            next(Frame.parse(read_exact, mask=False))
        except StopIteration as stop:
            frames.append(stop.value)
    return frames


def sent_text(payload: str) -> tuple[Opcode, bytes]:
    return Opcode.TEXT, payload.encode()


def sent_close(code: int | None = None, reason: str = "") -> tuple[Opcode, bytes]:
    return Opcode.CLOSE, close_payload(code, reason)


# -- both together ------------------------------------------------------------------------------


class Peer:
    """The client's end of a connection, and the clock of its engine.

    :param settings: the settings that differ from the defaults.
    """

    def __init__(
        self, *, preface: bytes = b"", extensions: Any = (), rates: Any = (), **settings: Any
    ) -> None:
        self.now = 1000.0
        self.connection = Connection(
            Settings(**settings), self.now, preface=preface, extensions=extensions, rates=rates
        )

    def feed(self, *chunks: bytes) -> None:
        """Feed each chunk as the result of one read."""
        for chunk in chunks:
            self.connection.receive_data(chunk, self.now)

    def feed_bytes(self, data: bytes) -> None:
        """Feed each byte as a separate read."""
        self.feed(*(data[i : i + 1] for i in range(len(data))))

    def hang_up(self) -> None:
        self.connection.receive_eof(self.now)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.connection.close(code, reason, self.now)

    def sleep(self, seconds: float) -> None:
        """Advance the clock, then handle the deadlines that have passed."""
        self.now += seconds
        self.connection.tick(self.now)

    def take(self) -> list[Message]:
        """Take messages until there are no more, and return them."""
        return list(self.messages())

    def messages(self) -> Iterable[Message]:
        while (message := self.connection.next_message()) is not None:
            yield message

    def written(self) -> bytes:
        """Take all output, as a kernel with unlimited buffers does."""
        parts = []
        while chunk := self.connection.output():
            parts.append(bytes(chunk))
            self.connection.output_written(len(chunk), self.now)
        return b"".join(parts)

    def sent(self) -> list[tuple[Opcode, bytes]]:
        """Return the frames that the server has sent since the last call."""
        return [(frame.opcode, bytes(frame.data)) for frame in frames_in(self.written())]

    def sent_close(self) -> Close:
        """Return the only frame that the server has sent: its close frame."""
        [(opcode, payload)] = self.sent()
        assert opcode is Opcode.CLOSE
        return Close.parse(payload)


# -- permessage-deflate -------------------------------------------------------------------------


def deflated(**settings: Any) -> tuple[Peer, Protocol]:
    """A connection with compression, and a client that has negotiated the same."""
    client_factory = ClientPerMessageDeflateFactory()
    offer = client_factory.get_request_params()
    answer, server_side = ServerPerMessageDeflateFactory().process_request_params(offer, [])
    client = websockets_client()
    client.extensions = [client_factory.process_response_params(answer, [])]
    return Peer(extensions=[server_side], **settings), client


def websockets_client() -> Protocol:
    return Protocol(Side.CLIENT, state=ProtocolState.OPEN, max_size=None)


# -- handshakes ---------------------------------------------------------------------------------


def handshake_environ(**changes: Any) -> dict[str, Any]:
    """Return the environment of a valid handshake request; ``None`` removes a variable."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": "/",
        "HTTP_HOST": "example.org",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_UPGRADE": "websocket",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
        **changes,
    }
    return {name: value for name, value in environ.items() if value is not None}


class FakeDriver:
    """A driver without a socket. It never waits for bytes."""

    fd = 99

    #: Whether it parks a conversation that has nothing to do.
    parks = False

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.connection = peer.connection
        self.timeouts: list[float | None] = []

    def wait_for_news(self) -> bool:
        return not self.parks or self.connection.has_news

    def receive(self, timeout: float | None = None) -> Message | None:
        self.timeouts.append(timeout)
        return self.connection.next_message()

    def receive_nowait(self) -> Message | None:
        return self.connection.next_message()

    def send(self, message: Sendable) -> None:
        self.connection.send(message)

    def close(self, code: int, reason: str) -> None:
        self.peer.close(code, reason)


def open_client(app: Flask, environ: dict[str, Any] | None = None) -> tuple[WebSocketClient, Peer]:
    """Return a client object as hooks get it, and its peer."""
    peer = Peer()
    client = WebSocketClient(environ or handshake_environ())
    client.app = app
    client._open(FakeDriver(peer))
    return client, peer
