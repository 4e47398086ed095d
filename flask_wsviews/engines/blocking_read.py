"""A shortcut: wait for bytes in the read itself, instead of in poll() before the read.

It saves one of an echo's three system calls, and about a quarter of its CPU
(``benchmarks/echo.py blocking-function``). :class:`BlockingDriver` works the same without it.
"""

from __future__ import annotations

import select
import ssl
from time import monotonic
from types import BuiltinFunctionType
from typing import Final

from ..protocol.connection import Connection
from ..protocol.state import CLOSED
from ..typing import Message, Transport
from .blocking_driver import BlockingDriver
from .keeper import POLLIN, Keeper
from .sockets import WAIT_SIZE, wait_and_receive

# The owner itself keeps a deadline that is nearer, because the keeper is a little late. In seconds.
KEPT_FROM: Final = 1.0


def can_wait_in_read(transport: Transport) -> bool:
    """Return whether a :class:`ReadingDriver` can serve the connection.

    TLS reads more than it returns. gevent's poll() lets other greenlets run, a read doesn't.
    """
    is_tls = isinstance(transport.sock, ssl.SSLSocket)
    return not is_tls and isinstance(select.poll, BuiltinFunctionType)


class ReadingDriver(BlockingDriver):
    """A :class:`BlockingDriver` whose owner waits in a read while it has no deadline."""

    def __init__(self, transport: Transport, connection: Connection, keeper: Keeper) -> None:
        super().__init__(transport, connection, keeper)
        self._blocks = True
        self._sock.setblocking(True)

    def receive(self, timeout: float | None = None) -> Message | None:
        """Wait for the next message in a read, unless there is a timeout."""
        if timeout is not None or not self._blocks:
            return super().receive(timeout)
        has_begun = has_polled = False
        data: bytes | None = None
        try:
            while True:
                with self.lock:
                    if not has_begun:
                        self._begin_waiting()
                        has_begun = True
                    if data is not None:
                        self._take_in_first(data)
                    message = self._take() if has_polled else self._take_known()
                    if message is not None:
                        return message
                    if self.connection.state is CLOSED:
                        self._told = True
                        return None
                    events = self._events()
                    wake_at = self.connection.next_deadline
                has_polled = not self._is_all_reading(events, wake_at)
                if has_polled:
                    data = None
                    self._poll(events, wake_at, poller=self._own_poller)
                else:
                    data = self._wait_in_read()
        finally:
            if has_begun:
                self._end_waiting()

    def _is_all_reading(self, events: int, wake_at: float | None) -> bool:
        """Return whether the owner has only to read, because the keeper can run the timers."""
        return (
            self._blocks
            and events == POLLIN
            and (wake_at is None or wake_at - monotonic() > KEPT_FROM)
        )

    def _wait_in_read(self) -> bytes | None:
        try:
            data = wait_and_receive(self._sock, self._plain_fd)
        except OSError:
            with self.lock:
                self._lose_reading()
            return None
        if data is None:
            # A signal interrupted the read, or other code has made the socket non-blocking.
            self._blocks = False
        return data

    def _take_in_first(self, data: bytes) -> None:
        """Pass on the bytes of the read that has waited, and read what is left."""
        self._take_in(data)
        if len(data) == WAIT_SIZE:
            self._read()
