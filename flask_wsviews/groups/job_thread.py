"""A thread that runs one job after the other, and one function at intervals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, Queue
from time import monotonic
from typing import Any, TypeVar

from ..common.threads import start_thread

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")


class JobThread:
    """Runs jobs in order. The thread starts with the first job; under gevent it is a greenlet.

    :param name: the thread's name.
    :param at_intervals: called at intervals; returns the seconds until its next call.
    :param interval: the seconds until its first call.
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
        # Not a SimpleQueue, which gevent can't patch once it has been imported.
        self._queue: Queue[tuple[Callable[[], Any], Future[Any]] | None] = Queue()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run *function* after the jobs before it.

        :returns: a future for its result; it is cancelled if the thread is closed.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                future.cancel()
                return future
            self._queue.put((function, future))
            if self._thread is None:
                self._thread = start_thread(self._run, self._name)
        return future

    def close(self, timeout: float) -> None:
        """End the thread after the jobs that are queued.

        :param timeout: seconds to wait for that.
        """
        with self._lock:
            self._is_closed = True
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
                job = self._queue.get(timeout=left)
            except Empty:
                pass
            else:
                if job is None:
                    return
                _run_job(*job)
                # Don't keep it alive while waiting for the next one.
                del job
            if self._at_intervals is not None and monotonic() >= due:
                due = monotonic() + self._at_intervals()


def _run_job(function: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
