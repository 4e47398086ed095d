"""uWSGI: the connection's descriptor is duplicated and uWSGI's own is closed at once."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..exceptions import ServerError
from ..handshake import STATUS
from ..typing import Environ
from .base import duplicate

try:
    import uwsgi
except ImportError:  # the module exists only inside a uWSGI process
    uwsgi = None

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


def serves(environ: Environ) -> bool:
    """Whether uWSGI made *environ*."""
    return uwsgi is not None and "uwsgi.version" in environ


def check(environ: Environ) -> None:
    """Check that the descriptor carries the client's bytes as they are.

    :raises ServerError: if TLS ends inside of uWSGI, out of our reach.
    """
    if "https-socket" in uwsgi.opt and environ.get("HTTPS") == "on":
        raise ServerError(
            "uWSGI's --https-socket keeps the TLS state to itself. Use its router, "
            "--https with --http-websockets, or a proxy in front."
        )


class Transport:
    """The client's socket, taken from uWSGI."""

    can_detach = True

    def __init__(self) -> None:
        self.sock: socket.socket = duplicate(uwsgi.connection_fd())

    def open(self, start_response: StartResponse, fields: list[tuple[str, str]]) -> bytes:
        """Have uWSGI send the 101, so that its log and its statistics know of it.

        :raises OSError: if the client is gone.
        """
        write = start_response(STATUS, fields)
        write(b"")
        return b""

    def detach(self) -> None:
        """Make uWSGI forget the connection; the duplicate keeps it open."""
        uwsgi.disconnect()

    def release(self) -> None:
        """Close our duplicate, and with it the connection."""
        self.sock.close()

    def finish(self, start_response: StartResponse) -> Iterable[bytes]:
        """Nothing: the response went out when the connection was opened."""
        return []


def take_socket(environ: Environ) -> Transport:
    """The client's socket."""
    return Transport()
