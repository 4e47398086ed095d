"""A pool of daemon threads, for connections and for plain handlers on asyncio."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from math import inf
from queue import SimpleQueue
from typing import TypeVar

from .process import find_uwsgi, is_patched

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

# The signals that end a uWSGI worker.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread, which leaves the signals that end a uWSGI worker to the main thread.

    uWSGI's signal handlers call exit() in the thread that the kernel picks: of two signals at once,
    the second goes to another thread than the main one. In one of ours exit() never returns: it
    waits for the main thread, or for a lock that the thread itself holds.

    :raises RuntimeError: if no thread can be started.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    with _ending_signals_blocked():
        thread.start()
    return thread


@contextlib.contextmanager
def _ending_signals_blocked() -> Iterator[None]:
    """Block the ending signals under uWSGI: a new thread inherits what is blocked."""
    # Patched threads are greenlets of this thread, which must get its signals.
    if find_uwsgi() is None or is_patched():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Threads:
    """A pool of daemon threads, which start when they are needed.

    An executor of the standard library joins its threads when the process ends, and a handler that
    waits for its client would block that for ever.

    :param limit: the largest number of threads.
    :param name: the prefix of the threads' names.
    :param prepare: each thread calls it once, first.
    :param spare: how many idle threads are kept; others end when they have no work.
    """

    def __init__(
        self,
        limit: float,
        name: str,
        prepare: Callable[[], object] | None = None,
        spare: float = inf,
    ) -> None:
        self._limit = limit
        self._name = name
        self._prepare = prepare
        self._spare = spare
        self._numbers = itertools.count(1)
        self._count = 0
        self._idle = 0  # threads that wait for work; if negative, work that waits for threads
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call *function* in a thread as soon as one is free."""
        future: Future[T] = Future()

        def fulfil() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self.call(fulfil)
        return future

    def call(self, function: Callable[[], object]) -> None:
        """Call *function* in a thread, without a result.

        :raises RuntimeError: if it needs another thread, and none can be started.
        """
        with self._lock:
            must_start = self._idle <= 0 and self._count < self._limit
            if must_start:
                self._count += 1
            else:
                self._idle -= 1
        if must_start:
            self._start()
        # Not an argument of the thread, which would keep a reference to it.
        self._work.put(function)

    def _start(self) -> None:
        name = f"{self._name}-{next(self._numbers)}"
        try:
            start_thread(self._run, name)
        except RuntimeError:
            with self._lock:
                self._count -= 1
            raise

    def close(self) -> None:
        """End the threads after the work that is queued."""
        with self._lock:
            for _ in range(self._count):
                self._work.put(None)

    def _run(self) -> None:
        if self._prepare is not None:
            self._prepare()
        while (function := self._work.get()) is not None:
            try:
                function()
            except BaseException:
                logger.exception("a function in a thread failed")
            # Keep no reference while the thread waits.
            del function
            with self._lock:
                if self._idle >= self._spare:
                    self._count -= 1
                    return
                self._idle += 1
