"""The asyncio engine: an event loop in a thread of the worker, and tasks for what there is to do.

It runs on any uWSGI, because the loop isn't uWSGI's: the server gives the connection up, and the
loop goes on with it. Servers that hold a request wait in its thread. With ``--asyncio`` the loop
is uWSGI's own: it handles requests in greenlets of the thread that the tasks run in.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Final, TypeVar, cast

from ..close_codes import INTERNAL_ERROR, POLICY_VIOLATION, TRY_AGAIN_LATER
from ..common.process import find_uwsgi, in_uwsgi_loop
from ..common.steps import throwable
from ..common.threads import Threads, start_thread
from ..config import Settings
from ..exceptions import CloseConnection
from ..protocol.connection import OPEN, Connection
from ..servers.uwsgi.loop_on_demand import make_loop_on_demand
from ..typing import Conversation, Message, Sendable, Transport
from .base import TOO_SLOW, WOULD_END, Engine, deadline_after, timed_out
from .loop import PAUSE, LoopDriver, Sweeper
from .places import NO_HUB, Place
from .sockets import check_descriptors
from .thread_future import ThreadFuture

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

# More than an event loop opens: uvloop 9, asyncio's own 3.
LOOP_DESCRIPTORS = 16

# Whether a task can be given the context variables of another one that has ended.
TASKS_TAKE_CONTEXTS = sys.version_info >= (3, 11)

# All that each message asks for is Final: once compiled, it is at hand.
current_task: Final = asyncio.current_task
enter_task: Final = asyncio.tasks._enter_task
leave_task: Final = asyncio.tasks._leave_task
get_ident: Final = threading.get_ident

# The owner of a connection that has nothing to do; no task, and not the lack of one.
_NOBODY: Final = object()

# What there is to wait for when there is nothing.
_NOTHING: Final = cast("Generator[Any, None, None]", iter(()))


_BLOCKS_HUB: Final = (
    "AsyncioWebSocket would stop this process at its first WebSocket, because gevent has patched "
    "the standard library: use GeventWebSocket, or run without gevent (gunicorn: -k gthread)"
)


class AsyncioEngine(Engine):
    """One event loop per worker, with a task for each connection that is at work."""

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
        self._worker: Worker | None = None
        self._threads = Settings().threads
        self._lock = threading.Lock()

    def prepare(self, settings: Settings) -> None:
        """Note how many threads plain hooks may have, and see that uWSGI gets its loop."""
        self._threads = settings.threads
        if in_uwsgi_loop(b"asyncio") and sys.version_info >= (3, 12):
            make_loop_on_demand()

    def make_ready(self) -> None:
        """Start the loop; see :meth:`Engine.make_ready`."""
        self._the_worker()

    def serve(
        self, transport: Transport, connection: Connection, conversation: Conversation
    ) -> None:
        """Run the conversation as a task; wait for its end if the server holds the request."""
        worker = self._the_worker()
        if transport.can_detach:
            transport.detach()
            arguments = (worker, transport, connection, conversation)
            worker.loop.call_soon_threadsafe(self._begin, *arguments, context=copy_context())
        else:
            worker.start(self._hold(worker, transport, connection, conversation)).result()

    def _begin(
        self,
        worker: Worker,
        transport: Transport,
        connection: Connection,
        conversation: Conversation,
    ) -> None:
        try:
            driver = AsyncioDriver(transport, connection, worker)
            self._register(driver, conversation)
        except BaseException:
            self.give_up(transport, conversation)
            raise
        if not driver.begin():
            driver.start()

    async def _hold(
        self,
        worker: Worker,
        transport: Transport,
        connection: Connection,
        conversation: Conversation,
    ) -> None:
        """Run a conversation, and wait for the end of the socket."""
        driver = AsyncioDriver(transport, connection, worker)
        self._register(driver, conversation)
        driver.start()
        await driver.wait_released()

    def stop(self) -> None:
        """See :meth:`Engine.stop`."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, in the caller's context variables, and wait for it."""
        worker = self._the_worker()
        future = worker.start(_guarded(coroutine))
        if worker.is_servers_loop:
            _suspend_request(future)
        return future.result()

    def _the_worker(self) -> Worker:
        # Made in the worker, at its first connection: threads don't survive a fork.
        with self._lock:
            if self._worker is None or self._worker.pid != os.getpid():
                self._worker = Worker(self._threads, _servers_loop())
            return self._worker


class Worker:
    """What a process has once: the loop, its timers, and the threads of plain hooks.

    :param threads: how many plain hooks, and how many plain function routes, run at a time.
    :param loop: the server's, which runs already; without one, a loop is run in a thread.
    """

    def __init__(self, threads: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self.pid = os.getpid()
        self.is_servers_loop = loop is not None
        self.loop = _new_event_loop() if loop is None else loop
        #: See :attr:`LoopDriver.loses_errors`: uvloop is made of libuv.
        self.loses_errors = not isinstance(self.loop, asyncio.SelectorEventLoop)
        self.sweeper = Sweeper(self._start_timer)
        prepare = None if loop is None else _keep_thread_state
        self.hooks = Threads(threads, "wsviews-hook", prepare)
        # Of their own, since they keep a thread for as long as their connection lasts.
        self.functions = Threads(threads, "wsviews-function", prepare)
        self.free_functions = threads
        #: Tasks that are under way, since the loop itself keeps only weak references to them.
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


class AsyncioDriver(LoopDriver):
    """A connection whose owner is a task, or the thread that runs a plain hook of its view.

    What ends in ``_async`` belongs to the loop; the rest is for threads, and waits there.
    """

    def __init__(self, transport: Transport, connection: Connection, worker: Worker) -> None:
        super().__init__(transport, connection, worker.sweeper)
        self._worker = worker
        self._loop = worker.loop
        self.loses_errors = worker.loses_errors
        self._loop_thread = get_ident()
        self.parks = self.parks and TASKS_TAKE_CONTEXTS
        self._owner: object = _NOBODY
        self._turn: Turn | None = None
        self._hook_thread: int | None = None
        self._receiver: asyncio.Future[None] | None = None
        self._senders: Sequence[asyncio.Future[None]] = ()
        self._drained: Drained | None = None
        self._unawaited = 0  # bytes that the owner has queued since it last waited
        self._settle()

    # -- the conversation -------------------------------------------------------------------------

    def start(self) -> None:
        """Have a task run the conversation, or go on with it."""
        create_task: Any = self._loop.create_task
        coroutine: Any = self.run()
        if self.parks:
            self._turn = coroutine = Turn(self, coroutine, self._context)
        if TASKS_TAKE_CONTEXTS:
            create_task(coroutine, context=self._context)
        else:
            create_task(InContext(coroutine, self._context))

    async def run(self) -> None:
        """Run the conversation in this task, until it is over or has nothing to do."""
        conversation, task = self._conversation, current_task(self._loop)
        assert conversation is not None
        assert task is not None
        tasks = self._worker.tasks
        tasks.add(task)
        self._owner = task
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
            # Outside of the task it comes from who closes the coroutine, not from a hook.
            if current_task(self._loop) is not task:
                raise
            logger.exception("a conversation failed")
            self.close(INTERNAL_ERROR, "")
        finally:
            tasks.discard(task)
            self._owner = _NOBODY
            self._turn = None
            self._end_turn(is_over)

    async def wait_for_news(self) -> bool:  # type: ignore[override]
        """See :meth:`AsyncDriver.wait_for_news`."""
        if self._is_patient:
            self._is_waiting = True
            self._has_waited = False
            receiver = self._receiver = self._loop.create_future()
            try:
                await receiver
            finally:
                self._receiver = None
                self._is_waiting = False
        return self.connection.has_news

    # -- for coroutines ---------------------------------------------------------------------------

    def take(self) -> Message | None:
        """See :meth:`AsyncDriver.take`."""
        return self._take()

    async def receive_async(self, timeout: float | None = None) -> Message | None:
        """As :meth:`Driver.receive`."""
        self._check_alone()
        deadline = deadline_after(timeout)
        left: float | None = None
        while True:
            # At the end of the time the loop may still have to look at the socket.
            message = self._take() if left is None or left > 0 else self._take_now()
            if message is not None or self._told:
                return message
            if deadline is not None:
                if left is not None and left <= 0:
                    raise timed_out(timeout)
                left = deadline - monotonic()
            # With no time left, too: a task that polls lets the others have their turn.
            receiver = self._receiver = self._loop.create_future()
            timer = None if left is None else self._loop.call_later(left, self._wake_receiver)
            try:
                await receiver
            finally:
                self._receiver = None
                if timer is not None:
                    timer.cancel()

    def send_async(self, message: Sendable) -> Drained:
        """Queue a message; await what is returned to wait while the client is slow."""
        if get_ident() == self._loop_thread and current_task(self._loop) is self._owner:
            self._queue_unawaited(message)
        else:
            self._send_from_outside(message)
        return self._drained or self._make_drained()

    def _queue_unawaited(self, message: Sendable) -> None:
        """Queue for the owner, which may await it, or send on and on to a client that is slow."""
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
        """Call *function* in a thread, in the connection's own context, which the task has left.

        So what a hook sets is there for the next one, wherever that runs. Only the owner may call
        this, and has to wait for the end.

        :param keep: whether it will keep the thread for as long as the connection lasts.
        :raises CloseConnection: if no thread is left to keep.
        """
        future = ThreadFuture(loop=self._loop)
        threads = self._worker.functions if keep else self._worker.hooks
        if keep:
            if not self._worker.free_functions:
                raise CloseConnection(TRY_AGAIN_LATER, "no thread is free")
            self._worker.free_functions -= 1
            future.add_done_callback(self._function_ended)
        self._loop.call_soon(self._start_work, threads, function, future)
        return future

    def _start_work(
        self, threads: Threads, function: Callable[[], object], future: ThreadFuture
    ) -> None:
        turn = self._turn
        if turn is not None and turn.is_ahead:
            # The task has to enter the context once more, to learn what it waits for.
            self._loop.call_soon(self._start_work, threads, function, future)
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
            # No future takes the first of these, and the second would close the coroutine.
            outcome = throwable(error, (StopIteration, GeneratorExit))
            settle = future.set_exception
        self._hook_thread = None
        self._loop.call_soon_threadsafe(settle, outcome)

    def call_aside(self, function: Callable[[], T]) -> Awaitable[T]:
        """See :meth:`AsyncDriver.call_aside`."""
        return asyncio.wrap_future(self._worker.hooks.submit(function), loop=self._loop)

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
        """See :meth:`Driver.receive`."""
        return self._wait_for(self.receive_async(timeout))

    def receive_nowait(self) -> Message | None:
        """See :meth:`Driver.receive_nowait`."""
        if self._in_loop():
            self._check_alone()
            return self._take_now()

        async def take() -> Message | None:
            self._check_alone()
            return self._take_now()

        return self._wait_for(take())

    def send(self, message: Sendable) -> None:
        """See :meth:`Driver.send`."""
        if get_ident() != self._hook_thread:
            self._send_from_outside(message)
            return

        async def send() -> None:
            self.connection.send(message)
            self._settle()
            await self.wait_drained()

        self._wait_for(send())

    def _drop_quietly(self) -> bool:
        # A plain hook of a view with coroutines sends from its thread: it has to learn that its own
        # connection has ended.
        return get_ident() != self._hook_thread and super()._drop_quietly()

    def _check_alone(self) -> None:
        if self._receiver is not None or self._is_parked:
            raise RuntimeError("another task is already in receive() of this connection")

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._in_loop():
            coroutine.close()
            raise RuntimeError("this would block the event loop: make the handler async def")
        return self._worker.start(coroutine).result()

    # -- for the loop's part ----------------------------------------------------------------------

    @property
    def home(self) -> object:
        """See :meth:`Driver.home`."""
        return self._loop

    def _watch_reads(self, wanted: bool) -> None:
        if wanted:
            self._loop.add_reader(self._fd, self._on_readable)
        else:
            self._loop.remove_reader(self._fd)

    def _watch_writes(self, wanted: bool) -> None:
        if wanted:
            self._loop.add_writer(self._fd, self._on_writable)
        else:
            self._loop.remove_writer(self._fd)

    def _wake_receiver(self) -> None:
        if self._is_parked:
            if not self._end_if_idle():
                self._unpark()
                self.start()
        elif self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)
            if self._turn is not None:
                self._turn.wake_task()

    def _resume_receiver(self) -> None:
        turn, receiver = self._turn, self._receiver
        # While the task is asleep the receiver waits, too: what wakes one wakes both.
        if turn is None or receiver is None or not turn.is_asleep:
            self._wake_receiver()
        else:
            receiver.set_result(None)
            turn.go_on()

    def _wake_sender(self) -> None:
        for sender in self._senders:
            if not sender.done():
                sender.set_result(None)

    def _in_loop(self) -> bool:
        return get_ident() == self._loop_thread

    def _call_in_loop(self, function: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    def _give_way(self) -> None:
        time.sleep(PAUSE)

    def _call_next(self, function: Callable[[], object]) -> None:
        self._loop.call_soon(function)

    async def _wait_for_sending(self) -> None:
        sender = self._loop.create_future()
        self._senders = (*self._senders, sender)
        try:
            await sender
        finally:
            self._senders = tuple(one for one in self._senders if one is not sender)

    def _function_ended(self, future: object) -> None:
        self._worker.free_functions += 1


class InContext:
    """The coroutine of a task that can't be given a context: it enters that for each step.

    :param coroutine: what to run.
    :param context: the connection's.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], context: Context) -> None:
        self._coroutine = coroutine
        self._run = context.run

    def send(self, value: Any) -> Any:
        """Go on; returns what the task has to wait for."""
        return self._run(self._coroutine.send, value)

    def throw(self, error: BaseException, *unused: Any) -> Any:
        """As :meth:`send`, with an error such as the task's cancellation."""
        return self._run(self._coroutine.throw, error)

    def close(self) -> None:
        """End it."""
        self._coroutine.close()

    def __await__(self) -> Any:
        """For the type's sake: what can be awaited."""
        return self._coroutine.__await__()


class Turn:
    """The coroutine of a task, which a callback of the loop can go on with in the task's place.

    A task that is woken goes on in the next round of the loop. What most of ours wait for, the next
    message, is brought by a callback, which can as well go on at once. The task doesn't notice:
    it waits for a future of its own meanwhile. Only when something else is to be waited for, or
    at the end, the task is woken.

    :param driver: the connection's.
    :param coroutine: what to run.
    :param context: the task's.
    """

    def __init__(
        self, driver: AsyncioDriver, coroutine: Coroutine[Any, Any, None], context: Context
    ) -> None:
        self._driver = driver
        self._coroutine = coroutine
        self._send = coroutine.send
        self._run = context.run
        self._sleep: Any = None  # what the task waits for while we wait for a message
        self._has_awaited = False
        self._awaited: Any = None  # what the task has to wait for, and doesn't know yet
        self._end: BaseException | None = None  # what it doesn't know yet, either

    @property
    def is_asleep(self) -> bool:
        """Whether nothing but a message is waited for."""
        return self._sleep is not None and not self._sleep.done()

    @property
    def is_ahead(self) -> bool:
        """Whether the task has yet to learn what it waits for."""
        return self._has_awaited

    def go_on(self) -> None:
        """Go on, in a callback of the loop."""
        driver = self._driver
        task: Any = driver._owner
        loop = driver._loop
        enter_task(loop, task)
        try:
            awaited: Any = self._run(self._send, None)
        except BaseException as error:
            self._end = error
        else:
            if self._is_for_message(awaited):
                return
            self._has_awaited, self._awaited = True, awaited
        finally:
            leave_task(loop, task)
        self.wake_task()

    def wake_task(self) -> None:
        """Have the task go on, if it waits for a message."""
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    def _is_for_message(self, awaited: Any) -> bool:
        receiver: Any = self._driver._receiver
        if awaited is None or awaited is not receiver:
            return False
        # As a task does, to see whether it was awaited.
        receiver._asyncio_future_blocking = False
        return True

    # -- what a task needs of its coroutine -------------------------------------------------------

    def send(self, value: Any) -> Any:
        """Go on, in the task; returns what it has to wait for."""
        self._sleep = None
        if self._end is not None:
            raise self._end
        if self._has_awaited:
            awaited, self._awaited, self._has_awaited = self._awaited, None, False
            return awaited
        return self._for_task(self._send(value))

    def throw(self, error: BaseException, *unused: Any) -> Any:
        """As :meth:`send`, with an error such as the task's cancellation."""
        self._sleep = None
        if self._end is not None:
            raise self._end
        if isinstance(self._awaited, ThreadFuture):
            self._awaited.is_given_up = True
        self._awaited, self._has_awaited = None, False
        return self._for_task(self._coroutine.throw(error))

    def close(self) -> None:
        """End it."""
        self._coroutine.close()

    def __await__(self) -> Any:
        """For the type's sake: what can be awaited."""
        return self._coroutine.__await__()

    def _for_task(self, awaited: Any) -> Any:
        if not self._is_for_message(awaited):
            return awaited
        self._sleep = self._driver._loop.create_future()
        self._sleep._asyncio_future_blocking = True
        return self._sleep


cast("Any", Coroutine).register(InContext)
cast("Any", Coroutine).register(Turn)


class Drained:
    """What ``send()`` and ``close()`` return on asyncio; await it to wait for a slow client.

    It need not be awaited; the message goes out all the same.
    """

    __slots__ = ("_driver",)

    def __init__(self, driver: AsyncioDriver) -> None:
        self._driver = driver

    def __await__(self) -> Generator[Any, None, None]:
        driver = self._driver
        # In a thread there is nothing to wait for: what was sent has been handed to the loop.
        if driver._writing and driver._in_loop():
            return driver.wait_drained().__await__()
        return _NOTHING

    def __iter__(self) -> Generator[Any, None, None]:
        """For ``yield from`` in a coroutine made by ``types.coroutine``."""
        return self.__await__()


def _servers_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of the server, if it has one: then this is called in that loop's thread."""
    return asyncio.get_running_loop() if in_uwsgi_loop(b"asyncio") else None


async def _guarded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine of the application; what would end the loop fails like any error."""
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise throwable(error, (SystemExit, KeyboardInterrupt)) from error


def _suspend_request(future: Future[Any]) -> None:
    """Give the loop its thread back until *future* is done.

    uWSGI handles the request in a greenlet of that thread, which goes on where it was suspended.
    """
    from greenlet import getcurrent

    resume = getcurrent().switch
    loop = asyncio.get_running_loop()
    # The task can't have ended yet: it begins when the loop has its thread back.
    future.add_done_callback(lambda _: loop.call_soon(resume))
    find_uwsgi().suspend()


def _keep_thread_state() -> None:
    """Have uWSGI's functions not free this thread's state, which would crash the process.

    With ``--greenlet`` many of them give the lock of the interpreter back as one who has called
    ``PyGILState_Ensure()`` before does, and so the last such call would be the thread's own.
    """
    import ctypes

    ctypes.pythonapi.PyGILState_Ensure()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """Make a loop.

    :raises OSError: if too few descriptors are left.
    """
    # uvloop ends the process if it gets some of the descriptors that it needs, and not all.
    check_descriptors(LOOP_DESCRIPTORS)
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
