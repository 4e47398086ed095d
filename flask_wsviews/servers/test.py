"""No server at all: the testing client is at the other end of a pair of sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..protocol.opening import STATUS
from ..typing import Environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

#: Where the testing client leaves its transport.
TRANSPORT = "flask_wsviews.test_transport"


class Transport:
    """One end of a pair of sockets; the engine has it as if a server had given it up.

    :param sock: that end.
    """

    can_detach = True

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        #: Set when the engine is through with the connection.
        self.released = threading.Event()

    def preface(self, fields: list[tuple[str, str]]) -> bytes:
        """Nothing: the client doesn't read the 101 as bytes."""
        return b""

    def detach(self) -> None:
        """There is nobody to detach from."""

    def release(self) -> None:
        """Close the engine's end."""
        self.sock.close()
        self.released.set()

    def finish(
        self, start_response: StartResponse, fields: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        """The 101, as the Flask test client reads it."""
        start_response(STATUS, fields)
        return []


def serves(environ: Environ) -> bool:
    """Whether the testing client made *environ*."""
    return TRANSPORT in environ


def check(environ: Environ) -> None:
    """Nothing can be wrong here."""


def take_socket(environ: Environ) -> Transport:
    """The client's transport."""
    transport: Transport = environ.pop(TRANSPORT)
    return transport


def before_exit(ending_signal: Callable[[], int | None], farewell: Callable[[int], None]) -> None:
    """Tests end their connections by themselves."""


def check_start() -> None:
    """Nothing is known before the first request."""


def when_worker_starts(function: Callable[[], object]) -> None:
    """There are no workers."""
