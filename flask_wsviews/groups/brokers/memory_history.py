"""The histories of groups in the memory of one process."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from sys import getsizeof
from time import monotonic, time

from .base import (
    PAGE,
    PAGE_SIZE,
    Delivery,
    History,
    Key,
    Publication,
    Replay,
    make_id,
    new_epoch,
    parse_id,
)

# Seconds between two searches for expired histories.
SWEEP_INTERVAL = 10.0

# The bytes that a history takes, and each of its messages besides the body.
LOG_SIZE = 2000
ENTRY_SIZE = 500


class MemoryHistories:
    """The histories of all groups, limited in bytes.

    When they take more, the groups whose last message is oldest lose their oldest messages.

    :param limit: the most bytes that all of them take.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clock = Clock()
        # One epoch for all groups: nothing is lost unnoticed while the process lives.
        self._epoch = new_epoch()
        # In the order of their last message. Each has its own lock, so groups don't wait for each
        # other.
        self._logs: OrderedDict[str, Log] = OrderedDict()
        self._size = 0
        # By lifetime, the last key of the deleted histories that had it.
        self._deleted: dict[float, Key] = {}
        self._lock = threading.Lock()
        self._sweep_at = 0.0

    def append(
        self, publication: Publication, history: History, hand_over: Callable[[Delivery], None]
    ) -> str:
        """Append a message, hand it over in the order of the ids, and return its id."""
        self._sweep()
        while True:
            log = self._log(publication.group, history)
            with log.lock:
                if log.is_deleted:
                    continue
                before = log.size
                message_id = log.append(publication)
                growth = log.size - before
                hand_over(delivery_of(publication, message_id))
            break
        self._make_room(growth)
        return message_id

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """Return a page of the messages after *since*."""
        self._sweep()
        with self._lock:
            log = self._logs.get(group)
            if log is None:
                # Groups without messages take no memory.
                return self._empty(since, self._deleted.get(history.lifetime, (0, 0)))
            log.touch()
        with log.lock:
            before = log.size
            replay = log.after(since)
            growth = log.size - before
        self._make_room(growth)
        return replay

    def _empty(self, since: str | None, floor: Key) -> Replay:
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
                floor = self._deleted.get(history.lifetime, (0, 0))
                log = self._logs[group] = Log(history, self._epoch, self._clock, floor)
                self._size += log.size
            self._logs.move_to_end(group)
            log.touch()
        return log

    def _sweep(self) -> None:
        """Delete expired histories, at most every few seconds."""
        now = monotonic()
        if now < self._sweep_at:
            return
        with self._lock:
            self._sweep_at = now + SWEEP_INTERVAL
            old = [(name, log) for name, log in self._logs.items() if log.expires_at <= now]
        for name, log in old:
            self._delete(name, log)

    def _make_room(self, growth: int) -> None:
        """Count the growth of a history, and shorten the oldest ones if they take too much."""
        with self._lock:
            self._size += growth
        while self._size > self._limit:
            with self._lock:
                if not self._logs:
                    return
                name, log = next(iter(self._logs.items()))
            with log.lock:
                dropped = log.shrink(self._size - self._limit)
            with self._lock:
                self._size -= dropped
            if not dropped:
                self._delete(name, log)

    def _delete(self, name: str, log: Log) -> None:
        with log.lock:
            if log.is_deleted:
                return
            log.is_deleted = True
        with self._lock:
            del self._logs[name]
            self._size -= log.size
            lifetime = log.history.lifetime
            self._deleted[lifetime] = max(log.last, self._deleted.get(lifetime, (0, 0)))


class Clock:
    """The time of day, except that it never goes back."""

    def __init__(self) -> None:
        self._origin = time() - monotonic()

    def milliseconds(self) -> int:
        """Return the milliseconds since 1970."""
        return int((self._origin + monotonic()) * 1000)


class Log:
    """The history of one group.

    :param floor: the key up to which messages are gone.
    """

    def __init__(self, history: History, epoch: str, clock: Clock, floor: Key) -> None:
        self.lock = threading.Lock()
        self.expires_at = 0.0
        #: Whether the history was deleted, so that nothing may be appended.
        self.is_deleted = False
        self.history = history
        #: The bytes that it takes.
        self.size = LOG_SIZE
        self._epoch = epoch
        self._clock = clock
        self._entries: deque[tuple[float, Key, Publication]] = deque()
        self._floor = floor
        self.last: Key = max((clock.milliseconds(), 0), floor)

    def touch(self) -> None:
        """Restart the history's lifetime."""
        self.expires_at = monotonic() + self.history.lifetime

    def append(self, publication: Publication) -> str:
        """Keep a message, and return its new id."""
        self._drop_expired()
        last = self.last
        self.last = max((self._clock.milliseconds(), 0), (last[0], last[1] + 1))
        if len(self._entries) == self.history.messages:
            self._drop()
        self._entries.append((monotonic(), self.last, publication))
        self.size += _size(publication)
        return make_id(self._epoch, self.last)

    def after(self, since: str | None) -> Replay:
        """Return a page of the messages after *since*."""
        self._drop_expired()
        position = make_id(self._epoch, self.last)
        if since is None:
            return Replay(position)
        epoch, start = parse_id(since)
        is_ours = epoch == self._epoch
        # Nor is an id from the future one of ours.
        complete = is_ours and self._floor <= start <= self.last
        found: list[Delivery] = []
        size = 0
        for _, key, publication in self._entries:
            if is_ours and key <= start:
                continue
            size += len(publication.body)
            if found and (len(found) == PAGE or size > PAGE_SIZE):
                return Replay(found[-1].id or position, found, complete, is_last=False)
            found.append(delivery_of(publication, make_id(self._epoch, key)))
        return Replay(position, found, complete)

    def shrink(self, size: int) -> int:
        """Drop the oldest messages, and return how many bytes they took.

        :param size: the bytes to drop, if there are as many.
        """
        before = self.size
        while self._entries and before - self.size < size:
            self._drop()
        return before - self.size

    def _drop_expired(self) -> None:
        seconds = self.history.seconds
        if seconds is None:
            return
        oldest = monotonic() - seconds
        while self._entries and self._entries[0][0] < oldest:
            self._drop()

    def _drop(self) -> None:
        _, self._floor, publication = self._entries.popleft()
        self.size -= _size(publication)


def delivery_of(publication: Publication, id: str | None) -> Delivery:
    """Return the delivery of a message that was published in this process."""
    ending = publication.disconnection
    body = publication.body if ending is None else None
    exclude, typed = publication.exclude, publication.typed
    return Delivery(publication.group, body, id, exclude, typed, disconnection=ending)


def _size(publication: Publication) -> int:
    return ENTRY_SIZE + getsizeof(publication.body)
