"""The gevent engine: the connection leaves the server, and a greenlet runs its handler.

Bytes are read and parsed by callbacks of the hub, so a connection is served, pinged and closed on
time whatever its handler does, as long as that yields to other greenlets. The view of a connection
that is idle for a while has no greenlet: the next message resumes it in a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import gevent
from gevent import monkey
from gevent.hub import Hub, get_hub
from mypy_extensions import mypyc_attr

from ..common.per_process import PerProcess
from ..common.process import find_uwsgi, in_uwsgi_loop
from ..common.threads import ENDING_SIGNALS
from ..config import Settings
from ..protocol.connection import Connection
from ..typing import Conversation, Transport
from .base import Engine
from .blocking import BlockingEngine
from .gevent_driver import GeventDriver, getcurrent, make_thread_lock, start_timer
from .loop import Sweeper
from .places import Place


@mypyc_attr(allow_interpreted_subclasses=True)
class GeventEngine(Engine):
    """One greenlet for each busy connection, not bounded by ``--gevent N``.

    On a server with threads and no hub (Werkzeug, gunicorn's gthread) the blocking engine
    serves the connections.
    """

    name = "gevent"
    refused: ClassVar[Mapping[Place, str]] = dict.fromkeys(
        (
            Place("uwsgi", "threads"),
            Place("uwsgi", "no threads"),
            Place("uwsgi", "asyncio"),
            Place("uwsgi", "asyncio without greenlet"),
            Place("uwsgi", patched="gevent"),
        ),
        "GeventWebSocket needs uWSGI's gevent loop: add --gevent 100, or use WebSocket",
    )
    uwsgi_options: ClassVar[Mapping[str, int]] = {"gevent": 100}

    def __init__(self) -> None:
        super().__init__()
        self._threaded = BlockingEngine()
        self._sweepers: dict[Hub, Sweeper] = {}  # a worker has one hub
        self._signal_watchers = PerProcess(self._watch_signals)
        self._signal: int | None = None

    def prepare(self, settings: Settings) -> None:
        """Patch the standard library if this is uWSGI's gevent loop and it isn't patched yet."""
        if (
            settings.monkey_patch
            and in_uwsgi_loop(b"gevent")
            and not monkey.is_module_patched("socket")
        ):
            monkey.patch_all()

    def serve(
        self, transport: Transport, connection: Connection, conversation: Conversation
    ) -> None:
        """Run the conversation in a new greenlet, or here if the server holds the request."""
        if not _in_hub_greenlet():
            self._threaded.serve(transport, connection, conversation)
            return
        if transport.can_detach:
            if in_uwsgi_loop(b"gevent"):
                self._signal_watchers.get()
            transport.detach()
        hub = get_hub()
        driver = GeventDriver(transport, connection, hub, self._sweeper(hub))
        self._register(driver, conversation)
        if not transport.can_detach:
            driver.run()
            driver.wait_released()
        elif not driver.begin():
            gevent.spawn(driver.run)

    @property
    def connections(self) -> int:
        """The number of connections of this worker, in greenlets and in threads."""
        return super().connections + self._threaded.connections

    def make_ready(self) -> None:
        """Create what connections in threads share, if the server runs threads."""
        if not _in_hub_greenlet():
            self._threaded.make_ready()

    def announce(self, conversation: Conversation) -> bool:
        """Reserve a connection that is about to open."""
        if not _in_hub_greenlet():
            return self._threaded.announce(conversation)
        return super().announce(conversation)

    def withdraw(self, conversation: Conversation) -> bool:
        """Cancel :meth:`announce`: the connection wasn't opened."""
        if not _in_hub_greenlet():
            return self._threaded.withdraw(conversation)
        return super().withdraw(conversation)

    def shutdown(self, code: int, reason: str, timeout: float) -> None:
        """Close all connections of this worker, in threads and in greenlets."""
        self._threaded.shutdown(code, reason, timeout)
        super().shutdown(code, reason, timeout)

    def stop(self) -> None:
        """Stop the threads of the blocking engine."""
        self._threaded.stop()

    def is_last_call(self) -> bool:
        """Return whether uWSGI calls its exit hook at the end of this process.

        In a worker that accepts no more requests, uWSGI also calls the hook in the greenlet of each
        late request. After SIGWINCH (``--cheaper``, ``--max-worker-lifetime``) the worker and its
        gevent loop never end.
        """
        return find_uwsgi() is None or not _in_hub_greenlet()

    def ending_signal(self) -> int | None:
        """Return the signal that the loop has reported; no signal is blocked here."""
        return self._signal

    def _pause(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def _watch_signals(self) -> list[Any]:
        """Watch for the signal that ends this worker, in addition to uWSGI's own watchers."""
        loop = get_hub().loop
        watchers = [loop.signal(signum, ref=False) for signum in ENDING_SIGNALS]
        for signum, watcher in zip(ENDING_SIGNALS, watchers, strict=True):
            watcher.start(self._note_signal, signum)
        return watchers

    def _note_signal(self, signum: int) -> None:
        self._signal = signum

    def _sweeper(self, hub: Hub) -> Sweeper:
        sweeper = self._sweepers.get(hub)
        if sweeper is None:
            sweeper = self._sweepers[hub] = Sweeper(partial(start_timer, hub), make_thread_lock)
        return sweeper


def _in_hub_greenlet() -> bool:
    """Whether the server runs this request in a greenlet that a hub switches."""
    current = getcurrent()
    return isinstance(current.parent, Hub)
