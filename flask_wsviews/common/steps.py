"""Conversations as generators of calls, so that each is written once for threads and for asyncio.

A generator yields functions without arguments and is sent what they return, or thrown what they
raise. What makes the calls decides whether to await them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from ..exceptions import RegistrationError

T = TypeVar("T")

CO_COROUTINE: Final = inspect.CO_COROUTINE

Step = Callable[[], Any]


class Steps:
    """A hook that consists of several calls.

    :param name: the hook's.
    :param make: makes the generator of them.
    """

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[[], Generator[Step, Any, Any]]) -> None:
        self.name = name
        self.make = make


def throwable(
    error: BaseException, kinds: tuple[type[BaseException], ...] = (StopIteration,)
) -> BaseException:
    """What stands for *error* where generators and futures pass it on.

    ``StopIteration`` would end them, and differently once they are compiled. So a hook that raises
    it has failed with a :class:`RuntimeError`, as a coroutine that raises it has (PEP 479).

    :param kinds: what can't be passed on.
    """
    if not isinstance(error, kinds):
        return error
    failure = RuntimeError(f"a hook raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


def run_steps(steps: Generator[Step, Any, T]) -> T:
    """Make the calls that *steps* yields; returns what it returns."""
    try:
        step = next(steps)
        while True:
            try:
                result = step()
                if result is not None:
                    check_result(step, result)
            except BaseException as error:
                step = steps.throw(throwable(error))
            else:
                step = steps.send(result)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


async def run_steps_async(
    steps: Generator[Step, Any, T], call: Callable[[Step], Any] | None = None
) -> T:
    """Make the calls that *steps* yields, and await what can be awaited.

    :param call: makes one call in place of ours.
    """
    try:
        step = next(steps)
        while True:
            try:
                result = step() if call is None else call(step)
                # The first is most of the second's answer, for a tenth of its time.
                if hasattr(result, "__await__") or inspect.isawaitable(result):
                    result = await result
                if result is not None:
                    check_result(step, result)
            except BaseException as error:
                step = steps.throw(throwable(error))
            else:
                step = steps.send(result)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


# What runs only if somebody awaits or iterates it.
_NEVER_RUN: Final = (CoroutineType, GeneratorType, AsyncGeneratorType)


def check_result(function: Any, result: Any) -> None:
    """Check that what a hook has returned isn't what it was to do.

    :param function: the hook, or a ``partial`` of it.
    :raises RegistrationError: for a coroutine or a generator, which nothing would run.
    """
    kind = type(result)
    if kind not in _NEVER_RUN:
        return
    if not isinstance(result, AsyncGeneratorType):
        result.close()
    hook = function.func if isinstance(function, partial) else function
    name = getattr(hook, "__qualname__", repr(hook))
    if kind is CoroutineType:
        raise RegistrationError(
            f"{name} returned a coroutine that nothing awaits: register it as async def, on "
            "AsyncioWebSocket. If it is behind a decorator, make that one's inner function async "
            "def as well, and await there"
        )
    raise RegistrationError(
        f"{name} returned a generator that nothing iterates: call ws.send() where it yields"
    )


_NEVER_WAITS = "websocket_never_waits"

F = TypeVar("F", bound=Callable[..., Any])


def never_waits(function: F) -> F:
    """Mark a plain function that an event loop may call by itself, without a thread."""
    setattr(function, _NEVER_WAITS, True)
    return function


_DOES_NOTHING = "websocket_does_nothing"


def does_nothing(function: F) -> F:
    """Mark a hook that is there to be overridden, and need not be called otherwise."""
    setattr(function, _DOES_NOTHING, True)
    return never_waits(function)


def is_needless(function: Any) -> bool:
    """Whether it was marked so."""
    return hasattr(function, _DOES_NOTHING)


def is_for_loop(function: Any) -> bool:
    """Whether an event loop may call *function*."""
    return is_coroutine_function(function) or hasattr(function, _NEVER_WAITS)


def hook_of(view: Any, name: str) -> Any:
    """A hook or handler of *view*, bound to it.

    State goes on a view under any name. What has a hook's name and can be called is a hook that was
    set on the instance; anything else leaves the class's own in force.
    """
    hook = getattr(view, name)
    if callable(hook):
        return hook
    own = inspect.getattr_static(type(view), name)
    bind = getattr(type(own), "__get__", None)
    return own if bind is None else bind(own, view, type(view))


# What was found out about functions, since it is asked at each message.
_coroutine_functions: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def is_coroutine_function(function: Any) -> bool:
    """Whether calling *function* makes something to await; also for ``types.coroutine``."""
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        return True
    try:
        known = _coroutine_functions.get(function)
    except TypeError:
        # What can't be hashed, or referred to weakly, can be called all the same.
        return _makes_coroutine(function)
    if known is None:
        known = _coroutine_functions[function] = _makes_coroutine(function)
    return known


def _makes_coroutine(function: Any) -> bool:
    if inspect.iscoroutinefunction(function):
        return True
    while isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        # Of an instance: what runs is a method of its class.
        return inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)
