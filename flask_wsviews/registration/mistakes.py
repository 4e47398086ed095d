"""Checks that hooks, handlers and functions can be called. Each error names its fix."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from types import FunctionType
from typing import Any

from ..common.steps import is_coroutine_function
from ..exceptions import RegistrationError

# The functions that a decorator calls to run a coroutine itself.
_RUNNERS = frozenset(
    {
        "async_to_sync",
        "call_soon_threadsafe",
        "create_task",
        "ensure_future",
        "ensure_sync",
        "result",
        "run",
        "run_coroutine_threadsafe",
        "run_sync",
        "run_until_complete",
        "send",
        "spawn",
        "submit",
        "wait_for",
    }
)

# The flags of functions that take *args or **kwargs.
_STARS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


# -- calls ----------------------------------------------------------------------------------------


def check_callable(label: str, function: Any) -> None:
    """Check that calling a function runs its body.

    :param label: the function's name, for the error.
    :raises RegistrationError: if it can't be called, if it is a generator function, or if it makes
        a coroutine that nothing would await.
    """
    if not callable(function):
        raise RegistrationError(
            f"{label} is {function!r}, which can't be called: make it a method, or rename the "
            "attribute"
        )
    called = _called(function)
    if is_coroutine_function(function):
        return
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise RegistrationError(
            f"{label} is a generator, which nothing would iterate: call ws.send() where it yields"
        )
    if _hides_coroutine(called):
        raise RegistrationError(
            f"{label} is async def behind a decorator that isn't, so nothing would await it: make "
            "the decorator's inner function async def and await there. If it runs the coroutine "
            "itself, delete its __wrapped__"
        )


def _called(function: Any) -> Any:
    """Return the function that runs when *function*, which may be any callable, is called."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004


def _hides_coroutine(function: Any) -> bool:
    if not isinstance(function, FunctionType) or not hasattr(function, "__wrapped__"):
        return False
    return is_coroutine_function(inspect.unwrap(function)) and _RUNNERS.isdisjoint(
        (*function.__code__.co_names, *function.__code__.co_freevars)
    )


# -- arguments ------------------------------------------------------------------------------------


def check_arguments(label: str, name: str, function: Any, arguments: tuple[str, ...]) -> None:
    """Check that a hook or a handler takes its arguments.

    :param label: the method's full name, for the error.
    :param name: the method's name.
    :param function: the bound method, which takes no ``self``.
    :param arguments: the names of the arguments after ``ws``.
    :raises RegistrationError: naming the signature to write.
    """
    problem = _problem(function, ("ws", *arguments), ())
    if problem is not None:
        raise RegistrationError(
            f"{label} can't be called with {', '.join(('ws', *arguments))}: {problem}. Define it "
            f"as {name}(self, {', '.join(('ws', *arguments))})"
        )


def check_presence_handler(handler: Any) -> None:
    """Check that a handler of ``on_join()`` or ``on_leave()`` can be called with its arguments.

    :raises RegistrationError: naming the signature to write.
    """
    name = getattr(handler, "__name__", repr(handler))
    if not callable(handler):
        raise RegistrationError(f"on_join() and on_leave() need a function, not {handler!r}")
    if is_coroutine_function(handler):
        raise RegistrationError(
            f"{name!r} is async def, but handlers of on_join() and on_leave() run in a thread: "
            "make it a plain function"
        )
    check_callable(f"{name}()", handler)
    problem = _problem(handler, ("group", "member"), ())
    if problem is not None:
        raise RegistrationError(
            f"{name}() can't be called with group, member: {problem}. Define it with (group, "
            "member)"
        )


def check_variables(
    label: str, rule: str, function: Any, variables: Collection[str], *, has_self: bool
) -> None:
    """Check that a function takes the variables of a rule.

    :param label: the function's name, for the error.
    :param rule: the rule's text, for the error.
    :param function: a function, or a bound method, which takes no ``self``.
    :param variables: the names of the variables.
    :param has_self: whether *function* is a bound method.
    :raises RegistrationError: naming the signature to write.
    """
    problem = _problem(function, ("ws",), variables)
    if problem is not None:
        parameters = ", ".join((*(["self"] if has_self else []), "ws", *sorted(variables)))
        raise RegistrationError(
            f"{label} can't be called for the rule {rule!r}: {problem}. Define it with "
            f"({parameters}), or with **view_args; a url_value_preprocessor that changes the "
            "variables has to be registered first"
        )


def _problem(function: Any, positional: tuple[str, ...], named: Iterable[str]) -> str | None:
    """Return why a function can't be called with these arguments.

    :returns: ``None`` if it can, or if it has no signature.
    """
    if _takes_exactly(function, positional, named):
        return None
    try:
        # The wrapper's own signature: it may pass on other arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*positional, **dict.fromkeys(named))
    except TypeError as error:
        return str(error)
    return None


def _takes_exactly(function: Any, positional: tuple[str, ...], named: Iterable[str]) -> bool:
    """Return whether a method takes exactly these arguments: a shortcut past its signature.

    Takes 0.6 us for a method; reading its signature takes 33.
    """
    code = getattr(getattr(function, "__func__", None), "__code__", None)
    if code is None or code.co_posonlyargcount or code.co_kwonlyargcount or code.co_flags & _STARS:
        return False
    arguments = code.co_varnames[1 : code.co_argcount]
    count = len(positional)
    return len(arguments) >= count and set(arguments[count:]) == set(named)


def check_instances(view_class: type[Any]) -> None:
    """Check that a class can be instantiated for each connection.

    :raises RegistrationError: if it takes arguments.
    """
    makers = ("__init__", "__new__")
    if all(getattr(view_class, name) is getattr(object, name) for name in makers):
        # Most classes have neither, and reading a signature takes 70 us.
        return
    problem = _problem(view_class, (), ())
    if problem is not None:
        name = view_class.__name__
        raise RegistrationError(
            f"{name}() can't be called without arguments: {problem}. Register "
            f'{name}.as_view("{name.lower()}", …) with them'
        )


def bound_methods(view_class: type[Any], names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield the methods of a class by name, bound as an instance has them.

    ``__init__`` isn't called. Attributes that fail without it are left out.
    """
    try:
        instance = object.__new__(view_class)
    except TypeError:
        return
    for name in names:
        try:
            yield name, getattr(instance, name)
        except Exception:  # noqa: S112  a property may need attributes that __init__ sets
            continue


def check_call_of_as_view(target: Any) -> None:
    """Check that *target* isn't an ``as_view`` method that was passed without being called.

    :raises RegistrationError: if it is.
    """
    if inspect.ismethod(target) and target.__name__ == "as_view":
        name = getattr(target.__self__, "__name__", "View")
        raise RegistrationError(f'call as_view(): {name}.as_view("{name.lower()}")')
