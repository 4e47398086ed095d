"""The event loop of the asyncio engine, one per process, and the threads beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from ..common.threads import Threads, start_thread
from ..servers.uwsgi.own_loop import keep_thread_state
from .loop import Sweeper
from .sockets import check_descriptors

T = TypeVar("T")

# More than an event loop opens: uvloop 9, asyncio's own 3.
LOOP_DESCRIPTORS = 16


class LoopThread:
    """The event loop of a process, its timers, and the threads that run plain hooks.

    :param threads: how many plain hooks, and how many plain function routes, run at a time.
    :param loop: the server's running loop, or ``None`` to run a new loop in a thread.
    """

    def __init__(self, threads: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self.is_servers_loop = loop is not None
        self.loop = new_event_loop() if loop is None else loop
        #: See :attr:`LoopDriver.loses_errors`: uvloop is made of libuv.
        self.loses_errors = not isinstance(self.loop, asyncio.SelectorEventLoop)
        self.sweeper = Sweeper(self._start_timer)
        prepare = None if loop is None else keep_thread_state
        self.hooks = Threads(threads, "wsviews-hook", prepare)
        # Separate, because they keep a thread as long as their connection lasts.
        self.functions = Threads(threads, "wsviews-function", prepare)
        self.free_functions = threads
        #: Running tasks. The loop itself keeps only weak references to them.
        self.tasks: set[asyncio.Task[Any]] = set()
        self._runner: threading.Thread | None = None
        if loop is None:
            started: Future[None] = Future()
            try:
                self._runner = start_thread(partial(self._run, started), "wsviews-asyncio")
            except RuntimeError:
                self.loop.close()
                raise
            # uvloop opens its last descriptors when it runs.
            started.result()

    def stop(self) -> None:
        """End the threads, and the loop if it is our own."""
        self.hooks.close()
        self.functions.close()
        if self._runner is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._runner.join()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a task on the loop; from any thread."""
        future: Future[T] = Future()
        self.loop.call_soon_threadsafe(self._start, coroutine, future, context=copy_context())
        return future

    def _keep(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _start(self, coroutine: Coroutine[Any, Any, T], future: Future[T]) -> None:
        def done(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                future.cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        self._keep(coroutine).add_done_callback(done)

    def _start_timer(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        return self.loop.call_later(seconds, function).cancel

    def _run(self, started: Future[None]) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(started.set_result, None)
        try:
            self.loop.run_forever()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            self.loop.close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop: uvloop's if it is installed.

    :raises OSError: if too few descriptors are left.
    """
    # uvloop aborts the process if only some of the descriptors it needs are free.
    check_descriptors(LOOP_DESCRIPTORS)
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
