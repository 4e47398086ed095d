"""Conversations as generators of calls, so that each is written once for threads and for asyncio.

A generator yields a function without arguments. The runner calls it, and sends the result or throws
the exception into the generator. Only the runner for asyncio awaits results.
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

    :param name: the hook's name.
    :param make: makes the generator of the calls.
    """

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[[], Generator[Step, Any, Any]]) -> None:
        self.name = name
        self.make = make


def throwable(
    error: BaseException, kinds: tuple[type[BaseException], ...] = (StopIteration,)
) -> BaseException:
    """Return an exception that generators and futures can pass on instead of *error*.

    ``StopIteration`` would end them, in different ways if they are compiled. Like a coroutine (PEP
    479), a hook that raises it fails with a :class:`RuntimeError`.

    :param kinds: the exceptions that can't be passed on.
    """
    if not isinstance(error, kinds):
        return error
    failure = RuntimeError(f"a hook raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


def run_steps(steps: Generator[Step, Any, T]) -> T:
    """Make the calls that *steps* yields, and return its result."""
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
    """Make the calls that *steps* yields, await awaitable results, and return its result.

    :param call: makes each call. By default the step is simply called.
    """
    try:
        step = next(steps)
        while True:
            try:
                result = step() if call is None else call(step)
                # hasattr() finds most awaitables in a tenth of the time.
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


# Objects whose code runs only when they are awaited or iterated.
_NEVER_RUN: Final = (CoroutineType, GeneratorType, AsyncGeneratorType)


def check_result(function: Any, result: Any) -> None:
    """Check that a hook didn't return a coroutine or a generator, whose code would never run.

    :param function: the hook, or a ``partial`` of it.
    :param result: its return value.
    :raises RegistrationError: if it did.
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
            "AsyncioWebSocket. If it has a decorator, make the decorator's inner function async "
            "def as well, and await there"
        )
    raise RegistrationError(
        f"{name} returned a generator that nothing iterates: call ws.send() where it yields"
    )


_NEVER_WAITS = "websocket_never_waits"

F = TypeVar("F", bound=Callable[..., Any])


def never_waits(function: F) -> F:
    """Mark a plain function that never blocks, so that an event loop may call it directly."""
    setattr(function, _NEVER_WAITS, True)
    return function


_DOES_NOTHING = "websocket_does_nothing"


def does_nothing(function: F) -> F:
    """Mark a hook that does nothing unless it is overridden, so that it needn't be called."""
    setattr(function, _DOES_NOTHING, True)
    return never_waits(function)


def is_needless(function: Any) -> bool:
    """Return whether *function* was marked by :func:`does_nothing`."""
    return hasattr(function, _DOES_NOTHING)


def is_for_loop(function: Any) -> bool:
    """Return whether an event loop may call *function* directly, without a thread."""
    return is_coroutine_function(function) or hasattr(function, _NEVER_WAITS)


def hook_of(view: Any, name: str) -> Any:
    """Return a hook or handler of *view*, bound to it.

    Applications keep state on a view under any name. A callable attribute with a hook's name
    overrides the hook of the class; any other attribute doesn't.
    """
    hook = getattr(view, name)
    if callable(hook):
        return hook
    own = inspect.getattr_static(type(view), name)
    bind = getattr(type(own), "__get__", None)
    return own if bind is None else bind(own, view, type(view))


# A cache: is_coroutine_function() is called for each message.
_coroutine_functions: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def is_coroutine_function(function: Any) -> bool:
    """Return whether *function* returns an awaitable; ``types.coroutine`` counts as well."""
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        return True
    try:
        known = _coroutine_functions.get(function)
    except TypeError:
        # Some callables can't be hashed or weakly referenced.
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
        # A callable instance: calling it runs a method of its class.
        return inspect.iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)
