"""What every engine is, and what its drivers share: the socket side of a connection."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import inf
from time import monotonic
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from ..close_codes import INTERNAL_ERROR, POLICY_VIOLATION
from ..common.threads import ENDING_SIGNALS
from ..config import Settings
from ..exceptions import EngineError, check_close
from ..protocol.connection import CLOSED, OPEN, Connection, PreparedMessage
from ..typing import Conversation, Message, Sendable, Transport
from .places import Place, check_start
from .sockets import READ_SIZE, receive, send

logger = logging.getLogger("flask_wsviews")

# A driver stops after so many bytes to let others have their turn.
READ_BUDGET: Final = 256 * 1024

# Until a handler has been told that its connection ended, what others send to it is dropped, as
# it is when it is in flight at that moment. A handler that never asks is presumed to know then.
TOLD_AFTER = 1.0

# How long to read on after our last byte, so that what the peer still sends doesn't make the
# kernel answer with RST, which could overtake the close frame (RFC 6455 7.1.1).
LINGER = 2.0

# The share of a shutdown's time in which peers may answer the close frame. The rest is for the
# on_close hooks of those that haven't.
ANSWER_SHARE = 0.8

# Why a client is closed that doesn't take what is sent to it.
TOO_SLOW = "the client is too slow"

#: A hook's sys.exit() would end a hub or an event loop, and all connections with it.
WOULD_END = "a hook wanted to end the process, but only its own connection ends"

# How often a shutdown looks whether the conversations are over, in seconds.
SHUTDOWN_INTERVAL = 0.02


def deadline_after(timeout: float | None) -> float | None:
    """When *timeout* seconds from now are over; ``None`` for no limit.

    Look for a message before you compare it with the clock: a timeout of 0, or less, asks for
    what is there now.
    """
    return None if timeout is None or timeout == inf else monotonic() + timeout


def timed_out(timeout: float | None) -> TimeoutError:
    """The error to raise when no message came before the deadline."""
    return TimeoutError(f"no message within {timeout:g} s")


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
        driver._engine, driver._conversation = self, conversation
        with self._drivers_lock:
            self._starting.discard(conversation)
            self._drivers.add(driver)
            farewell = self._farewell
        if farewell is not None:
            # Its handshake was under way when the shutdown began.
            driver.close(*farewell)

    @staticmethod
    def _take_turn(turn: Callable[[Driver], bool], driver: Driver) -> bool:
        """Go on with a conversation; whatever it raises, no other one suffers for it.

        :param turn: its method for that.
        :returns: whether it is over.
        """
        try:
            return turn(driver)
        except (SystemExit, KeyboardInterrupt):
            logger.exception(WOULD_END)
        except (Exception, GeneratorExit):
            logger.exception("a conversation failed")
        driver.close(INTERNAL_ERROR, "")
        return True

    def _forget(self, driver: Driver) -> None:
        with self._drivers_lock:
            self._drivers.discard(driver)

    def _open_drivers(self) -> list[Driver]:
        with self._drivers_lock:
            return list(self._drivers)

    def _wait_until_over(self, deadline: float) -> None:
        while (self._starting or self._open_drivers()) and monotonic() < deadline:
            self._pause(SHUTDOWN_INTERVAL)


@mypyc_attr(allow_interpreted_subclasses=True)
class Driver(ABC):
    """One connection with its socket. Clients call the public methods, from wherever they are."""

    #: Whether all connections of a home are served by one thread.
    shares_thread: ClassVar[bool] = False

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self.connection = connection
        # From the registration until the socket is closed.
        self._engine: Engine | None = None
        self._conversation: Conversation | None = None
        self._transport = transport
        self._sock: socket.socket = transport.sock
        self._fd = transport.sock.fileno()
        # Small replies to a burst of messages would each wait for an acknowledgement. A proxy may
        # be connected by a Unix socket, which has no such option.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shut = False  # nothing more can be written
        self._released = False  # the socket isn't ours any more
        self._at_eof = False  # nothing more can be read
        self._is_full = False  # the kernel had no room when it was last asked
        self._is_tls = isinstance(transport.sock, ssl.SSLSocket)
        # Where the bytes go over it as they are, so not with TLS; -1 otherwise, also once it is
        # closed, for then the number may soon be another connection's.
        self._plain_fd = -1 if self._is_tls else self._fd
        self._told = False  # the handler knows that the connection ended
        self._ended_at: float | None = None

    # -- for clients ----------------------------------------------------------------------------

    @property
    def fd(self) -> int:
        """The descriptor, -1 once it is closed."""
        return -1 if self._released else self._fd

    @abstractmethod
    def receive(self, timeout: float | None = None) -> Message | None:
        """Wait for the next message.

        :param timeout: seconds to wait, ``None`` for as long as it takes; 0, or less, for what
            is there now.
        :returns: ``None`` once the connection has ended.
        :raises TimeoutError: if none came in time.
        :raises RuntimeError: if another thread or greenlet is waiting already.
        """

    @abstractmethod
    def receive_nowait(self) -> Message | None:
        """The next message, ``None`` if none is there; the connection's state says why.

        :raises RuntimeError: if another thread or greenlet is in :meth:`receive`.
        """

    @abstractmethod
    def send(self, message: Sendable) -> None:
        """Send a message.

        The connection's own handler waits until a slow client has made room. For anybody else
        it never waits: beyond ``max_send_buffer`` the slow client is closed with 1008.

        :raises ConnectionClosed: if the connection has ended.
        """

    @abstractmethod
    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; doesn't wait for its end."""

    @abstractmethod
    def ping(self, payload: bytes) -> None:
        """Send a Ping of the application; any thread may, and never waits.

        :param payload: at most 125 bytes.
        :raises ConnectionClosed: if the connection has ended.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Wait no longer for what the peer may still say or take. The handler goes on."""

    @abstractmethod
    def finish(self) -> None:
        """End the connection if it hasn't, and free everything. The owner calls it, last."""

    def wait_for_news(self) -> bool:
        """Wait for a message, or the end, to receive, as far as that is worth it.

        :returns: whether :meth:`receive` is to be called now. Otherwise the conversation shall
            return, and is gone on with when there is something.
        """
        return True

    # -- for groups -----------------------------------------------------------------------------

    @property
    @abstractmethod
    def home(self) -> object:
        """What the connection is served by: for those of one home, one call serves all."""

    @abstractmethod
    def call_at_home(self, function: Callable[..., object], *arguments: object) -> None:
        """Call *function* where :meth:`deliver` works: now, or soon and in order. Never waits."""

    @abstractmethod
    def call_soon_at_home(self, function: Callable[..., object]) -> None:
        """As :meth:`call_at_home`, but where a thread is shared, after others had their turn."""

    @abstractmethod
    def deliver(self, messages: Sequence[PreparedMessage], policy: str) -> int:
        """Queue messages that go to many; only for what :meth:`call_at_home` calls.

        What comes after the end of the connection is dropped without an error.

        :param policy: see :meth:`Connection.send_prepared`.
        :returns: how many messages the client has to do without because it is slow.
        """

    def _queue_for_many(self, messages: Sequence[PreparedMessage], policy: str) -> int:
        """Queue messages, and write when there is much of them, so that a burst isn't slowness."""
        connection = self.connection
        half = connection.settings.max_send_buffer // 2
        dropped = 0
        for message in messages:
            if connection.state is not OPEN:
                break
            dropped += connection.send_prepared(message, policy, monotonic())
            if connection.send_backlog > half and not self._is_full:
                self._write()
        return dropped

    # -- for engines: all of these need the driver to be the only one at work ----------------------

    def _read(self) -> None:
        """Take what the kernel has, within a budget, and give it to the connection."""
        connection = self.connection
        budget = READ_BUDGET
        while budget > 0 and not connection.reading_paused:
            try:
                data = receive(self._sock, self._plain_fd)
            except OSError:
                self._lose_reading()
                return
            if data is None:
                return
            self._take_in(data)
            if not data or (len(data) < READ_SIZE and not self._is_tls):
                return
            budget -= len(data)

    def _take_in(self, data: bytes) -> None:
        """Give the connection what was read, which is nothing at the end of the stream."""
        if data:
            self.connection.receive_data(data, monotonic())
        else:
            self.connection.receive_eof(monotonic())
            self._at_eof = True

    def _write(self) -> bool:
        """Give the kernel what it takes.

        :returns: whether something is left to write.
        """
        connection = self.connection
        self._is_full = False
        while not self._shut:
            chunk = connection.output()
            if not chunk:
                if connection.state is CLOSED:
                    self._shutdown()
                break
            try:
                count = send(self._sock, self._plain_fd, chunk, connection.state is CLOSED)
            except OSError:
                self._lost()
                break
            if count is None:
                connection.output_written(0, monotonic())
                self._is_full = True
                return True
            # The time counts only where the kernel had no room before.
            connection.output_written(count, monotonic() if connection.is_stalled else 0.0)
            if not connection.send_backlog and connection.state is OPEN:
                break
        return False

    def _lose_reading(self) -> None:
        self._at_eof = True
        self._lost()

    def _lost(self) -> None:
        self.connection.abort()
        self._shutdown()

    def _shutdown(self) -> None:
        """Tell the peer that nothing more will be written."""
        if self._shut:
            return
        self._shut = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                raise
            # The peer is gone, and there is no end of its stream to wait for.
            self._at_eof = True

    def _tick(self, now: float) -> None:
        """Do what is due, having looked first whether the peer has answered."""
        deadline = self.connection.next_deadline
        if deadline is None or now < deadline:
            return
        self._read()
        self.connection.tick(now)
        self._write()

    @property
    def _done(self) -> bool:
        """Whether the socket can be closed without taking anything from the peer."""
        return self._shut and (self._at_eof or self.connection.aborted)

    def _cut(self) -> None:
        """End both directions, which wakes whoever polls the socket."""
        self._shut = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        """Close the socket; whoever still polls it is woken first."""
        is_over = self._shut and self._at_eof
        self.connection.abort()
        self._released = True
        if not is_over:
            self._cut()
        self._plain_fd = -1
        self._transport.release()

    def _tell_of_release(self) -> None:
        """Tell who waits for it that the socket is closed; without a lock, as they may use it."""
        engine, self._engine = self._engine, None
        conversation, self._conversation = self._conversation, None
        if engine is not None and conversation is not None:
            engine._forget(self)
            conversation.released()

    def _drop_quietly(self) -> bool:
        """Whether what someone else sends to an ended connection vanishes without an error."""
        if self._told:
            return False
        now = monotonic()
        if self._ended_at is None:
            self._ended_at = now
        return now < self._ended_at + TOLD_AFTER

    def _queue_ping(self, payload: bytes) -> None:
        """Queue a Ping, unless the client is too slow to take it: then close the connection."""
        connection = self.connection
        backlog = connection.send_backlog
        connection.ping(payload)
        if backlog and connection.send_backlog > connection.settings.max_send_buffer:
            connection.close(POLICY_VIOLATION, TOO_SLOW, monotonic())

    def _queue_from_outside(self, message: Sendable) -> None:
        """Queue for a client that isn't the sender's own: never wait, close it if it is slow."""
        connection = self.connection
        if connection.state is not OPEN and self._drop_quietly():
            return
        backlog = connection.send_backlog
        connection.send(message)
        limit = connection.settings.max_send_buffer
        if backlog and connection.send_backlog > limit:
            connection.close(POLICY_VIOLATION, TOO_SLOW, monotonic())
