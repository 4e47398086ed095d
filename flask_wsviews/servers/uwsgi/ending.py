"""The end of a uWSGI worker: its exit hook, its signals, and the close code for its clients."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from ...close_codes import GOING_AWAY, SERVICE_RESTART
from ...common.per_process import PerProcess
from ..farewells import Farewells
from .signals import LoopSignals

#: The signals that end a worker.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def close_code(uwsgi: Any, signum: int | None) -> int:
    """Return the close code for the clients of a worker that *signum* ends.

    The master stops its workers with SIGINT. It sends SIGHUP, or for a quick reload SIGTERM, to
    those that it replaces. A worker that has served its ``--max-requests`` ends without a signal.
    """
    is_replaced = uwsgi.masterpid() > 0 and signum != signal.SIGINT
    return SERVICE_RESTART if is_replaced else GOING_AWAY


class ExitHook:
    """The ``uwsgi.atexit``. There is only one, so it also calls the one it replaces.

    :param uwsgi: uWSGI's module.
    """

    def __init__(self, uwsgi: Any) -> None:
        self._uwsgi = uwsgi
        self._farewells: dict[Callable[[], int | None], Farewells] = {}
        self._replaced: Callable[[], object] | None = None

    def add(self, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]) -> None:
        """Call *farewell* when this worker ends, by the signal that *ending_signal* returns."""
        self._farewells.setdefault(ending_signal, Farewells()).add(farewell)
        # Looked at on every call, since the application may set its own hook at any time.
        current = getattr(self._uwsgi, "atexit", None)
        if current is not self:
            self._replaced = current
            self._uwsgi.atexit = self

    def __call__(self) -> None:
        """Close the connections. uWSGI calls this before the worker ends."""
        codes = [
            (farewells, close_code(self._uwsgi, ending_signal()))
            for ending_signal, farewells in self._farewells.items()
        ]
        if self._uwsgi.loop != b"gevent":
            # This runs in a signal handler: the handler of a second signal would interrupt it and
            # end the process.
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        for farewells, code in codes:
            farewells.say(code)
        # The application's hook comes last, because on_close hooks may need what it closes.
        if self._replaced is not None:
            self._replaced()


class LoopExit:
    """The signals that end a worker of uWSGI's asyncio loop, which never calls ``uwsgi.atexit``.

    :param uwsgi: uWSGI's module.
    """

    def __init__(self, uwsgi: Any) -> None:
        self._uwsgi = uwsgi
        self._farewells = Farewells()
        self._signals = PerProcess(partial(LoopSignals, ENDING_SIGNALS, self._say))

    def add(self, farewell: Callable[[int], None]) -> None:
        """Call *farewell* when a signal ends this worker.

        :raises OSError: if the signals can't be watched; the next call tries again.
        """
        self._farewells.add(farewell)
        self._signals.get()

    def _say(self, signum: int) -> None:
        self._farewells.say(close_code(self._uwsgi, signum))
