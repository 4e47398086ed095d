"""What every engine is: it starts conversations, counts them and ends them with the worker."""

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

# The share of a shutdown's time in which peers may answer the close frame. The rest is for the
# on_close hooks of those that haven't.
ANSWER_SHARE = 0.8

# How often a shutdown looks whether the conversations are over, in seconds.
SHUTDOWN_INTERVAL = 0.02


@mypyc_attr(allow_interpreted_subclasses=True)
class Engine(ABC):
    """Runs conversations. One per extension; holds nothing before the first connection."""

    #: As in the configuration.
    name: ClassVar[str]

    #: Whether hooks and function routes may be ``async def``.
    runs_coroutines: ClassVar[bool] = False

    #: The options of uWSGI that serve pages and handshakes beside the engine, with their defaults.
    uwsgi_options: ClassVar[Mapping[str, int]] = {"threads": 8}

    #: The places where the engine can't run, and what to change there.
    refused: ClassVar[Mapping[Place, str]] = {}

    #: How many connections a worker takes unless configured; ``None`` for as many as there come.
    max_connections: ClassVar[int | None] = None

    def __init__(self) -> None:
        self._drivers: set[Driver] = set()
        self._drivers_lock = threading.Lock()
        self._starting: set[Conversation] = set()
        self._farewell: tuple[int, str] | None = None
        self._shutdown_began: float | None = None

    def check(self) -> None:
        """Check, while an application is being set up, that the engine runs on its server.

        :raises EngineError: naming what to change.
        """
        check_start(self.refused)

    def prepare(self, settings: Settings) -> None:  # noqa: B027
        """Set the process up before the application handles anything.

        :param settings: the application's.
        """

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine of a handler to its end, for the thread that calls.

        :raises EngineError: if the engine runs none.
        """
        coroutine.close()
        raise EngineError(f"the {self.name} engine can't run coroutines")

    def make_ready(self) -> None:  # noqa: B027
        """Make what all connections of this worker share, before a socket is taken for one.

        :raises OSError: if too few descriptors are left.
        :raises RuntimeError: if no thread can be started.
        """

    @abstractmethod
    def serve(
        self, transport: Transport, connection: Connection, conversation: Conversation
    ) -> None:
        """Run a conversation that was announced; returns when the server may have its request back.

        If it raises, call :meth:`give_up`.

        :param conversation: what to run, in the thread, greenlet or task that owns the connection.
        """

    def give_up(self, transport: Transport, conversation: Conversation) -> bool:
        """Free what a connection has taken that couldn't be served.

        :returns: ``False`` if a driver has it, which frees everything when the connection ends.
        """
        if not self.withdraw(conversation):
            return False
        with contextlib.suppress(OSError):
            transport.release()
        conversation.released()
        return True

    def stop(self) -> None:  # noqa: B027
        """End the threads that the engine has begun; the next connection begins them anew."""

    @property
    def connections(self) -> int:
        """How many connections this worker has, those included whose handshake has just ended."""
        return len(self._starting) + len(self._drivers)

    # -- the end of the worker --------------------------------------------------------------------

    @property
    def is_shutting_down(self) -> bool:
        """Whether no new connection is wanted any more."""
        return self._farewell is not None

    def announce(self, conversation: Conversation) -> bool:
        """Have :meth:`shutdown` wait for a connection that is about to be opened.

        Either :meth:`serve` or :meth:`withdraw` has to follow.

        :returns: whether it may be opened; not once the shutdown has begun.
        """
        with self._drivers_lock:
            if self._farewell is not None:
                return False
            self._starting.add(conversation)
            return True

    def withdraw(self, conversation: Conversation) -> bool:
        """Take an announcement back: the connection wasn't opened.

        :returns: whether it was still announced, and no driver has taken the connection on.
        """
        with self._drivers_lock:
            if conversation not in self._starting:
                return False
            self._starting.remove(conversation)
            return True

    def shutdown(self, code: int, reason: str, timeout: float) -> None:
        """Close every connection of this worker, and wait until their conversations are over.

        Called again, by a server that announces its end twice, it waits for what is left of the
        first call's time.

        :param code: of the close frames.
        :param reason: of the close frames, at most 123 bytes as UTF-8.
        :param timeout: seconds to wait; a handler that is busy for longer is left behind.
        :raises ValueError: if the code or the reason can't go into a close frame.
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
        """Whether a server that calls its exit hook now will end this process."""
        return True

    def ending_signal(self) -> int | None:
        """The signal that ends this worker, as far as that is known.

        uWSGI calls its exit hook from within its signal handler, and the kernel blocks a signal
        while its handler runs. If none is blocked the worker ends by itself, or after SIGHUP with
        threads, where the handler only asks for it.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return next((signum for signum in ENDING_SIGNALS if signum in blocked), None)

    @abstractmethod
    def _pause(self, seconds: float) -> None:
        """Let the conversations go on for so long."""

    def _register(self, driver: Driver, conversation: Conversation) -> None:
        """Remember *driver*, until its socket is closed, for :meth:`shutdown`.

        :param conversation: what it runs, and what is told of the end, too.
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
