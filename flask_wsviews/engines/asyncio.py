"""The asyncio engine: an event loop in a thread of the worker, and a task per busy connection.

It runs on any uWSGI: the connection leaves the server and lives on in the loop. With servers that
hold the request, the request's thread waits. With ``--asyncio`` the engine uses uWSGI's own loop,
which handles requests in greenlets of its thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Coroutine, Mapping
from contextvars import copy_context
from typing import Any, ClassVar, Final, TypeVar

from mypy_extensions import mypyc_attr

from ..common.per_process import PerProcess
from ..common.process import in_uwsgi_loop
from ..common.steps import throwable
from ..config import Settings
from ..protocol.connection import Connection
from ..servers.uwsgi.own_loop import make_loop_on_demand, servers_loop, suspend_request
from ..typing import Conversation, Transport
from .asyncio_driver import AsyncioDriver, Drained
from .asyncio_loop import LoopThread
from .base import Engine
from .places import NO_HUB, Place

T = TypeVar("T")

__all__ = ["AsyncioEngine", "Drained"]

_BLOCKS_HUB: Final = (
    "AsyncioWebSocket would stop this process at its first WebSocket, because gevent has patched "
    "the standard library: use GeventWebSocket, or run without gevent (gunicorn: -k gthread)"
)


@mypyc_attr(allow_interpreted_subclasses=True)
class AsyncioEngine(Engine):
    """One event loop per worker, and a task for each busy connection."""

    name = "asyncio"
    runs_coroutines = True
    refused: ClassVar[Mapping[Place, str]] = {
        Place(patched="gevent"): _BLOCKS_HUB,
        Place("gunicorn", "gevent"): _BLOCKS_HUB,
        Place("uwsgi", "no threads"): "AsyncioWebSocket runs its event loop and plain handlers in "
        "threads, but this uWSGI runs without Python threads: add --enable-threads",
        Place("uwsgi", "gevent"): "AsyncioWebSocket can't run in uWSGI's gevent loop: leave "
        "--gevent out, or use GeventWebSocket",
        Place("uwsgi", "asyncio without greenlet"): "uWSGI's asyncio loop needs a greenlet for "
        "each request: add --greenlet",
        Place("uwsgi", patched="gevent"): NO_HUB,
    }

    def __init__(self) -> None:
        super().__init__()
        self._loop_thread = PerProcess(self._make_loop_thread)
        self._threads = Settings().threads

    def prepare(self, settings: Settings) -> None:
        """Store the number of threads for plain hooks; let uWSGI make its loop."""
        self._threads = settings.threads
        if in_uwsgi_loop(b"asyncio") and sys.version_info >= (3, 12):
            make_loop_on_demand()

    def make_ready(self) -> None:
        """Start the event loop before the first connection."""
        self._loop_thread.get()

    def serve(
        self, transport: Transport, connection: Connection, conversation: Conversation
    ) -> None:
        """Run the conversation in a task; wait for its end if the server holds the request."""
        loop_thread = self._loop_thread.get()
        if transport.can_detach:
            transport.detach()
            arguments = (loop_thread, transport, connection, conversation)
            loop_thread.loop.call_soon_threadsafe(self._begin, *arguments, context=copy_context())
        else:
            loop_thread.start(self._hold(loop_thread, transport, connection, conversation)).result()

    def _begin(
        self,
        loop_thread: LoopThread,
        transport: Transport,
        connection: Connection,
        conversation: Conversation,
    ) -> None:
        try:
            driver = AsyncioDriver(transport, connection, loop_thread)
            self._register(driver, conversation)
        except BaseException:
            self.give_up(transport, conversation)
            raise
        if not driver.begin():
            driver.start()

    async def _hold(
        self,
        loop_thread: LoopThread,
        transport: Transport,
        connection: Connection,
        conversation: Conversation,
    ) -> None:
        """Run a conversation, and wait for the end of the socket."""
        driver = AsyncioDriver(transport, connection, loop_thread)
        self._register(driver, conversation)
        driver.start()
        await driver.wait_released()

    def stop(self) -> None:
        """Stop the event loop and the threads of plain hooks."""
        if loop_thread := self._loop_thread.take():
            loop_thread.stop()

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, in the caller's context variables, and wait for it."""
        loop_thread = self._loop_thread.get()
        future = loop_thread.start(_guarded(coroutine))
        if loop_thread.is_servers_loop:
            suspend_request(future)
        return future.result()

    def _make_loop_thread(self) -> LoopThread:
        return LoopThread(self._threads, servers_loop())


async def _guarded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine of the application; turn what would end the loop into an error."""
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise throwable(error, (SystemExit, KeyboardInterrupt)) from error
