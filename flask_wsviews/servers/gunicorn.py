"""gunicorn with gthread or gevent workers; a request holds its thread or greenlet."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from ..typing import Environ
from .base import GOING_AWAY, SERVICE_RESTART, HeldTransport, say_all

# How often to look whether the worker is to end, in seconds.
INTERVAL = 0.1


def serves(environ: Environ) -> bool:
    """Whether gunicorn made *environ*."""
    return "gunicorn.socket" in environ


def check(environ: Environ) -> None:
    """Nothing can be wrong here."""


def take_socket(environ: Environ) -> HeldTransport:
    """The client's socket."""
    return HeldTransport(environ["gunicorn.socket"])


def before_exit(ending_signal: Callable[[], int | None], farewell: Callable[[int], None]) -> None:
    """Have *farewell* called as soon as this worker is asked to end.

    gunicorn calls its hooks only when the requests are over, which the open connections hold up.
    """
    worker = _find_worker()
    if worker is not None:
        _watch.add(worker, farewell)


def close_code(worker: Any) -> int:
    """What to tell the clients of a worker that ends.

    One that has served its ``--max-requests`` is replaced. SIGTERM comes on a reload as well as
    on a stop, and the worker can't tell which it is.
    """
    return SERVICE_RESTART if worker.nr >= worker.max_requests else GOING_AWAY


def _find_worker() -> Any:
    """Gunicorn's object for this process: its method handles SIGTERM."""
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") else None


class _Watch:
    """Waits for the end of this process's worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._farewells: list[Callable[[int], None]] = []
        self._pid: int | None = None

    def add(self, worker: Any, farewell: Callable[[int], None]) -> None:
        with self._lock:
            if farewell not in self._farewells:
                self._farewells.append(farewell)
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
        # In a gevent worker it is a greenlet, since gunicorn has patched threads there.
        threading.Thread(
            target=self._run, args=(worker,), name="wsviews-watch", daemon=True
        ).start()

    def _run(self, worker: Any) -> None:
        while worker.alive:
            time.sleep(INTERVAL)
        say_all(self._farewells, close_code(worker))


_watch = _Watch()
