"""Observers of connections: logs, signals, metrics and traces are built on them."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from .clients.traffic import Traffic
from .common.notify import FAILED, notify
from .typing import Environ

__all__ = ["Observer", "Summary", "Traffic", "around_hook"]

logger = logging.getLogger("flask_wsviews")


@dataclass(frozen=True)
class Summary:
    """A connection that has ended."""

    endpoint: str
    path: str
    #: The client's address, as in Flask's ``request``; ``None`` if the server doesn't set it.
    remote_addr: str | None
    #: From the 101 until the socket was closed, in seconds.
    duration: float
    #: RFC 6455 7.1.5: 1005 if the close frame had no code, 1006 if there was none.
    close_code: int
    close_reason: str
    traffic: Traffic


class Observer:
    """The base class of observers: override the methods for the events that you need.

    Pass an instance to :meth:`flask_wsviews.WebSocket.add_observer`. Its methods are called in the
    thread, greenlet or event loop that serves the connection, so they must not block. Exceptions
    that they raise are logged and don't affect the connection.
    """

    #: Whether to call :meth:`received` and :meth:`sent`; read once for each connection.
    watches_messages: bool = False

    #: Whether to call :meth:`hook`; read once for each connection.
    watches_hooks: bool = False

    #: Whether to call :meth:`disconnected`; read at the end of each connection.
    watches_ends: bool = True

    def _watches_messages(self) -> bool:
        return self.watches_messages

    def _watches_ends(self) -> bool:
        return self.watches_ends

    def rejected(self, environ: Environ, status: int) -> None:
        """Observe a refused handshake: its answer isn't 101.

        :param environ: the handshake's WSGI environment.
        :param status: the HTTP status of the answer.
        """

    def connected(self, ws: Any) -> None:
        """Observe a connection that has opened; its view hasn't been called yet."""

    def received(self, ws: Any, message: Any) -> None:
        """Observe a message from the client, before a schema loads it."""

    def sent(self, ws: Any, message: Any) -> None:
        """Observe a message that a method of *ws* has sent. Not called for messages to groups."""

    def hook(self, ws: Any, name: str) -> AbstractContextManager[Any]:
        """Return a context manager that is entered around a hook of a class-based view.

        :param name: the name of the hook, such as ``on_message``.
        """
        return nullcontext()

    def failed(self, ws: Any, error: Exception) -> None:
        """Observe an unexpected exception of a hook; the hook's context is still entered."""

    def disconnected(self, ws: Any, summary: Summary) -> None:
        """Observe the end of a connection: its last hook has run and its socket is closed."""


@contextmanager
def around_hook(observers: Iterable[Observer], ws: Any, name: str) -> Generator[None, None, None]:
    """Enter each observer's context manager for a hook."""
    stack = ExitStack()
    notify(observers, lambda observer: stack.enter_context(observer.hook(ws, name)))
    try:
        yield
    finally:
        try:
            stack.close()
        except Exception:
            logger.exception(FAILED, "after a hook")
