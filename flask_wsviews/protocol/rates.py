"""Rate limits: how many events may happen within a fixed window of time."""

from __future__ import annotations

from math import inf

from .violations import RateExceeded


class RateWindow:
    """Count events in windows of fixed length; each starts with the first event after the last.

    :param limit: the maximum number of events in a window.
    :param seconds: the length of a window.
    :param reason: the close reason for a client that exceeds the limit.
    """

    __slots__ = ("_count", "_ends", "_limit", "_reason", "_seconds")

    def __init__(self, limit: int, seconds: float, reason: str) -> None:
        self._limit = limit
        self._seconds = seconds
        self._reason = reason
        self._ends = -inf
        self._count = 0

    def count(self, now: float) -> None:
        """Count one event.

        :raises RateExceeded: if it exceeds the limit.
        """
        if now >= self._ends:
            self._ends = now + self._seconds
            self._count = 0
        self._count += 1
        if self._count > self._limit:
            raise RateExceeded(self._reason)
