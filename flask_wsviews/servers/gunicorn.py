"""gunicorn with gthread or gevent workers; a request holds its thread or greenlet."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ..close_codes import GOING_AWAY, SERVICE_RESTART
from ..common.process import Gunicorn, find_gunicorn, find_gunicorn_worker
from ..common.threads import start_thread
from ..typing import Environ
from .base import HeldTransport, say_all

# How often to look whether the worker is to end, in seconds.
INTERVAL = 0.1

# For how long a worker that is to end may go on listening, in seconds; gunicorn's do for one.
LISTENING = 2.0


def serves(environ: Environ) -> bool:
    """Whether gunicorn made *environ*."""
    return "gunicorn.socket" in environ


def check(environ: Environ) -> None:
    """Nothing can be wrong here."""


def take_socket(environ: Environ) -> HeldTransport:
    """The client's socket."""
    return HeldTransport(environ["gunicorn.socket"])


def when_worker_starts(function: Callable[[], object]) -> None:
    """Have *function* called in each worker once it has loaded the application."""
    gunicorn = find_gunicorn()
    if gunicorn is None:
        return
    of_configuration = gunicorn.cfg.post_worker_init

    def started(worker: Any) -> None:
        of_configuration(worker)
        function()

    gunicorn.cfg.set("post_worker_init", started)


def before_exit(ending_signal: Callable[[], int | None], farewell: Callable[[int], None]) -> None:
    """Have *farewell* called as soon as this worker is asked to end.

    gunicorn calls its hooks only when the requests are over, which the open connections hold up.
    """
    worker = find_gunicorn_worker()
    if worker is not None:
        _watch.add(worker, farewell)


def close_code(worker: Any) -> int:
    """What to tell the clients of a worker that ends.

    One that has served its ``--max-requests`` is replaced. SIGTERM comes on a reload as well as
    on a stop, and the worker can't tell which it is.
    """
    return SERVICE_RESTART if worker.nr >= worker.max_requests else GOING_AWAY


def is_listening(worker: Any) -> bool:
    """Whether a worker that is to end still accepts connections.

    Both kinds of worker do for up to a second, until their main loop looks.
    """
    kind = Gunicorn(worker.cfg, type(worker)).kind
    if kind == "gthread" and hasattr(worker, "_accepting"):
        # After SIGQUIT its loop is gone, and only its threads are waited for.
        return bool(worker._accepting) and not getattr(worker.tpool, "_shutdown", False)
    return kind in ("gthread", "gevent") and any(_is_open(sock) for sock in worker.sockets)


def _is_open(sock: Any) -> bool:
    try:
        return bool(sock.fileno() != -1)
    except AttributeError:  # gunicorn's own socket objects are empty once they are closed
        return False


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
            # In a gevent worker it is a greenlet, since gunicorn has patched threads there.
            start_thread(partial(self._run, worker), "wsviews-watch")
            # Not before it has started: the next handshake tries again.
            self._pid = os.getpid()

    def _run(self, worker: Any) -> None:
        while worker.alive:
            time.sleep(INTERVAL)
        # Clients that are told now would come back at once, and be refused by this same worker.
        deadline = time.monotonic() + min(LISTENING, worker.cfg.graceful_timeout / 2)
        while is_listening(worker) and time.monotonic() < deadline:
            time.sleep(INTERVAL)
        say_all(self._farewells, close_code(worker))


_watch = _Watch()


def check_start() -> None:
    """Nothing is known before the first request."""
