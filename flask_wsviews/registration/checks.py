"""Check a registered view: the hooks and handlers of its class, and the variables of its rules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable

from ..views import OVERRIDABLE, WebSocketView
from . import mistakes
from .declaration import declaration_of
from .hook_names import check_names, overridden
from .rules import check_methods, check_subprotocols

_SIGNATURES = {name: inspect.signature(getattr(WebSocketView, name)) for name in OVERRIDABLE}

# The hooks that get the variables of the URL.
_URL_HOOKS = tuple(
    name
    for name, signature in _SIGNATURES.items()
    if any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
)

# The arguments that the other hooks get after ws.
_HOOK_ARGUMENTS = {
    name: tuple(signature.parameters)[2:]
    for name, signature in _SIGNATURES.items()
    if name not in _URL_HOOKS
}


def check_classes(views: Iterable[Callable[..., object]]) -> None:
    """Check the classes of view functions, which may have been registered with Flask's own methods.

    :raises RegistrationError: as :func:`check_class`.
    """
    for view in views:
        declaration = declaration_of(view)
        if declaration is not None and declaration.view_class is not None:
            check_class(declaration.view_class)


def check_class(view_class: type[WebSocketView]) -> None:
    """Check the hooks and handlers of a class.

    :raises RegistrationError: naming the method that nothing would call, or whose call would fail.
    """
    owner = view_class.__name__
    check_methods(f"{owner}.methods", view_class.methods)
    check_subprotocols(f"{owner}.subprotocols", view_class.subprotocols)
    handlers = [handler.name for handler in view_class.protocol.handlers.values()]
    hooks = overridden(view_class, WebSocketView, OVERRIDABLE)
    check_names(view_class, WebSocketView, OVERRIDABLE, hooks)
    for name, method in mistakes.bound_methods(view_class, (*hooks, *handlers)):
        mistakes.check_callable(f"{owner}.{name}", method)
        if name in handlers:
            mistakes.check_arguments(f"{owner}.{name}", name, method, ("data",))
        elif name in _HOOK_ARGUMENTS:
            mistakes.check_arguments(f"{owner}.{name}", name, method, _HOOK_ARGUMENTS[name])


def check_variables(view: Callable[..., object], rule: str, variables: Collection[str]) -> None:
    """Check that a view takes the variables of a rule.

    Does nothing for a decorated view, since a decorator may change the variables.

    :param view: the view function. A page's view function isn't checked.
    :param rule: the rule's text, for the error.
    :param variables: the names of the variables.
    :raises RegistrationError: naming the signature to write.
    """
    declaration = declaration_of(view)
    if declaration is None or declaration.is_decorated or hasattr(view, "__wrapped__"):
        return
    view_class = declaration.view_class
    if view_class is None:
        label = f"{view.__name__}()"
        mistakes.check_variables(label, rule, declaration.target, variables, has_self=False)
        return
    hooks = overridden(view_class, WebSocketView, _URL_HOOKS)
    for name, method in mistakes.bound_methods(view_class, hooks):
        label = f"{view_class.__name__}.{name}"
        mistakes.check_variables(label, rule, method, variables, has_self=True)
