"""The deadlines of all connections of an event loop, by one timer."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final, Protocol

logger = logging.getLogger("flask_wsviews")

#: Calls a function after so many seconds; returns a function that cancels the call.
StartTimer = Callable[[float, Callable[[], None]], Callable[[], None]]

# How many times per second connections are swept. All that are due in between share one entry of
# the heap, so that it stays small with any number of connections.
RATE: Final = 32


class Swept(Protocol):
    """An object with a deadline, such as a connection."""

    @property
    def deadline(self) -> float | None:
        """The time of the next :meth:`sweep` on the monotonic clock. It may change."""

    def schedule(self, deadline: float | None) -> None:
        """Replace the scheduled deadline by this one, or by none."""

    def sweep(self, now: float) -> None:
        """Run the timers that are due."""


class Deadlines:
    """Calls ``sweep()`` of each object whose deadline has passed.

    :param start_timer: starts one of the loop's timers.
    """

    def __init__(self, start_timer: StartTimer) -> None:
        self._start_timer = start_timer
        self._waiting: dict[int, set[Swept]] = {}
        self._moments: list[int] = []  # a heap of those above
        self._cancel: Callable[[], None] | None = None
        self._fires_at: int | None = None

    def add(self, one: Swept, deadline: float) -> int:
        """Sweep *one* at its deadline, or a little later.

        :returns: the moment to pass to :meth:`remove`.
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
        """Cancel :meth:`add`."""
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
            self._sweep(one, now)

    def _sweep(self, one: Swept, now: float) -> None:
        due = one.deadline
        if due is not None and due > now:
            # The peer has sent something in the meantime.
            one.schedule(due)
            return
        one.schedule(None)
        try:
            one.sweep(now)
        except Exception:
            logger.exception("the timers of a connection failed")
