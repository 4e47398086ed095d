"""The broker of a single worker: nothing leaves the process."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from sys import getsizeof
from time import monotonic, time
from typing import ClassVar

from ...config import Settings
from ..presence.memory import MemoryPresence
from .base import (
    PAGE,
    PAGE_SIZE,
    Broker,
    Delivery,
    History,
    Key,
    Publication,
    Replay,
    make_id,
    new_epoch,
    parse_id,
)

# How often groups are looked through for those that can be forgotten, in seconds.
SWEEP_INTERVAL = 10.0

# What a group's history takes, and each message beside its body, in bytes.
LOG_SIZE = 2000
ENTRY_SIZE = 500


class MemoryBroker(Broker):
    """Delivers at once, in the thread or greenlet that publishes.

    What it keeps is bounded by ``WSVIEWS_MAX_HISTORY_SIZE``: beyond, the groups that nothing has
    been published to for the longest time lose their oldest messages.

    :param settings: the bound.
    """

    is_shared: ClassVar[bool] = False
    waits: ClassVar[bool] = False

    def __init__(self, settings: Settings | None = None) -> None:
        self._deliver: Callable[[Delivery], None] | None = None
        self._bound = (settings or Settings()).max_history_size
        self._clock = Clock()
        self.presence = MemoryPresence()
        self._begin()

    def _begin(self) -> None:
        """Begin without messages."""
        self._pid = os.getpid()
        # One for all groups: what has become of each of them is known as long as the process lives.
        self._epoch = new_epoch()
        # Kept apart, so that a group's order costs the others nothing. Those that were published
        # to last are at the end.
        self._logs: OrderedDict[str, Log] = OrderedDict()
        self._size = 0
        # By the lifetime of histories: up to where there may have been messages in one of those
        # that are forgotten.
        self._forgotten: dict[float, Key] = {}
        self._subscribed: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._sweep_at = 0.0

    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """See :meth:`Broker.start`."""
        if self._pid != os.getpid():
            # Made before the fork. Each worker that starts later would have the same epoch,
            # but not the messages of the one that it replaces.
            self._begin()
        self._deliver = deliver

    def publish(self, publication: Publication) -> str | None:
        """See :meth:`Broker.publish`."""
        history = publication.history if publication.keep else None
        if history is None:
            lock = self._subscribed.get(publication.group)
            if lock is not None:
                with lock:
                    self._hand_over(_delivery(publication, None))
            return None
        self._sweep()
        while True:
            log = self._log(publication.group, history)
            with log.lock:
                if log.is_forgotten:
                    continue
                size = log.size
                delivery = log.append(publication)
                grown = log.size - size
                self._hand_over(delivery)
            break
        self._make_room(grown)
        return delivery.id

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
        self._sweep()
        with self._lock:
            log = self._logs.get(group)
            if log is None:
                # Nothing is kept of names that nobody has published to.
                return self._nothing(since, self._forgotten.get(history.lifetime, (0, 0)))
            log.touch()
        with log.lock:
            size = log.size
            replay = log.after(since)
            shrunk = log.size - size
        self._make_room(shrunk)
        return replay

    def close(self) -> None:
        """See :meth:`Broker.close`."""

    def _hand_over(self, delivery: Delivery) -> None:
        if self._deliver is not None:
            self._deliver(delivery)

    def _nothing(self, since: str | None, floor: Key) -> Replay:
        now = max((self._clock.milliseconds(), 0), floor)
        position = make_id(self._epoch, now)
        if since is None:
            return Replay(position)
        epoch, key = parse_id(since)
        return Replay(position, complete=epoch == self._epoch and floor <= key <= now)

    def _log(self, group: str, history: History) -> Log:
        with self._lock:
            log = self._logs.get(group)
            if log is None:
                floor = self._forgotten.get(history.lifetime, (0, 0))
                log = self._logs[group] = Log(history, self._epoch, self._clock, floor)
                self._size += log.size
            self._logs.move_to_end(group)
            log.touch()
        return log

    def _sweep(self) -> None:
        """Forget, now and then, what nothing was heard of for its lifetime."""
        now = monotonic()
        if now < self._sweep_at:
            return
        with self._lock:
            self._sweep_at = now + SWEEP_INTERVAL
            old = [(name, log) for name, log in self._logs.items() if log.expires_at <= now]
        for name, log in old:
            self._forget(name, log)

    def _make_room(self, grown: int) -> None:
        """Count what a log has grown by, and take that much from those that are old."""
        with self._lock:
            self._size += grown
        while self._size > self._bound:
            with self._lock:
                if not self._logs:
                    return
                name, log = next(iter(self._logs.items()))
            with log.lock:
                shrunk = log.shrink(self._size - self._bound)
            with self._lock:
                self._size -= shrunk
            if not shrunk:
                self._forget(name, log)

    def _forget(self, name: str, log: Log) -> None:
        with log.lock:
            if log.is_forgotten:
                return
            log.is_forgotten = True
        with self._lock:
            del self._logs[name]
            self._size -= log.size
            lifetime = log.history.lifetime
            self._forgotten[lifetime] = max(log.last, self._forgotten.get(lifetime, (0, 0)))


class Clock:
    """The time of day, but it never goes back."""

    def __init__(self) -> None:
        self._origin = time() - monotonic()

    def milliseconds(self) -> int:
        """Since 1970."""
        return int((self._origin + monotonic()) * 1000)


class Log:
    """The last messages of a group.

    :param floor: what came up to here is gone.
    """

    def __init__(self, history: History, epoch: str, clock: Clock, floor: Key) -> None:
        self.lock = threading.Lock()
        self.expires_at = 0.0
        #: Whether nothing may be appended any more.
        self.is_forgotten = False
        self.history = history
        #: What it takes, in bytes.
        self.size = LOG_SIZE
        self._epoch = epoch
        self._clock = clock
        self._entries: deque[tuple[float, Key, Delivery]] = deque()
        self._floor = floor
        self.last: Key = max((clock.milliseconds(), 0), floor)

    def touch(self) -> None:
        """Have it kept for another lifetime."""
        self.expires_at = monotonic() + self.history.lifetime

    def append(self, publication: Publication) -> Delivery:
        """Give a message its id and keep it."""
        self._forget()
        last = self.last
        self.last = max((self._clock.milliseconds(), 0), (last[0], last[1] + 1))
        delivery = _delivery(publication, make_id(self._epoch, self.last))
        if len(self._entries) == self.history.messages:
            self._drop()
        self._entries.append((monotonic(), self.last, delivery))
        self.size += _size(delivery)
        return delivery

    def after(self, since: str | None) -> Replay:
        """What came after *since*."""
        self._forget()
        position = make_id(self._epoch, self.last)
        if since is None:
            return Replay(position)
        epoch, start = parse_id(since)
        is_ours = epoch == self._epoch
        # An id from the future isn't one of ours either.
        complete = is_ours and self._floor <= start <= self.last
        found: list[Delivery] = []
        size = 0
        for _, key, delivery in self._entries:
            if is_ours and key <= start:
                continue
            size += len(delivery.body or "")
            if found and (len(found) == PAGE or size > PAGE_SIZE):
                return Replay(found[-1].id or position, found, complete, is_last=False)
            found.append(delivery)
        return Replay(position, found, complete)

    def shrink(self, size: int) -> int:
        """Drop the oldest messages; returns how many bytes that is.

        :param size: bytes that are to be dropped, if there are as many.
        """
        before = self.size
        while self._entries and before - self.size < size:
            self._drop()
        return before - self.size

    def _forget(self) -> None:
        seconds = self.history.seconds
        if seconds is None:
            return
        oldest = monotonic() - seconds
        while self._entries and self._entries[0][0] < oldest:
            self._drop()

    def _drop(self) -> None:
        _, self._floor, delivery = self._entries.popleft()
        self.size -= _size(delivery)


def _delivery(publication: Publication, id: str | None) -> Delivery:
    ending = publication.disconnection
    body = publication.body if ending is None else None
    exclude, typed = publication.exclude, publication.typed
    return Delivery(publication.group, body, id, exclude, typed, disconnection=ending)


def _size(delivery: Delivery) -> int:
    return ENTRY_SIZE + getsizeof(delivery.body)
