"""The broker of a single worker: messages stay in the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from ...common.per_process import PerProcess
from ...config import Settings
from ..presence.memory import MemoryPresence
from .base import Broker, Delivery, History, Publication, Replay
from .memory_history import MemoryHistories, delivery_of


class MemoryBroker(Broker):
    """Delivers at once, in the thread or greenlet that publishes.

    :param settings: ``WSVIEWS_MAX_HISTORY_SIZE`` limits what all histories take together.
    """

    is_shared: ClassVar[bool] = False
    waits: ClassVar[bool] = False

    def __init__(self, settings: Settings | None = None) -> None:
        self._deliver: Callable[[Delivery], None] | None = None
        # A forked worker doesn't get the later messages of its parent, so its histories have
        # another epoch.
        limit = (settings or Settings()).max_history_size
        self._histories = PerProcess(partial(MemoryHistories, limit))
        # The subscribed groups. The lock of each keeps its messages in order.
        self._subscribed: dict[str, threading.Lock] = {}
        self.presence = MemoryPresence()

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Pass messages to *deliver* from now on."""
        self._subscribed = {}
        self._deliver = deliver

    def publish(self, publication: Publication) -> str | None:
        """Deliver a message, and append it to the group's history if there is one."""
        history = publication.history if publication.keep else None
        if history is not None:
            return self._histories.get().append(publication, history, self._hand_over)
        lock = self._subscribed.get(publication.group)
        if lock is not None:
            with lock:
                self._hand_over(delivery_of(publication, None))
        return None

    def subscribe(self, group: str, history: History | None) -> None:
        """Deliver messages of a group from now on."""
        self._subscribed.setdefault(group, threading.Lock())

    def unsubscribe(self, group: str) -> None:
        """Stop delivering messages of a group."""
        self._subscribed.pop(group, None)

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """Return a page of a group's history."""
        return self._histories.get().replay(group, since, history)

    def close(self) -> None:
        """Do nothing: there are no threads and no connections."""

    def _hand_over(self, delivery: Delivery) -> None:
        if self._deliver is not None:
            self._deliver(delivery)
