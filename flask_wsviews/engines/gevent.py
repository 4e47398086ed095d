"""The gevent engine: the server gives the connection up, and a greenlet runs its handler.

Bytes are read and parsed by callbacks of the hub, so a connection is served, pinged and closed on
time whatever its handler does, as long as that yields to other greenlets.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent import getcurrent, monkey
from gevent.hub import Hub, Waiter, get_hub

from ..connection import Connection, State
from ..exceptions import EngineError
from ..typing import Message, Sendable, Transport
from .base import ENDING_SIGNALS, LINGER, Driver, Engine
from .blocking import BlockingEngine

logger = logging.getLogger("flask_wsviews")

READ, WRITE = 1, 2

# The identity of the thread even where gevent has replaced it by that of the greenlet.
get_thread: Callable[[], int] = monkey.get_original("threading", "get_ident")


class GeventEngine(Engine):
    """One greenlet per connection, not bounded by ``--gevent N``.

    A server that runs threads and no hub (Werkzeug's, gunicorn's gthread) is served the way of
    the blocking engine.
    """

    name = "gevent"

    def __init__(self) -> None:
        super().__init__()
        self._threaded = BlockingEngine()
        self._sweepers: dict[int, Sweeper] = {}
        self._signal_watchers: list[Any] = []
        self._watching_pid: int | None = None
        self._signal: int | None = None

    def check(self) -> None:
        """Check that uWSGI, if it is the server, runs its gevent loop.

        :raises EngineError: naming the option to add.
        """
        if _in_uwsgi() and not _in_uwsgi_loop():
            raise EngineError(
                "GeventWebSocket needs uWSGI's gevent loop: add --gevent 100, or use WebSocket"
            )

    def prepare(self, *, monkey_patch: bool) -> None:
        """Patch the standard library if this is uWSGI's gevent loop and nobody has done it."""
        if monkey_patch and _in_uwsgi_loop() and not monkey.is_module_patched("socket"):
            monkey.patch_all()

    def serve(
        self, transport: Transport, connection: Connection, converse: Callable[[Driver], None]
    ) -> None:
        """Run the conversation in a greenlet of its own, or in this one if the server holds it."""
        if not _in_hub_greenlet():
            self._threaded.serve(transport, connection, converse)
        elif transport.can_detach:
            self._watch_signals()
            transport.detach()
            gevent.spawn(self._run, transport, connection, converse)
        else:
            driver = self._run(transport, connection, converse)
            driver.wait_released()

    def _run(
        self, transport: Transport, connection: Connection, converse: Callable[[Driver], None]
    ) -> GeventDriver:
        driver = GeventDriver(transport, connection, self._sweeper())
        self._register(driver)
        try:
            converse(driver)
        finally:
            driver.finish()
        return driver

    def shutdown(self, code: int, reason: str, timeout: float) -> None:
        """See :meth:`Engine.shutdown`."""
        self._threaded.shutdown(code, reason, timeout)
        super().shutdown(code, reason, timeout)

    def ending_signal(self) -> int | None:
        """See :meth:`Engine.ending_signal`; here handlers are called by the loop, later."""
        return self._signal

    def _pause(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def _watch_signals(self) -> None:
        """Learn what ends this worker, beside uWSGI's own watchers of the same signals."""
        if self._watching_pid == os.getpid() or not _in_uwsgi_loop():
            return
        self._watching_pid = os.getpid()
        loop = get_hub().loop
        self._signal_watchers = [loop.signal(signum, ref=False) for signum in ENDING_SIGNALS]
        for signum, watcher in zip(ENDING_SIGNALS, self._signal_watchers, strict=True):
            watcher.start(self._note_signal, signum)

    def _note_signal(self, signum: int) -> None:
        self._signal = signum

    def _sweeper(self) -> Sweeper:
        hub = get_hub()
        sweeper = self._sweepers.get(id(hub))
        if sweeper is None or sweeper.hub is not hub:
            sweeper = self._sweepers[id(hub)] = Sweeper(hub)
        return sweeper


class GeventDriver(Driver):
    """A connection whose owner is a greenlet. Everything happens in the thread of one hub."""

    def __init__(self, transport: Transport, connection: Connection, sweeper: Sweeper) -> None:
        super().__init__(transport, connection)
        self._hub = sweeper.hub
        self._thread = get_thread()
        self._owner = getcurrent()
        self._waiter: Waiter[None] | None = None  # of the greenlet in receive()
        self._room: Waiter[None] | None = None  # of the owner in send()
        self._reader = self._hub.loop.io(self._fd, READ)
        self._writer = self._hub.loop.io(self._fd, WRITE)
        self._reading = False
        self._writing = False
        self._sweeper = sweeper
        self._entry: Entry | None = None
        self._finish_by: float | None = None  # set once the owner is through with it
        self._settle()

    def receive(self, timeout: float | None = None) -> Message | None:
        """See :meth:`Driver.receive`."""
        self._check_thread()
        if self._waiter is not None:
            raise RuntimeError("another greenlet is already in receive() of this connection")
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            message = self._take()
            if message is not None or self._told:
                return message
            if deadline is None:
                self._wait("_waiter", None)
                continue
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError(f"no message within {timeout:g} s")
            self._wait("_waiter", left)

    def receive_nowait(self) -> Message | None:
        """See :meth:`Driver.receive_nowait`; a loop around it lets the hub do its work."""
        self._check_thread()
        message = self._take()
        if message is None and not self._told:
            gevent.sleep(0)
            message = self._take()
        return message

    def _take(self) -> Message | None:
        connection = self.connection
        message = connection.next_message()
        if message is None and connection.state is State.CLOSED:
            self._told = True
        self._settle()
        return message

    def send(self, message: Sendable) -> None:
        """See :meth:`Driver.send`."""
        if get_thread() != self._thread:
            self._send_from_thread(message)
            return
        is_owner = getcurrent() is self._owner
        if is_owner:
            self.connection.send(message)
        else:
            self._queue_from_outside(message)
        self._settle()
        while is_owner and self._writing:
            if self.connection.state is not State.OPEN:
                raise self.connection.closed_error()
            self._wait("_room", None)

    def close(self, code: int, reason: str) -> None:
        """See :meth:`Driver.close`."""
        if get_thread() != self._thread:
            self._hub.loop.run_callback_threadsafe(self.close, code, reason)
            return
        self.connection.close(code, reason, monotonic())
        self._settle()

    def abandon(self) -> None:
        """See :meth:`Driver.abandon`."""
        if get_thread() != self._thread:
            self._hub.loop.run_callback_threadsafe(self.abandon)
            return
        self.connection.abort()
        self._settle()

    def finish(self) -> None:
        """See :meth:`Driver.finish`. The rest of the end is left to the hub."""
        self._told = True
        self.connection.close(1000, "", monotonic())
        self._settle()
        if not self._released:
            self._finish_by = monotonic() + self.connection.settings.close_timeout + LINGER
            self._settle()

    def wait_released(self) -> None:
        """Wait until the socket is closed, for a server that holds the request."""
        while not self._released:
            self._wait("_room", None)

    # -- in the hub -------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When :meth:`sweep` has something to do."""
        if self._released:
            return None
        due = [at for at in (self.connection.next_deadline, self._finish_by) if at is not None]
        return min(due, default=None)

    def sweep(self, now: float) -> None:
        """Do what is due."""
        if self._released:
            return
        self._tick(now)
        if self._finish_by is not None and now >= self._finish_by:
            self._free()
        else:
            self._settle()

    def _on_readable(self) -> None:
        try:
            self._read()
            self._settle()
        except Exception:
            # The hub would go on calling; a fault here costs this connection and no other.
            logger.exception("a connection could not be read")
            self._lost()
            self._settle()

    def _on_writable(self) -> None:
        self._settle()

    def _settle(self) -> None:
        """Bring everything in line with the connection's state: bytes, watchers, waiters, timer."""
        if self._released:
            return
        has_rest = self._write()
        connection = self.connection
        if self._finish_by is not None and self._done and connection.state is State.CLOSED:
            self._free()
            return
        should_read = not self._at_eof and not connection.reading_paused
        if should_read != self._reading:
            self._reading = should_read
            if should_read:
                self._reader.start(self._on_readable)
            else:
                self._reader.stop()
        if has_rest != self._writing:
            self._writing = has_rest
            if has_rest:
                self._writer.start(self._on_writable)
            else:
                self._writer.stop()
        if not has_rest or connection.state is not State.OPEN:
            self._wake(self._room)
        if connection.has_news:
            self._wake(self._waiter)
        deadline = self.deadline
        if deadline is not None and (self._entry is None or deadline < self._entry.deadline):
            self.schedule(deadline)

    def schedule(self, deadline: float | None) -> None:
        """Have :meth:`sweep` called at *deadline*, and no more for what was scheduled before."""
        if self._entry is not None:
            self._entry.driver = None
        self._entry = None if deadline is None else self._sweeper.add(self, deadline)

    def _free(self) -> None:
        self.schedule(None)
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._release()
        self._wake(self._room)
        self._wake(self._waiter)

    # -- at work ----------------------------------------------------------------------------------

    def _wait(self, name: str, seconds: float | None) -> None:
        waiter: Waiter[None] = Waiter(self._hub)
        setattr(self, name, waiter)
        timer = None
        if seconds is not None:
            timer = self._hub.loop.timer(seconds)
            timer.start(waiter.switch, None)
        try:
            waiter.get()
        finally:
            setattr(self, name, None)
            if timer is not None:
                timer.stop()
                timer.close()

    def _wake(self, waiter: Waiter[None] | None) -> None:
        if waiter is not None and not waiter.ready():
            self._hub.loop.run_callback(waiter.switch, None)

    def _check_thread(self) -> None:
        if get_thread() != self._thread:
            raise RuntimeError("receive() works in the thread of the connection's hub only")

    def _send_from_thread(self, message: Sendable) -> None:
        connection = self.connection
        if connection.state is not State.OPEN and not self._drop_quietly():
            raise connection.closed_error()
        if not isinstance(message, (str, bytes)):
            message = bytes(message)
        self._hub.loop.run_callback_threadsafe(self._send_in_hub, message)

    def _send_in_hub(self, message: Sendable) -> None:
        if self.connection.state is State.OPEN:
            self._queue_from_outside(message)
            self._settle()


class Entry:
    """When to look after a driver; without one, it is void."""

    __slots__ = ("deadline", "driver", "order")

    def __init__(self, deadline: float, order: int, driver: GeventDriver) -> None:
        self.deadline = deadline
        self.order = order
        self.driver: GeventDriver | None = driver

    def __lt__(self, other: Entry) -> bool:
        return (self.deadline, self.order) < (other.deadline, other.order)


class Sweeper:
    """The timers of a hub's connections: one watcher for all of them."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._heap: list[Entry] = []
        self._order = itertools.count()
        self._timer: Any = None
        self._fires_at: float | None = None

    def add(self, driver: GeventDriver, deadline: float) -> Entry:
        """Call ``driver.sweep()`` at *deadline* unless the entry is made void before."""
        entry = Entry(deadline, next(self._order), driver)
        heapq.heappush(self._heap, entry)
        if self._fires_at is None or deadline < self._fires_at:
            self._arm(deadline)
        return entry

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        self._fires_at = deadline
        self._timer = self.hub.loop.timer(max(0.0, deadline - monotonic()))
        self._timer.start(self._sweep)

    def _sweep(self) -> None:
        self._timer.close()
        self._timer = self._fires_at = None
        now = monotonic()
        heap = self._heap
        while heap and (heap[0].deadline <= now or heap[0].driver is None):
            driver = heapq.heappop(heap).driver
            if driver is not None:
                self._look_after(driver, now)
        if heap and (self._fires_at is None or heap[0].deadline < self._fires_at):
            self._arm(heap[0].deadline)

    def _look_after(self, driver: GeventDriver, now: float) -> None:
        due = driver.deadline
        if due is not None and due > now:
            # The peer has been heard in the meantime.
            driver.schedule(due)
            return
        driver.schedule(None)
        try:
            driver.sweep(now)
        except Exception:
            logger.exception("a connection could not be looked after")


def _in_uwsgi() -> bool:
    try:
        import uwsgi  # noqa: F401
    except ImportError:
        return False
    return True


def _in_uwsgi_loop() -> bool:
    if not _in_uwsgi():
        return False
    import uwsgi

    return bool(uwsgi.loop == b"gevent")


def _in_hub_greenlet() -> bool:
    """Whether the server runs this request in a greenlet that a hub switches."""
    current = getcurrent()
    return isinstance(current.parent, Hub)
