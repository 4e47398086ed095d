"""Conversations as generators of calls, so that each is written once for threads and for asyncio.

A generator yields functions without arguments and is sent what they return, or thrown what they
raise. What makes the calls decides whether to await them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

Step = Callable[[], Any]


def run_steps(steps: Generator[Step, Any, T]) -> T:
    """Make the calls that *steps* yields; returns what it returns."""
    try:
        step = next(steps)
        while True:
            try:
                result = step()
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


async def run_steps_async(
    steps: Generator[Step, Any, T], call: Callable[[Step], Any] = lambda step: step()
) -> T:
    """Make the calls that *steps* yields, and await what can be awaited.

    :param call: makes one call.
    """
    try:
        step = next(steps)
        while True:
            try:
                result = call(step)
                if inspect.isawaitable(result):
                    result = await result
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


def is_coroutine_function(function: Any) -> bool:
    """Whether calling *function* makes something to await; also for ``types.coroutine``."""
    if inspect.iscoroutinefunction(function):
        return True
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)
