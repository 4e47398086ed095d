"""A declaration: the class or function that a view function serves, and its options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..common.option_checks import policy
from ..common.steps import is_coroutine_function
from ..exceptions import RegistrationError
from ..groups.declared import Group, GroupOptions, declared_pattern, history_of
from ..groups.names import Pattern
from ..messages.protocol import MessageProtocol
from ..views import WebSocketView, hooks_of

#: The attribute of a view function that holds its declaration.
DECLARATION = "websocket_declaration"


@dataclass(frozen=True)
class Declaration:
    """The class or function that a view function serves, and its options.

    :param target: the function or the :class:`WebSocketView` class that was registered.
    :param options: the options of a function. A class has its options as attributes.
    """

    target: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def view_class(self) -> type[WebSocketView] | None:
        """The class that was registered, or ``None`` for a function."""
        return self.target if isinstance(self.target, type) else None

    @property
    def name(self) -> str:
        """The name of the class or function."""
        return getattr(self.target, "__name__", repr(self.target))

    def option(self, name: str) -> Any:
        """Return an option by its name: ``"security"``, for example."""
        if name in self.options:
            return self.options[name]
        return getattr(self.view_class or WebSocketView, name)

    @property
    def protocol(self) -> MessageProtocol:
        """The messages that the view takes and sends."""
        protocol: MessageProtocol = self.option("protocol")
        return protocol

    @property
    def is_decorated(self) -> bool:
        """Whether code of the application may change the URL variables before they are passed."""
        view_class = self.view_class or WebSocketView
        is_overridden = view_class.dispatch_request is not WebSocketView.dispatch_request
        return is_overridden or bool(self.option("decorators"))

    def coroutines(self) -> list[str]:
        """Return the names of the ``async def`` function, or of such hooks and handlers."""
        view_class = self.view_class
        if view_class is None:
            return [self.name] if is_coroutine_function(self.target) else []
        return [
            f"{view_class.__name__}.{name}"
            for name in hooks_of(view_class)
            if is_coroutine_function(getattr(view_class, name))
        ]

    def groups(self) -> list[tuple[Pattern, GroupOptions]]:
        """Return the groups that connections of the view join, with their options.

        :raises RegistrationError: if the option isn't a list of names and patterns.
        :raises ConfigError: if ``slow_clients`` isn't a policy.
        """
        slow_clients = self.option("slow_clients")
        if slow_clients is not None:
            policy(f"{self.name}.slow_clients", slow_clients)
        groups = self.option("groups")
        if isinstance(groups, str) or not isinstance(groups, Iterable):
            raise RegistrationError(
                f'{self.name}.groups must be a list such as ["lobby"], not {groups!r}'
            )
        groups = list(groups)
        if not groups:
            return []
        history = history_of(self.option("history"), self.option("history_seconds"))
        presence = self.option("presence")
        if not isinstance(presence, bool):
            raise RegistrationError(f"{self.name}.presence must be True or False, not {presence!r}")
        of_view = GroupOptions(history, presence)
        return [
            (declared_pattern(group), group.options if isinstance(group, Group) else of_view)
            for group in groups
        ]


def declaration_of(view: Callable[..., Any] | None) -> Declaration | None:
    """Return the declaration of a view function, or ``None`` if it doesn't serve a WebSocket.

    :param view: may have been registered with Flask's own ``add_url_rule()``.
    """
    declaration: Declaration | None = getattr(view, DECLARATION, None)
    if declaration is not None:
        return declaration
    view_class = getattr(view, "view_class", None)
    if isinstance(view_class, type) and issubclass(view_class, WebSocketView):
        return Declaration(view_class)
    return None
