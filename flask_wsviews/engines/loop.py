"""Drivers that an event loop calls back, and the timers of a loop's connections."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import monotonic

from mypy_extensions import mypyc_attr

from ..close_codes import NORMAL_CLOSURE, POLICY_VIOLATION
from ..protocol.connection import Connection
from ..protocol.prepared import PreparedMessage
from ..protocol.state import CLOSED, OPEN
from ..typing import Message, Sendable, Transport
from .deadlines import RATE, Deadlines, StartTimer
from .driver import LINGER, TOO_SLOW
from .parking import ParkingDriver, Ticker

logger = logging.getLogger("flask_wsviews")

Lock = AbstractContextManager[bool]

# How long a thread that sends much pauses to let the loop run, in seconds.
PAUSE = 0.001


@mypyc_attr(allow_interpreted_subclasses=True)
class LoopDriver(ParkingDriver):
    """A connection whose socket an event loop watches.

    Everything runs in the loop's thread. Other threads pass their calls on to it.
    """

    shares_thread = True

    #: Whether the loop reports an error only once, together with the bytes before it, and then
    #: silently stops watching the socket, as libuv does.
    loses_errors = False

    def __init__(self, transport: Transport, connection: Connection, sweeper: Sweeper) -> None:
        super().__init__(transport, connection, sweeper.ticker)
        self._reading = False
        self._writing = False
        self._is_unsettled = False
        # Bytes of messages that other threads have passed to the loop and it hasn't queued yet.
        self._handed_over = 0
        self._sweeper = sweeper
        self._swept_at: int | None = None
        self._finish_by: float | None = None  # set once the conversation is over

    def ping(self, payload: bytes) -> None:
        """Send a Ping from any thread, without waiting."""
        connection = self.connection
        if self._in_loop():
            self._queue_ping(payload)
            self._settle()
        elif connection.state is not OPEN or connection.asked_to_close:
            raise connection.closed_error()
        else:
            self._call_in_loop(self._ping_if_open, payload)

    def _ping_if_open(self, payload: bytes) -> None:
        if self.connection.state is OPEN:
            self._queue_ping(payload)
            self._settle()

    def abandon(self) -> None:
        """Drop the connection without waiting for the peer."""
        if self._in_loop():
            self.connection.abort()
            self._settle()
        else:
            self._call_in_loop(self.abandon)

    def finish(self) -> None:
        """Close the connection if it is open. The loop closes the socket later."""
        self._told = True
        self.connection.close(NORMAL_CLOSURE, "", monotonic())
        self._settle()
        if not self._released:
            self._finish_by = monotonic() + self.connection.settings.close_timeout + LINGER
            self._settle()

    # -- for subclasses to implement ---------------------------------------------------------------

    @abstractmethod
    def _watch_reads(self, wanted: bool) -> None:
        """Start or stop calling :meth:`_on_readable` when the socket is readable."""

    @abstractmethod
    def _watch_writes(self, wanted: bool) -> None:
        """Start or stop calling :meth:`_on_writable` when the socket is writable."""

    def _forget_socket(self) -> None:
        """Free the socket's watchers before the socket is closed."""

    def _resume_receiver(self) -> None:
        """Resume a pending ``receive()`` at once; only for the loop's own callbacks."""
        self._wake_receiver()

    @abstractmethod
    def _wake_sender(self) -> None:
        """Wake everyone that waits for room to send."""

    @abstractmethod
    def _in_loop(self) -> bool:
        """Whether this is the loop's thread."""

    @abstractmethod
    def _call_in_loop(self, function: Callable[..., object], *arguments: object) -> None:
        """Call *function* soon in the loop's thread; callable from any thread."""

    @abstractmethod
    def _call_next(self, function: Callable[[], object]) -> None:
        """Call *function* in the loop's next iteration; only for the loop's thread."""

    # -- in the loop -------------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether a message, or the end of the connection, can be received."""
        return self.connection.has_news

    @property
    def deadline(self) -> float | None:
        """The time of the next :meth:`sweep`, or ``None``."""
        if self._released:
            return None
        due, finish_by = self.connection.next_deadline, self._finish_by
        if due is None or (finish_by is not None and finish_by < due):
            return finish_by
        return due

    def sweep(self, now: float) -> None:
        """Run the timers that are due."""
        if self._released:
            return
        self._tick(now)
        if self._finish_by is not None and now >= self._finish_by:
            self._free()
        else:
            self._settle()

    def schedule(self, deadline: float | None) -> None:
        """Call :meth:`sweep` at *deadline* instead of the time scheduled before."""
        deadlines = self._sweeper.deadlines
        if self._swept_at is not None:
            deadlines.remove(self, self._swept_at)
        self._swept_at = None if deadline is None else deadlines.add(self, deadline)

    def _on_readable(self) -> None:
        connection = self.connection
        if connection.reading_paused:
            # Not when the pause begins: most pauses end before more bytes arrive.
            self._stop_reading()
            return
        sent = connection.bytes_sent
        try:
            self._read_and_resume()
            # After an error the kernel accepts no bytes, so a reply that was sent proves that there
            # was no error.
            if self.loses_errors and connection.bytes_sent == sent:
                self._look_again()
        except Exception:
            # The loop would call this again and again. An error here ends this connection only.
            logger.exception("a connection could not be read")
            self._lost()
            self._settle()

    def _read_and_resume(self) -> None:
        """Read what has arrived, and resume the receiver."""
        connection = self.connection
        # The timer is set for the Pong, and the next Ping may be due earlier.
        awaited_pong = connection.awaits_pong
        self._read()
        if connection.has_only_messages and not self._at_eof and not awaited_pong:
            self._resume_receiver()
        else:
            self._settle()

    def _look_again(self) -> None:
        """Check for an error that the loop doesn't report again; see :attr:`loses_errors`."""
        connection = self.connection
        if self._at_eof or self._released:
            return
        if connection.reading_paused:
            # A new watch reports it again.
            if self._reading:
                self._stop_reading()
            return
        received = connection.bytes_received
        self._read_and_resume()
        if connection.bytes_received != received:
            self._call_next(self._read_on)

    def _read_on(self) -> None:
        if self._reading and not self._released:
            self._on_readable()

    def _stop_reading(self) -> None:
        self._reading = False
        self._watch_reads(False)

    def _on_writable(self) -> None:
        self._settle()

    def _settle(self) -> None:
        """Update bytes, watchers, waiters and timer to match the connection's state."""
        if self._released:
            return
        has_rest = self._write()
        connection = self.connection
        if self._finish_by is not None and self._done and connection.state is CLOSED:
            self._free()
            return
        if self._reading:
            if self._at_eof:
                self._stop_reading()
        elif not self._at_eof and not connection.reading_paused:
            self._reading = True
            self._watch_reads(True)
        if has_rest != self._writing:
            self._writing = has_rest
            self._watch_writes(has_rest)
        if not has_rest or connection.state is not OPEN:
            self._wake_sender()
        if connection.has_news:
            self._wake_receiver()
        deadline = self.deadline
        swept_at = self._swept_at
        if deadline is not None and (swept_at is None or deadline * RATE < swept_at - 1):
            self.schedule(deadline)

    def _take(self) -> Message | None:
        connection = self.connection
        message = connection.next_message()
        if message is None and connection.state is CLOSED:
            self._told = True
        if not self._reading or connection.state is not OPEN:
            self._settle()
        return message

    def _take_now(self) -> Message | None:
        """Return the next message; read the socket first if none is queued."""
        message = self._take()
        if message is None and not self._told:
            self._read()
            self._settle()
            message = self._take()
        return message

    def _flush(self) -> None:
        """Write what has just been queued."""
        if self._writing or self._write() or self.connection.state is not OPEN:
            self._settle()

    def _free(self) -> None:
        self.schedule(None)
        if self._reading:
            self._stop_reading()
        if self._writing:
            self._writing = False
            self._watch_writes(False)
        self._forget_socket()
        self._release()
        self._wake_sender()
        self._wake_receiver()
        self._tell_of_release()

    # -- for others --------------------------------------------------------------------------------

    def _send_from_outside(self, message: Sendable) -> None:
        """Send a message from any thread other than the owner."""
        if self._in_loop():
            self._queue_from_outside(message)
            self._settle()
            return
        connection = self.connection
        if connection.state is not OPEN or connection.asked_to_close:
            if not self._drop_quietly():
                raise connection.closed_error()
            return
        if not isinstance(message, (str, bytes)):
            message = bytes(message)
        self._hand_over(message)

    def _hand_over(self, message: str | bytes) -> None:
        """Pass a message to the loop.

        A client that is too slow is closed with 1008 Policy Violation.
        """
        limit = self.connection.settings.max_send_buffer
        size = message.__sizeof__()
        with self._sweeper.lock:
            waiting = self._handed_over
            fits = not waiting or waiting + size <= limit
            if fits:
                self._handed_over += size
        if not fits:
            self.close(POLICY_VIOLATION, TOO_SLOW)
            return
        self._call_in_loop(self._send_if_open, message, size)
        if waiting > limit // 2:
            # A busy thread may keep the loop from running, which isn't the client's fault.
            self._yield_to_loop()

    @abstractmethod
    def _yield_to_loop(self) -> None:
        """Let the loop's thread run for a moment, called in another one."""

    def _send_if_open(self, message: Sendable, size: int) -> None:
        with self._sweeper.lock:
            self._handed_over -= size
        if self.connection.state is OPEN:
            self._queue_from_outside(message)
            self._settle()

    def call_at_home(self, function: Callable[..., object], *arguments: object) -> None:
        """Call *function* in the loop's thread: now, or soon and in order."""
        if self._in_loop():
            function(*arguments)
        else:
            self._call_in_loop(function, *arguments)

    def call_soon_at_home(self, function: Callable[..., object]) -> None:
        """Call *function* in the loop's next iteration."""
        self._call_in_loop(function)

    def deliver(self, messages: Sequence[PreparedMessage], policy: str) -> int:
        """Queue a broadcast's messages; return how many were dropped."""
        dropped = self._queue_for_many(messages, policy)
        # While the kernel has no room, trying to write is useless.
        if not self._writing or self.connection.state is not OPEN:
            self._settle_soon()
        return dropped

    def _settle_soon(self) -> None:
        """Settle in the loop's next iteration.

        Everything broadcast until then goes out in one write.
        """
        if self._is_unsettled:
            return
        self._is_unsettled = True
        unsettled = self._sweeper.unsettled
        if not unsettled:
            self._call_next(self._sweeper.settle)
        unsettled.append(self)

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake from any thread, without waiting."""
        if self._in_loop():
            self.connection.close(code, reason, monotonic())
            self._settle()
        elif not self.connection.asked_to_close:
            self.connection.asked_to_close = True
            self._call_in_loop(self.close, code, reason)


class Sweeper:
    """The timers of a loop's connections, and one callback for all that have to write.

    :param start_timer: starts one of the loop's timers.
    :param make_lock: makes a lock that real threads can share, even where gevent patches locks.
    """

    def __init__(
        self, start_timer: StartTimer, make_lock: Callable[[], Lock] = threading.Lock
    ) -> None:
        #: Guards what other threads change.
        self.lock = make_lock()
        self.deadlines = Deadlines(start_timer)
        #: Connections that have something new to write; with the first one, :meth:`settle` is due.
        self.unsettled: list[LoopDriver] = []
        self.ticker = Ticker(start_timer)

    def settle(self) -> None:
        """Write what the connections have queued."""
        drivers, self.unsettled = self.unsettled, []
        for driver in drivers:
            driver._is_unsettled = False
            try:
                driver._flush()
            except Exception:
                logger.exception("a connection could not be written")
