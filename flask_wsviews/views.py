"""Class-based WebSocket views, and function routes as a special case of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from flask import request
from flask.typing import ResponseReturnValue
from flask.views import View

from .common.steps import does_nothing, hook_of, is_coroutine_function, never_waits
from .config import names, origins, policy
from .exceptions import InvalidMessage, RegistrationError
from .groups.declared import Group, GroupOptions, declared_pattern, history_of
from .groups.names import Pattern
from .messages.declared import (
    Protocol,
    SchemaLike,
    as_schema,
    make_protocol,
    protocol_of_class,
)
from .registration import mistakes

if TYPE_CHECKING:
    from .groups import Joined

#: Where the middleware leaves what turns a view's answer into a WebSocket.
UPGRADER = "flask_wsviews.upgrader"

#: Times of a connection that a view may have in place of the settings of the same names.
TIME_LIMITS = ("idle_timeout", "max_lifetime")


def _check_bindings(owner: str, query: SchemaLike | None, headers: SchemaLike | None) -> None:
    as_schema(f"query_schema of {owner}", query)
    as_schema(f"headers_schema of {owner}", headers)


class _IsAsync:
    """Tells of a view, or of a class, whether it is asynchronous; an instance may hide it."""

    def __get__(self, view: WebSocketView | None, view_class: type[WebSocketView]) -> bool:
        return _has_coroutines_of_class(view_class) if view is None else is_async_view(view)


class WebSocketView(View):
    """A class-based view for WebSockets.

    Subclass it, override the hooks, and register it like any other view::

        @bp.websocket("/chat/<room>")
        class Chat(WebSocketView):
            def on_connect(self, ws, room):
                ws.send(f"Welcome to {room}")

            def on_message(self, ws, message):
                ws.send(message.upper())

    Each connection has an instance of its own, so state goes on ``self``, under any name: options
    are read off the class, and hooks as well unless the instance has something to call; with
    ``init_every_request = False`` all connections share one. ``decorators`` wrap the handshake, as
    they wrap the request of a :class:`flask.views.View`. Each hook runs in a request context with
    the handshake's ``request`` and ``session`` and a fresh ``g``, and the hooks of one connection
    never overlap.
    """

    methods = ("GET",)
    provide_automatic_options = False

    #: Origins that may connect besides the application's own and ``WSVIEWS_ALLOWED_ORIGINS``:
    #: a list such as ``["https://example.org"]``, or ``"*"``.
    allowed_origins: ClassVar[Iterable[str] | str] = ()

    #: Groups that every connection joins before ``on_connect``. What is in braces is a variable
    #: of the URL: ``["lobby", "room:{room}"]``. A :class:`Group` has its own options; a string
    #: has those of the view, which follow.
    groups: ClassVar[Sequence[str | Group]] = ()

    #: How many messages of these groups are kept for clients that reconnect.
    history: ClassVar[int | None] = None

    #: For how many seconds they are kept.
    history_seconds: ClassVar[float | None] = None

    #: Whether ``websocket.members()`` and ``websocket.count()`` tell who is in these groups.
    presence: ClassVar[bool] = False

    #: In place of ``WSVIEWS_SLOW_CLIENTS``: ``"close"``, ``"drop-oldest"`` or ``"drop-newest"``.
    slow_clients: ClassVar[str | None] = None

    #: In place of ``WSVIEWS_RATE_LIMIT``: how many messages a client may send, ``"20/second"``.
    #: ``""`` for any number.
    rate_limit: ClassVar[str | None] = None

    #: In place of ``WSVIEWS_IDLE_TIMEOUT``, in seconds; 0 for no limit.
    idle_timeout: ClassVar[float | None] = None

    #: In place of ``WSVIEWS_MAX_LIFETIME``, in seconds; 0 for no limit.
    max_lifetime: ClassVar[float | None] = None

    #: Attributes of ``g`` that hooks find as the handshake has left them, besides those of
    #: ``WSVIEWS_KEEP_G`` and of the well-known extensions for authentication: ``("tenant",)``.
    keep_g: ClassVar[Sequence[str]] = ()

    #: In place of ``WSVIEWS_COMPRESSION``: whether messages may be compressed.
    compression: ClassVar[bool | None] = None

    #: Whether one call lasts as long as its connection does.
    _wsviews_owns_conversation: ClassVar[bool] = False

    #: Subprotocols that the view speaks, the preferred one first.
    subprotocols: ClassVar[Sequence[str]] = ()

    #: Loads each message; ``on_message`` gets what it makes of the JSON. Where messages are routed
    #: by type each :func:`~flask_wsviews.message` handler has its own.
    message_schema: ClassVar[SchemaLike | None] = None

    #: The field that tells a message's type.
    discriminator: ClassVar[str] = "type"

    #: Whether ``on_message`` gets binary messages; otherwise one closes with 1003. By default it
    #: does, except in a view that has handlers and no ``on_message``.
    binary: ClassVar[bool | None] = None

    #: Schemas, by type, of what ``ws.send_message()`` sends; those of base classes count as well.
    emits: ClassVar[Mapping[str, SchemaLike]] = {}

    #: Loads the query of the handshake's URL into ``ws.query``; 400 if it can't.
    query_schema: ClassVar[SchemaLike | None] = None

    #: Loads header fields of the handshake into ``ws.headers``; 400 if it can't.
    headers_schema: ClassVar[SchemaLike | None] = None

    #: How clients authenticate, for documents: ``"session"``, ``"bearer"``, or AsyncAPI security
    #: schemes. What it names is checked by ``on_handshake`` or a decorator.
    security: ClassVar[Sequence[str | Mapping[str, Any]]] = ()

    #: What the class declares of its messages, made of these attributes.
    protocol: ClassVar[Protocol] = Protocol()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check what the class declares.

        :raises RegistrationError: if it contradicts itself.
        """
        super().__init_subclass__(**kwargs)
        emits: dict[str, SchemaLike] = {}
        for base in reversed(cls.__mro__):
            own = vars(base).get("emits", {})
            if not isinstance(own, Mapping):
                raise RegistrationError(
                    f'{cls.__name__}.emits must be a dict such as {{"said": Said}}, not {own!r}'
                )
            emits.update(own)
        cls.protocol = protocol_of_class(
            cls,
            has_on_message=cls.on_message is not WebSocketView.on_message,
            emits=emits,
            binary=cls.binary,
        )
        _check_bindings(cls.__name__, cls.query_schema, cls.headers_schema)

    def dispatch_request(self, **view_args: Any) -> ResponseReturnValue:
        """Answer the handshake: with the 101, or with what ``on_handshake`` refuses it with."""
        upgrade = request.environ.get(UPGRADER)
        if upgrade is None:
            raise RuntimeError(
                f"{request.path} is a WebSocket, but no WebSocket(app) handles this application, "
                "or the server doesn't call app.wsgi_app"
            )
        answer: ResponseReturnValue = upgrade(self, view_args)
        return answer

    # Views declare the URL variables that they take, and may be coroutines with the client of
    # asyncio: *args and Any are what type checkers need to allow that.

    def on_handshake(self, ws: Any, /, *args: Any, **view_args: Any) -> Any:
        """Called before the 101, in Flask's own request. Use ``abort()`` to refuse.

        ``session`` can still be changed, ``ws.subprotocol`` chosen, ``ws.response_headers`` filled.

        :returns: ``None`` to accept, or a response that goes out instead of the 101.
        """
        return None

    def rate_limit_key(self, ws: Any, /, *args: Any, **view_args: Any) -> str | None:
        """Called in the handshake, after ``on_handshake``, if there is a rate limit.

        :returns: whose messages are counted together, such as ``f"user:{session['user']}"`` for all
            connections of a user; ``None``, by default, for those of this connection alone.
        """
        return None

    @never_waits
    def authorize_group(self, ws: Any, group: str) -> Any:
        """Called before the connection joins a group: one of :attr:`groups`, or by ``ws.join()``.

        :returns: whether it may. If not, ``ws.join()`` raises :class:`GroupRefused`, and for one
            of :attr:`groups` the connection is closed with 1008.
        """
        return True

    @never_waits
    def resume_from(self, ws: Any, group: str) -> Any:
        """Called before the connection joins one of :attr:`groups` that has a history.

        :returns: the id of the last message that the client has got, for instance
            ``request.args.get("since")``: what came after it is sent first. ``None`` for
            what comes from now on.
        """
        return None

    @never_waits
    def member_meta(self, ws: Any, group: str) -> Any:
        """Called before the connection joins one of :attr:`groups` that has presence.

        :returns: what ``websocket.members()`` tells of it, such as ``{"user": session["user"]}``:
            anything that JSON can express.
        """
        return None

    @does_nothing
    def on_joined(self, ws: Any, joined: Joined) -> Any:
        """Called when the connection has joined one of :attr:`groups`, before ``on_connect``.

        If messages after the one that the client resumes from are gone, and the view declares its
        messages (a schema, handlers or :attr:`emits`), the client has been sent the error frame
        with the code ``messages_lost`` before.

        :param joined: where the group stands, and whether messages are lost.
        """

    @does_nothing
    def on_connect(self, ws: Any, /, *args: Any, **view_args: Any) -> Any:
        """Called once the connection is open both ways."""

    def on_message(self, ws: Any, message: Any) -> Any:
        """Called for each message: text is ``str``, binary is ``bytes``.

        With a :attr:`message_schema` it gets what that has loaded of a text. A view with
        :func:`~flask_wsviews.message` handlers gets its binary messages here, if any.
        """

    @does_nothing
    def on_pong(self, ws: Any, payload: bytes) -> Any:
        """Called for the Pong that answers a ``ws.ping(payload)``, in order with the messages.

        Pongs that nobody asked for, and those of the heartbeat, don't call it.

        :param payload: the Ping's; empty by default.
        """

    def on_invalid(self, ws: Any, error: InvalidMessage) -> Any:
        """Called for a message that can't be used; by default it answers with an error frame.

        Schemas find such messages, and handlers that raise :class:`InvalidMessage`. It may raise
        :class:`CloseConnection`, with 1007 or 1008 perhaps, or do nothing.

        :param error: what is wrong with it.
        """
        ws.send_error(error)

    @does_nothing
    def on_close(self, ws: Any, code: int, reason: str) -> Any:
        """Called exactly once for each connection that ``on_connect`` was called for.

        :param code: how it ended, see :attr:`WebSocketClient.close_code`.
        :param reason: what the client's close frame says, often empty.
        """

    def on_error(self, ws: Any, error: Exception) -> Any:
        """Called for an exception that a hook raised, in that hook's context.

        It may raise :class:`CloseConnection` to choose the close code.

        :returns: ``True`` if the connection may go on. Otherwise the application's error handlers
            see the exception too, and the connection is closed with 1011.
        """
        return None

    #: Whether any of its hooks and handlers is ``async def``.
    is_async = _IsAsync()

    # What follows is ours. The framework calls it by the class, so that nothing on an instance is
    # in its way, and its names begin so that no subclass has them by chance.

    def _wsviews_declared(self) -> WebSocketView | type[WebSocketView]:
        """What has the options as attributes: the class."""
        return type(self)

    def _wsviews_is_async(self) -> bool:
        view_class = type(self)
        # A hook may be an attribute of the instance.
        if vars(self).keys().isdisjoint(_hooks_of_class(view_class)):
            return _has_coroutines_of_class(view_class)
        return any(is_coroutine_function(hook_of(self, name)) for name in _hooks_of(view_class))


# Options that only make sense for a class.
_CLASS_OPTIONS = ("discriminator", "protocol")

#: The options of a view, which the rule of a function takes as arguments.
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

_ALL_HOOKS = {
    name: inspect.signature(value)
    for name, value in vars(WebSocketView).items()
    if isinstance(value, FunctionType) and not name.startswith("_") and name != "dispatch_request"
}

#: Hooks that get the variables of the URL.
URL_HOOKS = tuple(
    name
    for name, signature in _ALL_HOOKS.items()
    if any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
)

#: The arguments that the other hooks get after ``ws``.
HOOK_ARGUMENTS = {
    name: tuple(signature.parameters)[2:]
    for name, signature in _ALL_HOOKS.items()
    if name not in URL_HOOKS
}

#: The methods that are called for a connection, and may be ``async def``. The handshake needs the
#: answer of ``rate_limit_key`` at once.
HOOKS = tuple(name for name in _ALL_HOOKS if name != "rate_limit_key")


class FunctionView(WebSocketView):
    """A function route: the function is called once and owns the conversation.

    :param function: called as ``function(ws, **view_args)``.
    :param protocol: what ``ws.receive()`` loads and ``ws.send_message()`` dumps.
    :param options: attributes of the view, by name.
    """

    _wsviews_owns_conversation = True

    def __init__(
        self, function: Callable[..., Any], protocol: Protocol | None = None, **options: Any
    ) -> None:
        self.function = function
        if protocol is not None:
            self.protocol = protocol  # type: ignore[misc]
        for name, value in options.items():
            setattr(self, name, value)

    def _wsviews_declared(self) -> WebSocketView | type[WebSocketView]:
        """What has the options as attributes: the instance, which no handler ever sees."""
        return self

    def _wsviews_is_async(self) -> bool:
        return is_coroutine_function(self.function)


def websocket_view(
    target: Callable[..., Any] | type[WebSocketView] | None,
    endpoint: str | None,
    options: dict[str, Any],
    known: Mapping[str, Callable[..., Any]],
) -> tuple[str, Callable[..., Any]]:
    """Make a Flask view function of what is registered on a WebSocket rule.

    :param target: a function, a :class:`WebSocketView` class, or what its ``as_view()`` returned.
    :param endpoint: the endpoint's name; the target's own by default.
    :param options: of the rule. Those that are for a function's view, :data:`VIEW_OPTIONS`, are
        taken out.
    :param known: view functions by endpoint. One that was made of the same target is used again,
        so that a target can have several rules.
    :returns: the endpoint and the view function.
    :raises RegistrationError: if *target* can't serve a WebSocket.
    :raises ConfigError: if its origins aren't valid.
    """
    if not callable(target):
        raise RegistrationError(
            f"a WebSocket rule needs a function or a WebSocketView, not {target!r}"
        )
    mistakes.check_call_of_as_view(target)
    endpoint = endpoint or getattr(target, "__name__", None)
    if endpoint is None:
        raise RegistrationError(f"{target!r} has no __name__: pass endpoint=")
    view_class: type[Any] | None
    view_class = target if isinstance(target, type) else getattr(target, "view_class", None)
    if view_class is not None and not issubclass(view_class, WebSocketView):
        raise RegistrationError(
            f"{view_class.__name__} is registered as a WebSocket but isn't a WebSocketView"
        )
    mistakes.check_options(f"the WebSocket rule of {endpoint!r}", options, VIEW_OPTIONS)
    if view_class is not None:
        origins(f"{view_class.__name__}.allowed_origins", view_class.allowed_origins)
        names(f"{view_class.__name__}.keep_g", view_class.keep_g)
        check_class(view_class)
    if view_class is not None and not isinstance(target, type):
        return endpoint, target
    origins(f"allowed_origins of {endpoint!r}", options.get("allowed_origins", ()))
    names(f"keep_g of {endpoint!r}", options.get("keep_g", ()))
    mistakes.check_subprotocols(f"subprotocols of {endpoint!r}", options.get("subprotocols", ()))
    view_options = {name: options.pop(name) for name in VIEW_OPTIONS if name in options}
    if getattr(known.get(endpoint), "websocket_target", None) is target and not view_options:
        return endpoint, known[endpoint]
    if view_class is None:
        mistakes.check_callable(f"{endpoint}()", target)
        view: Any = _function_view(target, endpoint, **view_options)
    elif not view_options:
        mistakes.check_instances(view_class)
        view = view_class.as_view(endpoint)
    else:
        raise RegistrationError(
            f"{', '.join(view_options)}: set them as attributes of {view_class.__name__}, not "
            "as options of its rule"
        )
    view.websocket_target = target
    return endpoint, view


def check_classes(views: Iterable[Callable[..., Any]]) -> None:
    """Check the classes of registered views, which may have been registered on Flask's own way.

    :raises RegistrationError: as :func:`check_class`.
    """
    for view in views:
        view_class = view_class_of(view) if is_websocket_view(view) else None
        if view_class is not None:
            check_class(view_class)


def check_class(view_class: type[WebSocketView]) -> None:
    """Check the hooks and handlers of a class.

    :raises RegistrationError: naming what nothing would call, or what can't be called.
    """
    name_of = view_class.__name__
    mistakes.check_methods(f"{name_of}.methods", view_class.methods)
    mistakes.check_subprotocols(f"{name_of}.subprotocols", view_class.subprotocols)
    hooks = tuple(_ALL_HOOKS)
    mistakes.check_names(view_class, WebSocketView, hooks)
    handlers = [handler.name for handler in view_class.protocol.handlers.values()]
    own = mistakes.overridden(view_class, WebSocketView, hooks)
    for name, method in mistakes.bound_methods(view_class, (*own, *handlers)):
        mistakes.check_callable(f"{name_of}.{name}", method)
        if name in handlers:
            mistakes.check_arguments(f"{name_of}.{name}", name, method, ("data",))
        elif name in HOOK_ARGUMENTS:
            mistakes.check_arguments(f"{name_of}.{name}", name, method, HOOK_ARGUMENTS[name])


def check_variables(view: Callable[..., Any], rule: str, variables: Collection[str]) -> None:
    """Check that what is registered takes the variables of a rule.

    A decorator of the view may change them, so they aren't looked at then.

    :param view: the view function; others than those of WebSockets take what they like.
    :param rule: its text, for the error.
    :param variables: their names.
    :raises RegistrationError: naming the signature to write.
    """
    if not is_websocket_view(view) or _is_decorated(view):
        return
    view_class = view_class_of(view)
    if view_class is None:
        label = f"{view.__name__}()"
        function = view.websocket_target  # type: ignore[attr-defined]
        mistakes.check_variables(label, rule, function, variables, has_self=False)
        return
    own = mistakes.overridden(view_class, WebSocketView, URL_HOOKS)
    for name, method in mistakes.bound_methods(view_class, own):
        label = f"{view_class.__name__}.{name}"
        mistakes.check_variables(label, rule, method, variables, has_self=True)


def _is_decorated(view: Callable[..., Any]) -> bool:
    """Whether something stands between the URL and the view, or may do so."""
    view_class: Any = view.view_class  # type: ignore[attr-defined]
    return bool(
        hasattr(view, "__wrapped__")
        or getattr(view, "websocket_decorated", False)
        or view_class.decorators
        or view_class.dispatch_request is not WebSocketView.dispatch_request
    )


def _function_view(
    function: Callable[..., Any],
    endpoint: str,
    decorators: Iterable[Callable[..., Any]] = (),
    binary: bool = True,
    message_schema: SchemaLike | None = None,
    emits: Mapping[str, SchemaLike] | None = None,
    **options: Any,
) -> Callable[..., Any]:
    name = f"the function route {endpoint!r}"
    protocol = make_protocol(name, binary=binary, schema=message_schema, emits=emits)
    _check_bindings(name, options.get("query_schema"), options.get("headers_schema"))
    view: Callable[..., Any] = FunctionView.as_view(endpoint, function, protocol, **options)
    view.__doc__ = function.__doc__
    view.__module__ = function.__module__
    for decorator in decorators:
        view = decorator(view)
    view.websocket_decorated = bool(decorators)  # type: ignore[attr-defined]
    view.websocket_declares = {**options, "protocol": protocol}  # type: ignore[attr-defined]
    return view


def view_class_of(view: Callable[..., Any]) -> type[WebSocketView] | None:
    """The class that was registered, ``None`` if it was a function.

    :param view: the view function.
    """
    if hasattr(view, "websocket_declares"):
        return None
    target = getattr(view, "websocket_target", None)
    return target if isinstance(target, type) else getattr(view, "view_class", None)


def declared(view: Callable[..., Any], name: str) -> Any:
    """What a registered WebSocket view declares, by attributes of a class or options of a function.

    :param view: the view function.
    :param name: such as ``"security"``; ``"protocol"`` for its messages.
    """
    of_function = getattr(view, "websocket_declares", {})
    return of_function.get(name, getattr(view_class_of(view) or WebSocketView, name))


def protocol_of(view: Callable[..., Any]) -> Protocol:
    """The messages of a registered WebSocket view.

    :param view: the view function.
    """
    protocol: Protocol = declared(view, "protocol")
    return protocol


def _hooks_of(view_class: type[WebSocketView]) -> Iterator[str]:
    yield from HOOKS
    for handler in view_class.protocol.handlers.values():
        yield handler.name


def _has_coroutines(view_class: type[WebSocketView]) -> bool:
    return any(is_coroutine_function(getattr(view_class, name)) for name in _hooks_of(view_class))


# Asked for at each handshake.
_has_coroutines_of_class: Callable[[Any], bool] = lru_cache(maxsize=1024)(_has_coroutines)
_hooks_of_class: Callable[[Any], frozenset[str]] = lru_cache(maxsize=1024)(
    lambda view_class: frozenset(_hooks_of(view_class))
)


def is_async_view(view: Any) -> bool:
    """Whether any hook of a view, or its function, is ``async def``."""
    if isinstance(view, WebSocketView):
        return type(view)._wsviews_is_async(view)
    # What stands for one in a test.
    return bool(view.is_async)


def coroutine_handlers(view: Callable[..., Any]) -> list[str]:
    """The names of what is ``async def`` in a registered WebSocket view."""
    target = getattr(view, "websocket_target", None) or getattr(view, "view_class", None)
    if not isinstance(target, type):
        name = getattr(target, "__name__", repr(target))
        return [name] if is_coroutine_function(target) else []
    if not issubclass(target, WebSocketView):
        return []
    return [
        f"{target.__name__}.{name}"
        for name in _hooks_of(target)
        if is_coroutine_function(getattr(target, name))
    ]


def is_websocket_view(view: Callable[..., Any]) -> bool:
    """Whether a view function serves a WebSocket."""
    view_class = getattr(view, "view_class", None)
    return isinstance(view_class, type) and issubclass(view_class, WebSocketView)


def declared_groups(
    view: Callable[..., Any] | None,
) -> list[tuple[Pattern, GroupOptions]]:
    """The groups that the connections of a registered view join, and their options.

    :param view: the view function; others than those of WebSockets declare none.
    :raises RegistrationError: if they aren't a list of names and patterns.
    :raises ConfigError: if ``slow_clients`` is no policy.
    """
    if view is None or not is_websocket_view(view):
        return []
    view_class = view_class_of(view)
    name = view.__name__ if view_class is None else view_class.__name__
    slow_clients = declared(view, "slow_clients")
    if slow_clients is not None:
        policy(f"{name}.slow_clients", slow_clients)
    groups = declared(view, "groups")
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise RegistrationError(f'{name}.groups must be a list such as ["lobby"], not {groups!r}')
    groups = list(groups)
    if not groups:
        return []
    history = history_of(declared(view, "history"), declared(view, "history_seconds"))
    presence = declared(view, "presence")
    if not isinstance(presence, bool):
        raise RegistrationError(f"{name}.presence must be True or False, not {presence!r}")
    own_options = GroupOptions(history, presence)
    return [
        (declared_pattern(group), group.options if isinstance(group, Group) else own_options)
        for group in groups
    ]
