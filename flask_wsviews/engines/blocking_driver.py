"""A connection of the blocking engine: its thread waits for messages and runs the hooks."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence
from time import monotonic

from ..close_codes import NORMAL_CLOSURE
from ..protocol.connection import Connection
from ..protocol.prepared import PreparedMessage
from ..protocol.state import CLOSED, OPEN
from ..typing import Message, Sendable, Transport
from .driver import LINGER, deadline_after, timed_out
from .keeper import POLLIN, POLLOUT, Keeper, KeptDriver

# The keeper reads and writes for a connection whose hook has been busy for so many seconds.
KEEP_AFTER = 0.25

# poll() takes an int of milliseconds, which is less than some settings allow; callers poll again.
LONGEST_POLL = 3600.0


class BlockingDriver(KeptDriver):
    """A connection whose owner is a thread. While it waits for a message it polls the socket."""

    def __init__(self, transport: Transport, connection: Connection, keeper: Keeper) -> None:
        super().__init__(transport, connection)
        self._keeper = keeper
        # Guards the connection and the socket. Never held while waiting.
        self.lock = threading.Lock()
        self._owner = threading.get_ident()
        self._busy_since: float | None = monotonic()
        self._waiting = False
        self._own_poller = _Poller(self._fd)
        self._written_by: float | None = None  # set once there is nothing left to send
        with self.lock:
            self._write()
        keeper.add(self)

    def receive(self, timeout: float | None = None) -> Message | None:
        """Wait for the next message; see :meth:`Driver.receive`."""
        deadline = deadline_after(timeout)
        with self.lock:
            self._begin_waiting()
        # The first look needs no system call, unless TLS has decrypted more than it returned.
        has_looked = self._is_tls
        try:
            while True:
                with self.lock:
                    message = self._take() if has_looked else self._take_known()
                    if message is not None:
                        return message
                    if self.connection.state is CLOSED:
                        self._told = True
                        return None
                    events = self._events()
                    wake_at = self.connection.next_deadline
                if deadline is None or monotonic() < deadline:
                    self._poll(events, wake_at, deadline, poller=self._own_poller)
                elif has_looked:
                    raise timed_out(timeout)
                has_looked = True
        finally:
            self._end_waiting()

    def receive_nowait(self) -> Message | None:
        """Return the next message, or None if there is none yet."""
        with self.lock:
            self._check_alone()
            message = self._take()
            if message is None and self.connection.state is CLOSED:
                self._told = True
            return message

    def send(self, message: Sendable) -> None:
        """Send a message. Only the owner waits for a slow client."""
        is_owner = threading.get_ident() == self._owner
        with self.lock:
            if is_owner:
                self.connection.send(message)
            else:
                self._queue_from_outside(message)
            has_rest = self._write()
        if not has_rest:
            return
        if is_owner:
            self._drain()
        else:
            self._keeper.watch(self)

    @property
    def home(self) -> object:
        """The keeper, which all connections of this worker share."""
        return self._keeper

    def call_at_home(self, function: Callable[..., object], *arguments: object) -> None:
        """Call *function* at once, since :meth:`deliver` takes the lock."""
        function(*arguments)

    def call_soon_at_home(self, function: Callable[..., object]) -> None:
        """Call *function* at once: no thread is shared."""
        function()

    def deliver(self, messages: Sequence[PreparedMessage], policy: str) -> int:
        """Queue a broadcast's messages; return how many were dropped."""
        with self.lock:
            if self._released:
                return 0
            dropped = self._queue_for_many(messages, policy)
            has_rest = self._is_full or self._write()
        if has_rest:
            self._keeper.watch(self)
        return dropped

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake without waiting for its end."""
        with self.lock:
            self.connection.close(code, reason, monotonic())
            has_rest = self._write()
        if has_rest:
            self._keeper.watch(self)

    def ping(self, payload: bytes) -> None:
        """Send a Ping without waiting."""
        with self.lock:
            self._queue_ping(payload)
            has_rest = self._write()
        if has_rest:
            self._keeper.watch(self)

    def abandon(self) -> None:
        """Drop the connection, which wakes its owner."""
        with self.lock:
            if not self._released:
                self.connection.abort()
                self._cut()

    def finish(self) -> None:
        """Wait for the end of the closing handshake, then close the socket."""
        self._keeper.remove(self)
        try:
            self._close_in_order()
        finally:
            self._wait_for_receiver()
            with self.lock:
                self._release()
            self._tell_of_release()

    def _close_in_order(self) -> None:
        """Wait until the closing handshake has ended or timed out."""
        with self.lock:
            self._told = True
            self.connection.close(NORMAL_CLOSURE, "", monotonic())
        # Not receive()'s poller: another thread may be using it.
        poller = _Poller(self._fd)
        while not self._is_written():
            deadlines = self.connection.next_deadline, self._written_by
            self._poll(self._events(), *deadlines, poller=poller)

    def _wait_for_receiver(self) -> None:
        """Wait until no thread is in receive() any more, because it uses the descriptor."""
        if not self._waiting:
            return
        with self.lock:
            self.connection.abort()
            self._cut()
        given_up_at = monotonic() + LINGER
        while self._waiting and monotonic() < given_up_at:
            time.sleep(0.001)

    def _is_written(self) -> bool:
        """Continue the closing handshake; return whether the socket may be closed."""
        with self.lock:
            now = monotonic()
            self._tick_beside_receiver(now)
            if not self._waiting:
                self._read()
            has_rest = self._write()
            if self._done:
                return True
            if self.connection.state is CLOSED:
                if self._written_by is None:
                    wait = self.connection.settings.close_timeout if has_rest else LINGER
                    self._written_by = now + wait
                elif now >= self._written_by:
                    return True
            return False

    # -- for the keeper ---------------------------------------------------------------------------

    def keep(self, now: float) -> None:
        """Run the timers, and watch the socket if the hook has been busy for a while."""
        with self.lock:
            if self._waiting:
                self._keep_waiting(now)
                return
            self._tick(now)
            busy_since = self._busy_since
            overdue = busy_since is not None and now - busy_since >= KEEP_AFTER
        if overdue:
            self._keeper.watch(self)

    def _tick_beside_receiver(self, now: float) -> None:
        """Run the timers while another thread may be in receive().

        That thread may have bytes that it hasn't passed on yet, so this one must not read.
        """
        if self._waiting:
            self._keep_waiting(now)
        else:
            self._tick(now)

    def _keep_waiting(self, now: float) -> None:
        """Run the overdue timers of an owner that waits in a read or hasn't woken up yet."""
        connection = self.connection
        due = connection.next_deadline
        # Only the owner may read what has arrived, and that may be the awaited Pong.
        if due is None or now < due + KEEP_AFTER or self._has_unread():
            return
        connection.tick(now)
        if self._write():
            self._keeper.watch(self)
        if connection.has_news:
            self._cut()

    def _has_unread(self) -> bool:
        return bool(_Poller(self._fd).watching(POLLIN).poll(0))

    def attend(self) -> int:
        """Read and write for a busy owner.

        :returns: the events that the keeper should still watch, 0 for none.
        """
        with self.lock:
            if self._released:
                return 0
            if self._waiting:
                self._write()
                return POLLOUT if self._has_rest else 0
            self._read()
            self._write()
            return self._events()

    # -- at work ----------------------------------------------------------------------------------

    @property
    def _has_rest(self) -> bool:
        return self.connection.send_backlog > 0 and not self._shut

    def _check_alone(self) -> None:
        # A thread that waits in a read may have bytes that precede those that we would read.
        if self._waiting:
            raise RuntimeError("another thread is already in receive() of this connection")

    def _begin_waiting(self) -> None:
        self._check_alone()
        self._waiting = True

    def _end_waiting(self) -> None:
        self._waiting = False
        self._busy_since = monotonic()

    def _take(self) -> Message | None:
        connection = self.connection
        message = connection.next_message()
        if message is None and connection.state is not CLOSED:
            self._tick(monotonic())
            self._read()
            message = connection.next_message()
        self._write()
        return message

    def _take_known(self) -> Message | None:
        """Return the next message among the bytes read so far."""
        message = self.connection.next_message()
        if message is None and self.connection.state is not OPEN:
            self._write()
        return message

    def _events(self) -> int:
        events = 0
        if not self._at_eof and not self.connection.reading_paused:
            events |= POLLIN
        if self._has_rest:
            events |= POLLOUT
        return events

    def _poll(self, events: int, *deadlines: float | None, poller: _Poller | None = None) -> None:
        due = [deadline for deadline in deadlines if deadline is not None]
        poll = (poller or _Poller(self._fd)).watching(events)
        if not due:
            poll.poll()
            return
        seconds = min(max(0.0, min(due) - monotonic()), LONGEST_POLL)
        # Rounded up, so that poll() doesn't return just before the deadline.
        poll.poll(seconds * 1000 + 1)

    def _drain(self) -> None:
        """Wait until the peer has taken what the owner sent."""
        while True:
            with self.lock:
                self._tick_beside_receiver(monotonic())
                if not self._write():
                    return
                if self.connection.state is not OPEN:
                    raise self.connection.closed_error()
                wake_at = self.connection.next_deadline
            self._poll(POLLOUT, wake_at)


class _Poller:
    """Polls one descriptor. It registers again only when the events change."""

    __slots__ = ("_events", "_fd", "_poll")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._events = 0
        self._poll = select.poll()

    def watching(self, events: int) -> select.poll:
        if events != self._events:
            if events:
                self._poll.register(self._fd, events)
            else:
                self._poll.unregister(self._fd)
            self._events = events
        return self._poll
