"""The awaitable that group operations return on asyncio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

#: Running tasks: event loops only keep weak references to them.
_tasks: set[asyncio.Task[Any]] = set()


class Outcome(Generic[T]):
    """The result of an operation. The operation runs whether or not anything awaits it.

    :param task: the operation; None if it is already done.
    :param result: the result of an operation that is already done.
    :param on_error: called with the operation's exception if nothing awaits it.
    """

    __slots__ = ("_awaited", "_on_error", "_result", "_task")

    def __init__(
        self,
        task: Coroutine[Any, Any, T] | None = None,
        result: T | None = None,
        on_error: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._result = result
        self._awaited = False
        self._on_error = on_error
        self._task: asyncio.Task[T] | None = None
        if task is not None:
            self._task = asyncio.get_running_loop().create_task(_guarded(task))
            _tasks.add(self._task)
            self._task.add_done_callback(self._done)

    def __await__(self) -> Generator[Any, None, T]:
        self._awaited = True
        if self._task is None:
            return cast("T", self._result)
        return (yield from asyncio.shield(self._task).__await__())

    #: For ``yield from`` in a coroutine made by ``types.coroutine``.
    __iter__ = __await__

    def _done(self, task: asyncio.Task[T]) -> None:
        _tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None or self._awaited:
            return
        logger.error("a group operation that was not awaited failed: %s", error)
        if self._on_error is not None:
            self._on_error(error)


async def _guarded(task: Coroutine[Any, Any, T]) -> T:
    try:
        return await task
    except (SystemExit, KeyboardInterrupt) as error:
        # A task that raises one of these ends the event loop with all its connections.
        raise RuntimeError(f"a hook raised {type(error).__name__}") from error


def in_event_loop() -> bool:
    """Return whether this is an event loop's thread, where waiting would block the loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
