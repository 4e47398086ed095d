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
from ..protocol.connection import CLOSED, OPEN, Connection, PreparedMessage
from ..typing import Conversation, Message, Sendable, Transport
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

# Why a client is closed that doesn't take what is sent to it.
TOO_SLOW = "the client is too slow"

#: A hook's sys.exit() would end a hub or an event loop, and all connections with it.
WOULD_END = "a hook wanted to end the process, but only its own connection ends"


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
class Driver(ABC):
    """One connection with its socket. Clients call the public methods, from wherever they are."""

    #: Whether all connections of a home are served by one thread.
    shares_thread: ClassVar[bool] = False

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self.connection = connection
        # From the registration until the socket is closed.
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
        self._released = False  # the socket isn't ours any more
        self._at_eof = False  # nothing more can be read
        self._is_full = False  # the kernel had no room when it was last asked
        self._is_tls = isinstance(transport.sock, ssl.SSLSocket)
        # Where the bytes go over it as they are, so not with TLS; -1 otherwise, also once it is
        # closed, for then the number may soon be another connection's.
        self._plain_fd = -1 if self._is_tls else self._fd
        self._told = False  # the handler knows that the connection ended
        self._ended_at: float | None = None

    def attach(self, conversation: Conversation, forget: Callable[[Driver], None]) -> None:
        """Note which conversation the connection runs.

        :param conversation: what to run, and what to call once the socket is closed.
        :param forget: called with the driver once the socket is closed.
        """
        self._conversation, self._forget = conversation, forget

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
        forget, self._forget = self._forget, None
        conversation, self._conversation = self._conversation, None
        if forget is not None and conversation is not None:
            forget(self)
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


def take_turn(turn: Callable[[Driver], bool], driver: Driver) -> bool:
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
