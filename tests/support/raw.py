"""A client that sends any bytes and frames, valid or not."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Generator

from websockets.frames import Close, Frame, Opcode

from support.servers import Server

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # for KEY, RFC 6455 1.3


class RawClient:
    """A TCP connection to a server, with the handshake and single frames."""

    def __init__(self, server: Server, timeout: float = 10.0, host: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection((host, server.port), timeout)
        self._server = server
        self._buffer = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def request(
        self, path: str, headers: dict[str, str | None] | None = None, line: str | None = None
    ) -> tuple[int, list[tuple[str, str]]]:
        """Send a handshake without the headers that are ``None``. Return status and headers."""
        self.sock.sendall(request(path, self._server, headers, line))
        return self.read_head()

    def read_head(self) -> tuple[int, list[tuple[str, str]]]:
        """Read a response's status and headers."""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *rest = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in rest]
        fields = [(name.lower(), value) for name, value in pairs]
        self._content_length = next(
            (int(value) for name, value in fields if name == "content-length"), None
        )
        return int(status.split()[1]), fields

    def open(self, path: str, headers: dict[str, str | None] | None = None) -> RawClient:
        status, _ = self.request(path, headers)
        assert status == 101, (status, self.body())
        return self

    def body(self) -> bytes:
        """Return the body of the last response. Without a length it ends when the server closes."""
        with contextlib.suppress(EOFError):
            while self._content_length is None or len(self._buffer) < self._content_length:
                self._fill()
        body, self._buffer = self._buffer, b""
        return body

    def send(self, opcode: Opcode, data: bytes | str = b"", *, fin: bool = True) -> None:
        self.sock.sendall(frame(opcode, data, fin=fin))

    def recv(self) -> Frame:
        """Return the next frame. Raise ``EOFError`` at the end, ``TimeoutError`` if none comes."""
        parser = Frame.parse(self._read_exact, mask=False)
        while True:
            try:
                next(parser)
            except StopIteration as stop:
                return stop.value
            self._fill()

    def recv_message(self) -> bytes:
        """Return the payload of the next frame, skipping Pings and Pongs."""
        while True:
            received = self.recv()
            if received.opcode not in (Opcode.PING, Opcode.PONG):
                return bytes(received.data)

    def recv_close(self) -> Close:
        """Return the close frame, which must be the next frame except for Pings."""
        while True:
            received = self.recv()
            if received.opcode is Opcode.CLOSE:
                return Close.parse(received.data)
            assert received.opcode is Opcode.PING, received

    def reset(self) -> None:
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def at_eof(self) -> bool:
        try:
            self._fill()
        except EOFError:
            return True
        return False

    def _read_exact(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < count:
            yield
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data


def request(
    path: str,
    server: Server,
    headers: dict[str, str | None] | None = None,
    line: str | None = None,
) -> bytes:
    """Return the bytes of a handshake, without the headers that are ``None``."""
    fields: dict[str, str | None] = {
        "Host": f"127.0.0.1:{server.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [line or f"GET {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(opcode: Opcode, data: bytes | str = b"", *, fin: bool = True) -> bytes:
    payload = data.encode() if isinstance(data, str) else data
    return Frame(opcode, payload, fin).serialize(mask=True)


def close_frame(code: int, reason: str = "") -> bytes:
    return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=True)


#: The bytes that a client has sent when it vanishes, by the moment.
VANISHING = {
    "idle": b"",
    "in a header": b"\x81",
    "in a frame": frame(Opcode.TEXT, "never comes to its end")[:10],
    "in a large frame": frame(Opcode.BINARY, b"x" * 100_000)[:50_000],
    "in a message": frame(Opcode.TEXT, "begun", fin=False),
    "after a Ping": frame(Opcode.PING, b"are you there?"),
}
