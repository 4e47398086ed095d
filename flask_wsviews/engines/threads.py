"""Threads for plain handlers on asyncio."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Daemon threads, made when needed and used again.

    An executor of the standard library joins its threads when the process ends, and a handler that
    waits for its client would hold that up for ever.

    :param limit: how many there may be.
    :param name: what they are called.
    :param prepare: each of them calls it once, first.
    """

    def __init__(self, limit: int, name: str, prepare: Callable[[], object] | None = None) -> None:
        self._limit = limit
        self._name = name
        self._prepare = prepare
        self._count = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._work: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call *function* in a thread as soon as one is free."""
        future: Future[T] = Future()
        self._work.put((function, future))
        with self._lock:
            if self._idle:
                self._idle -= 1
                return future
            if self._count == self._limit:
                return future
            self._count += 1
            number = self._count
        threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True).start()
        return future

    def close(self) -> None:
        """End the threads, once they have done what there is."""
        with self._lock:
            for _ in range(self._count):
                self._work.put(None)

    def _run(self) -> None:
        if self._prepare is not None:
            self._prepare()
        while True:
            work = self._work.get()
            if work is None:
                return
            function, future = work
            del work
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            # Nothing of this call is kept until the next one.
            del function, future
            with self._lock:
                self._idle += 1
