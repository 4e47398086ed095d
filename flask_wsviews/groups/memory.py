"""The broker of a single worker: nothing leaves the process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic, time
from typing import ClassVar

from ..config import Settings
from .base import PAGE, Broker, Delivery, History, Publication, Replay, id_key
from .memory_presence import MemoryPresence

# How often groups are looked through for those that can be forgotten, in seconds.
SWEEP_INTERVAL = 10.0


class MemoryBroker(Broker):
    """Delivers at once, in the thread or greenlet that publishes.

    :param settings: there is nothing to set.
    """

    is_shared: ClassVar[bool] = False
    waits: ClassVar[bool] = False

    def __init__(self, settings: Settings | None = None) -> None:
        self._deliver: Callable[[Delivery], None] | None = None
        # Kept apart, so that a group's order costs the others nothing.
        self._logs: dict[str, _Log] = {}
        self._subscribed: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._sweep_at = 0.0
        self.presence = MemoryPresence()

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """See :meth:`Broker.start`."""
        self._deliver = deliver

    def publish(self, publication: Publication) -> str | None:
        """See :meth:`Broker.publish`."""
        group = publication.group
        with self._lock:
            lock = self._subscribed.get(group)
            history = publication.history
            log = None if history is None else self._log(group, history)
        if log is not None:
            with log.lock:
                delivery = log.append(publication)
                self._hand_over(delivery)
            return delivery.id
        if lock is not None:
            with lock:
                self._hand_over(_delivery(publication, None))
        return None

    def subscribe(self, group: str, history: History | None) -> None:
        """See :meth:`Broker.subscribe`."""
        with self._lock:
            self._subscribed.setdefault(group, threading.Lock())

    def unsubscribe(self, group: str) -> None:
        """See :meth:`Broker.unsubscribe`."""
        with self._lock:
            self._subscribed.pop(group, None)

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """See :meth:`Broker.replay`."""
        with self._lock:
            log = self._log(group, history)
        with log.lock:
            return log.after(since)

    def close(self) -> None:
        """See :meth:`Broker.close`."""

    def _hand_over(self, delivery: Delivery) -> None:
        if self._deliver is not None:
            self._deliver(delivery)

    def _log(self, group: str, history: History) -> _Log:
        now = monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_INTERVAL
            for name in [name for name, log in self._logs.items() if log.expires_at <= now]:
                del self._logs[name]
        log = self._logs.get(group)
        if log is None:
            log = self._logs[group] = _Log(history)
        log.expires_at = now + history.lifetime
        return log


class _Log:
    """The last messages of a group."""

    def __init__(self, history: History) -> None:
        self.lock = threading.Lock()
        self.expires_at = 0.0
        self._history = history
        self._entries: deque[tuple[float, Delivery]] = deque(maxlen=history.messages)
        # The place before the first of them: what came up to here is gone.
        self._floor = (int(time() * 1000), 0)
        self._last = self._floor

    def append(self, publication: Publication) -> Delivery:
        """Give a message its id and keep it."""
        self._forget()
        last = self._last
        self._last = max((int(time() * 1000), 0), (last[0], last[1] + 1))
        delivery = _delivery(publication, _id(self._last))
        entries = self._entries
        if entries.maxlen is not None and len(entries) == entries.maxlen and entries:
            self._floor = _key(entries[0][1])
        entries.append((monotonic(), delivery))
        return delivery

    def after(self, since: str | None) -> Replay:
        """What came after *since*."""
        self._forget()
        if since is None:
            return Replay(_id(self._last))
        start = id_key(since)
        deliveries = []
        for _, delivery in self._entries:
            if _key(delivery) > start:
                deliveries.append(delivery)
                if len(deliveries) == PAGE:
                    break
        position = deliveries[-1].id if deliveries else _id(self._last)
        # An id from the future isn't one of ours: that of a process that has ended, perhaps.
        complete = self._floor <= start <= self._last
        is_last = len(deliveries) < PAGE
        return Replay(position or _id(self._last), deliveries, complete, is_last)

    def _forget(self) -> None:
        seconds = self._history.seconds
        if seconds is None:
            return
        oldest = monotonic() - seconds
        while self._entries and self._entries[0][0] < oldest:
            self._floor = _key(self._entries.popleft()[1])


def _delivery(publication: Publication, id: str | None) -> Delivery:
    return Delivery(publication.group, publication.body, id, publication.exclude, publication.typed)


def _key(delivery: Delivery) -> tuple[int, int]:
    return id_key(delivery.id or "")


def _id(key: tuple[int, int]) -> str:
    return f"{key[0]}-{key[1]}"
