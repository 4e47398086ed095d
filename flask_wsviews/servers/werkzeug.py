"""Werkzeug's development server, which runs each request in its own thread."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable

from ..close_codes import GOING_AWAY, SERVICE_RESTART
from ..common.process import note_fork_per_request
from ..typing import Environ
from .base import Adapter
from .farewells import Farewells
from .sockets import HeldTransport


class WerkzeugAdapter(Adapter):
    """Takes the socket from ``environ["werkzeug.socket"]``; the request waits meanwhile."""

    environ_keys = ("werkzeug.socket",)

    def __init__(self) -> None:
        self._farewells: Farewells | None = None

    def serves(self, environ: Environ) -> bool:
        """Return whether Werkzeug's server made *environ*."""
        return "werkzeug.socket" in environ

    def check(self, environ: Environ) -> None:
        """Note whether the server forks for each request, as ``run_simple(processes=4)`` does."""
        if environ.get("wsgi.multiprocess"):
            note_fork_per_request()

    def take_socket(self, environ: Environ) -> HeldTransport:
        """Return the client's socket."""
        return HeldTransport(environ["werkzeug.socket"])

    def before_exit(
        self, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
    ) -> None:
        """Call *farewell* when Python exits, as after SIGINT and on a reload. SIGTERM skips it."""
        if self._farewells is None:
            self._farewells = Farewells()
            # The reloader sets this variable for the process that it restarts.
            is_replaced = os.environ.get("WERKZEUG_RUN_MAIN") == "true"
            atexit.register(self._farewells.say, SERVICE_RESTART if is_replaced else GOING_AWAY)
        self._farewells.add(farewell)
