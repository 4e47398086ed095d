"""Flask signals of WebSockets: what an application may listen to.

The sender of each is the application. Receivers are plain functions; they run in the thread,
greenlet or event loop that serves the connection, with an application context, so they must not
wait. What they raise is logged. Receivers of messages are to be connected before the WebSockets
are: without one, messages cost nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blinker import NamedSignal, Namespace
from flask import Flask

from .observers import Observer, Summary
from .typing import Environ

if TYPE_CHECKING:
    pass

_namespace = Namespace()

#: A connection is open, and its view hasn't been called yet. Arguments: ``ws``.
websocket_connected = _namespace.signal("websocket-connected")

#: A connection is over and its socket closed. Arguments: ``ws`` and ``summary``, a
#: :class:`~flask_wsviews.observers.Summary`.
websocket_disconnected = _namespace.signal("websocket-disconnected")

#: A message was taken from a connection; no schema has seen it yet. Arguments: ``ws``, ``message``.
message_received = _namespace.signal("message-received")

#: A message was sent by a method of ``ws``; those of groups go out without it. Arguments: ``ws``,
#: ``message``.
message_sent = _namespace.signal("message-sent")

#: A handshake was answered with something else than 101. Arguments: ``environ``, ``status``.
handshake_rejected = _namespace.signal("handshake-rejected")


class Signals(Observer):
    """Sends the signals.

    :param app: their sender.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app

    @property
    def watches_messages(self) -> bool:  # type: ignore[override]
        """Whether anybody listens."""
        return bool(message_received.receivers or message_sent.receivers)

    @property
    def watches_ends(self) -> bool:  # type: ignore[override]
        """Whether anybody listens."""
        return bool(websocket_disconnected.receivers)

    def rejected(self, environ: Environ, status: int) -> None:
        """Tell of a handshake that was refused."""
        self._send(handshake_rejected, environ=environ, status=status)

    def connected(self, ws: Any) -> None:
        """Tell of a connection."""
        self._send(websocket_connected, ws=ws)

    def received(self, ws: Any, message: Any) -> None:
        """Tell of a message of a client."""
        self._send(message_received, ws=ws, message=message)

    def sent(self, ws: Any, message: Any) -> None:
        """Tell of a message to a client."""
        self._send(message_sent, ws=ws, message=message)

    def disconnected(self, ws: Any, summary: Summary) -> None:
        """Tell of the end of a connection."""
        self._send(websocket_disconnected, ws=ws, summary=summary)

    def _send(self, signal: NamedSignal, **arguments: Any) -> None:
        if signal.receivers:
            with self._app.app_context():
                signal.send(self._app, **arguments)
