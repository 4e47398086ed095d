"""The client's socket: a duplicate of the server's, and the transport of servers that wait."""

from __future__ import annotations

import _socket
import contextlib
import os
import socket
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from ..protocol.response import STATUS, serialize_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


def duplicate(fd: int) -> socket.socket:
    """Return a new socket object for the stream of *fd*.

    :raises OSError: if no descriptor is left.
    """
    own = os.dup(fd)
    try:
        # The plain class, even where gevent has replaced socket.socket: engines do the waiting.
        sock = _socket.socket(-1, socket.SOCK_STREAM, 0, own)
    except OSError:
        os.close(own)
        raise
    return cast(socket.socket, sock)


class HeldTransport:
    """The socket of a server whose request must last until the connection has ended.

    :param original: the server's own socket object.
    """

    can_detach = False

    def __init__(self, original: socket.socket) -> None:
        self._original = original
        self._tls = isinstance(original, ssl.SSLSocket)
        if self._tls:
            # The object holds the TLS state, so a duplicate of the descriptor would be useless.
            self._timeout = original.gettimeout()
            original.setblocking(False)
            self.sock = original
        else:
            self.sock = duplicate(original.fileno())

    def preface(self, fields: list[tuple[str, str]]) -> bytes:
        """Return the 101: the server itself would add headers, or wait for a body."""
        return serialize_response(fields)

    def detach(self) -> None:
        """Do nothing: the server leaves the socket alone while the request lasts."""

    def release(self) -> None:
        """Close the duplicate. A TLS socket stays open for :meth:`finish` and the server."""
        if self._tls:
            with contextlib.suppress(OSError):
                self._original.settimeout(self._timeout)
        else:
            self.sock.close()

    def finish(
        self, start_response: StartResponse, fields: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        """Give the server a response that it logs and no client receives.

        These servers always write a response. After the shutdown that write fails as if the
        client had gone away, which they ignore.
        """
        with contextlib.suppress(OSError):
            self._original.shutdown(socket.SHUT_RDWR)
        start_response(STATUS, [])
        return []
