"""Sending again what members have missed: to how many at a time, and how long they may take."""

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

# Pages that several members ask for at about the same time are read once. They are kept for so
# many seconds, and so many bytes of them.
PAGE_LIFE = 1.0
PAGES_SIZE = 8 * 1024 * 1024

# Why a client is closed that is sent what it missed.
TOO_SLOW = "the client doesn't read what it missed"

# How many times in the length of a deadline it is looked whether it has passed.
LOOKS = 4


class Replays:
    """Members of a worker that are sent what they have missed.

    :param settings: how many at a time, and how long each of them may take for a message.
    :param replay: the broker's.
    :param on_closed: called when a member was closed because it took too long.
    """

    def __init__(
        self,
        settings: Settings,
        replay: Callable[[str, str | None, History], Replay],
        on_closed: Callable[[], object],
    ) -> None:
        self.pages = Pages(replay)
        self.patience = Patience(settings.replay_timeout, on_closed)
        self._places = self._free = settings.max_replays
        self._timeout = settings.broker_timeout
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    def enter_now(self) -> bool:
        """Take a place if one is free. :meth:`leave` gives it back."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def enter(self) -> Any:
        """Take a place, and wait for it if all are taken. :meth:`leave` gives it back.

        :returns: in an event loop an awaitable, if it has to wait.
        :raises BrokerUnavailable: if none is free in time.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            future: Future[None] = Future()
            self._waiting.append(future)
        if in_event_loop():
            return self._wait_async(future)
        with self._given_up(future):
            future.result(self._timeout)
        return None

    def leave(self) -> None:
        """Give a place back, to the one that has waited longest."""
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
        with self._given_up(future):
            # Unlike wait_for(), this never swallows a cancellation.
            if not (await asyncio.wait([asyncio.wrap_future(future)], timeout=self._timeout))[0]:
                raise FutureTimeoutError

    @contextlib.contextmanager
    def _given_up(self, future: Future[None]) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not future.cancel():
                # It came at the same moment.
                self.leave()
            if isinstance(error, FutureTimeoutError):
                raise BrokerUnavailable(
                    f"{self._places} members are being sent what they missed, and none of them "
                    f"has ended within {self._timeout:g} s"
                ) from None
            raise


class Patience:
    """Closes members that don't take the next message in time.

    :param timeout: seconds.
    :param on_closed: called for each of them.
    """

    def __init__(self, timeout: float, on_closed: Callable[[], object]) -> None:
        self._timeout = timeout
        self._on_closed = on_closed
        self._lock = threading.Lock()
        self._due: dict[Member, float] = {}
        self._is_running = False
        self._all_ended = threading.Event()

    def begin(self, member: Member) -> None:
        """A message is about to be sent to *member*; the one before it has been taken."""
        with self._lock:
            self._due[member] = monotonic() + self._timeout
            if self._is_running:
                return
            self._all_ended.clear()
            # Where gevent has patched threads it is a greenlet. If it can't start, the next one
            # tries again.
            start_thread(self._run, "wsviews-replays")
            self._is_running = True

    def end(self, member: Member) -> None:
        """It has taken the last message, or won't."""
        with self._lock:
            self._due.pop(member, None)
            if not self._due:
                self._all_ended.set()

    def _run(self) -> None:
        while True:
            self._all_ended.wait(self._timeout / LOOKS)
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
    """Pages of histories; those that several members ask for at about the same time are shared.

    :param replay: the broker's.
    """

    def __init__(self, replay: Callable[[str, str | None, History], Replay]) -> None:
        self._replay = replay
        self._lock = threading.Lock()
        # The oldest first.
        self._pages: OrderedDict[tuple[str, str | None], _Page] = OrderedDict()
        self._size = 0

    def get(self, group: str, since: str | None, history: History) -> Replay:
        """As :meth:`Broker.replay`. A last page is as new as can be."""
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
                # Those who wait ask for themselves: it may have grown by then.
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
