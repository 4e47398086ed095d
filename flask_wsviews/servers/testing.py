"""The testing client instead of a server: it holds the other end of a pair of sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..protocol.response import STATUS
from ..typing import Environ
from .base import Adapter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

#: The key of ``environ`` where the testing client puts its transport.
TRANSPORT = "flask_wsviews.test_transport"


class PairTransport:
    """One end of a pair of sockets, which the engine uses like a server's socket.

    :param sock: that end.
    """

    can_detach = True

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        #: Set when the engine has closed the connection.
        self.released = threading.Event()

    def preface(self, fields: list[tuple[str, str]]) -> bytes:
        """Return nothing: the client doesn't read the 101 as bytes."""
        return b""

    def detach(self) -> None:
        """Do nothing: there is no server to detach from."""

    def release(self) -> None:
        """Close the engine's end."""
        self.sock.close()
        self.released.set()

    def finish(
        self, start_response: StartResponse, fields: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        """Answer with the 101, as the Flask test client reads it."""
        start_response(STATUS, fields)
        return []


class TestingAdapter(Adapter):
    """Takes the transport that the testing client has put into ``environ``."""

    def serves(self, environ: Environ) -> bool:
        """Return whether the testing client made *environ*."""
        return TRANSPORT in environ

    def take_socket(self, environ: Environ) -> PairTransport:
        """Return the client's transport."""
        transport: PairTransport = environ.pop(TRANSPORT)
        return transport
