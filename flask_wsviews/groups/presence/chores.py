"""A thread of a worker that does one thing after the other, and something at intervals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, Queue
from time import monotonic
from typing import Any, TypeVar

from ...common.threads import start_thread

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")


class Chores:
    """Begins with the first thing to do. Where gevent has patched threads it is a greenlet.

    :param name: the thread's.
    :param at_intervals: called every now and then; returns the seconds until the next time.
    :param interval: the seconds until the first time.
    """

    def __init__(
        self,
        name: str,
        at_intervals: Callable[[], float] | None = None,
        interval: float = 0.0,
    ) -> None:
        self._name = name
        self._at_intervals = at_intervals
        self._interval = interval
        self._lock = threading.Lock()
        # Not the SimpleQueue, which gevent can't patch once it has been imported.
        self._queue: Queue[tuple[Callable[[], Any], Future[Any]] | None] = Queue()
        self._thread: threading.Thread | None = None
        self._is_over = False

    def do(self, function: Callable[[], T]) -> Future[T]:
        """Call *function* when what came before it is done.

        :returns: for its result; it is cancelled if the thread has been told to end.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._is_over:
                future.cancel()
                return future
            self._queue.put((function, future))
            if self._thread is None:
                self._thread = start_thread(self._run, self._name)
        return future

    def close(self, timeout: float) -> None:
        """End the thread, once it has done what there is.

        :param timeout: seconds to wait for that.
        """
        with self._lock:
            self._is_over = True
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            if thread is not threading.current_thread():
                thread.join(timeout)

    def _run(self) -> None:
        due = monotonic() + self._interval
        while True:
            left = None if self._at_intervals is None else max(0.0, due - monotonic())
            try:
                chore = self._queue.get(timeout=left)
            except Empty:
                pass
            else:
                if chore is None:
                    return
                _do(*chore)
                del chore
            if self._at_intervals is not None and monotonic() >= due:
                due = monotonic() + self._at_intervals()


def _do(function: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
