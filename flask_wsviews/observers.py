"""What may watch an application's connections: logs, signals, metrics, traces."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from .clients.traffic import Traffic
from .common.notify import FAILED, tell
from .typing import Environ

__all__ = ["Observer", "Summary", "Traffic", "around_hook"]

logger = logging.getLogger("flask_wsviews")


@dataclass(frozen=True)
class Summary:
    """A connection that is over."""

    endpoint: str
    path: str
    #: The client's, as Flask sees it; ``None`` if the server doesn't say.
    remote_addr: str | None
    #: From the 101 until the socket was closed, in seconds.
    duration: float
    #: RFC 6455 7.1.5: 1005 if the close frame had no code, 1006 if there was none.
    close_code: int
    close_reason: str
    traffic: Traffic


class Observer:
    """Is told of the connections of a worker. What it doesn't override is passed over.

    Pass one to :meth:`flask_wsviews.WebSocket.add_observer`. It is called in the thread, greenlet
    or event loop that serves the connection, so it must not wait. What it raises is logged, and
    harms nobody.
    """

    #: Whether it wants :meth:`received` and :meth:`sent`, asked once for each connection.
    watches_messages: bool = False

    #: Whether it wants :meth:`hook`, asked once for each connection.
    watches_hooks: bool = False

    #: Whether it wants :meth:`disconnected`, asked at the end of each connection.
    watches_ends: bool = True

    def rejected(self, environ: Environ, status: int) -> None:
        """A handshake was answered with something else than 101.

        :param environ: its WSGI environment.
        :param status: of the answer.
        """

    def connected(self, ws: Any) -> None:
        """A connection is open, and its view hasn't been called yet."""

    def received(self, ws: Any, message: Any) -> None:
        """A message was taken from a connection; no schema has seen it yet."""

    def sent(self, ws: Any, message: Any) -> None:
        """A message was sent by a method of *ws*. Those of groups go out without it."""

    def hook(self, ws: Any, name: str) -> AbstractContextManager[Any]:
        """What is around a hook of a class-based view.

        :param name: of the hook, such as ``on_message``.
        """
        return nullcontext()

    def failed(self, ws: Any, error: Exception) -> None:
        """A hook raised an exception that nobody expects; its context is still entered."""

    def disconnected(self, ws: Any, summary: Summary) -> None:
        """A connection is over, its last hook included, and its socket is closed."""


@contextmanager
def around_hook(observers: Iterable[Observer], ws: Any, name: str) -> Generator[None, None, None]:
    """Enter what each of the observers has for a hook."""
    stack = ExitStack()
    tell(observers, lambda observer: stack.enter_context(observer.hook(ws, name)))
    try:
        yield
    finally:
        try:
            stack.close()
        except Exception:
            logger.exception(FAILED, "after a hook")
