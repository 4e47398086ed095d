"""uWSGI's fork hook: call functions in each worker after the fork."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ForkHook:
    """The ``uwsgi.post_fork_hook``. There is only one, so it also calls the one it replaces.

    :param uwsgi: uWSGI's module.
    """

    def __init__(self, uwsgi: Any) -> None:
        self._uwsgi = uwsgi
        self._functions: list[Callable[[], object]] = []
        self._replaced: Callable[[], object] | None = None

    def add(self, function: Callable[[], object]) -> None:
        """Call *function* in each worker that this process forks."""
        self._functions.append(function)
        current = getattr(self._uwsgi, "post_fork_hook", None)
        if current is not self:
            self._replaced = current
            self._uwsgi.post_fork_hook = self

    def __call__(self) -> None:
        """Call the functions. uWSGI calls this in each process that it has forked."""
        # The application's hook comes first, because it may configure each worker.
        if self._replaced is not None:
            self._replaced()
        # Mules and spoolers serve no handshakes.
        if self._uwsgi.worker_id():
            for function in self._functions:
                function()
