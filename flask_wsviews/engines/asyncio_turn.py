"""A shortcut: resume a waiting coroutine in the callback that read its message.

It saves one iteration of the event loop, and the task's step in it, for each message. Without it
a task runs the coroutine as any other, and everything works the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final, cast

from mypy_extensions import mypyc_attr

from ..protocol.connection import Connection
from ..typing import Transport
from .loop import LoopDriver, Sweeper
from .thread_future import ThreadFuture

# Final, so that compiled code needs no lookup for each message.
enter_task: Final = asyncio.tasks._enter_task
leave_task: Final = asyncio.tasks._leave_task

#: The owner while no task runs the conversation. Outside of tasks current_task() is ``None``.
NOBODY: Final = object()


@mypyc_attr(allow_interpreted_subclasses=True)
class TaskDriver(LoopDriver):
    """A connection whose conversation is run by a task.

    :param loop: the loop of the task.
    """

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        sweeper: Sweeper,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, connection, sweeper)
        self.loop = loop
        #: The task that runs the conversation, or :data:`NOBODY`.
        self.owner: object = NOBODY
        #: What the owner waits for until there is a message.
        self.receiver: asyncio.Future[None] | None = None


class InContext:
    """A coroutine that enters a context for each step, for tasks that take no context.

    :param coroutine: what to run.
    :param context: the connection's.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], context: Context) -> None:
        self._coroutine = coroutine
        self._run = context.run

    def send(self, value: Any) -> Any:
        """Resume the coroutine; return what the task must wait for."""
        return self._run(self._coroutine.send, value)

    def throw(self, error: BaseException, *unused: Any) -> Any:
        """Resume the coroutine with an error such as the task's cancellation."""
        return self._run(self._coroutine.throw, error)

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Any:
        """Return an iterator, as every awaitable does; a task doesn't call this."""
        return self._coroutine.__await__()


class Turn:
    """The coroutine of a task, which a callback of the loop can resume instead of the task.

    The loop resumes a task one iteration after the task is woken. Most of our tasks wait for the
    next message, and the callback that reads it can resume the coroutine at once. Meanwhile the
    task waits for a future that only this class knows. The task is woken when the coroutine ends
    or waits for anything other than a message.

    :param driver: the connection's.
    :param coroutine: what to run.
    :param context: the task's.
    """

    def __init__(
        self, driver: TaskDriver, coroutine: Coroutine[Any, Any, None], context: Context
    ) -> None:
        self._driver = driver
        self._coroutine = coroutine
        self._send = coroutine.send
        self._run = context.run
        self._sleep: Any = None  # what the task waits for while we wait for a message
        self._has_awaited = False
        self._awaited: Any = None  # what the task must wait for at its next step
        self._end: BaseException | None = None  # what the task must raise at its next step

    @property
    def is_asleep(self) -> bool:
        """Whether the coroutine waits for a message."""
        return self._sleep is not None and not self._sleep.done()

    @property
    def is_ahead(self) -> bool:
        """Whether the coroutine waits for something the task doesn't wait for yet."""
        return self._has_awaited

    def resume(self) -> None:
        """Resume the coroutine in a callback of the loop."""
        driver = self._driver
        task: Any = driver.owner
        loop = driver.loop
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
        """Wake the task if it waits for a message."""
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    def _is_for_message(self, awaited: Any) -> bool:
        receiver: Any = self._driver.receiver
        if awaited is None or awaited is not receiver:
            return False
        # As a task does, to check that the future was awaited.
        receiver._asyncio_future_blocking = False
        return True

    # -- what a task needs of its coroutine -------------------------------------------------------

    def send(self, value: Any) -> Any:
        """Resume the coroutine in the task; return what the task must wait for."""
        self._sleep = None
        if self._end is not None:
            raise self._end
        if self._has_awaited:
            awaited, self._awaited, self._has_awaited = self._awaited, None, False
            return awaited
        return self._for_task(self._send(value))

    def throw(self, error: BaseException, *unused: Any) -> Any:
        """Resume the coroutine with an error such as the task's cancellation."""
        self._sleep = None
        if self._end is not None:
            raise self._end
        if isinstance(self._awaited, ThreadFuture):
            self._awaited.is_given_up = True
        self._awaited, self._has_awaited = None, False
        return self._for_task(self._coroutine.throw(error))

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Any:
        """Return an iterator, as every awaitable does; a task doesn't call this."""
        return self._coroutine.__await__()

    def _for_task(self, awaited: Any) -> Any:
        if not self._is_for_message(awaited):
            return awaited
        self._sleep = self._driver.loop.create_future()
        self._sleep._asyncio_future_blocking = True
        return self._sleep


cast("Any", Coroutine).register(InContext)
cast("Any", Coroutine).register(Turn)
