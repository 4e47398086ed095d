"""The WSGI middleware: pass pages on to Flask, and take over the handshakes that it accepts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import unquote, urlsplit

from werkzeug.datastructures import Headers
from werkzeug.wsgi import ClosingIterator

from ..app_state import AppState
from ..clients.asyncio import AsyncioWebSocketClient
from ..clients.base import BaseClient
from ..clients.blocking import GeventWebSocketClient, WebSocketClient
from ..common.notify import notify
from ..protocol.opening import is_handshake
from ..typing import Environ
from ..views import UPGRADER, WebSocketView, is_async_view
from .accept import Accepted, Upgrader
from .take_over import take_over
from .upgrade import Upgrade

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

__all__ = [
    "AsyncioWebSocketMiddleware",
    "GeventWebSocketMiddleware",
    "Upgrade",
    "WebSocketMiddleware",
]

logger = logging.getLogger("flask_wsviews")

# Redirects to another URL of the same resource, and to any other resource (RFC 9110 15.4).
_MOVED = (301, 307, 308)
_FOUND = (302, 303)


class MiddlewareOwner(Protocol):
    """The method of an extension that a middleware calls."""

    def adopt(self, middleware: WebSocketMiddleware) -> AppState:
        """Return the state of the application that a middleware wraps."""
        ...


class WebSocketMiddleware:
    """Wraps ``app.wsgi_app``: passes pages on to Flask and takes over accepted handshakes.

    ``WebSocket(app)`` and ``init_app(app)`` make it. An application may also make it itself, with
    an extension that has no application yet: ``app.wsgi_app = WebSocketMiddleware(app.wsgi_app,
    websocket)`` sets the application up. If two middlewares of the same extension are nested, the
    outer one does the work.

    :param wsgi_app: the WSGI callable to wrap.
    :param websocket: the extension that it belongs to.
    :raises RegistrationError: if *websocket* has no application, and *wsgi_app* leads to none.
    """

    #: The class of the ``ws`` that handlers get.
    client: ClassVar[type[BaseClient[Any]]] = WebSocketClient

    def __init__(self, wsgi_app: WSGIApplication, websocket: MiddlewareOwner) -> None:
        self.wsgi_app = wsgi_app
        self.websocket = websocket
        #: The state of its application.
        self.state = websocket.adopt(self)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request (PEP 3333)."""
        if not is_handshake(environ) or self._is_within_another(environ):
            return self.wsgi_app(environ, start_response)
        # A copy, because the connection keeps it and servers reuse theirs.
        environ = dict(environ)
        # The only spelling that Werkzeug's routing knows.
        environ["HTTP_UPGRADE"] = "websocket"
        upgrader = Upgrader(self.state, self.client_for)
        environ[UPGRADER] = upgrader
        answer = _Answer(upgrader, start_response)
        try:
            body = answer.collect(self.wsgi_app(environ, answer.start_response))
            if answer.accepted is not None:
                body = take_over(answer.accepted, environ, answer.headers, answer.send)
            status = answer.status
            if status not in (None, 101):
                _explain_redirect(environ, status, answer.headers)
                notify(upgrader.observers, lambda observer: observer.rejected(environ, status))
            return body
        finally:
            upgrader.release()

    def _is_within_another(self, environ: Environ) -> bool:
        """Return whether a middleware of the same extension wraps this one."""
        upgrader = environ.get(UPGRADER)
        return upgrader is not None and upgrader.extension is self.websocket

    def client_for(self, view: WebSocketView) -> type[BaseClient[Any]]:
        """Return the class of the ``ws`` that *view* gets."""
        return AsyncioWebSocketClient if is_async_view(view) else self.client


class GeventWebSocketMiddleware(WebSocketMiddleware):
    """The middleware of :class:`~flask_wsviews.GeventWebSocket`."""

    client = GeventWebSocketClient


class AsyncioWebSocketMiddleware(WebSocketMiddleware):
    """The middleware of :class:`~flask_wsviews.AsyncioWebSocket`."""

    client = AsyncioWebSocketClient

    #: The class of the ``ws`` that plain handlers get: its methods block their thread.
    plain_client: ClassVar[type[BaseClient[Any]]] = WebSocketClient

    def client_for(self, view: WebSocketView) -> type[BaseClient[Any]]:
        """Return the class of the ``ws`` that *view* gets."""
        return self.client if is_async_view(view) else self.plain_client


class _Answer:
    """Flask's answer to a handshake. All but the 101 is passed on to the server at once.

    :param upgrader: answers the handshake within Flask.
    :param start_response: the server's.
    """

    def __init__(self, upgrader: Upgrader, start_response: StartResponse) -> None:
        self._upgrader = upgrader
        self._start_response = start_response
        #: Set if the answer is the 101.
        self.accepted: Accepted | None = None
        self.headers: list[tuple[str, str]] = []
        #: The status that the server got, ``None`` before.
        self.status: int | None = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """Take status and headers from the wrapped application (PEP 3333)."""
        # A debugger calls this again, with an error, if the body of the 101 fails.
        self.accepted = self._upgrader.accepted if status.startswith("101") else None
        if self.accepted is None:
            return self.send(status, headers, exc_info)
        self._upgrader.keep_identity()
        self.headers = headers
        return _write_nothing

    def send(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """Pass status and headers on to the server."""
        self.status = int(status[:3])
        self.headers = headers
        return self._start_response(status, headers, exc_info)

    def collect(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return the body to pass on. That of the 101 is empty, and closed here.

        After this, :attr:`accepted` is final, and Flask has torn down the request of a 101.
        """
        close: Callable[[], None] = getattr(body, "close", lambda: None)
        try:
            # A debugger is a generator, which calls start_response with its first part.
            parts: Iterator[bytes] = iter(body)
            first = next(parts, None)
        except BaseException:
            close()
            raise
        if self.accepted is None:
            return ClosingIterator(chain([] if first is None else [first], parts), close)
        close()
        return ()


def _explain_redirect(environ: Environ, status: int | None, headers: list[tuple[str, str]]) -> None:
    """Log a redirect to another spelling of the URL: browsers don't show it."""
    if status not in (*_MOVED, *_FOUND):
        return
    location = Headers(headers).get("Location", "")
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    # By other redirects, such as those to a login page, the application refuses the handshake.
    if status in _MOVED or unquote(urlsplit(location).path).strip("/") == path.strip("/"):
        logger.warning(
            "a handshake for %r was answered with a redirect (%d) to %r: browsers don't follow "
            "it. Have the client connect to that URL",
            path,
            status,
            location,
        )


def _write_nothing(data: bytes) -> None:
    """Ignore the body of a 101 (PEP 3333 ``write``)."""
