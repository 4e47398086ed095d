"""A handshake with a running server, like a browser's, and a Ping."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic
from urllib.parse import SplitResult

_CLOSE, _PING, _PONG = 8, 9, 10

# How long the closing handshake may take, in seconds. Its outcome doesn't matter.
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class Answer:
    """A server's answer.

    :param status: the HTTP status, or ``None`` without an answer.
    :param location: the target of a redirect.
    :param is_open: whether the server answered a Ping.
    :param close_code: the code of a close frame that came instead of the Pong.
    :param close_reason: the reason in that frame.
    :param error: why there was no answer to the handshake or the Ping.
    """

    status: int | None = None
    location: str | None = None
    is_open: bool = False
    close_code: int | None = None
    close_reason: str = ""
    error: str = ""


def probe(
    url: SplitResult, origin: str, headers: Sequence[tuple[str, str]], seconds: float
) -> Answer:
    """Open a WebSocket, send a Ping, wait for the Pong and close.

    :param headers: additional headers. Several cookies become one header.
    :param seconds: how long each answer may take.
    """
    try:
        stream = _Stream(url, seconds)
    except OSError as error:
        return Answer(error=str(error) or type(error).__name__)
    with contextlib.closing(stream):
        try:
            stream.send(_request(url, origin, headers))
            answer = _read_head(stream)
        except EOFError:
            return Answer(error="the connection is closed without an answer")
        except (OSError, ValueError) as error:
            return Answer(error=str(error) or type(error).__name__)
        if answer.status != 101:
            return answer
        try:
            stream.wait(seconds)
            stream.send(_frame(_PING, b"ping"))
            return _read_pong(stream, answer)
        except TimeoutError:
            return replace(answer, error="a Ping isn't answered")
        except (OSError, EOFError):
            return replace(answer, error="the connection ends without a close frame (1006)")


class _Stream:
    """A connection to the server, with a deadline for reading."""

    def __init__(self, url: SplitResult, seconds: float) -> None:
        secure = url.scheme in ("wss", "https")
        host = url.hostname or ""
        self._sock = socket.create_connection((host, url.port or (443 if secure else 80)), seconds)
        if secure:
            try:
                context = ssl.create_default_context()
                self._sock = context.wrap_socket(self._sock, server_hostname=host)
            except BaseException:
                self._sock.close()
                raise
        self._buffer = b""
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Allow so many seconds for the next answer."""
        self._deadline = monotonic() + seconds

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def _fill(self) -> None:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self._sock.settimeout(left)
        data = self._sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data

    def read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._fill()
        data, _, self._buffer = self._buffer.partition(end)
        return data

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def close(self) -> None:
        self._sock.close()


def _request(url: SplitResult, origin: str, headers: Sequence[tuple[str, str]]) -> bytes:
    fields = {
        "Host": url.netloc.rpartition("@")[2],
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Origin": origin,
    }
    names = {name.lower(): name for name in fields}
    for name, value in headers:
        known = names.setdefault(name.lower(), name)
        is_further_cookie = known.lower() == "cookie" and known in fields
        fields[known] = f"{fields[known]}; {value}" if is_further_cookie else value
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _read_head(stream: _Stream) -> Answer:
    """Read the status, and the headers that matter.

    :raises ValueError: if it isn't HTTP.
    """
    status, *lines = stream.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    version, _, rest = status.partition(" ")
    if not version.startswith("HTTP/") or not rest[:3].isdigit():
        raise ValueError(f"the answer isn't HTTP: {status[:80]!r}")
    pairs = [line.partition(":") for line in lines]
    fields = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(int(rest[:3]), fields.get("location"))


def _read_pong(stream: _Stream, answer: Answer) -> Answer:
    """Read frames up to the Pong, then close the connection."""
    while True:
        opcode, payload = _read_frame(stream)
        if opcode == _CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            return replace(
                answer, close_code=code, close_reason=payload[2:].decode(errors="replace")
            )
        if opcode == _PONG:
            break
    with contextlib.suppress(OSError, EOFError):
        stream.wait(_CLOSE_SECONDS)
        stream.send(_frame(_CLOSE, (1000).to_bytes(2, "big")))
        while opcode != _CLOSE:
            opcode, _ = _read_frame(stream)
    return replace(answer, is_open=True)


def _frame(opcode: int, payload: bytes) -> bytes:
    # A client must mask its frames. A mask of zeros is enough here.
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


def _read_frame(stream: _Stream) -> tuple[int, bytes]:
    first, size = stream.read(2)
    if size >= 126:
        size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
    return first & 0x0F, stream.read(size)
