"""Check that no method of a view is a misspelt hook."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from functools import partialmethod
from itertools import takewhile
from typing import Any

from ..exceptions import RegistrationError
from ..messages.handlers import has_mark

# The names of our hooks in other libraries.
_ALIASES = {
    "on_open": "on_connect",
    "on_opened": "on_connect",
    "on_disconnect": "on_close",
    "on_receive": "on_message",
    "on_data": "on_message",
}

# The similarity above which a name is taken for a misspelt hook, from 0 to 1.
_SURELY_MEANT = 0.87


def check_names(
    view_class: type[Any], base: type[Any], hooks: Collection[str], own: Collection[str]
) -> None:
    """Check that no method looks like a hook without being one.

    An ``on_…`` method of a view must be a hook or a ``@message`` handler. Other methods, and those
    of mixins, are refused only if their name is a misspelt hook.

    :param base: the class that all views derive from.
    :param hooks: the names of its hooks.
    :param own: those that the view overrides.
    :raises RegistrationError: naming the method and the hook that it resembles.
    """
    missing = [name for name in hooks if name not in own]
    called = {*hooks, *(handler.name for handler in view_class.protocol.handlers.values())}
    for one in view_class.__mro__:
        if one in base.__mro__:
            continue
        for name, value in vars(one).items():
            if name in called or not _is_method(name, value):
                continue
            meant = _nearest(name, missing, _SURELY_MEANT)
            if meant is None and name.startswith("on_") and issubclass(one, base):
                meant = _nearest(name, hooks, 0.6)
            elif meant is None:
                continue
            raise RegistrationError(_not_a_hook(one, name, meant, hooks))


def overridden(view_class: type[Any], base: type[Any], names: Iterable[str]) -> list[str]:
    """Return those of *names* that a class overrides.

    :param base: the class that has them all.
    """
    before_base = takewhile(lambda one: one is not base, view_class.__mro__)
    own: set[str] = set().union(*(vars(one) for one in before_base))
    static = inspect.getattr_static
    return [
        name for name in names if name in own and static(view_class, name) is not static(base, name)
    ]


def _is_method(name: str, value: Any) -> bool:
    if name.startswith("_") or has_mark(value):
        return False
    return inspect.isroutine(value) or isinstance(value, (staticmethod, classmethod, partialmethod))


def _nearest(name: str, hooks: Collection[str], cutoff: float) -> str | None:
    alias = _ALIASES.get(name)
    if alias is not None and alias in hooks:
        return alias
    return next(iter(get_close_matches(name.lower(), hooks, 1, cutoff)), None)


def _not_a_hook(owner: type[Any], name: str, meant: str | None, hooks: Iterable[str]) -> str:
    hint = f"did you mean {meant}?" if meant else f"hooks are {', '.join(hooks)}."
    return (
        f"{owner.__name__}.{name} isn't a hook, so nothing would call it; {hint} If you call it "
        "yourself, give it another name, such as one with a leading underscore"
    )
