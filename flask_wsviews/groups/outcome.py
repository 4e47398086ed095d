"""What group operations return on asyncio: something that may be awaited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

#: The loop itself keeps only weak references to its tasks.
_tasks: set[asyncio.Task[Any]] = set()


class Outcome(Generic[T]):
    """Await it for what the operation returns or raises. It is done all the same if nobody does.

    :param task: what does it; without one, it has been done.
    :param result: of an operation that has been done.
    :param on_error: called with an error that nobody waits for.
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
        logger.error("nobody waited for it, and it failed: %s", error)
        if self._on_error is not None:
            self._on_error(error)


async def _guarded(task: Coroutine[Any, Any, T]) -> T:
    try:
        return await task
    except (SystemExit, KeyboardInterrupt) as error:
        # Out of a task, one of these ends the loop, and all connections with it.
        raise RuntimeError(f"a hook raised {type(error).__name__}") from error


def in_event_loop() -> bool:
    """Whether waiting here would hold up an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
