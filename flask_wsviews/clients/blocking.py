"""The clients for threads and greenlets: their methods wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..close_codes import NORMAL_CLOSURE
from ..common.steps import run_steps
from ..exceptions import check_close
from ..protocol.pongs import ping_payload
from ..typing import Sendable
from .base import BaseClient

if TYPE_CHECKING:
    from ..groups import Joined


class WebSocketClient(BaseClient[None]):
    """One WebSocket connection.

    The package makes the client and hands it to hooks and function routes; applications don't make
    it.

    :param environ: the handshake's WSGI environment; it stays valid after the handshake.
    :param fd: the socket's file descriptor, -1 before the 101.
    :param timeout: seconds that the closing handshake may take.
    """

    def receive(self, timeout: float | None = None) -> Any:
        """Wait for the next message.

        :param timeout: seconds to wait. ``None`` waits without a limit; 0 or less returns only a
            message that has already arrived.
        :returns: text as ``str``, binary as ``bytes``; ``None`` once the connection is closed. In a
            function route with a ``message_schema``, the loaded message; an invalid message is
            answered with an error frame and skipped.
        :raises TimeoutError: if no message arrives within *timeout*.
        :raises RuntimeError: if another thread, greenlet or task is already receiving.
        """
        receive = (self._driver or self._opened()).receive
        if self._receives_as_is:
            return receive(timeout)
        return run_steps(self._receive_checked(receive, timeout))

    def recv(self, timeout: float | None = None) -> Any:
        """Wait for the next message: an alias of :meth:`receive`."""
        return self.receive(timeout)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the messages until the connection is closed."""
        # receive() returns None at the end, and never for a message.
        return iter(self._opened().receive if self._receives_as_is else self.receive, None)

    def send(self, message: Sendable, binary: bool | None = None) -> None:
        """Send a message, from any thread or greenlet of the worker.

        In a hook of the same connection, it waits while the client is slow (backpressure).
        Elsewhere it never waits: if more than ``WSVIEWS_MAX_SEND_BUFFER`` bytes are buffered, the
        connection is closed with 1008 Policy Violation.

        :param message: ``str`` is sent as text, bytes-like objects as binary, unless
            ``WSVIEWS_TEXT_AS_BYTES`` is set.
        :param binary: ``True`` forces binary, ``False`` text; converts as UTF-8.
        :raises ConnectionClosed: if the connection is closed.
        :raises TypeError: if *message* is neither text nor bytes.
        """
        driver = self._driver or self._opened()
        if binary is not None or self._text_as_bytes:
            message = self._converted(message, binary)
        driver.send(message)
        if self._watchers:
            self._observe_sent(message)

    def ping(self, payload: str | bytes = b"") -> None:
        """Send a Ping (RFC 6455 5.5.2), from any thread or greenlet of the worker. Never waits.

        The client answers with a Pong, whose payload the view's ``on_pong`` gets. You don't need
        this to keep connections alive: the heartbeat of ``WSVIEWS_PING_INTERVAL`` does that.

        :param payload: at most 125 bytes; text is encoded as UTF-8.
        :raises ConnectionClosed: if the connection is closed.
        :raises TypeError: if *payload* is neither text nor bytes.
        :raises ValueError: if *payload* is too long.
        """
        self._opened().ping(ping_payload(payload))

    def join(
        self, group: str, since: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> Joined:
        """Join a group: messages that are broadcast to it are sent to this connection.

        The connection leaves the group when it ends.

        :param group: 1 to 255 bytes of printable text, without braces.
        :param since: resume after the message with this id: the messages after it are sent first,
            in order, each once. Only for groups with a history. You may pass on an id from the
            client unchecked: an unknown id means that messages are lost.
        :param meta: the data that ``websocket.members()`` returns for this connection, as JSON can
            express it. Only for groups with presence.
        :returns: the group's position, and whether messages after *since* are lost.
        :raises GroupRefused: if the view's ``authorize_group`` refuses.
        :raises GroupError: if *group* isn't a valid name, if you pass *since* and the group has no
            history, or if you pass *meta* and it has no presence.
        :raises TypeError: if *meta* isn't a mapping, or JSON can't express it.
        :raises BrokerUnavailable: if the broker can't be reached.
        :raises ConnectionClosed: if the connection has ended.
        """
        return self._the_membership().join(group, since, meta)

    def leave(self, group: str) -> None:
        """Leave a group. Does nothing if the connection isn't in it; never waits."""
        self._leave(group)

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection. Messages that arrive later are dropped.

        :param code: the close code to send: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
        :param reason: at most 123 bytes as UTF-8 (RFC 6455 5.5).
        :raises ValueError: if *code* or *reason* can't be sent.
        """
        # Checked here, because another thread leaves the rest to the connection's own thread.
        check_close(code, reason)
        self._opened().close(code, reason)


class GeventWebSocketClient(WebSocketClient):
    """The client of :class:`~flask_wsviews.GeventWebSocket`: other greenlets run while it waits."""
