"""The keeper: one thread per worker that reads and writes for connections whose thread is busy.

While a hook of the blocking engine runs, its thread can't read the socket. The keeper then answers
and sends Pings, and writes what other threads have queued.
"""

from __future__ import annotations

import contextlib
import logging
import select
import selectors
import threading
from abc import abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Final

from mypy_extensions import mypyc_attr

from ..common.threads import start_thread
from ..common.waker import Waker
from .driver import Driver

logger = logging.getLogger("flask_wsviews")

POLLIN: Final = select.POLLIN
POLLOUT: Final = select.POLLOUT

# The keeper's pace, in seconds, while there are connections.
KEEPER_INTERVAL = 0.25


@mypyc_attr(allow_interpreted_subclasses=True)
class KeptDriver(Driver):
    """A connection that a keeper serves while its own thread is busy."""

    @abstractmethod
    def keep(self, now: float) -> None:
        """Send the Pings that are due, and watch the socket if the hook is busy for long."""

    @abstractmethod
    def attend(self) -> int:
        """Read and write for a busy owner.

        :returns: the events of poll() that the keeper should still watch, 0 for none.
        """


class Keeper:
    """Reads and writes for this worker's connections whose threads are busy in a hook."""

    def __init__(self) -> None:
        self._drivers: set[KeptDriver] = set()
        self._lock = threading.Lock()
        self._watched: dict[int, KeptDriver] = {}
        self._is_over = False
        self._is_asleep = False  # whether it waits for the first connection
        with contextlib.ExitStack() as stack:
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._waker = stack.enter_context(contextlib.closing(Waker()))
            self._selector.register(self._waker, selectors.EVENT_READ)
            self._runner = start_thread(self._run, "wsviews-keeper")
            self._descriptors = stack.pop_all()

    def stop(self) -> None:
        """End the thread, after the last connection has ended."""
        with self._lock:
            self._is_over = True
            self._drivers.clear()
            self._waker.wake()
        self._runner.join()
        # Not closed by the thread itself: another thread may be waking it.
        with self._lock:
            self._watched.clear()
            self._descriptors.close()

    def add(self, driver: KeptDriver) -> None:
        """Start serving *driver*."""
        with self._lock:
            if self._is_over:
                return
            was_asleep, self._is_asleep = self._is_asleep, False
            self._drivers.add(driver)
            if was_asleep:
                self._waker.wake()

    def remove(self, driver: KeptDriver) -> None:
        """Stop serving *driver*."""
        with self._lock:
            self._drivers.discard(driver)
            self._unwatch(driver)

    def watch(self, driver: KeptDriver) -> None:
        """Read and write for *driver* as soon as its socket is ready."""
        with self._lock:
            if driver in self._drivers and driver.fd >= 0 and driver.fd not in self._watched:
                self._watched[driver.fd] = driver
                self._selector.register(
                    driver.fd, selectors.EVENT_READ | selectors.EVENT_WRITE, driver
                )

    def _run(self) -> None:
        had_drivers = False
        while not self._is_over:
            with self._lock:
                drivers = list(self._drivers)
                # Not at once: connections that open one after the other would each wake it.
                self._is_asleep = not drivers and not had_drivers
                had_drivers = bool(drivers)
                timeout = None if self._is_asleep else KEEPER_INTERVAL
            for key, _ in self._selector.select(timeout):
                if key.data is None:
                    self._waker.drain()
                else:
                    self._guarded(self._attend, key.data)
            for driver in drivers:
                self._guarded(driver.keep, monotonic())

    def _guarded(self, work: Callable[..., object], *arguments: object) -> None:
        # This thread serves every connection, so an error in one must not end it.
        try:
            work(*arguments)
        except Exception:
            logger.exception("the keeper could not serve a connection")

    def _attend(self, driver: KeptDriver) -> None:
        events = driver.attend()
        with self._lock:
            if driver.fd not in self._watched:
                return
            if not events:
                self._unwatch(driver)
                return
            wanted = selectors.EVENT_READ if events & POLLIN else 0
            wanted |= selectors.EVENT_WRITE if events & POLLOUT else 0
            self._selector.modify(driver.fd, wanted, driver)

    def _unwatch(self, driver: KeptDriver) -> None:
        if self._watched.pop(driver.fd, None) is not None:
            self._selector.unregister(driver.fd)
