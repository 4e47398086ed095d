"""The blocking engine: a thread per connection.

Under uWSGI the engine starts the thread: a request that lasted as long as the connection would
occupy one of uWSGI's threads, be killed by harakiri, and keep uWSGI from calling its exit hook. A
few idle threads are kept for new connections. Other servers hold the request, and the connection
uses the request's thread.

The thread reads while it waits for a message. While it is busy in a hook, the *keeper*, one
thread per worker, answers and sends Pings, and writes what others have queued.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Mapping
from math import inf
from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from ..common.per_process import PerProcess
from ..common.threads import Threads
from ..protocol.connection import Connection
from ..typing import Conversation, Transport
from .base import Engine
from .blocking_driver import BlockingDriver
from .blocking_read import ReadingDriver, can_wait_in_read
from .driver import take_turn
from .keeper import Keeper
from .places import NO_HUB, Place

logger = logging.getLogger("flask_wsviews")

# How many idle threads are kept for new connections.
SPARE_THREADS = 32


_BLOCKS_LOOP: Final = (
    "WebSocket would block uWSGI's asyncio loop: use AsyncioWebSocket, or leave --asyncio out"
)


@mypyc_attr(allow_interpreted_subclasses=True)
class BlockingEngine(Engine):
    """One thread per connection: the engine's under uWSGI, else gunicorn's or Werkzeug's."""

    name = "blocking"
    refused: ClassVar[Mapping[Place, str]] = {
        Place("uwsgi", "no threads"): "WebSocket runs a thread for each connection, but this uWSGI "
        "runs without Python threads: add --enable-threads (or --threads N)",
        Place("uwsgi", "gevent"): "WebSocket would block uWSGI's gevent loop: use GeventWebSocket, "
        "or leave --gevent out",
        Place("uwsgi", "asyncio"): _BLOCKS_LOOP,
        Place("uwsgi", "asyncio without greenlet"): _BLOCKS_LOOP,
        Place("uwsgi", patched="gevent"): NO_HUB,
    }
    max_connections = 1000

    def __init__(self) -> None:
        super().__init__()
        self._keeper = PerProcess(Keeper)
        self._threads = PerProcess(_connection_threads)

    def make_ready(self) -> None:
        """Start the keeper before the first connection."""
        self._keeper.get()

    def serve(
        self, transport: Transport, connection: Connection, conversation: Conversation
    ) -> None:
        """Run the conversation in another thread, or here if the server holds the request."""
        self._keeper.get()
        transport.detach()
        if not transport.can_detach:
            self._run(transport, connection, conversation)
            return
        context = contextvars.copy_context()
        try:
            self._threads.get().call(
                lambda: context.run(self._run, transport, connection, conversation)
            )
        except RuntimeError:
            logger.warning("no thread can be started: a WebSocket occupies its request's thread")
            self._run(transport, connection, conversation)

    def _run(
        self, transport: Transport, connection: Connection, conversation: Conversation
    ) -> None:
        try:
            keeper = self._keeper.get()
            if can_wait_in_read(transport):
                driver: BlockingDriver = ReadingDriver(transport, connection, keeper)
            else:
                driver = BlockingDriver(transport, connection, keeper)
            self._register(driver, conversation)
        except BaseException:
            self.give_up(transport, conversation)
            raise
        try:
            take_turn(conversation.converse, driver)
        finally:
            driver.finish()

    def stop(self) -> None:
        """Stop the keeper and the threads that wait for connections."""
        if threads := self._threads.take():
            threads.close()
        if keeper := self._keeper.take():
            keeper.stop()

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)


def _connection_threads() -> Threads:
    # Daemon threads, because a worker of uWSGI's can't end in another way while a hook is busy.
    return Threads(inf, "wsviews-connection", spare=SPARE_THREADS)
