"""Werkzeug's development server, which runs each request in a thread of its own."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable

from ..close_codes import GOING_AWAY, SERVICE_RESTART
from ..common.process import note_fork_per_request
from ..typing import Environ
from .base import HeldTransport

_farewells: list[Callable[[int], None]] = []


def serves(environ: Environ) -> bool:
    """Whether Werkzeug's server made *environ*."""
    return "werkzeug.socket" in environ


def check(environ: Environ) -> None:
    """Note whether each request has a process, as with ``run_simple(processes=4)``."""
    if environ.get("wsgi.multiprocess"):
        note_fork_per_request()


def take_socket(environ: Environ) -> HeldTransport:
    """The client's socket."""
    return HeldTransport(environ["werkzeug.socket"])


def before_exit(ending_signal: Callable[[], int | None], farewell: Callable[[int], None]) -> None:
    """Have *farewell* called when Python exits: SIGINT and the reloader let it, SIGTERM doesn't."""
    if farewell not in _farewells:
        _farewells.append(farewell)
        # The reloader marks the process that it starts again and again.
        is_replaced = os.environ.get("WERKZEUG_RUN_MAIN") == "true"
        atexit.register(farewell, SERVICE_RESTART if is_replaced else GOING_AWAY)


def check_start() -> None:
    """Nothing is known before the first request."""


def when_worker_starts(function: Callable[[], object]) -> None:
    """There are no workers."""
