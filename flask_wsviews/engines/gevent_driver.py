"""A connection of the gevent engine: the hub reads and writes, and a greenlet runs the hooks."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import gevent
from gevent import monkey
from gevent.hub import Hub

from ..protocol.connection import Connection
from ..protocol.state import OPEN
from ..typing import Message, Sendable, Transport
from .driver import deadline_after, take_turn, timed_out
from .loop import PAUSE, Lock, LoopDriver, Sweeper
from .parking import ACTIVE, PARKED, WAITING

READ, WRITE = 1, 2

getcurrent: Final = gevent.getcurrent

# The thread's functions, even where gevent has replaced them by those of the greenlet.
get_thread: Final[Callable[[], int]] = monkey.get_original("threading", "get_ident")
sleep_thread: Final[Callable[[float], None]] = monkey.get_original("time", "sleep")
make_thread_lock: Final[Callable[[], Lock]] = monkey.get_original("_thread", "allocate_lock")


class GeventDriver(LoopDriver):
    """A connection whose owner is a greenlet."""

    def __init__(self, transport: Transport, connection: Connection, hub: Hub, sweeper: Sweeper):
        super().__init__(transport, connection, sweeper)
        self._hub = hub
        self.loses_errors = type(hub.loop).__module__.startswith("gevent.libuv")
        self._loop_ident = get_thread()
        self._owner: Any = None
        self._receiver: Wait | None = None  # of the greenlet in receive()
        self._sender: Wait | None = None  # of the owner in send()
        self._reader = hub.loop.io(self._fd, READ)
        self._writer: Any = None  # few connections ever have to wait for room
        self._settle()

    def run(self) -> None:
        """Run the conversation in this greenlet until it ends or can be parked."""
        conversation = self._conversation
        assert conversation is not None
        self._owner = getcurrent()
        if self.parks:
            self._owner.gr_context = self._context
        is_over = True
        try:
            is_over = take_turn(conversation.converse, self)
        finally:
            self._owner = None
            self._end_turn(is_over)

    def wait_for_news(self) -> bool:
        """Wait for a message or the end of the connection, unless parking is cheaper."""
        if self._parking == ACTIVE and not self.connection.has_news:
            self._parking = WAITING
            try:
                self._wait_as_receiver(None)
            finally:
                self._parking = ACTIVE
        return self.connection.has_news or not self.parks

    def receive(self, timeout: float | None = None) -> Message | None:
        """Wait for the next message while the hub runs."""
        self._check_thread()
        self._check_alone()
        deadline = deadline_after(timeout)
        left: float | None = None
        while True:
            # At the deadline the hub may not have read the socket yet.
            message = self._take() if left is None or left > 0 else self._take_now()
            if message is not None or self._told:
                return message
            if deadline is not None:
                if left is not None and left <= 0:
                    raise timed_out(timeout)
                left = deadline - monotonic()
            # Even with no time left, so that a loop around this lets the hub run.
            self._wait_as_receiver(left)

    def receive_nowait(self) -> Message | None:
        """Return the next message, or None if there is none yet. The hub runs in between."""
        self._check_thread()
        self._check_alone()
        message = self._take()
        if message is None and not self._told:
            gevent.sleep(0)
            message = self._take_now()
        return message

    def send(self, message: Sendable) -> None:
        """Send a message. Only the owner waits for a slow client."""
        if getcurrent() is not self._owner:
            self._send_from_outside(message)
            return
        self.connection.send(message)
        self._flush()
        while self._writing:
            if self.connection.state is not OPEN:
                raise self.connection.closed_error()
            self._wait_for_sending()

    def wait_released(self) -> None:
        """Wait until the socket is closed, for a server that holds the request."""
        while not self._released:
            self._wait_for_sending()

    # -- for LoopDriver ----------------------------------------------------------------------

    @property
    def home(self) -> object:
        """The hub that serves the connection."""
        return self._hub

    def _watch_reads(self, wanted: bool) -> None:
        if wanted:
            self._reader.start(self._on_readable)
        else:
            self._reader.stop()

    def _watch_writes(self, wanted: bool) -> None:
        if self._writer is None:
            self._writer = self._hub.loop.io(self._fd, WRITE)
        if wanted:
            self._writer.start(self._on_writable)
        else:
            self._writer.stop()

    def _forget_socket(self) -> None:
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.close()

    def _wake_receiver(self) -> None:
        if self._parking != PARKED:
            self._wake(self._receiver)
        elif not self._end_if_idle():
            self._unpark()
            gevent.spawn(self.run)

    def _resume_receiver(self) -> None:
        # This runs in the hub, whose callbacks may switch to a greenlet at once.
        receiver = self._receiver
        if self._parking == PARKED:
            self._unpark()
            # Not by gevent.spawn(): the hub would run the greenlet after all other reads.
            gevent.Greenlet(self.run).switch()
        elif receiver is not None:
            receiver.end()

    def _wake_sender(self) -> None:
        self._wake(self._sender)

    def _in_loop(self) -> bool:
        return get_thread() == self._loop_ident

    def _call_in_loop(self, function: Callable[..., object], *arguments: object) -> None:
        self._hub.loop.run_callback_threadsafe(function, *arguments)

    def _yield_to_loop(self) -> None:
        sleep_thread(PAUSE)

    def _call_next(self, function: Callable[[], object]) -> None:
        self._hub.loop.run_callback(function)

    # -- at work ----------------------------------------------------------------------------------

    def _wait_for_sending(self) -> None:
        self._sender = Wait()
        try:
            self._wait(self._sender, None)
        finally:
            self._sender = None

    def _wait_as_receiver(self, seconds: float | None) -> None:
        self._receiver = Wait()
        try:
            self._wait(self._receiver, seconds)
        finally:
            self._receiver = None

    def _wait(self, wait: Wait, seconds: float | None) -> None:
        timer = None
        if seconds is not None:
            timer = self._hub.loop.timer(max(0.0, seconds))
            timer.start(wait.end)
        try:
            self._hub.switch()
        finally:
            wait.is_over = True
            if timer is not None:
                timer.stop()
                timer.close()

    def _wake(self, wait: Wait | None) -> None:
        if wait is not None and not wait.is_over:
            self._hub.loop.run_callback(wait.end)

    def _check_alone(self) -> None:
        if self._receiver is not None or self._parking == PARKED:
            raise RuntimeError("another greenlet is already in receive() of this connection")

    def _check_thread(self) -> None:
        if not self._in_loop():
            raise RuntimeError("receive() works in the thread of the connection's hub only")


class Wait:
    """A shortcut: suspends the current greenlet until :meth:`end`, as gevent's ``Waiter`` does.

    ``Waiter`` costs more per message, because it passes a value and exceptions on.
    """

    def __init__(self) -> None:
        self._greenlet = getcurrent()
        #: Whether the greenlet has been resumed, or is about to be.
        self.is_over = False

    def end(self) -> None:
        """Resume the greenlet once. Only the hub may call this."""
        if not self.is_over:
            self.is_over = True
            self._greenlet.switch()


def start_timer(hub: Hub, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
    """Call *function* in *seconds*; return a function that cancels the call."""
    timer = hub.loop.timer(seconds)

    def cancel() -> None:
        timer.stop()
        timer.close()

    def fire() -> None:
        timer.close()
        function()

    timer.start(fire)
    return cancel
