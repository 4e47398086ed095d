"""Make the Flask view function of a WebSocket rule, from a function or a class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ..common.option_checks import names, origins
from ..exceptions import RegistrationError
from ..messages.declared import make_protocol
from ..messages.schemas import SchemaLike, as_schema
from ..views import WebSocketView
from .checks import check_class
from .declaration import DECLARATION, Declaration
from .function_view import FunctionView
from .mistakes import check_call_of_as_view, check_callable, check_instances
from .rules import check_options, check_subprotocols

# Options that only make sense for a class.
_CLASS_OPTIONS = ("discriminator", "protocol")

#: The options of a view that the rule of a function takes as arguments.
VIEW_OPTIONS = (
    "decorators",
    "rate_limit_key",
    *(
        name
        for name, annotation in WebSocketView.__annotations__.items()
        if str(annotation).startswith("ClassVar")
        and not name.startswith("_")
        and name not in _CLASS_OPTIONS
    ),
)


def view_function(
    target: Callable[..., Any] | type[WebSocketView] | None,
    endpoint: str | None,
    options: dict[str, Any],
    known: Mapping[str, Callable[..., Any]],
) -> tuple[str, Callable[..., Any]]:
    """Make the view function of a WebSocket rule.

    :param target: a function, a :class:`WebSocketView` class, or what its ``as_view()`` returned.
    :param endpoint: the endpoint's name; the target's own by default.
    :param options: of the rule. Those in :data:`VIEW_OPTIONS` are removed.
    :param known: view functions by endpoint. A target with several rules has one view function.
    :returns: the endpoint and the view function.
    :raises RegistrationError: if *target* can't serve a WebSocket.
    :raises ConfigError: if its origins aren't valid.
    """
    if not callable(target):
        raise RegistrationError(
            f"a WebSocket rule needs a function or a WebSocketView, not {target!r}"
        )
    check_call_of_as_view(target)
    endpoint = endpoint or getattr(target, "__name__", None)
    if endpoint is None:
        raise RegistrationError(f"{target!r} has no __name__: pass endpoint=")
    view_class: type[Any] | None
    view_class = target if isinstance(target, type) else getattr(target, "view_class", None)
    if view_class is not None and not issubclass(view_class, WebSocketView):
        raise RegistrationError(
            f"{view_class.__name__} is registered as a WebSocket but isn't a WebSocketView"
        )
    check_options(f"the WebSocket rule of {endpoint!r}", options, VIEW_OPTIONS)
    if view_class is not None:
        origins(f"{view_class.__name__}.allowed_origins", view_class.allowed_origins)
        names(f"{view_class.__name__}.keep_g", view_class.keep_g)
        check_class(view_class)
    if view_class is not None and not isinstance(target, type):
        return endpoint, target
    origins(f"allowed_origins of {endpoint!r}", options.get("allowed_origins", ()))
    names(f"keep_g of {endpoint!r}", options.get("keep_g", ()))
    check_subprotocols(f"subprotocols of {endpoint!r}", options.get("subprotocols", ()))
    view_options = {name: options.pop(name) for name in VIEW_OPTIONS if name in options}
    # An as_view() may have been given arguments, so only view functions made here are reused.
    declaration = getattr(known.get(endpoint), DECLARATION, None)
    if declaration is not None and declaration.target is target and not view_options:
        return endpoint, known[endpoint]
    if view_class is None:
        check_callable(f"{endpoint}()", target)
        return endpoint, _serve_function(target, endpoint, **view_options)
    if view_options:
        raise RegistrationError(
            f"{', '.join(view_options)}: set them as attributes of {view_class.__name__}, not "
            "as options of its rule"
        )
    check_instances(view_class)
    view: Callable[..., Any] = view_class.as_view(endpoint)
    setattr(view, DECLARATION, Declaration(target))
    return endpoint, view


def _serve_function(
    function: Callable[..., Any],
    endpoint: str,
    decorators: Iterable[Callable[..., Any]] = (),
    binary: bool = True,
    message_schema: SchemaLike | None = None,
    emits: Mapping[str, SchemaLike] | None = None,
    **options: Any,
) -> Callable[..., Any]:
    owner = f"the function route {endpoint!r}"
    protocol = make_protocol(owner, binary=binary, schema=message_schema, emits=emits)
    as_schema(f"query_schema of {owner}", options.get("query_schema"))
    as_schema(f"headers_schema of {owner}", options.get("headers_schema"))
    view: Callable[..., Any] = FunctionView.as_view(endpoint, function, protocol, **options)
    view.__doc__ = function.__doc__
    view.__module__ = function.__module__
    decorators = tuple(decorators)
    for decorator in decorators:
        view = decorator(view)
    declared = MappingProxyType({**options, "decorators": decorators, "protocol": protocol})
    setattr(view, DECLARATION, Declaration(function, declared))
    return view
