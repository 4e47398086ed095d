"""gunicorn with gthread or gevent workers; a request occupies its thread or greenlet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ..close_codes import GOING_AWAY, SERVICE_RESTART
from ..common.per_process import PerProcess
from ..common.process import Gunicorn, find_gunicorn, find_gunicorn_worker
from ..common.threads import start_thread
from ..typing import Environ
from .base import Adapter
from .farewells import Farewells
from .sockets import HeldTransport

# How often to check whether the worker is stopping, in seconds.
INTERVAL = 0.1

# How long to wait until a stopping worker no longer listens, in seconds. Most take one second.
LISTENING = 2.0


class GunicornAdapter(Adapter):
    """Takes the socket from ``environ["gunicorn.socket"]``; the request waits meanwhile."""

    environ_keys = ("gunicorn.socket",)

    def __init__(self) -> None:
        self._watch = ExitWatch()

    def serves(self, environ: Environ) -> bool:
        """Return whether gunicorn made *environ*."""
        return "gunicorn.socket" in environ

    def take_socket(self, environ: Environ) -> HeldTransport:
        """Return the client's socket."""
        return HeldTransport(environ["gunicorn.socket"])

    def when_worker_starts(self, function: Callable[[], object]) -> None:
        """Call *function* in each worker once it has loaded the application."""
        gunicorn = find_gunicorn()
        if gunicorn is None:
            return
        configured_hook = gunicorn.cfg.post_worker_init

        def started(worker: Any) -> None:
            configured_hook(worker)
            function()

        gunicorn.cfg.set("post_worker_init", started)

    def before_exit(
        self, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
    ) -> None:
        """Call *farewell* as soon as this worker is asked to stop.

        gunicorn's own exit hooks come too late: it calls them when all requests are over, and
        every open connection is a request.
        """
        worker = find_gunicorn_worker()
        if worker is not None:
            self._watch.add(worker, farewell)


class ExitWatch:
    """A thread that waits until this process's worker is asked to stop."""

    def __init__(self) -> None:
        self._farewells = Farewells()
        self._worker: Any = None
        self._thread = PerProcess(self._start)

    def add(self, worker: Any, farewell: Callable[[int], None]) -> None:
        """Call *farewell* when *worker* is asked to stop.

        :raises RuntimeError: if the thread can't be started; the next call tries again.
        """
        self._farewells.add(farewell)
        self._worker = worker
        self._thread.get()

    def _start(self) -> threading.Thread:
        # In a gevent worker it is a greenlet, since gunicorn has patched threads there.
        return start_thread(self._run, "wsviews-watch")

    def _run(self) -> None:
        worker = self._worker
        while worker.alive:
            time.sleep(INTERVAL)
        # A client that is closed now reconnects at once, and this worker would refuse it.
        deadline = time.monotonic() + min(LISTENING, worker.cfg.graceful_timeout / 2)
        while is_listening(worker) and time.monotonic() < deadline:
            time.sleep(INTERVAL)
        self._farewells.say(close_code(worker))


def close_code(worker: Any) -> int:
    """Return the close code for the clients of a worker that stops.

    One that has served its ``--max-requests`` is replaced. SIGTERM comes on a reload as well as
    on a stop, and the worker can't distinguish them.
    """
    return SERVICE_RESTART if worker.nr >= worker.max_requests else GOING_AWAY


def is_listening(worker: Any) -> bool:
    """Return whether a worker that is stopping still accepts connections.

    Both kinds of worker do for up to a second, until their main loop looks.
    """
    kind = Gunicorn(worker.cfg, type(worker)).kind
    if kind == "gthread" and hasattr(worker, "_accepting"):
        # After SIGQUIT its loop has ended, and it only waits for its threads.
        return bool(worker._accepting) and not getattr(worker.tpool, "_shutdown", False)
    return kind in ("gthread", "gevent") and any(_is_open(sock) for sock in worker.sockets)


def _is_open(sock: Any) -> bool:
    try:
        return bool(sock.fileno() != -1)
    except AttributeError:  # gunicorn's own socket objects are empty once they are closed
        return False
