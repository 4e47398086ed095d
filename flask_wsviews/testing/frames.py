"""The client's end of a connection: messages out and in as frames, over a socket."""

from __future__ import annotations

import socket
from collections import deque

from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side, State

from ..typing import Message, Sendable

# The longest timeout of one read. A socket takes no much longer one, such as infinity; callers read
# again.
LONGEST_READ = 3600.0


class FrameSocket:
    """Sends and receives frames as a client. Pings are answered, Pongs are ignored.

    :param sock: the client's socket.
    :param write_timeout: seconds that the server may take to read what is sent.
    """

    def __init__(self, sock: socket.socket, write_timeout: float) -> None:
        self._sock = sock
        self._write_timeout = write_timeout
        self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        self._parts: list[Frame] = []
        #: The messages that have arrived.
        self.messages: deque[Message] = deque()
        #: Whether nothing more can be read.
        self.is_over = False

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._protocol.state is State.OPEN

    @property
    def close_frame(self) -> Close | None:
        """The server's close frame; ``None`` before it arrives."""
        return self._protocol.close_rcvd

    def send_message(self, message: Sendable) -> None:
        """Send a message as a frame."""
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(bytes(message))
        self._write()

    def send_ping(self, data: bytes) -> None:
        """Send a Ping."""
        self._protocol.send_ping(data)
        self._write()

    def send_close(self, code: int, reason: str) -> None:
        """Send a close frame."""
        self._protocol.send_close(code, reason)
        self._write()

    def read(self, timeout: float) -> bool:
        """Read once, waiting at most *timeout* seconds, and return whether anything arrived.

        :raises AssertionError: if the server breaks the protocol.
        """
        if self.is_over:
            return False
        self._sock.settimeout(min(max(timeout, 0.0), LONGEST_READ))
        try:
            data = self._sock.recv(65536)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self.is_over = True
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            self._take(frame)
        self._write()
        error = self._protocol.parser_exc
        if isinstance(error, ProtocolError):
            self.is_over = True
            raise AssertionError(f"the server breaks the protocol: {error}") from error
        return True

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
        self.is_over = True

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if not data:
                continue
            self._sock.settimeout(self._write_timeout)
            try:
                self._sock.sendall(data)
            except TimeoutError:
                raise TimeoutError("the server doesn't read what is sent") from None
            except OSError:
                # The server has gone, but what it sent before can still be read.
                return

    def _take(self, frame: Frame) -> None:
        """Put a frame's message into the queue, once its last fragment has arrived."""
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        self._parts.append(frame)
        if not frame.fin:
            return
        data = b"".join(bytes(part.data) for part in self._parts)
        is_text = self._parts[0].opcode is Opcode.TEXT
        self._parts.clear()
        self.messages.append(data.decode() if is_text else data)
