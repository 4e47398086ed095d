"""uWSGI: which of its sockets serve WebSockets, and its hooks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any

from ...common.process import find_uwsgi, in_uwsgi_loop
from ...exceptions import ServerError
from ...typing import Environ
from ..base import Adapter
from ..sockets import duplicate
from .ending import ExitHook, LoopExit
from .fronts import Front, doubtful_routers, unusable, usable
from .starting import ForkHook
from .transport import DetachedTransport

logger = logging.getLogger("flask_wsviews")


class UWSGIAdapter(Adapter):
    """Takes the descriptor of the request, which ends while the connection goes on."""

    def __init__(self) -> None:
        # Made here, not at the first handshake, where two threads could each make one.
        uwsgi = find_uwsgi()
        self._exit_hook = ExitHook(uwsgi)
        self._loop_exit = LoopExit(uwsgi)
        self._fork_hook = ForkHook(uwsgi)

    def serves(self, environ: Environ) -> bool:
        """Return whether uWSGI made *environ*."""
        return "uwsgi.version" in environ and find_uwsgi() is not None

    def take_socket(self, environ: Environ) -> DetachedTransport:
        """Return the client's socket."""
        return DetachedTransport()

    def check_start(self) -> None:
        """Check, while an application is set up, that uWSGI has a socket for WebSockets.

        :raises ServerError: if it has none, or if the usable sockets can't be identified.
        """
        uwsgi = find_uwsgi()
        if uwsgi is None:
            return
        options = getattr(uwsgi, "opt", {})
        for warning in doubtful_routers(options):
            logger.warning("uWSGI: %s", warning)
        fronts = unusable(options)
        if not fronts:
            return
        refused = {front.local for front in fronts}
        bound = {_local_address(fd) for fd in uwsgi.sockets}
        if bound <= refused or not bound & usable(options):
            raise ServerError(f"uWSGI's {fronts[0]}")
        # uWSGI may report only the last value of an option that is given twice.
        if None in refused or bound - refused - usable(options):
            raise ServerError(
                f"uWSGI's {fronts[0]}. It can stay beside other sockets only if each option is "
                "given once, with a fixed port or path: that identifies a handshake's socket"
            )
        for front in fronts:
            logger.warning("handshakes at %s are refused: uWSGI's %s", front.address, front)

    def check(self, environ: Environ) -> None:
        """Check that the request's descriptor is the client's raw stream.

        :raises ServerError: if it isn't. The message names the option to use instead.
        """
        fronts = self._unusable_fronts
        if fronts:
            front = fronts.get(_local_address(find_uwsgi().connection_fd()))
            if front is not None:
                raise ServerError(f"uWSGI's {front}")

    @cached_property
    def _unusable_fronts(self) -> dict[int | str, Front]:
        """The sockets that can't serve WebSockets, by TCP port or path."""
        fronts = unusable(find_uwsgi().opt)
        return {front.local: front for front in fronts if front.local is not None}

    def before_exit(
        self, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
    ) -> None:
        """Call *farewell* when this worker ends."""
        if in_uwsgi_loop(b"asyncio"):
            self._loop_exit.add(farewell)
        else:
            self._exit_hook.add(ending_signal, farewell)

    def when_worker_starts(self, function: Callable[[], object]) -> None:
        """Call *function* in each worker that is forked from this process.

        With ``--lazy-apps`` each worker loads the application itself, and nothing is called.
        """
        uwsgi = find_uwsgi()
        # In the master, which forks its workers after it has loaded the application.
        if uwsgi is not None and uwsgi.worker_id() == 0:
            self._fork_hook.add(function)


def _local_address(fd: int) -> int | str:
    """Return the TCP port, or the path, that a socket is bound to."""
    with contextlib.closing(duplicate(fd)) as sock:
        address: Any = sock.getsockname()
    return address if isinstance(address, str) else int(address[1])
