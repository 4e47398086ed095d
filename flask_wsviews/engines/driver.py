"""A driver: one connection with its socket, as every engine needs it."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from ..close_codes import INTERNAL_ERROR, POLICY_VIOLATION
from ..protocol.connection import Connection
from ..protocol.prepared import PreparedMessage
from ..protocol.state import CLOSED, OPEN
from ..typing import Conversation, Message, Sendable, Transport
from .sockets import READ_SIZE, receive, send

logger = logging.getLogger("flask_wsviews")

# A driver stops reading after so many bytes, so that other connections are served too.
READ_BUDGET: Final = 256 * 1024

# Messages that others send are silently dropped until the handler knows that its connection has
# ended, as messages in flight are. A handler that never receives is assumed to know it after this
# time, in seconds.
TOLD_AFTER = 1.0

# How long to read on after our last byte, so that what the peer still sends doesn't make the
# kernel answer with RST, which could overtake the close frame (RFC 6455 7.1.1).
LINGER = 2.0

# The close reason for a client that doesn't read what is sent to it.
TOO_SLOW = "the client is too slow"

#: Logged when a hook raises SystemExit, which would end a hub or an event loop.
WOULD_END = "a hook tried to end the process: only its connection is closed"


def deadline_after(timeout: float | None) -> float | None:
    """Return the time *timeout* seconds from now, or ``None`` for no limit.

    Look for a message before you compare it with the clock: a timeout of 0 or less asks for a
    message that has already arrived.
    """
    return None if timeout is None or timeout == inf else monotonic() + timeout


def timed_out(timeout: float | None) -> TimeoutError:
    """Return the error to raise when no message arrives before the deadline."""
    return TimeoutError(f"no message within {timeout:g} s")


@mypyc_attr(allow_interpreted_subclasses=True)
class Driver(ABC):
    """One connection with its socket. Clients may call the public methods from any thread."""

    #: Whether one thread serves all connections of a home.
    shares_thread: ClassVar[bool] = False

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self.connection = connection
        # Set from attach() until the socket is closed.
        self._conversation: Conversation | None = None
        self._forget: Callable[[Driver], None] | None = None
        self._transport = transport
        self._sock: socket.socket = transport.sock
        self._fd = transport.sock.fileno()
        # Small replies to a burst of messages would each wait for an acknowledgement. A proxy may
        # be connected by a Unix socket, which has no such option.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shut = False  # nothing more can be written
        self._released = False  # the socket is closed
        self._at_eof = False  # nothing more can be read
        self._is_full = False  # the kernel had no room when it was last asked
        self._is_tls = isinstance(transport.sock, ssl.SSLSocket)
        # The descriptor for plain reads and writes. -1 with TLS, and after the close, when another
        # connection may get the same number.
        self._plain_fd = -1 if self._is_tls else self._fd
        self._told = False  # the handler knows that the connection ended
        self._ended_at: float | None = None

    def attach(self, conversation: Conversation, forget: Callable[[Driver], None]) -> None:
        """Note which conversation the connection runs.

        :param conversation: what to run, and what to call once the socket is closed.
        :param forget: called with the driver once the socket is closed.
        """
        self._conversation, self._forget = conversation, forget

    # -- for clients -------------------------------------------------------------------------------

    @property
    def fd(self) -> int:
        """The descriptor, -1 once it is closed."""
        return -1 if self._released else self._fd

    @abstractmethod
    def receive(self, timeout: float | None = None) -> Message | None:
        """Wait for the next message.

        :param timeout: seconds to wait, ``None`` for no limit, 0 or less for a message that
            has already arrived.
        :returns: ``None`` once the connection has ended.
        :raises TimeoutError: if no message arrives in time.
        :raises RuntimeError: if another thread or greenlet is waiting already.
        """

    @abstractmethod
    def receive_nowait(self) -> Message | None:
        """Return the next message, or ``None`` if there is none yet or the connection has ended.

        :raises RuntimeError: if another thread or greenlet is in :meth:`receive`.
        """

    @abstractmethod
    def send(self, message: Sendable) -> None:
        """Send a message.

        The connection's own handler waits until a slow client has made room. Other callers
        never wait: beyond ``max_send_buffer`` the slow client is closed with 1008 Policy Violation.

        :raises ConnectionClosed: if the connection has ended.
        """

    @abstractmethod
    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake without waiting for its end."""

    @abstractmethod
    def ping(self, payload: bytes) -> None:
        """Send a Ping from any thread, without waiting.

        :param payload: at most 125 bytes.
        :raises ConnectionClosed: if the connection has ended.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Drop the connection without waiting for the peer. The handler keeps running."""

    @abstractmethod
    def finish(self) -> None:
        """Close the connection if it is open, and free everything. The owner calls this last."""

    def wait_for_news(self) -> bool:
        """Wait for a message or the end of the connection if waiting is cheaper than parking.

        :returns: ``True`` to call :meth:`receive` now. ``False`` to return from the conversation:
            the driver resumes it when there is something to receive.
        """
        return True

    # -- for groups --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def home(self) -> object:
        """What serves the connection: one :meth:`call_at_home` serves all with the same home."""

    @abstractmethod
    def call_at_home(self, function: Callable[..., object], *arguments: object) -> None:
        """Call *function* where :meth:`deliver` may be called: now, or soon and in order."""

    @abstractmethod
    def call_soon_at_home(self, function: Callable[..., object]) -> None:
        """Call *function* like :meth:`call_at_home`, after the thread's other connections."""

    @abstractmethod
    def deliver(self, messages: Sequence[PreparedMessage], policy: str) -> int:
        """Queue a broadcast's messages. Call it only inside :meth:`call_at_home`.

        Messages after the end of the connection are silently dropped.

        :param policy: see :meth:`Connection.send_prepared`.
        :returns: how many messages were dropped because the client is slow.
        """

    def _queue_for_many(self, messages: Sequence[PreparedMessage], policy: str) -> int:
        """Queue messages, and write early if there are many: a burst doesn't make a client slow."""
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

    # -- for engines: call these from one thread at a time -----------------------------------------

    def _read(self) -> None:
        """Read what the kernel has, up to a budget, and pass it to the connection."""
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
        """Pass the connection what was read: empty bytes mean the end of the stream."""
        if data:
            self.connection.receive_data(data, monotonic())
        else:
            self.connection.receive_eof(monotonic())
            self._at_eof = True

    def _write(self) -> bool:
        """Write as much of the queue as the kernel accepts.

        :returns: whether something remains to be written.
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
            # The time matters only if the kernel had no room before.
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
        """Shut the socket down for writing."""
        if self._shut:
            return
        self._shut = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                raise
            # The peer is gone, so the end of its stream never arrives.
            self._at_eof = True

    def _tick(self, now: float) -> None:
        """Run the connection's timers, after reading what the peer has answered."""
        deadline = self.connection.next_deadline
        if deadline is None or now < deadline:
            return
        self._read()
        self.connection.tick(now)
        self._write()

    @property
    def _done(self) -> bool:
        """Whether the socket can be closed without losing what the peer should still receive."""
        return self._shut and (self._at_eof or self.connection.aborted)

    def _cut(self) -> None:
        """Shut both directions down, which wakes every thread that polls the socket."""
        self._shut = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        """Close the socket, after waking every thread that polls it."""
        is_over = self._shut and self._at_eof
        self.connection.abort()
        self._released = True
        if not is_over:
            self._cut()
        self._plain_fd = -1
        self._transport.release()

    def _tell_of_release(self) -> None:
        """Report that the socket is closed. Call it without the lock: callees may take it."""
        forget, self._forget = self._forget, None
        conversation, self._conversation = self._conversation, None
        if forget is not None and conversation is not None:
            forget(self)
            conversation.released()

    def _drop_quietly(self) -> bool:
        """Whether messages from outside to an ended connection are silently dropped."""
        if self._told:
            return False
        now = monotonic()
        if self._ended_at is None:
            self._ended_at = now
        return now < self._ended_at + TOLD_AFTER

    def _queue_ping(self, payload: bytes) -> None:
        """Queue a Ping; close a client that is too slow to read it with 1008 Policy Violation."""
        connection = self.connection
        backlog = connection.send_backlog
        connection.ping(payload)
        if backlog and connection.send_backlog > connection.settings.max_send_buffer:
            connection.close(POLICY_VIOLATION, TOO_SLOW, monotonic())

    def _queue_from_outside(self, message: Sendable) -> None:
        """Queue a message from outside without waiting.

        A client that is too slow is closed with 1008 Policy Violation.
        """
        connection = self.connection
        if connection.state is not OPEN and self._drop_quietly():
            return
        backlog = connection.send_backlog
        connection.send(message)
        limit = connection.settings.max_send_buffer
        if backlog and connection.send_backlog > limit:
            connection.close(POLICY_VIOLATION, TOO_SLOW, monotonic())


def take_turn(turn: Callable[[Driver], bool], driver: Driver) -> bool:
    """Run a conversation. An error in it closes this connection with 1011 and no other.

    :param turn: the conversation's method to call.
    :returns: whether the conversation has ended.
    """
    try:
        return turn(driver)
    except (SystemExit, KeyboardInterrupt):
        logger.exception(WOULD_END)
    except (Exception, GeneratorExit):
        logger.exception("a conversation failed")
    driver.close(INTERNAL_ERROR, "")
    return True
