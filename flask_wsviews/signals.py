"""Flask signals of WebSockets.

The sender is always the application. Receivers are plain functions. They run in the thread,
greenlet or event loop that serves the connection, in an application context, so they must not
block. Exceptions that they raise are logged. Connect receivers of messages before connections open:
a connection looks for them once, so that messages without receivers cost nothing.
"""

from __future__ import annotations

from typing import Any

from blinker import NamedSignal, Namespace
from flask import Flask

from .observers import Observer, Summary
from .typing import Environ

_namespace = Namespace()

#: A connection has opened; its view hasn't been called yet. Arguments: ``ws``.
websocket_connected = _namespace.signal("websocket-connected")

#: A connection has ended, and its socket is closed. Arguments: ``ws`` and ``summary``, a
#: :class:`~flask_wsviews.observers.Summary`.
websocket_disconnected = _namespace.signal("websocket-disconnected")

#: A message was received; no schema has loaded it yet. Arguments: ``ws``, ``message``.
message_received = _namespace.signal("message-received")

#: A method of ``ws`` sent a message. Not sent for messages to groups. Arguments: ``ws``,
#: ``message``.
message_sent = _namespace.signal("message-sent")

#: A handshake was refused: its answer isn't 101. Arguments: ``environ``, ``status``.
handshake_rejected = _namespace.signal("handshake-rejected")


class Signals(Observer):
    """An observer that sends the signals.

    :param app: the sender.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app

    def _watches_messages(self) -> bool:
        return bool(message_received.receivers or message_sent.receivers)

    def _watches_ends(self) -> bool:
        return bool(websocket_disconnected.receivers)

    def rejected(self, environ: Environ, status: int) -> None:
        """Send ``handshake_rejected``."""
        self._send(handshake_rejected, environ=environ, status=status)

    def connected(self, ws: Any) -> None:
        """Send ``websocket_connected``."""
        self._send(websocket_connected, ws=ws)

    def received(self, ws: Any, message: Any) -> None:
        """Send ``message_received``."""
        self._send(message_received, ws=ws, message=message)

    def sent(self, ws: Any, message: Any) -> None:
        """Send ``message_sent``."""
        self._send(message_sent, ws=ws, message=message)

    def disconnected(self, ws: Any, summary: Summary) -> None:
        """Send ``websocket_disconnected``."""
        self._send(websocket_disconnected, ws=ws, summary=summary)

    def _send(self, signal: NamedSignal, **arguments: Any) -> None:
        if signal.receivers:
            with self._app.app_context():
                signal.send(self._app, **arguments)
