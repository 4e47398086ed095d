"""The testing client: a Flask test client's handshake, and frames over a pair of sockets."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flask.signals import got_request_exception
from flask.testing import EnvironBuilder
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from ..app_state import EXTENSION
from ..close_codes import ABNORMAL_CLOSURE, NORMAL_CLOSURE
from ..common.json_text import dump_text
from ..exceptions import ConnectionClosed
from ..servers.testing import TRANSPORT, PairTransport
from ..typing import Message, Sendable

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from ..extension import WebSocket

#: Seconds that anything may take unless the test says otherwise.
TIMEOUT = 5.0

# A socket takes no timeout that is much longer, such as infinity; who waits looks again then.
_LONGEST_READ = 3600.0


class HandshakeRejected(Exception):
    """The handshake was answered with something else than the 101.

    :param response: that answer, as the Flask test client returns them.
    """

    def __init__(self, response: TestResponse) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        text = self.response.get_data(as_text=True)[:200]
        return f"the handshake was answered with {self.response.status}: {text}"

    @property
    def status_code(self) -> int:
        """The response's status."""
        return self.response.status_code


class WebSocketTestClient:
    """One WebSocket, seen from the client. :func:`websocket_connect` makes it.

    Leaving its ``with`` block closes it, and waits until its ``on_close`` has run.
    """

    def __init__(self, app: Flask, sock: socket.socket, transport: PairTransport) -> None:
        self._app = app
        self._sock = sock
        self._transport = transport
        self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        self._messages: deque[Message] = deque()
        self._parts: list[Frame] = []
        self._errors: list[Exception] = []
        self._is_over = False
        #: The 101.
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
        """The code of the server's close frame; ``None`` before it, 1006 if none came."""
        close = self._protocol.close_rcvd
        if close is not None:
            return int(close.code)
        return ABNORMAL_CLOSURE if self._is_over else None

    @property
    def close_reason(self) -> str | None:
        """The reason that belongs to :attr:`close_code`."""
        close = self._protocol.close_rcvd
        if close is not None:
            return close.reason
        return "" if self._is_over else None

    # -- sending ----------------------------------------------------------------------------------

    def send(self, message: Sendable) -> None:
        """Send a message.

        :param message: ``str`` as text, ``bytes`` and the like as binary.
        :raises ConnectionClosed: if the server has closed the connection.
        """
        self._read(0.0)
        if self._protocol.state is not State.OPEN:
            raise self._closed()
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(bytes(message))
        self._write()

    def send_json(self, value: Any) -> None:
        """Send *value* as the application's JSON provider writes it."""
        self.send(dump_text(self._app.json.dumps, value))

    def ping(self, data: bytes = b"") -> None:
        """Send a Ping; the Pong that comes for it is left out."""
        self._protocol.send_ping(data)
        self._write()

    # -- receiving --------------------------------------------------------------------------------

    def receive(self, timeout: float = TIMEOUT) -> Message:
        """Wait for the next message.

        :param timeout: seconds; 0, or less, for what is there now.
        :raises TimeoutError: if none comes in time.
        :raises ConnectionClosed: if the server closes the connection.
        :raises Exception: what a hook has raised, if the application propagates exceptions, as
            it does when ``TESTING`` is set.
        """
        deadline = monotonic() + timeout
        while not self._messages:
            if self._is_over or self._has_close:
                self._end()
                self._raise_errors()
                raise self._closed()
            left = deadline - monotonic()
            # It may take several reads until a message is complete.
            if not self._read(left) and left <= 0:
                self._raise_errors()
                raise TimeoutError(f"no message within {timeout:g} s")
        return self._messages.popleft()

    def receive_json(self, timeout: float = TIMEOUT) -> Any:
        """Wait for the next message, which is JSON; see :meth:`receive`."""
        message = self.receive(timeout)
        try:
            return json.loads(message)
        except ValueError as error:
            raise AssertionError(f"that is no JSON: {message!r}") from error

    def receive_nothing(self, timeout: float = 0.1) -> None:
        """See that no message comes for a while.

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
        if self._protocol.state is State.OPEN and not self._is_over:
            self._protocol.send_close(code, reason)
            self._write()
        deadline = monotonic() + TIMEOUT
        while not self._is_over and not self._has_close and monotonic() < deadline:
            self._read(deadline - monotonic())

    def assert_closed(
        self, code: int | None = None, reason: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Check that the server closes the connection, with this code and reason if given.

        :raises AssertionError: if it doesn't in time, or otherwise; or if messages come before.
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
        """Be gone without a close frame, as a client that lost its network."""
        self._sock.close()
        self._is_over = True
        self._end()

    # -- at work ----------------------------------------------------------------------------------

    @property
    def _has_close(self) -> bool:
        return self._protocol.close_rcvd is not None

    def _closed(self) -> ConnectionClosed:
        return ConnectionClosed(self.close_code or ABNORMAL_CLOSURE, self.close_reason or "")

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if not data:
                continue
            self._sock.settimeout(TIMEOUT)
            try:
                self._sock.sendall(data)
            except TimeoutError:
                raise TimeoutError("the server doesn't read what is sent") from None
            except OSError:
                # What it has said before is still to be read.
                return

    def _read(self, timeout: float) -> bool:
        """Take what is there, having waited for it; says whether there was anything."""
        if self._is_over:
            return False
        self._sock.settimeout(min(max(timeout, 0.0), _LONGEST_READ))
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
            self._is_over = True
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            self._take(frame)
        self._write()
        error = self._protocol.parser_exc
        if isinstance(error, ProtocolError):
            self._is_over = True
            raise AssertionError(f"the server breaks the protocol: {error}") from error
        return True

    def _take(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        self._parts.append(frame)
        if not frame.fin:
            return
        data = b"".join(bytes(part.data) for part in self._parts)
        is_text = self._parts[0].opcode is Opcode.TEXT
        self._parts.clear()
        self._messages.append(data.decode() if is_text else data)

    def _end(self) -> None:
        """Hang up, and wait until the server is through with the connection."""
        self._sock.close()
        self._is_over = True
        is_released = self._transport.released.wait(TIMEOUT)
        got_request_exception.disconnect(self._note_error, self._app)
        if not is_released:
            raise TimeoutError(f"the server is still busy with the connection after {TIMEOUT:g} s")

    def _note_error(self, sender: Flask, exception: Exception, **more: Any) -> None:
        self._errors.append(exception)

    def _raise_errors(self) -> None:
        app = self._app
        propagates = app.config["PROPAGATE_EXCEPTIONS"]
        if propagates is None:
            propagates = app.testing or app.debug
        if self._errors and propagates:
            raise self._errors.pop(0)


def websocket_connect(
    client: FlaskClient,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Iterable[str] = (),
    origin: str | None = None,
    **options: Any,
) -> WebSocketTestClient:
    """Open a WebSocket to an application, in this process and without a server::

        with app.test_client() as client, websocket_connect(client, "/chat/lobby") as ws:
            ws.send_json({"type": "say", "text": "hello"})
            assert ws.receive_json()["type"] == "said"

    The handshake goes through the whole application; frames go through the engine and its own
    threads, greenlets or event loop. Cookies are those of the Flask test client, both ways.

    :param client: of ``app.test_client()``.
    :param path: of the URL, with its query.
    :param headers: of the handshake.
    :param subprotocols: that the client offers.
    :param origin: what a browser says where its page is from; without it, none is sent.
    :param options: of :class:`werkzeug.test.EnvironBuilder`, such as ``base_url``.
    :raises HandshakeRejected: if the answer isn't the 101.
    """
    app: Flask = client.application
    extension: WebSocket | None = app.extensions.get(EXTENSION)
    if extension is None:
        raise RuntimeError(
            f"no WebSocket(app) has been made for {app.name!r}: call init_app() first"
        )
    fields = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **(headers or {}),
    }
    offered = ", ".join(subprotocols)
    if offered:
        fields["Sec-WebSocket-Protocol"] = offered
    if origin is not None:
        fields["Origin"] = origin
    own, servers = socket.socketpair()
    transport = PairTransport(servers)
    ws = WebSocketTestClient(app, own, transport)
    try:
        builder = EnvironBuilder(app, path, headers=fields, **options)
        builder.environ_base = {
            **client._copy_environ({}),
            **(builder.environ_base or {}),
            TRANSPORT: transport,
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        ws.response = client.open(builder)
        if ws.response.status_code != 101:
            raise HandshakeRejected(ws.response)
    except BaseException:
        got_request_exception.disconnect(ws._note_error, app)
        own.close()
        if not transport.released.is_set():
            servers.close()
        raise
    return ws
