"""A connection to one server that subscribes to channels."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from time import monotonic
from typing import Any

# A server that has been silent for this many seconds gets a PING.
PING_INTERVAL = 5.0

# The most messages that one read returns. Where the listening thread is a greenlet, nothing else
# would run while messages arrive faster than they are delivered.
BATCH = 64


class Link:
    """A connection to one server, and the groups that it subscribes to.

    :param connection: the connection of redis-py.
    :param timeout: seconds that an answer may take.
    """

    def __init__(self, connection: Any, timeout: float) -> None:
        self.connection = connection
        self.groups: set[str] = set()
        #: How many confirmations of each group's subscription haven't arrived yet.
        self.pending: Counter[str] = Counter()
        #: Whether more may be buffered, which poll() doesn't report.
        self.has_more = False
        self._timeout = timeout
        self._last_read = monotonic()
        self._asked: float | None = None

    @property
    def fd(self) -> int:
        """The socket's descriptor."""
        return int(self.connection._sock.fileno())

    @property
    def deadline(self) -> float:
        """When to call :meth:`tick` next."""
        if self._asked is not None:
            return self._asked + self._timeout
        return self._last_read + PING_INTERVAL

    def send(self, command: str, *channels: str) -> None:
        """Send a command. :meth:`read` returns the answer, among the messages."""
        self.connection.send_command(command, *channels, check_health=False)
        if self._asked is None:
            self._asked = monotonic()

    def read(self) -> Iterable[list[Any]]:
        """Yield messages and answers that have arrived, at most ``BATCH``."""
        self.has_more = False
        for _ in range(BATCH):
            if not self.connection.can_read(0):
                return
            response = self.connection.read_response()
            self._last_read = monotonic()
            self._asked = None
            yield response
        self.has_more = True

    def tick(self, now: float) -> None:
        """Send a PING if the server has been silent.

        :raises TimeoutError: if the server hasn't answered in time.
        """
        if now < self.deadline or self.connection.can_read(0):
            return
        if self._asked is not None:
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        self.send("PING")

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self.connection.disconnect()
