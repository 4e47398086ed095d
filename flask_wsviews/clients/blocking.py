"""The clients of threads and greenlets: their methods wait."""

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

    :param environ: the handshake's WSGI environment; it stays valid after the handshake.
    :param fd: the socket's descriptor, -1 before the 101.
    :param timeout: seconds that the closing handshake may take.

    The application gets it from the package; it isn't made by hand.
    """

    def receive(self, timeout: float | None = None) -> Any:
        """Wait for the next message.

        :param timeout: seconds to wait, ``None`` for as long as it takes; 0, or less, for what is
            there now.
        :returns: text as ``str``, binary as ``bytes``; ``None`` once the connection is closed. In a
            function route with a ``message_schema``: what that has loaded of a text. One that it
            can't load is answered with an error frame and left out.
        :raises TimeoutError: if no message came within *timeout*.
        :raises RuntimeError: if another thread, greenlet or task is in it already.
        """
        receive = (self._driver or self._opened()).receive
        if self._receives_as_is:
            return receive(timeout)
        return run_steps(self._receive_checked(receive, timeout))

    def recv(self, timeout: float | None = None) -> Any:
        """The same as :meth:`receive`."""
        return self.receive(timeout)

    def __iter__(self) -> Iterator[Any]:
        """The messages up to the end of the connection."""
        # The end is told by None, which no message is.
        return iter(self._opened().receive if self._receives_as_is else self.receive, None)

    def send(self, message: Sendable, binary: bool | None = None) -> None:
        """Send a message; any thread or greenlet of the worker may.

        In a hook of this very connection it waits while a slow client has to catch up. Elsewhere
        it never waits: a client with more than ``WSVIEWS_MAX_SEND_BUFFER`` bytes to catch up is
        closed with 1008.

        :param message: ``str`` goes out as text, ``bytes`` and the like as binary, unless
            ``WSVIEWS_TEXT_AS_BYTES`` is set.
        :param binary: force one or the other; text and bytes are converted as UTF-8.
        :raises ConnectionClosed: if the connection is closed.
        :raises TypeError: if *message* is neither text nor bytes.
        """
        driver = self._driver or self._opened()
        if binary is not None or self._text_as_bytes:
            message = self._converted(message, binary)
        driver.send(message)
        if self._watchers:
            self._tell_sent(message)

    def ping(self, payload: str | bytes = b"") -> None:
        """Send a Ping (RFC 6455 5.5.2); any thread or greenlet of the worker may, and never waits.

        The view's ``on_pong`` gets the payload of the Pong that answers it. It isn't needed to keep
        connections alive: ``WSVIEWS_PING_INTERVAL`` does that.

        :param payload: at most 125 bytes; text is encoded as UTF-8.
        :raises ConnectionClosed: if the connection is closed.
        :raises TypeError: if *payload* is neither text nor bytes.
        :raises ValueError: if it is too long.
        """
        self._opened().ping(ping_payload(payload))

    def join(
        self, group: str, since: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> Joined:
        """Join a group: what is broadcast to it from now on is sent to this connection, too.

        The connection leaves by itself when it ends.

        :param group: 1 to 255 bytes of printable text, without braces.
        :param since: the id of a message; what came after it is sent first, in order and once.
            Only for groups with a history. It may come from a client as it is: one that isn't
            known counts as one that is gone from the history.
        :param meta: what ``websocket.members()`` tells of this connection; anything that JSON can
            express. Only for groups with presence.
        :returns: where the group stands, and whether messages after *since* are lost.
        :raises GroupRefused: if the view's ``authorize_group`` doesn't allow it.
        :raises GroupError: if *group* is no name, or has no history to begin *since* from, or no
            presence for a *meta*.
        :raises TypeError: if *meta* is no mapping, or JSON can't express it.
        :raises BrokerUnavailable: if the broker can't be reached.
        :raises ConnectionClosed: if the connection has ended.
        """
        return self._the_membership().join(group, since, meta)

    def leave(self, group: str) -> None:
        """Leave a group; nothing happens if the connection isn't in it. Never waits."""
        self._leave(group)

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection. Nothing that arrives from now on is handled.

        :param code: close code for the client: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
        :param reason: at most 123 bytes as UTF-8 (RFC 6455 5.5).
        :raises ValueError: if one of them can't be sent.
        """
        # Here, for a thread that isn't the connection's hands the rest over.
        check_close(code, reason)
        self._opened().close(code, reason)


class GeventWebSocketClient(WebSocketClient):
    """The client of :class:`~flask_wsviews.GeventWebSocket`: waiting lets other greenlets run."""
