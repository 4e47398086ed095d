"""The deadlines of all connections of an event loop, by one timer."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final, Protocol

logger = logging.getLogger("flask_wsviews")

#: Calls a function after so many seconds; what it returns takes that back.
StartTimer = Callable[[float, Callable[[], None]], Callable[[], None]]

# How often in a second somebody may be swept. All that are due in between share an entry of the
# heap, so that it stays small however many connections come and go.
RATE: Final = 32


class Swept(Protocol):
    """Who has a deadline."""

    @property
    def deadline(self) -> float | None:
        """When :meth:`sweep` has something to do, on the monotonic clock; it may have moved."""

    def schedule(self, deadline: float | None) -> None:
        """Add itself with this deadline, if any, and with no other one."""

    def sweep(self, now: float) -> None:
        """Do what is due."""


class Deadlines:
    """Sweeps who is due.

    :param start_timer: starts a timer, with the loop's own means.
    """

    def __init__(self, start_timer: StartTimer) -> None:
        self._start_timer = start_timer
        self._waiting: dict[int, set[Swept]] = {}
        self._moments: list[int] = []  # a heap of those above
        self._cancel: Callable[[], None] | None = None
        self._fires_at: int | None = None

    def add(self, one: Swept, deadline: float) -> int:
        """Sweep *one* at its deadline, or a little later.

        :returns: when, for :meth:`remove`.
        """
        moment = ceil(deadline * RATE)
        waiting = self._waiting.get(moment)
        if waiting is None:
            waiting = self._waiting[moment] = set()
            heapq.heappush(self._moments, moment)
            if self._fires_at is None or moment < self._fires_at:
                self._arm(moment)
        waiting.add(one)
        return moment

    def remove(self, one: Swept, moment: int) -> None:
        """Take :meth:`add` back."""
        waiting = self._waiting.get(moment)
        if waiting is not None:
            waiting.discard(one)

    def _arm(self, moment: int) -> None:
        if self._cancel is not None:
            self._cancel()
        self._fires_at = moment
        self._cancel = self._start_timer(max(0.0, moment / RATE - monotonic()), self._fire)

    def _fire(self) -> None:
        self._cancel = self._fires_at = None
        now = monotonic()
        due: list[Swept] = []
        while self._moments and self._moments[0] <= now * RATE:
            due += self._waiting.pop(heapq.heappop(self._moments))
        if self._moments:
            self._arm(self._moments[0])
        for one in due:
            self._look_after(one, now)

    def _look_after(self, one: Swept, now: float) -> None:
        due = one.deadline
        if due is not None and due > now:
            # The peer has been heard in the meantime.
            one.schedule(due)
            return
        one.schedule(None)
        try:
            one.sweep(now)
        except Exception:
            logger.exception("a connection could not be looked after")
