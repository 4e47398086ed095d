"""WebSocket rules: their options, their variables and their paths. Each error names its fix."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from werkzeug.routing import Rule

from ..exceptions import RegistrationError

T = TypeVar("T", bound=Callable[..., Any])

#: What makes a Flask rule a WebSocket rule.
RULE_OPTIONS: dict[str, Any] = {
    "websocket": True,
    "methods": ["GET"],
    "provide_automatic_options": False,
}

# A variable, as Werkzeug reads it: <room>, <int:room>, <any(a, b):room>.
_VARIABLE = re.compile(r"<(?:[a-zA-Z_]\w*(?:\(.*?\))?:)?([a-zA-Z_]\w*)>", re.ASCII)

# A variable's converter.
_CONVERTER = re.compile(r"<(?:([^<>]*):)?[^<>:]*>")

# RFC 9110 5.6.2
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# The options of Flask's rules. A subclass of Rule may have more.
_FLASK_OPTIONS = inspect.signature(Rule).parameters.keys()


def rule_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the options of a WebSocket rule.

    Flask redirects to the path with the slash that the rule ends with. Browsers don't follow a
    redirect of a handshake, so both paths match unless *options* have ``strict_slashes``.
    """
    return {"strict_slashes": False, **options, **RULE_OPTIONS}


def rule_variables(rule: str, defaults: Mapping[str, Any] | None = None) -> frozenset[str]:
    """Return the variables of a rule: those in its text, and those with a default."""
    return frozenset((*_VARIABLE.findall(rule), *(defaults or ())))


def registering(
    add_rule: Callable[..., None], rule: str, options: dict[str, Any]
) -> Callable[[T], T]:
    """Make a decorator that registers its target by *add_rule* and returns it unchanged.

    :raises RegistrationError: if *rule* isn't text.
    """
    if not isinstance(rule, str):
        raise RegistrationError(
            f'a WebSocket rule is text such as "/chat", not {rule!r}: write the decorator with a '
            "rule in parentheses"
        )

    def decorator(target: T) -> T:
        endpoint = options.pop("endpoint", None)
        add_rule(rule, endpoint, target, **options)
        return target

    return decorator


def check_options(where: str, options: dict[str, Any], known: Collection[str]) -> None:
    """Check the options of a rule: their names, and which requests they match.

    :param known: the options that Flask's rules don't have.
    :raises RegistrationError: for a misspelt one, and if no handshake is among these requests.
    """
    check_methods(where, options.get("methods"))
    for name in options.keys() - _FLASK_OPTIONS:
        meant = next(iter(get_close_matches(name, known, 1, 0.8)), None)
        if meant is not None and meant != name:
            raise RegistrationError(f"{where} has no option {name}: did you mean {meant}?")
    if options.get("websocket") is False:
        raise RegistrationError(f"{where} has websocket=False: leave that out, or use app.route()")


def check_methods(where: str, methods: Any) -> None:
    """Check that a rule matches GET, the method of a handshake (RFC 6455 4.1), and no others.

    :raises RegistrationError: if there are others.
    """
    if methods is None:
        return
    given = {methods} if isinstance(methods, str) else set(methods)
    if not {"GET"} <= {str(method).upper() for method in given} <= {"GET", "HEAD", "OPTIONS"}:
        names = ", ".join(sorted(map(str, given))) or "none"
        raise RegistrationError(
            f"{where} has the methods {names}, but a WebSocket handshake is a GET request: leave "
            "methods out, and register pages with app.route()"
        )


def check_subprotocols(where: str, value: Any) -> None:
    """Check that clients can offer the subprotocols of a view (RFC 6455 4.1).

    :raises RegistrationError: if it isn't a list of tokens.
    """
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    names = list(value) if is_list else [value]
    if not is_list or not all(isinstance(name, str) and _TOKEN.fullmatch(name) for name in names):
        raise RegistrationError(
            f'{where} must be a list such as ["chat.v1"], of names without spaces, not {value!r}'
        )


class Paths:
    """The paths of an application's WebSocket rules, each with its endpoint."""

    def __init__(self) -> None:
        self._endpoints: dict[tuple[str | None, str | None, str], str] = {}

    def add(self, rule: Rule) -> None:
        """Add a rule.

        :param rule: bound to the map of its application.
        :raises RegistrationError: if another endpoint has the same path.
        """
        if rule.build_only or rule.redirect_to or not rule.websocket:
            return
        converters = rule.map.converters
        plain = {"", "default"}
        if converters.get("string") is converters["default"]:
            plain.add("string")

        def without_name(found: re.Match[str]) -> str:
            converter = found[1] or ""
            return f"<{'' if converter in plain else converter}>"

        path = (rule.host, rule.subdomain, _CONVERTER.sub(without_name, rule.rule))
        endpoint = self._endpoints.setdefault(path, rule.endpoint)
        if endpoint != rule.endpoint:
            raise RegistrationError(
                f"{rule.rule!r} is already the WebSocket rule of {endpoint!r}, so "
                f"{rule.endpoint!r} would never be reached: give one of them another rule"
            )
