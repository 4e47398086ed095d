"""uWSGI: the connection's descriptor is duplicated, and uWSGI is left with another in its place.

uWSGI's own number then leads to ``/dev/null``, so that the request ends as any other does: with a
response, for the log and the statistics. Whatever a middleware around us does with that response
can't reach the client, or a connection that is given the same number later.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from ...close_codes import GOING_AWAY, SERVICE_RESTART
from ...exceptions import ServerError
from ...protocol.opening import STATUS, serialize_response
from ...typing import Environ
from ..base import duplicate, say_all
from .fronts import Front, doubtful_routers, unusable, usable
from .loop_signals import LoopSignals

try:
    import uwsgi as _uwsgi
except ImportError:  # the module exists only inside a uWSGI process
    _uwsgi = None

# Those that end a worker.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Without a type, as each build has what it was built with.
uwsgi: Any = _uwsgi

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

logger = logging.getLogger("flask_wsviews")


def serves(environ: Environ) -> bool:
    """Whether uWSGI made *environ*."""
    return uwsgi is not None and "uwsgi.version" in environ


def check_start() -> None:
    """Check, while an application is being set up, that there is a socket for WebSockets.

    :raises ServerError: if there is none, or can't be told from those that are unusable.
    """
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
    # Of an option that is there twice uWSGI may tell the last value only.
    if None in refused or bound - refused - usable(options):
        raise ServerError(
            f"uWSGI's {fronts[0]}. Beside other sockets it is possible only if each option is "
            "there once and has a fixed port or path, by which handshakes can be told apart"
        )
    for front in fronts:
        logger.warning("handshakes at %s are refused: uWSGI's %s", front.address, front)


def check(environ: Environ) -> None:
    """Check that the descriptor carries the client's bytes as they are, and nobody else's.

    :raises ServerError: naming the option to use instead.
    """
    fronts = _unusable_fronts()
    if fronts and (front := fronts.get(_local_address(uwsgi.connection_fd()))) is not None:
        raise ServerError(f"uWSGI's {front}")


@cache
def _unusable_fronts() -> dict[int | str, Front]:
    """The sockets that WebSockets can't be taken from, by TCP port or path."""
    return {front.local: front for front in unusable(uwsgi.opt) if front.local is not None}


def _local_address(fd: int) -> int | str:
    """The TCP port, or the path, that a socket is bound to."""
    with contextlib.closing(duplicate(fd)) as sock:
        address = sock.getsockname()
    return address if isinstance(address, str) else int(address[1])


class Transport:
    """The client's socket, taken from uWSGI."""

    __slots__ = ("sock",)

    can_detach = True

    def __init__(self) -> None:
        _null_device()
        self.sock: socket.socket = duplicate(uwsgi.connection_fd())

    def preface(self, fields: list[tuple[str, str]]) -> bytes:
        """The 101: what ``start_response`` is given may come late, or never."""
        return serialize_response(fields)

    def detach(self) -> None:
        """Leave uWSGI nothing to write to; the duplicate keeps the connection open."""
        fd = uwsgi.connection_fd()
        if uwsgi.loop == b"gevent":
            _watched.forget(fd)
        os.dup2(_null_device(), fd, inheritable=False)

    def release(self) -> None:
        """Close our duplicate, and with it the connection."""
        self.sock.close()

    def finish(
        self, start_response: StartResponse, fields: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        """The 101 for uWSGI's log and statistics."""
        start_response(STATUS, fields)
        # uWSGI lets other greenlets have their turn before it asks a list for what is in it.
        return cast("Iterable[bytes]", b"")


_null_lock = threading.Lock()
_null: int | None = None


def _null_device() -> int:
    """A descriptor that takes everything and leads nowhere; one for the process.

    :raises OSError: if no descriptor is left.
    """
    global _null
    with _null_lock:
        if _null is None:
            _null = os.open(os.devnull, os.O_RDWR)
        return _null


class _Watched:
    """What the kernel watches for gevent's loop."""

    def __init__(self) -> None:
        self._epoll: Any = None

    def forget(self, fd: int) -> None:
        """Watch a descriptor no more that uWSGI is about to close.

        The loop leaves that to the kernel, which watches on as our duplicate keeps the stream open.
        At the first event of a descriptor that is gone the loop would begin anew, with all
        connections.
        """
        try:
            self._epoll.unregister(fd)
        except (AttributeError, OSError):
            # The first one, or the loop has begun anew.
            self._epoll = self._open()
            with contextlib.suppress(AttributeError, OSError):
                self._epoll.unregister(fd)

    @staticmethod
    def _open() -> Any:
        from gevent import get_hub, monkey

        loop: Any = get_hub().loop
        if getattr(loop, "backend", None) != "epoll":
            return None
        with contextlib.suppress(OSError):
            # A duplicate, since the object closes what it has.
            return monkey.get_original("select", "epoll").fromfd(os.dup(loop.fileno()))
        return None


_watched = _Watched()


def take_socket(environ: Environ) -> Transport:
    """The client's socket."""
    return Transport()


def before_exit(ending_signal: Callable[[], int | None], farewell: Callable[[int], None]) -> None:
    """Have *farewell* called in this worker when it ends."""
    if uwsgi.loop == b"asyncio":
        _loop_hook.install(farewell)
    else:
        _exit_hook.install(ending_signal, farewell)


def when_worker_starts(function: Callable[[], object]) -> None:
    """Have *function* called in each worker that is forked from this process.

    With ``--lazy-apps`` the application is loaded after that, and nothing is called.
    """
    # The master, which has loaded the application, forks its workers next.
    if uwsgi is not None and uwsgi.worker_id() == 0:
        _fork_hook.install(function)


def close_code(signum: int | None) -> int:
    """What to tell the clients of a worker that *signum* ends.

    The master stops its workers with SIGINT, and sends SIGHUP or, to be quick, SIGTERM to those
    that it replaces. A worker that has served its ``--max-requests`` ends without any.
    """
    is_replaced = uwsgi.masterpid() > 0 and signum != signal.SIGINT
    return SERVICE_RESTART if is_replaced else GOING_AWAY


class _ForkHook:
    """``uwsgi.post_fork_hook``, of which there is one: what was there is called as well."""

    def __init__(self) -> None:
        self._functions: list[Callable[[], object]] = []
        self._of_application: Callable[[], object] | None = None

    def install(self, function: Callable[[], object]) -> None:
        self._functions.append(function)
        current = getattr(uwsgi, "post_fork_hook", None)
        if current is not self:
            self._of_application = current
            uwsgi.post_fork_hook = self

    def __call__(self) -> None:
        # First, because the application may configure each worker by itself.
        if self._of_application is not None:
            self._of_application()
        # Mules and spoolers serve no handshakes.
        if uwsgi.worker_id():
            for function in self._functions:
                function()


class _ExitHook:
    """``uwsgi.atexit``, of which there is one: what the application has set is called as well."""

    def __init__(self) -> None:
        self._farewells: list[tuple[Callable[[], int | None], Callable[[int], None]]] = []
        self._of_application: Callable[[], object] | None = None

    def install(
        self, ending_signal: Callable[[], int | None], farewell: Callable[[int], None]
    ) -> None:
        if (ending_signal, farewell) not in self._farewells:
            self._farewells.append((ending_signal, farewell))
        # Again and again, for the application may set its own at any time.
        current = getattr(uwsgi, "atexit", None)
        if current is not self:
            self._of_application = current
            uwsgi.atexit = self

    def __call__(self) -> None:
        goodbyes = [(farewell, close_code(signum())) for signum, farewell in self._farewells]
        if uwsgi.loop != b"gevent":
            # This is a signal handler. That of another signal would end the process in the middle.
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        for farewell, code in goodbyes:
            say_all([farewell], code)
        # Last, because on_close hooks may need what it closes.
        if self._of_application is not None:
            self._of_application()


class _LoopHook:
    """The signals that end a worker of uWSGI's asyncio loop, which calls no exit hook."""

    def __init__(self) -> None:
        self._farewells: list[Callable[[int], None]] = []
        self._pid: int | None = None

    def install(self, farewell: Callable[[int], None]) -> None:
        if farewell not in self._farewells:
            self._farewells.append(farewell)
        if self._pid != os.getpid():
            LoopSignals(ENDING_SIGNALS, self._say)
            # Not before they are watched: the next handshake tries again.
            self._pid = os.getpid()

    def _say(self, signum: int) -> None:
        say_all(self._farewells, close_code(signum))


_fork_hook = _ForkHook()
_exit_hook = _ExitHook()
_loop_hook = _LoopHook()
