"""The WebSocket views of an application, and the checks of views, rules and groups."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Container, Iterable
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from ..common.json_text import dump_text
from ..common.rate_limits import RateLimits, check_rate
from ..common.steps import is_coroutine_function
from ..config import CHECKS
from ..engines import Engine
from ..exceptions import OutgoingMessageError, RegistrationError
from ..groups import Groups
from ..groups.brokers.base import MESSAGE_ID
from ..groups.declared import narrowest
from ..messages.protocol import MessageProtocol
from ..views import TIME_LIMITS, WebSocketView
from .checks import check_classes, check_variables
from .declaration import Declaration, declaration_of
from .rules import Paths

ViewFunction = Callable[..., Any]


class AppViews:
    """The WebSocket views of one application.

    :param app: the application. Its URL map and view functions hold the views.
    :param groups: gets the options of the groups that views declare.
    :param extension_name: the name of the extension's class, for error messages.
    """

    def __init__(self, app: Flask, groups: Groups, extension_name: str) -> None:
        self._app = app
        self._groups = groups
        self._extension_name = extension_name
        self._paths = Paths()

    def check_all(self, engine: Engine) -> None:
        """Check all views and rules.

        :raises RegistrationError: naming the handlers, rules or groups that don't fit.
        """
        for endpoint, view in self._app.view_functions.items():
            self.check_view(view, engine)
            self.check_groups(endpoint)
        self.check_rules()

    def check_view(self, view: ViewFunction, engine: Engine) -> None:
        """Check the handlers and limits of a view.

        :raises RegistrationError: naming the handlers that don't fit the engine.
        :raises ConfigError: if a limit isn't valid.
        """
        self.check_engine(view, engine)
        _check_limits(view)

    def check_engine(self, view: ViewFunction, engine: Engine) -> None:
        """Check that an engine can call the handlers of a view.

        :raises RegistrationError: naming those that are ``async def``, on other engines than
            asyncio.
        """
        declaration = declaration_of(view)
        if declaration is None or engine.runs_coroutines:
            return
        handlers = declaration.coroutines()
        if handlers:
            raise RegistrationError(
                f"{', '.join(handlers)}: async def needs AsyncioWebSocket; "
                f"{self._extension_name} on the {engine.name} engine runs plain functions"
            )

    def check_engine_of_all(self, engine: Engine) -> None:
        """Check that an engine can call the handlers of all views, as :meth:`check_engine` does."""
        for view in self._app.view_functions.values():
            self.check_engine(view, engine)

    def check_rules(self) -> None:
        """Check all rules: ``app.add_url_rule(…, websocket=True)`` may have added some.

        :raises RegistrationError: naming the mistake in a rule or its view.
        """
        check_classes(self._app.view_functions.values())
        for rule in self._app.url_map.iter_rules():
            self._check_rule(rule)

    def check_newest_rule(self, endpoint: str) -> None:
        """Check the rule that was added last for an endpoint.

        :raises RegistrationError: as :meth:`check_rules`.
        """
        # Not iter_rules(): it sorts the rules of all endpoints first, which takes long for many.
        self._check_rule(self._app.url_map._rules_by_endpoint[endpoint][-1])

    def _check_rule(self, rule: Rule) -> None:
        """Check that a rule leads to its view, and that the view takes its variables."""
        view = self._app.view_functions.get(rule.endpoint)
        if view is None or not rule.websocket:
            return
        self._paths.add(rule)
        if not self._has_preprocessors(rule.endpoint):
            check_variables(view, rule.rule, rule.arguments)

    def _has_preprocessors(self, endpoint: str) -> bool:
        """Return whether the application may change the URL variables of an endpoint."""
        names: list[str | None] = [None]
        parts = endpoint.split(".")[:-1]
        names += [".".join(parts[: number + 1]) for number in range(len(parts))]
        return any(self._app.url_value_preprocessors.get(name) for name in names)

    def check_groups(self, endpoint: str, variables: Container[str] = frozenset()) -> None:
        """Check the groups that a view declares.

        :param variables: the variables of the newest rule, if known. Otherwise they are looked up
            in the URL map, which sorts all rules first: quadratic time for many rules.
        :raises RegistrationError: if a rule lacks a variable that a group's name needs.
        """
        declaration = declaration_of(self._app.view_functions[endpoint])
        if declaration is None:
            return
        for pattern, options in declaration.groups():
            self._groups.configure(pattern.text, options)
            if all(variable in variables for variable in pattern.variables):
                continue
            for rule in self._app.url_map.iter_rules(endpoint):
                missing = pattern.variables - rule.arguments
                if missing:
                    raise RegistrationError(
                        f"groups of {endpoint!r}: {rule.rule} has no variable "
                        f"{', '.join(sorted(missing))} for {pattern.text!r}"
                    )

    def check_services(
        self, rate_limits: RateLimits, views: Iterable[ViewFunction] | None = None
    ) -> None:
        """Check that the final settings provide the services that views need.

        :param views: ``None`` for all.
        :raises ConfigError: if groups don't reach all workers, or messages can't be counted.
        """
        declarations = _declarations(self._app.view_functions.values() if views is None else views)
        if any(one.option("rate_limit") for one in declarations):
            rate_limits.check()
        if any(one.option("groups") for one in declarations):
            self._groups.check_workers()

    def dump_for_group(
        self,
        group: str,
        type: str,
        obj: Any,
        *,
        view: builtins.type[WebSocketView] | None = None,
        keep: bool = True,
    ) -> str:
        """Return the text of a typed message for a group.

        :param view: the view whose ``emits`` has the schema; ``None`` to look for one.
        :param keep: whether a group with a history keeps the message, which then gets an id.
        :raises OutgoingMessageError: if no schema is found, *obj* doesn't match it, or the message
            already has a field of the id's name.
        """
        protocol = view.protocol if view else self._protocol_for(group, type)
        groups = self._groups
        payload = protocol.dump(type, obj, validate=groups.settings.validate_outgoing)
        if MESSAGE_ID in payload and keep and groups.has_history(group):
            raise OutgoingMessageError(
                f"{type!r} already has a field {MESSAGE_ID!r}, which {group!r} needs for the id"
            )
        return dump_text(self._app.json.dumps, payload)

    def _protocol_for(self, group: str, type: str) -> MessageProtocol:
        """Return the protocol that dumps messages of a type for a group.

        It belongs to a view that declares the group, if there is one, otherwise to any view that
        declares the type.

        :raises OutgoingMessageError: if no view declares the type, or several do in different ways.
        """
        senders = [
            one
            for one in _declarations(self._app.view_functions.values())
            if type in one.protocol.emits
        ]
        own = [
            (pattern, one.protocol)
            for one in senders
            for pattern, _ in one.groups()
            if pattern.matches(group)
        ]
        closest = narrowest([pattern for pattern, _ in own])
        candidates = [protocol for pattern, protocol in own if pattern in closest]
        candidates = candidates or [one.protocol for one in senders]
        if not candidates:
            raise OutgoingMessageError(f"no view declares {type!r} in emits")
        forms = {(one.discriminator, one.emits[type].__class__) for one in candidates}
        if len(forms) > 1:
            owners = ", ".join(one.owner for one in candidates)
            raise OutgoingMessageError(f"{owners} declare {type!r} differently: pass view=")
        return candidates[0]


def _check_limits(view: ViewFunction) -> None:
    """Check the time and rate limits of a view.

    :raises ConfigError: if a limit isn't valid.
    :raises RegistrationError: if ``rate_limit_key`` is ``async def``.
    """
    declaration = declaration_of(view)
    if declaration is None:
        return
    for name in TIME_LIMITS:
        # 0 means no limit.
        CHECKS[name](f"{name} of {view.__name__}", declaration.option(name) or None)
    check_rate(f"rate_limit of {view.__name__}", declaration.option("rate_limit"))
    if is_coroutine_function(declaration.option("rate_limit_key")):
        raise RegistrationError(f"rate_limit_key of {view.__name__} can't be async def")


def _declarations(views: Iterable[ViewFunction]) -> list[Declaration]:
    """Return the declarations of the view functions that serve WebSockets."""
    return [one for one in map(declaration_of, views) if one is not None]
