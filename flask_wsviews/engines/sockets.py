"""The calls of a socket that every message needs: by a short way in C where that is compiled.

Each takes the socket, and its descriptor if that carries the bytes as they are; -1 otherwise, for
TLS, and once the socket is closed.
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
    from ..protocol import speedups
except ImportError:  # it isn't compiled
    speedups = None

Take = Callable[[int], "bytes | None"]
Give = Callable[[int, "bytes | memoryview", bool], "int | None"]

_receive: Final[Take | None] = getattr(speedups, "receive", None)
_wait_and_receive: Final[Take | None] = getattr(speedups, "wait_and_receive", None)
_send: Final[Give | None] = getattr(speedups, "send", None)

#: How much is read at once, in bytes.
READ_SIZE: Final = 64 * 1024

#: How much who waits for it gets at first: each of them has room for it all the time.
WAIT_SIZE: Final = 4096

# What a socket raises instead of waiting.
WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

# Also for a socket that would wait otherwise.
DONT_WAIT: Final = socket.MSG_DONTWAIT

# With what comes last, so that the end of the stream goes out in the same packet.
MORE: Final = getattr(socket, "MSG_MORE", 0)


def receive(sock: socket.socket, fd: int) -> bytes | None:
    """Take what the kernel has.

    :returns: ``None`` if it has nothing yet, nothing but the empty ``b""`` at the end.
    :raises OSError: if the stream is broken.
    """
    if fd >= 0 and _receive is not None:
        return _receive(fd)
    try:
        return sock.recv(READ_SIZE, DONT_WAIT) if fd >= 0 else sock.recv(READ_SIZE)
    except WOULD_BLOCK:
        return None


def wait_and_receive(sock: socket.socket, fd: int) -> bytes | None:
    """Wait until the kernel has something, and take up to :data:`WAIT_SIZE` bytes of it.

    For a socket that blocks, without TLS.

    :returns: as :func:`receive`; ``None`` if a signal came in between, or it doesn't block.
    :raises OSError: if the stream is broken.
    """
    if _wait_and_receive is not None:
        return _wait_and_receive(fd)
    try:
        return sock.recv(WAIT_SIZE)
    except WOULD_BLOCK:
        return None


def send(sock: socket.socket, fd: int, data: bytes | memoryview, more: bool) -> int | None:
    """Give the kernel what it takes.

    :param more: whether the end of the stream follows at once.
    :returns: how many bytes it has taken, ``None`` if it has no room.
    :raises OSError: if the stream is broken.
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

    :raises OSError: if fewer are left.
    """
    with contextlib.ExitStack() as stack:
        for _ in range((count + 1) // 2):
            for fd in os.pipe():
                stack.callback(os.close, fd)
