"""The test client: connects to an application's WebSockets without a server."""

from __future__ import annotations

import json
import socket
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flask.signals import got_request_exception

from ..close_codes import ABNORMAL_CLOSURE, NORMAL_CLOSURE
from ..common.json_text import dump_text
from ..exceptions import ConnectionClosed
from ..servers.testing import PairTransport
from ..typing import Message, Sendable
from .frames import FrameSocket

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

#: Seconds that an operation may take, unless the test gives another timeout.
TIMEOUT = 5.0


class WebSocketTestClient:
    """The client's side of one WebSocket. :func:`websocket_connect` makes it.

    Leaving its ``with`` block closes the connection, and waits until ``on_close`` has run.

    :param app: the application.
    :param sock: the client's socket.
    :param transport: the server's side.
    """

    def __init__(self, app: Flask, sock: socket.socket, transport: PairTransport) -> None:
        self._app = app
        self._frames = FrameSocket(sock, TIMEOUT)
        self._transport = transport
        self._errors: list[Exception] = []
        #: The handshake's response, with the status 101 Switching Protocols.
        self.response: TestResponse
        got_request_exception.connect(self._note_error, app)

    def __enter__(self) -> WebSocketTestClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        self._end()
        if error is None:
            self._raise_errors()

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server has chosen."""
        return self.response.headers.get("Sec-WebSocket-Protocol")

    @property
    def close_code(self) -> int | None:
        """The code of the server's close frame; 1006 Abnormal Closure if it sent none.

        ``None`` while the connection is open.
        """
        close = self._frames.close_frame
        if close is not None:
            return int(close.code)
        return ABNORMAL_CLOSURE if self._frames.is_over else None

    @property
    def close_reason(self) -> str | None:
        """The reason in the server's close frame, empty if it sent none.

        ``None`` while the connection is open.
        """
        close = self._frames.close_frame
        if close is not None:
            return close.reason
        return "" if self._frames.is_over else None

    # -- sending ----------------------------------------------------------------------------------

    def send(self, message: Sendable) -> None:
        """Send a message.

        :param message: ``str`` is sent as text, anything bytes-like as binary.
        :raises ConnectionClosed: if the server has closed the connection.
        """
        self._frames.read(0.0)
        if not self._frames.is_open:
            raise self._closed()
        self._frames.send_message(message)

    def send_json(self, value: Any) -> None:
        """Send *value* as JSON, made by the application's JSON provider."""
        self.send(dump_text(self._app.json.dumps, value))

    def ping(self, data: bytes = b"") -> None:
        """Send a Ping. The answering Pong is ignored."""
        self._frames.send_ping(data)

    # -- receiving --------------------------------------------------------------------------------

    def receive(self, timeout: float = TIMEOUT) -> Message:
        """Wait for the next message and return it.

        :param timeout: seconds; 0 or less returns only a message that has already arrived.
        :raises TimeoutError: if no message arrives in time.
        :raises ConnectionClosed: if the server closes the connection.
        :raises Exception: an exception that a hook has raised, if the application propagates
            exceptions, as it does when ``TESTING`` is set.
        """
        frames = self._frames
        deadline = monotonic() + timeout
        while not frames.messages:
            if frames.is_over or frames.close_frame is not None:
                self._end()
                self._raise_errors()
                raise self._closed()
            left = deadline - monotonic()
            # A message may take several reads.
            if not frames.read(left) and left <= 0:
                self._raise_errors()
                raise TimeoutError(f"no message within {timeout:g} s")
        return frames.messages.popleft()

    def receive_json(self, timeout: float = TIMEOUT) -> Any:
        """Wait for the next message and return its JSON value.

        :raises AssertionError: if the message isn't JSON; also raises what :meth:`receive` does.
        """
        message = self.receive(timeout)
        try:
            return json.loads(message)
        except ValueError as error:
            raise AssertionError(f"the message isn't JSON: {message!r}") from error

    def receive_nothing(self, timeout: float = 0.1) -> None:
        """Check that no message arrives within *timeout* seconds.

        :raises AssertionError: if one does.
        """
        try:
            message = self.receive(timeout)
        except TimeoutError:
            return
        raise AssertionError(f"a message came: {message!r}")

    # -- closing ----------------------------------------------------------------------------------

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection, and wait for the server's close frame."""
        frames = self._frames
        if frames.is_open and not frames.is_over:
            frames.send_close(code, reason)
        deadline = monotonic() + TIMEOUT
        while not frames.is_over and frames.close_frame is None and monotonic() < deadline:
            frames.read(deadline - monotonic())

    def assert_closed(
        self, code: int | None = None, reason: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Check that the server closes the connection, with this code and reason if given.

        :raises AssertionError: if the server doesn't close in time, closes with another code or
            reason, or sends a message first.
        """
        try:
            message = self.receive(timeout)
        except TimeoutError:
            raise AssertionError(f"the server hasn't closed within {timeout:g} s") from None
        except ConnectionClosed:
            found = (self.close_code, self.close_reason)
            if code is not None and found[0] != code:
                raise AssertionError(f"closed with {found}, not {code}") from None
            if reason is not None and found[1] != reason:
                raise AssertionError(f"closed with {found}, not {reason!r}") from None
        else:
            raise AssertionError(f"a message came before the end: {message!r}")

    def vanish(self) -> None:
        """Disconnect without a close frame, as a client does that loses its network."""
        self._end()

    def _closed(self) -> ConnectionClosed:
        return ConnectionClosed(self.close_code or ABNORMAL_CLOSURE, self.close_reason or "")

    def _end(self) -> None:
        """Close the socket, and wait until the server has finished with the connection."""
        self._frames.close()
        is_released = self._transport.released.wait(TIMEOUT)
        got_request_exception.disconnect(self._note_error, self._app)
        if not is_released:
            raise TimeoutError(f"the server is still busy with the connection after {TIMEOUT:g} s")

    def _give_up(self) -> None:
        """Close the socket of a handshake that failed."""
        got_request_exception.disconnect(self._note_error, self._app)
        self._frames.close()

    # -- the application's exceptions -------------------------------------------------------------

    def _note_error(self, sender: Flask, exception: Exception, **more: Any) -> None:
        self._errors.append(exception)

    def _raise_errors(self) -> None:
        app = self._app
        propagates = app.config["PROPAGATE_EXCEPTIONS"]
        if propagates is None:
            propagates = app.testing or app.debug
        if self._errors and propagates:
            raise self._errors.pop(0)
