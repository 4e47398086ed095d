"""Network namespaces as hosts with cables that a test can cut. They need root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache
from itertools import count
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000

_numbers = count(1)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@cache
def why_not() -> str | None:
    """Return why namespaces can't be made here, or ``None`` if they can."""
    try:
        with Host() as one, Host() as two:
            Cable(one, two, ("10.203.0.1", "10.203.0.2"))
            one.run(lambda: socket.create_server(("10.203.0.1", 0)).close())
            return None
    except (OSError, subprocess.SubprocessError) as error:
        return f"no network namespaces here: {getattr(error, 'stderr', None) or error}"


class Host:
    """A namespace with a loopback interface, for the duration of a ``with`` block."""

    def __init__(self) -> None:
        self.name = f"wsviews-{os.getpid()}-{next(_numbers)}"

    def __enter__(self) -> Host:
        _ip("netns", "add", self.name)
        try:
            _ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        _ip("netns", "del", self.name)

    def run(self, function: Callable[[], T]) -> T:
        """Call *function* on this host. Its sockets and processes stay there."""
        future: Future[T] = Future()

        def call() -> None:
            try:
                with open(f"/run/netns/{self.name}") as namespace:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns()")
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        # Entering a namespace affects one thread, so this thread ends in it.
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return future.result()


class Cable:
    """Connects two hosts.

    :param addresses: the address of each host, in one /30 network.
    """

    def __init__(self, one: Host, two: Host, addresses: tuple[str, str]) -> None:
        self._two = two
        self._end = f"to-{one.name.rpartition('-')[2]}"
        other = f"to-{two.name.rpartition('-')[2]}"
        _ip(
            *("-n", one.name, "link", "add", other, "type", "veth"),
            *("peer", "name", self._end, "netns", two.name),
        )
        for host, end, address in zip((one, two), (other, self._end), addresses, strict=True):
            _ip("-n", host.name, "address", "add", f"{address}/30", "dev", end)
            _ip("-n", host.name, "link", "set", end, "up")

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Drop all packets from now on, without an error on either side."""
        _ip("-n", self._two.name, "link", "set", self._end, "down")
        try:
            yield
        finally:
            _ip("-n", self._two.name, "link", "set", self._end, "up")
