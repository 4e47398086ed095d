"""A way to wake a thread that polls descriptors."""

from __future__ import annotations

import contextlib
import socket


class Waker:
    """A descriptor that becomes readable when another thread calls :meth:`wake`.

    :raises OSError: if too few descriptors are left.
    """

    def __init__(self) -> None:
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to poll for reading, or -1 once it is closed."""
        return self._out.fileno()

    def wake(self) -> None:
        """Make the descriptor readable."""
        # If the buffer is full, the thread wakes up anyway. If it is closed, the thread has ended.
        with contextlib.suppress(OSError):
            self._in.send(b"\0")

    def drain(self) -> None:
        """Make the descriptor unreadable again."""
        with contextlib.suppress(BlockingIOError):
            while self._out.recv(1024):
                pass

    def close(self) -> None:
        """Close both ends."""
        self._out.close()
        self._in.close()
