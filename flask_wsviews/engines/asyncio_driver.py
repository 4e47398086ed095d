"""A connection of the asyncio engine: a task runs its hooks, and threads run the plain ones."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar, cast

from ..close_codes import INTERNAL_ERROR, POLICY_VIOLATION, TRY_AGAIN_LATER
from ..common.steps import throwable
from ..common.threads import Threads
from ..exceptions import CloseConnection
from ..protocol.connection import Connection
from ..protocol.state import OPEN
from ..typing import Message, Sendable, Transport
from .asyncio_loop import LoopThread
from .asyncio_turn import NOBODY, InContext, TaskDriver, Turn
from .driver import TOO_SLOW, WOULD_END, deadline_after, timed_out
from .loop import PAUSE
from .parking import ACTIVE, PARKED, WAITING
from .thread_future import ThreadFuture

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

# Whether create_task() takes a context (Python 3.11).
TASKS_TAKE_CONTEXTS = sys.version_info >= (3, 11)

# Final, so that compiled code needs no lookup for each message.
current_task: Final = asyncio.current_task
get_ident: Final = threading.get_ident

# An exhausted iterator: awaiting it finishes at once.
_NOTHING: Final = cast("Generator[Any, None, None]", iter(()))


class AsyncioDriver(TaskDriver):
    """A connection whose owner is a task, or the thread that runs a plain hook of its view.

    Methods that end in ``_async`` are for the loop. The others are for threads, and block there.
    """

    def __init__(
        self, transport: Transport, connection: Connection, loop_thread: LoopThread
    ) -> None:
        super().__init__(transport, connection, loop_thread.sweeper, loop_thread.loop)
        self._loop_thread = loop_thread
        self.loses_errors = loop_thread.loses_errors
        self._loop_ident = get_ident()
        self.parks = self.parks and TASKS_TAKE_CONTEXTS
        self._turn: Turn | None = None
        self._hook_thread: int | None = None
        self._senders: Sequence[asyncio.Future[None]] = ()
        self._drained: Drained | None = None
        self._unawaited = 0  # bytes that the owner has queued since it last waited
        self._settle()

    # -- the conversation -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin or resume the conversation in a new task."""
        create_task: Any = self.loop.create_task
        coroutine: Any = self.run()
        if self.parks:
            self._turn = coroutine = Turn(self, coroutine, self._context)
        if TASKS_TAKE_CONTEXTS:
            create_task(coroutine, context=self._context)
        else:
            create_task(InContext(coroutine, self._context))

    async def run(self) -> None:
        """Run the conversation in this task until it ends or can be parked."""
        conversation, task = self._conversation, current_task(self.loop)
        assert conversation is not None
        assert task is not None
        tasks = self._loop_thread.tasks
        tasks.add(task)
        self.owner = task
        is_over = True
        try:
            is_over = await conversation.converse_async(self)
        except (SystemExit, KeyboardInterrupt):
            logger.exception(WOULD_END)
            self.close(INTERNAL_ERROR, "")
        except Exception:
            logger.exception("a conversation failed")
            self.close(INTERNAL_ERROR, "")
        except GeneratorExit:
            # Outside of the task it means that the coroutine is closed, not that a hook failed.
            if current_task(self.loop) is not task:
                raise
            logger.exception("a conversation failed")
            self.close(INTERNAL_ERROR, "")
        finally:
            tasks.discard(task)
            self.owner = NOBODY
            self._turn = None
            self._end_turn(is_over)

    async def wait_for_news_async(self) -> bool:
        """Wait for a message or the end of the connection, unless parking is cheaper."""
        if self._parking == ACTIVE:
            self._parking = WAITING
            receiver = self.receiver = self.loop.create_future()
            try:
                await receiver
            finally:
                self.receiver = None
                self._parking = ACTIVE
        return self.connection.has_news

    # -- for coroutines ---------------------------------------------------------------------------

    def take(self) -> Message | None:
        """Return the next message, or None at the end."""
        return self._take()

    async def receive_async(self, timeout: float | None = None) -> Message | None:
        """Wait for the next message; the result is None at the end."""
        self._check_alone()
        deadline = deadline_after(timeout)
        left: float | None = None
        while True:
            # At the deadline the loop may not have read the socket yet.
            message = self._take() if left is None or left > 0 else self._take_now()
            if message is not None or self._told:
                return message
            if deadline is not None:
                if left is not None and left <= 0:
                    raise timed_out(timeout)
                left = deadline - monotonic()
            # Even with no time left, so that a task that polls lets other tasks run.
            receiver = self.receiver = self.loop.create_future()
            timer = None if left is None else self.loop.call_later(left, self._wake_receiver)
            try:
                await receiver
            finally:
                self.receiver = None
                if timer is not None:
                    timer.cancel()

    def send_async(self, message: Sendable) -> Drained:
        """Queue a message; await what is returned to wait while the client is slow."""
        if get_ident() == self._loop_ident and current_task(self.loop) is self.owner:
            self._queue_unawaited(message)
        else:
            self._send_from_outside(message)
        return self._drained or self._make_drained()

    def _queue_unawaited(self, message: Sendable) -> None:
        """Queue the owner's message; close a slow client if the owner never awaits the sends."""
        connection = self.connection
        waiting, backlog = self._unawaited, connection.send_backlog
        connection.send(message)
        queued = connection.send_backlog - backlog
        self._flush()
        if not self._writing:
            self._unawaited = 0
            return
        self._unawaited += queued
        if waiting and self._unawaited > connection.settings.max_send_buffer:
            self.close(POLICY_VIOLATION, TOO_SLOW)

    def _make_drained(self) -> Drained:
        self._drained = Drained(self)
        return self._drained

    def close_async(self, code: int, reason: str) -> Drained:
        """Start the closing handshake; await what is returned until the close frame is out."""
        self.close(code, reason)
        return self._drained or self._make_drained()

    def ping_async(self, payload: bytes) -> Drained:
        """Send a Ping; await what is returned to wait while the client is slow."""
        self.ping(payload)
        return self._drained or self._make_drained()

    def call_in_thread(self, function: Callable[[], T], *, keep: bool = False) -> Awaitable[T]:
        """Call *function* in a thread, in the connection's context, which the task has left.

        The next hook sees the context variables that *function* sets, wherever it runs. Only the
        owner may call this, and must await the end.

        :param keep: whether *function* keeps the thread as long as the connection lasts.
        :raises CloseConnection: if no thread is free.
        """
        future = ThreadFuture(loop=self.loop)
        threads = self._loop_thread.functions if keep else self._loop_thread.hooks
        if keep:
            if not self._loop_thread.free_functions:
                raise CloseConnection(TRY_AGAIN_LATER, "no thread is free")
            self._loop_thread.free_functions -= 1
            future.add_done_callback(self._function_ended)
        self.loop.call_soon(self._start_work, threads, function, future)
        return future

    def _start_work(
        self, threads: Threads, function: Callable[[], object], future: ThreadFuture
    ) -> None:
        turn = self._turn
        if turn is not None and turn.is_ahead:
            # The task must enter the context once more to receive the future that it waits for.
            self.loop.call_soon(self._start_work, threads, function, future)
        elif future.is_given_up:
            future.set_result(None)
        else:
            try:
                threads.call(partial(self._work, function, future))
            except RuntimeError as error:
                future.set_exception(error)

    def _work(self, function: Callable[[], object], future: ThreadFuture) -> None:
        """Call a hook, in one of the threads."""
        settle: Any
        self._hook_thread = get_ident()
        try:
            outcome: object = self._context.run(function)
            settle = future.set_result
        except BaseException as error:
            # A future refuses the first of these, and the second would close the coroutine.
            outcome = throwable(error, (StopIteration, GeneratorExit))
            settle = future.set_exception
        self._hook_thread = None
        self.loop.call_soon_threadsafe(settle, outcome)

    def call_aside(self, function: Callable[[], T]) -> Awaitable[T]:
        """Call *function*, which isn't a hook, in a thread that may block."""
        return asyncio.wrap_future(self._loop_thread.hooks.submit(function), loop=self.loop)

    async def wait_drained(self) -> None:
        """Wait until the kernel has taken what was queued.

        :raises ConnectionClosed: if the connection ends before.
        """
        self._unawaited = 0
        while self._writing:
            if self.connection.state is not OPEN:
                raise self.connection.closed_error()
            await self._wait_for_sending()

    async def wait_released(self) -> None:
        """Wait until the socket is closed, for a server that holds the request."""
        while not self._released:
            await self._wait_for_sending()

    # -- for threads ------------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Message | None:
        """Wait for the next message in a thread."""
        return self._wait_for(self.receive_async(timeout))

    def receive_nowait(self) -> Message | None:
        """Return the next message, or None if there is none yet."""
        if self._in_loop():
            self._check_alone()
            return self._take_now()

        async def take() -> Message | None:
            self._check_alone()
            return self._take_now()

        return self._wait_for(take())

    def send(self, message: Sendable) -> None:
        """Send a message. Only the thread of a plain hook waits for a slow client."""
        if get_ident() != self._hook_thread:
            self._send_from_outside(message)
            return

        async def send() -> None:
            self.connection.send(message)
            self._settle()
            await self.wait_drained()

        self._wait_for(send())

    def _drop_quietly(self) -> bool:
        # A plain hook sends from its thread, and must get the error once its connection has ended.
        return get_ident() != self._hook_thread and super()._drop_quietly()

    def _check_alone(self) -> None:
        if self.receiver is not None or self._parking == PARKED:
            raise RuntimeError("another task is already in receive() of this connection")

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._in_loop():
            coroutine.close()
            raise RuntimeError("this would block the event loop: make the handler async def")
        return self._loop_thread.start(coroutine).result()

    # -- for LoopDriver ----------------------------------------------------------------------

    @property
    def home(self) -> object:
        """The event loop that serves the connection."""
        return self.loop

    def _watch_reads(self, wanted: bool) -> None:
        if wanted:
            self.loop.add_reader(self._fd, self._on_readable)
        else:
            self.loop.remove_reader(self._fd)

    def _watch_writes(self, wanted: bool) -> None:
        if wanted:
            self.loop.add_writer(self._fd, self._on_writable)
        else:
            self.loop.remove_writer(self._fd)

    def _wake_receiver(self) -> None:
        if self._parking == PARKED:
            if not self._end_if_idle():
                self._unpark()
                self.start()
        elif self.receiver is not None and not self.receiver.done():
            self.receiver.set_result(None)
            if self._turn is not None:
                self._turn.wake_task()

    def _resume_receiver(self) -> None:
        turn, receiver = self._turn, self.receiver
        # While the task is asleep the receiver is pending: whatever wakes one wakes both.
        if turn is None or receiver is None or not turn.is_asleep:
            self._wake_receiver()
        else:
            receiver.set_result(None)
            turn.resume()

    def _wake_sender(self) -> None:
        for sender in self._senders:
            if not sender.done():
                sender.set_result(None)

    def _in_loop(self) -> bool:
        return get_ident() == self._loop_ident

    def _call_in_loop(self, function: Callable[..., object], *arguments: object) -> None:
        self.loop.call_soon_threadsafe(function, *arguments)

    def _yield_to_loop(self) -> None:
        time.sleep(PAUSE)

    def _call_next(self, function: Callable[[], object]) -> None:
        self.loop.call_soon(function)

    async def _wait_for_sending(self) -> None:
        sender = self.loop.create_future()
        self._senders = (*self._senders, sender)
        try:
            await sender
        finally:
            self._senders = tuple(one for one in self._senders if one is not sender)

    def _function_ended(self, future: object) -> None:
        self._loop_thread.free_functions += 1


class Drained:
    """What ``send()`` and ``close()`` return on asyncio; await it to wait for a slow client.

    You need not await it: the message is sent anyway.
    """

    __slots__ = ("_driver",)

    def __init__(self, driver: AsyncioDriver) -> None:
        self._driver = driver

    def __await__(self) -> Generator[Any, None, None]:
        driver = self._driver
        # In a thread there is nothing to wait for: the loop already has the message.
        if driver._writing and driver._in_loop():
            return driver.wait_drained().__await__()
        return _NOTHING

    def __iter__(self) -> Generator[Any, None, None]:
        """For ``yield from`` in a coroutine made by ``types.coroutine``."""
        return self.__await__()
