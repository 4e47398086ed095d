"""Replays missed messages: limits how many members at a time, and how long each may take."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic
from typing import Any

from ..close_codes import POLICY_VIOLATION
from ..common.threads import start_thread
from ..config import Settings
from ..exceptions import BrokerUnavailable
from .brokers.base import History, Replay
from .member import Member
from .outcome import in_event_loop

# A page that several members need at about the same time is read once. Pages are cached for this
# many seconds, and up to this many bytes.
PAGE_LIFE = 1.0
PAGES_SIZE = 8 * 1024 * 1024

# The close reason for a client that is too slow to read the messages that it missed.
TOO_SLOW = "the client doesn't read what it missed"

# How many times deadlines are checked within one timeout.
CHECKS = 4


class Replays:
    """The places for members that are sent missed messages.

    :param settings: how many members at a time, and how long each may take for a message.
    :param replay: the broker's :meth:`Broker.replay`.
    :param on_closed: called when a member was closed because it took too long.
    """

    def __init__(
        self,
        settings: Settings,
        replay: Callable[[str, str | None, History], Replay],
        on_closed: Callable[[], object],
    ) -> None:
        self.pages = Pages(replay)
        self.deadlines = ReplayDeadlines(settings.replay_timeout, on_closed)
        self._places = self._free = settings.max_replays
        self._timeout = settings.broker_timeout
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    def enter_now(self) -> bool:
        """Take a place if one is free, and return whether it was. :meth:`leave` gives it back."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def enter(self) -> Any:
        """Take a place, and wait for it if none is free. :meth:`leave` gives it back.

        :returns: in an event loop, an awaitable if it has to wait.
        :raises BrokerUnavailable: if no place becomes free in time.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            future: Future[None] = Future()
            self._waiting.append(future)
        if in_event_loop():
            return self._wait_async(future)
        with self._withdrawing(future):
            future.result(self._timeout)
        return None

    def leave(self) -> None:
        """Give a place back; the caller that has waited longest gets it."""
        with self._lock:
            while self._waiting:
                future = self._waiting.popleft()
                if future.set_running_or_notify_cancel():
                    break
            else:
                self._free += 1
                return
        future.set_result(None)

    async def _wait_async(self, future: Future[None]) -> None:
        with self._withdrawing(future):
            # Unlike wait_for(), this never loses a cancellation.
            if not (await asyncio.wait([asyncio.wrap_future(future)], timeout=self._timeout))[0]:
                raise FutureTimeoutError

    @contextlib.contextmanager
    def _withdrawing(self, future: Future[None]) -> Iterator[None]:
        """Give the place up if waiting for it fails."""
        try:
            yield
        except BaseException as error:
            if not future.cancel():
                # The place was assigned at the same moment.
                self.leave()
            if isinstance(error, FutureTimeoutError):
                raise BrokerUnavailable(
                    f"{self._places} members are being sent missed messages, and none of them has "
                    f"finished within {self._timeout:g} s"
                ) from None
            raise


class ReplayDeadlines:
    """Closes members that don't read a message in time.

    :param timeout: seconds that a member may take.
    :param on_closed: called for each member that is closed.
    """

    def __init__(self, timeout: float, on_closed: Callable[[], object]) -> None:
        self._timeout = timeout
        self._on_closed = on_closed
        self._lock = threading.Lock()
        self._due: dict[Member, float] = {}
        self._is_running = False
        self._all_ended = threading.Event()

    def begin(self, member: Member) -> None:
        """Start the deadline of *member*: it is about to be sent a message."""
        with self._lock:
            self._due[member] = monotonic() + self._timeout
            if self._is_running:
                return
            self._all_ended.clear()
            # Under gevent this is a greenlet. If it can't start, the next call tries again.
            start_thread(self._run, "wsviews-replays")
            self._is_running = True

    def end(self, member: Member) -> None:
        """End the deadline of *member*."""
        with self._lock:
            self._due.pop(member, None)
            if not self._due:
                self._all_ended.set()

    def _run(self) -> None:
        while True:
            self._all_ended.wait(self._timeout / CHECKS)
            now = monotonic()
            with self._lock:
                self._all_ended.clear()
                late = [member for member, due in self._due.items() if due <= now]
                for member in late:
                    del self._due[member]
                if not self._due and not late:
                    self._is_running = False
                    return
            for member in late:
                member.driver.close(POLICY_VIOLATION, TOO_SLOW)
                self._on_closed()


class Pages:
    """Reads pages of histories. Members that need a page at about the same time share it.

    :param replay: the broker's :meth:`Broker.replay`.
    """

    def __init__(self, replay: Callable[[str, str | None, History], Replay]) -> None:
        self._replay = replay
        self._lock = threading.Lock()
        # The oldest page comes first.
        self._pages: OrderedDict[tuple[str, str | None], _Page] = OrderedDict()
        self._size = 0

    def get(self, group: str, since: str | None, history: History) -> Replay:
        """Return a page, as :meth:`Broker.replay` does. The last page is never a cached one."""
        key = group, since
        with self._lock:
            self._drop_old()
            page = self._pages.get(key)
            if page is None:
                page = self._pages[key] = _Page()
        with page.lock:
            if page.replay is not None:
                return page.replay
            if not page.is_last:
                replay = self._replay(group, since, history)
                self._keep(key, page, replay)
                return replay
        return self._replay(group, since, history)

    def _keep(self, key: tuple[str, str | None], page: _Page, replay: Replay) -> None:
        with self._lock:
            page.is_last = replay.is_last
            size = sum(len(delivery.body or "") for delivery in replay.deliveries)
            if self._pages.get(key) is not page:
                return
            if replay.is_last or size > PAGES_SIZE:
                # Waiting members read it themselves, because it may have grown by then.
                del self._pages[key]
                return
            page.replay, page.size = replay, size
            self._size += size
            self._drop_old()

    def _drop_old(self) -> None:
        oldest = monotonic() - PAGE_LIFE
        while self._pages:
            key, page = next(iter(self._pages.items()))
            if page.made_at > oldest and self._size <= PAGES_SIZE:
                return
            del self._pages[key]
            self._size -= page.size


class _Page:
    __slots__ = ("is_last", "lock", "made_at", "replay", "size")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made_at = monotonic()
        self.replay: Replay | None = None
        self.size = 0
        self.is_last = False
