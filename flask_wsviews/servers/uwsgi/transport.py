"""The client's socket, taken away from uWSGI.

The descriptor is duplicated for the engine. uWSGI's own number then leads to ``/dev/null``, so that
the request ends like any other: with a response, for the log and the statistics. A
middleware around the application can't send that response to the client, or to a connection that
gets the same number later.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from ...common.process import find_uwsgi, in_uwsgi_loop
from ...protocol.response import STATUS, serialize_response
from ..sockets import duplicate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


class DetachedTransport:
    """The socket of a uWSGI request, which ends while the connection goes on."""

    __slots__ = ("sock",)

    can_detach = True

    def __init__(self) -> None:
        # Opened first, so that detach() can't run out of descriptors.
        _null_device()
        self.sock: socket.socket = duplicate(find_uwsgi().connection_fd())

    def preface(self, fields: list[tuple[str, str]]) -> bytes:
        """Return the 101: uWSGI may write ``start_response``'s headers late, or never."""
        return serialize_response(fields)

    def detach(self) -> None:
        """Point uWSGI's descriptor to ``/dev/null``. The duplicate keeps the connection open."""
        fd = find_uwsgi().connection_fd()
        if in_uwsgi_loop(b"gevent"):
            _gevent_epoll.forget(fd)
        os.dup2(_null_device(), fd, inheritable=False)

    def release(self) -> None:
        """Close the duplicate, and with it the connection."""
        self.sock.close()

    def finish(
        self, start_response: StartResponse, fields: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        """Give uWSGI the 101 for its log and statistics."""
        start_response(STATUS, fields)
        # With a list uWSGI would switch to other greenlets before it asks for the items.
        return cast("Iterable[bytes]", b"")


_null_lock = threading.Lock()
_null: int | None = None


def _null_device() -> int:
    """Return a descriptor of ``/dev/null``: one for the process.

    :raises OSError: if no descriptor is left.
    """
    global _null
    with _null_lock:
        if _null is None:
            _null = os.open(os.devnull, os.O_RDWR)
        return _null


class _GeventEpoll:
    """The epoll object of gevent's loop."""

    def __init__(self) -> None:
        self._epoll: Any = None

    def forget(self, fd: int) -> None:
        """Unregister a descriptor that uWSGI is about to close.

        The loop relies on the kernel for that, but the kernel keeps watching because the duplicate
        keeps the stream open. At the first event of a closed descriptor the loop would create a
        new epoll object and register all connections again.
        """
        try:
            self._epoll.unregister(fd)
        except (AttributeError, OSError):
            # This is the first descriptor, or the loop has a new epoll object.
            self._epoll = self._open()
            with contextlib.suppress(AttributeError, OSError):
                self._epoll.unregister(fd)

    @staticmethod
    def _open() -> Any:
        from gevent import get_hub, monkey

        loop: Any = get_hub().loop
        if getattr(loop, "backend", None) != "epoll":
            return None
        with contextlib.suppress(OSError):
            # A duplicate, since the object closes its descriptor.
            return monkey.get_original("select", "epoll").fromfd(os.dup(loop.fileno()))
        return None


_gevent_epoll = _GeventEpoll()
