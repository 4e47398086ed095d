"""What the server adapters share: sockets, and an environ that outlives its request."""

from __future__ import annotations

import _socket
import contextlib
import io
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from ..protocol.opening import STATUS, serialize_response
from ..typing import Environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

logger = logging.getLogger("flask_wsviews")

# Objects that point into the server, which reuses or closes them when the request ends.
_SERVER_OBJECTS = (
    "gunicorn.socket",
    "werkzeug.debug.preserve_context",
    "werkzeug.request",
    "werkzeug.socket",
    "wsgi.early_hints",
    "wsgi.file_wrapper",
    "x-wsgiorg.fdevent.readable",
    "x-wsgiorg.fdevent.timeout",
)


# What many handshakes have in common: what is kept of them is kept once.
_COMMON_FIELDS = (
    "HTTP_ACCEPT_ENCODING",
    "HTTP_ACCEPT_LANGUAGE",
    "HTTP_CACHE_CONTROL",
    "HTTP_CONNECTION",
    "HTTP_HOST",
    "HTTP_ORIGIN",
    "HTTP_PRAGMA",
    "HTTP_SEC_WEBSOCKET_EXTENSIONS",
    "HTTP_SEC_WEBSOCKET_PROTOCOL",
    "HTTP_SEC_WEBSOCKET_VERSION",
    "HTTP_USER_AGENT",
    "REQUEST_METHOD",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
)
_MOST_COMMON = 1000
_LONGEST_COMMON = 300
_common: dict[str, str] = {}


class _NoInput(io.BytesIO):
    """The body of every handshake."""

    def close(self) -> None:
        """Nothing, for it is the others', too."""


_no_input = _NoInput()


def detach_environ(environ: Environ) -> None:
    """Cut *environ*, in place, off from the server, so that it can be kept after the request."""
    for key in _SERVER_OBJECTS:
        environ.pop(key, None)
    environ["wsgi.input"] = _no_input
    path = environ.get("PATH_INFO")
    if path is not None and environ.get("REQUEST_URI") == path:
        environ["REQUEST_URI"] = path
    if len(_common) > _MOST_COMMON:
        _common.clear()
    for key in _COMMON_FIELDS:
        value = environ.get(key)
        if value is not None and len(value) <= _LONGEST_COMMON:
            environ[key] = _common.setdefault(value, value)


def say_all(farewells: Iterable[Callable[[int], None]], code: int) -> None:
    """Call each farewell; what goes wrong with one keeps none of the others from being said."""
    for farewell in list(farewells):
        try:
            farewell(code)
        except Exception:
            logger.exception("a goodbye failed")


def duplicate(fd: int) -> socket.socket:
    """A socket of our own on the same stream as *fd*. Whether it blocks is up to the engine.

    :raises OSError: if no descriptor is left.
    """
    own = os.dup(fd)
    try:
        # The plain class even where gevent has replaced socket.socket: engines do the waiting.
        sock = _socket.socket(-1, socket.SOCK_STREAM, 0, own)
    except OSError:
        os.close(own)
        raise
    return cast(socket.socket, sock)


class HeldTransport:
    """The socket of a server whose request has to stay until the connection has ended.

    :param original: the server's own socket object.
    """

    can_detach = False

    def __init__(self, original: socket.socket) -> None:
        self._original = original
        self._tls = isinstance(original, ssl.SSLSocket)
        if self._tls:
            # The TLS state is in the object, so a duplicate of the descriptor is of no use.
            self._timeout = original.gettimeout()
            original.setblocking(False)
            self.sock = original
        else:
            self.sock = duplicate(original.fileno())

    def preface(self, fields: list[tuple[str, str]]) -> bytes:
        """The 101: the server itself would add headers, or wait for a body."""
        return serialize_response(fields)

    def detach(self) -> None:
        """Nothing to do: the server leaves the socket alone while the request runs."""

    def release(self) -> None:
        """Close our duplicate; a TLS socket is left to :meth:`finish` and the server."""
        if self._tls:
            with contextlib.suppress(OSError):
                self._original.settimeout(self._timeout)
        else:
            self.sock.close()

    def finish(
        self, start_response: StartResponse, fields: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        """A response that gets logged but reaches nobody.

        The server insists on writing one. It takes the error that a socket raises after its
        shutdown for a client that went away, and says nothing.
        """
        with contextlib.suppress(OSError):
            self._original.shutdown(socket.SHUT_RDWR)
        start_response(STATUS, [])
        return []
