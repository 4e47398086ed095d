"""Receive from a socket and send to it, in C where that is compiled.

Each function takes the socket and its descriptor. The descriptor is -1 for TLS, where Python's ssl
module reads and writes, and once the socket is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

speedups: Any
try:
    from . import _sockets as speedups
except ImportError:  # it isn't compiled
    speedups = None

Receive = Callable[[int], "bytes | None"]
Send = Callable[[int, "bytes | memoryview", bool], "int | None"]

_receive: Final[Receive | None] = getattr(speedups, "receive", None)
_wait_and_receive: Final[Receive | None] = getattr(speedups, "wait_and_receive", None)
_send: Final[Send | None] = getattr(speedups, "send", None)

#: The maximum number of bytes that one call receives.
READ_SIZE: Final = 64 * 1024

#: The same for a call that waits: each waiting thread has a buffer of this size all the time.
WAIT_SIZE: Final = 4096

# A socket raises these instead of waiting.
WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

# For one call on a socket that blocks.
DONT_WAIT: Final = socket.MSG_DONTWAIT

# With the last bytes, so that the end of the stream goes out in the same packet.
MORE: Final = getattr(socket, "MSG_MORE", 0)


def receive(sock: socket.socket, fd: int) -> bytes | None:
    """Return the bytes that have arrived, without waiting.

    :returns: ``None`` if there are none yet, ``b""`` at the end of the stream.
    :raises OSError: if the connection is broken.
    """
    if fd >= 0 and _receive is not None:
        return _receive(fd)
    try:
        return sock.recv(READ_SIZE, DONT_WAIT) if fd >= 0 else sock.recv(READ_SIZE)
    except WOULD_BLOCK:
        return None


def wait_and_receive(sock: socket.socket, fd: int) -> bytes | None:
    """Wait until bytes have arrived, and return up to :data:`WAIT_SIZE` of them.

    Only for a socket that blocks, without TLS.

    :returns: as :func:`receive`; ``None`` if a signal interrupted the call or it doesn't block.
    :raises OSError: if the connection is broken.
    """
    if _wait_and_receive is not None:
        return _wait_and_receive(fd)
    try:
        return sock.recv(WAIT_SIZE)
    except WOULD_BLOCK:
        return None


def send(sock: socket.socket, fd: int, data: bytes | memoryview, more: bool) -> int | None:
    """Send as many bytes as the kernel accepts without waiting.

    :param more: whether the end of the stream follows at once.
    :returns: how many bytes the kernel has accepted, ``None`` if its buffer is full.
    :raises OSError: if the connection is broken.
    """
    if fd >= 0 and _send is not None:
        return _send(fd, data, more)
    try:
        if fd < 0:
            return sock.send(data)
        return sock.send(data, DONT_WAIT | MORE if more else DONT_WAIT)
    except WOULD_BLOCK:
        return None


def check_descriptors(count: int) -> None:
    """Check that *count* descriptors can be opened, rounded up to an even number.

    :raises OSError: if too few are left.
    """
    with contextlib.ExitStack() as stack:
        for _ in range((count + 1) // 2):
            for fd in os.pipe():
                stack.callback(os.close, fd)
