"""The base of all engines: start conversations, count them, and end them with the worker."""

from __future__ import annotations

import contextlib
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from time import monotonic
from typing import Any, ClassVar

from mypy_extensions import mypyc_attr

from ..common.threads import ENDING_SIGNALS
from ..config import Settings
from ..exceptions import EngineError, check_close
from ..protocol.connection import Connection
from ..typing import Conversation, Transport
from .driver import Driver
from .places import Place, check_start

# The share of a shutdown's time that peers have to answer the close frame. The on_close hooks of
# those that don't answer get the rest.
ANSWER_SHARE = 0.8

# How often a shutdown checks whether the conversations have ended, in seconds.
SHUTDOWN_INTERVAL = 0.02


@mypyc_attr(allow_interpreted_subclasses=True)
class Engine(ABC):
    """Runs conversations. Each extension has one; it allocates nothing before it is used."""

    #: The name in the configuration.
    name: ClassVar[str]

    #: Whether hooks and function routes may be ``async def``.
    runs_coroutines: ClassVar[bool] = False

    #: The uWSGI options that serve pages and handshakes, with their default values.
    uwsgi_options: ClassVar[Mapping[str, int]] = {"threads": 8}

    #: The places the engine refuses, each with the change that helps.
    refused: ClassVar[Mapping[Place, str]] = {}

    #: The default limit of connections per worker; ``None`` for no limit.
    max_connections: ClassVar[int | None] = None

    def __init__(self) -> None:
        self._drivers: set[Driver] = set()
        self._drivers_lock = threading.Lock()
        self._starting: set[Conversation] = set()
        self._farewell: tuple[int, str] | None = None
        self._shutdown_began: float | None = None

    def check(self) -> None:
        """Check during the application's setup that the engine runs on this server.

        :raises EngineError: naming what to change.
        """
        check_start(self.refused)

    def prepare(self, settings: Settings) -> None:  # noqa: B027
        """Prepare the process before the application handles its first request.

        :param settings: the application's.
        """

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a handler's coroutine and return its result; block the calling thread.

        :raises EngineError: if the engine doesn't run coroutines.
        """
        coroutine.close()
        raise EngineError(f"the {self.name} engine can't run coroutines")

    def make_ready(self) -> None:  # noqa: B027
        """Create what this worker's connections share, before a connection takes its socket.

        :raises OSError: if too few descriptors are left.
        :raises RuntimeError: if no thread can be started.
        """

    @abstractmethod
    def serve(
        self, transport: Transport, connection: Connection, conversation: Conversation
    ) -> None:
        """Run an announced conversation; return when the server may end the request.

        If it raises, call :meth:`give_up`.

        :param conversation: what to run, in the thread, greenlet or task that owns the connection.
        """

    def give_up(self, transport: Transport, conversation: Conversation) -> bool:
        """Free the socket and the place of a connection that couldn't be served.

        :returns: ``False`` if a driver owns it; the driver frees everything at its end.
        """
        if not self.withdraw(conversation):
            return False
        with contextlib.suppress(OSError):
            transport.release()
        conversation.released()
        return True

    def stop(self) -> None:  # noqa: B027
        """Stop the engine's threads; the next connection starts them again."""

    @property
    def connections(self) -> int:
        """The number of connections of this worker, including those that are being opened."""
        return len(self._starting) + len(self._drivers)

    # -- the end of the worker --------------------------------------------------------------------

    @property
    def is_shutting_down(self) -> bool:
        """Whether the engine refuses new connections because the worker ends."""
        return self._farewell is not None

    def announce(self, conversation: Conversation) -> bool:
        """Reserve a connection that is about to open: :meth:`shutdown` waits for it.

        Call :meth:`serve` or :meth:`withdraw` afterwards.

        :returns: ``False`` once the shutdown has begun.
        """
        with self._drivers_lock:
            if self._farewell is not None:
                return False
            self._starting.add(conversation)
            return True

    def withdraw(self, conversation: Conversation) -> bool:
        """Cancel :meth:`announce`: the connection wasn't opened.

        :returns: ``False`` if a driver already owns the connection.
        """
        with self._drivers_lock:
            if conversation not in self._starting:
                return False
            self._starting.remove(conversation)
            return True

    def shutdown(self, code: int, reason: str, timeout: float) -> None:
        """Close all connections of this worker and wait until their conversations end.

        Some servers announce their end twice: a second call waits for the rest of the first
        call's time.

        :param code: of the close frames.
        :param reason: of the close frames, at most 123 bytes as UTF-8.
        :param timeout: seconds to wait; a handler that takes longer is abandoned.
        :raises ValueError: if a close frame can't carry the code or the reason.
        """
        check_close(code, reason)
        with self._drivers_lock:
            if self._farewell is None:
                self._farewell = code, reason
                self._shutdown_began = monotonic()
            began = self._shutdown_began or monotonic()
        for driver in self._open_drivers():
            driver.close(code, reason)
        self._wait_until_over(began + timeout * ANSWER_SHARE)
        for driver in self._open_drivers():
            driver.abandon()
        self._wait_until_over(began + timeout)

    def is_last_call(self) -> bool:
        """Whether this process ends after the server's exit hook has run."""
        return True

    def ending_signal(self) -> int | None:
        """Return the signal that ends this worker, or ``None`` if it isn't known.

        uWSGI calls its exit hook from within its signal handler, and the kernel blocks a signal
        while its handler runs. If none is blocked the worker ends by itself, or after SIGHUP with
        threads, where the handler only asks for it.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return next((signum for signum in ENDING_SIGNALS if signum in blocked), None)

    @abstractmethod
    def _pause(self, seconds: float) -> None:
        """Sleep while the conversations run."""

    def _register(self, driver: Driver, conversation: Conversation) -> None:
        """Remember *driver*, until its socket is closed, for :meth:`shutdown`.

        :param conversation: what the driver runs.
        """
        driver.attach(conversation, self._forget)
        with self._drivers_lock:
            self._starting.discard(conversation)
            self._drivers.add(driver)
            farewell = self._farewell
        if farewell is not None:
            # Its handshake was under way when the shutdown began.
            driver.close(*farewell)

    def _forget(self, driver: Driver) -> None:
        with self._drivers_lock:
            self._drivers.discard(driver)

    def _open_drivers(self) -> list[Driver]:
        with self._drivers_lock:
            return list(self._drivers)

    def _wait_until_over(self, deadline: float) -> None:
        while (self._starting or self._open_drivers()) and monotonic() < deadline:
            self._pause(SHUTDOWN_INTERVAL)
