"""Counts what this process delivers, and logs slow clients."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from time import monotonic

logger = logging.getLogger("flask_wsviews")

# Seconds between two log lines about slow clients.
REPORT_INTERVAL = 10.0


@dataclass
class Counters:
    """Numbers of messages and connections since this process started."""

    #: Messages that were handed to a connection.
    delivered: int = 0
    #: Messages that were dropped because a client is slow.
    dropped: int = 0
    #: Connections that were closed because the client is slow.
    closed: int = 0


class SlowClients:
    """Counts slow clients, and logs them at most every ten seconds.

    :param counters: the counters to increase.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lock = threading.Lock()
        self._closed = 0
        self._dropped = 0
        self._next_report = 0.0

    def note(self, *, closed: int = 0, dropped: int = 0) -> None:
        """Count closed connections and dropped messages; log them if a line is due."""
        self._counters.closed += closed
        self._counters.dropped += dropped
        with self._lock:
            self._closed += closed
            self._dropped += dropped
            now = monotonic()
            if now < self._next_report:
                return
            self._next_report = now + REPORT_INTERVAL
            closed, self._closed = self._closed, 0
            dropped, self._dropped = self._dropped, 0
        logger.warning(
            "clients are too slow for their groups' messages: since the last such line, %d were "
            "closed with 1008 Policy Violation, and %d messages were dropped",
            closed,
            dropped,
        )
