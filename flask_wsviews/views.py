"""The base class of WebSocket views: its options and its hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from flask import request
from flask.typing import ResponseReturnValue
from flask.views import View

from .common.steps import does_nothing, hook_of, is_coroutine_function, never_waits
from .exceptions import InvalidMessage, RegistrationError
from .groups.declared import Group
from .messages.declared import protocol_of_class
from .messages.protocol import MessageProtocol
from .messages.schemas import SchemaLike, as_schema

if TYPE_CHECKING:
    from .groups import Joined

#: The key of the handshake's environment that holds the callable which accepts the WebSocket.
UPGRADER = "flask_wsviews.upgrader"

#: The options of a view that replace the time limits of the settings with the same names.
TIME_LIMITS = ("idle_timeout", "max_lifetime")


class _IsAsync:
    """Whether a view or a view class has ``async def`` hooks; an instance may shadow the name."""

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

    Each connection has its own instance, so you can keep state on ``self`` under any name: options
    are read from the class. If ``init_every_request`` is ``False``, all connections share one
    instance. ``decorators`` wrap the handshake, as they wrap the request of a
    :class:`flask.views.View`. Each hook runs in a request context with the handshake's ``request``
    and ``session`` and a fresh ``g``. The hooks of one connection never overlap.
    """

    methods = ("GET",)
    provide_automatic_options = False

    #: The origins that may connect, in addition to the application's own origin and those in
    #: ``WSVIEWS_ALLOWED_ORIGINS``: a list such as ``["https://example.org"]``, or ``"*"`` for any.
    allowed_origins: ClassVar[Iterable[str] | str] = ()

    #: The groups that each connection joins before ``on_connect``, such as
    #: ``["lobby", "room:{room}"]``. Braces hold a variable of the URL. A name gets the ``history``,
    #: ``history_seconds`` and ``presence`` of the view; a :class:`Group` has its own.
    groups: ClassVar[Sequence[str | Group]] = ()

    #: The number of messages that each of these groups keeps for clients that reconnect. By default
    #: there is no history.
    history: ClassVar[int | None] = None

    #: The time for which a message is kept, in seconds. By default there is no limit.
    history_seconds: ClassVar[float | None] = None

    #: Whether ``websocket.members()`` and ``websocket.count()`` list and count the members of these
    #: groups.
    presence: ClassVar[bool] = False

    #: What to do with clients that read group messages too slowly: ``"close"``, ``"drop-oldest"``
    #: or ``"drop-newest"``. The default is ``WSVIEWS_SLOW_CLIENTS``.
    slow_clients: ClassVar[str | None] = None

    #: The number of messages that a client may send, such as ``"20/second"``; ``""`` for no limit.
    #: The default is ``WSVIEWS_RATE_LIMIT``.
    rate_limit: ClassVar[str | None] = None

    #: The seconds without a message from the client after which the connection is closed with 1001
    #: Going Away; 0 for no limit. The default is ``WSVIEWS_IDLE_TIMEOUT``.
    idle_timeout: ClassVar[float | None] = None

    #: The seconds after which each connection is closed with 1012 Service Restart, so that the
    #: client reconnects; 0 for no limit. The default is ``WSVIEWS_MAX_LIFETIME``.
    max_lifetime: ClassVar[float | None] = None

    #: Attributes of ``g`` to copy from the handshake to each hook, such as ``("tenant",)``, in
    #: addition to ``WSVIEWS_KEEP_G`` and those of well-known authentication extensions.
    keep_g: ClassVar[Sequence[str]] = ()

    #: Whether messages may be compressed. The default is ``WSVIEWS_COMPRESSION``.
    compression: ClassVar[bool | None] = None

    #: Whether the view is called once and owns the conversation: a function route.
    _wsviews_owns_conversation: ClassVar[bool] = False

    #: The subprotocols that the view supports, the preferred one first.
    subprotocols: ClassVar[Sequence[str]] = ()

    #: The schema that loads each text message, which must be JSON; ``on_message`` gets the result.
    #: With :func:`~flask_wsviews.message` handlers, give each handler a schema instead.
    message_schema: ClassVar[SchemaLike | None] = None

    #: The field that holds a message's type.
    discriminator: ClassVar[str] = "type"

    #: Whether binary messages go to ``on_message``. If not, one closes the connection with 1003
    #: Unsupported Data. By default they do, unless the view has handlers and no ``on_message``.
    binary: ClassVar[bool | None] = None

    #: The schemas of messages that ``ws.send_message()`` sends, by type. Those of base classes are
    #: added.
    emits: ClassVar[Mapping[str, SchemaLike]] = {}

    #: The schema that loads the query of the handshake's URL into ``ws.query``. An invalid query is
    #: answered with 400 Bad Request.
    query_schema: ClassVar[SchemaLike | None] = None

    #: The schema that loads the handshake's headers into ``ws.headers``. Invalid headers are
    #: answered with 400 Bad Request.
    headers_schema: ClassVar[SchemaLike | None] = None

    #: How clients authenticate, for the AsyncAPI document: ``"session"``, ``"bearer"``, or AsyncAPI
    #: security schemes. This option checks nothing: check credentials in ``on_handshake`` or a
    #: decorator.
    security: ClassVar[Sequence[str | Mapping[str, Any]]] = ()

    #: The messages that the class declares with these options and its handlers; set by the package.
    protocol: ClassVar[MessageProtocol] = MessageProtocol()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the schemas and message handlers of the class.

        :raises RegistrationError: if one is invalid, or they contradict each other.
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
        as_schema(f"query_schema of {cls.__name__}", cls.query_schema)
        as_schema(f"headers_schema of {cls.__name__}", cls.headers_schema)

    def dispatch_request(self, **view_args: Any) -> ResponseReturnValue:
        """Answer the handshake, with the 101 or with the response of ``on_handshake``."""
        upgrade = request.environ.get(UPGRADER)
        if upgrade is None:
            raise RuntimeError(
                f"{request.path} is a WebSocket, but no WebSocket(app) handles this application, "
                "or the server doesn't call app.wsgi_app"
            )
        answer: ResponseReturnValue = upgrade(self, view_args)
        return answer

    # Subclasses name their URL variables, and may be async def on the asyncio engine. Type checkers
    # accept both as overrides only because of *args and Any.

    def on_handshake(self, ws: Any, /, *args: Any, **view_args: Any) -> Any:
        """Called in the handshake's request, before the 101. Call ``abort()`` to refuse it.

        You can still change ``session``, set ``ws.subprotocol`` and add to ``ws.response_headers``.

        :returns: ``None`` to accept the handshake, or a response to send instead of the 101.
        """
        return None

    def rate_limit_key(self, ws: Any, /, *args: Any, **view_args: Any) -> str | None:
        """Called in the handshake, after ``on_handshake``, if there is a rate limit.

        :returns: a key. Connections with the same key share one limit: with
            ``f"user:{session['user']}"``, all connections of a user do. ``None``, the default,
            gives this connection its own limit.
        """
        return None

    @never_waits
    def authorize_group(self, ws: Any, group: str) -> Any:
        """Called before the connection joins a group, from :attr:`groups` or by ``ws.join()``.

        :returns: whether it may join. If not, ``ws.join()`` raises :class:`GroupRefused`; for a
            group in :attr:`groups` the connection is closed with 1008 Policy Violation.
        """
        return True

    @never_waits
    def resume_from(self, ws: Any, group: str) -> Any:
        """Called before the connection joins a group in :attr:`groups` that has a history.

        :returns: the id of the last message that the client received, such as
            ``request.args.get("since")``. The messages after it are sent first. ``None``, the
            default, sends only new messages.
        """
        return None

    @never_waits
    def member_meta(self, ws: Any, group: str) -> Any:
        """Called before the connection joins a group in :attr:`groups` that has presence.

        :returns: data that ``websocket.members()`` shows for the connection, such as
            ``{"user": session["user"]}``. JSON must be able to express it.
        """
        return None

    @does_nothing
    def on_joined(self, ws: Any, joined: Joined) -> Any:
        """Called after the connection has joined a group in :attr:`groups`, before ``on_connect``.

        If messages that the client missed are no longer in the history, and the view declares its
        messages (a schema, handlers or :attr:`emits`), an error frame with the code
        ``messages_lost`` is sent first.

        :param joined: the group's position, and whether messages were lost.
        """

    @does_nothing
    def on_connect(self, ws: Any, /, *args: Any, **view_args: Any) -> Any:
        """Called once the connection is open, before any message."""

    def on_message(self, ws: Any, message: Any) -> Any:
        """Called for each message: text is ``str``, binary is ``bytes``.

        With a :attr:`message_schema`, it gets the object that the schema has loaded from a text
        message. With :func:`~flask_wsviews.message` handlers, it gets only binary messages.
        """

    @does_nothing
    def on_pong(self, ws: Any, payload: bytes) -> Any:
        """Called for the Pong that answers a ``ws.ping(payload)``, in order with the messages.

        Unsolicited Pongs and those of the heartbeat don't call it.

        :param payload: the payload of the Ping, empty by default.
        """

    def on_invalid(self, ws: Any, error: InvalidMessage) -> Any:
        """Called for an invalid message; by default it answers with an error frame.

        A message is invalid if it doesn't match its schema, or if a handler raises
        :class:`InvalidMessage`. You may raise :class:`CloseConnection` here, for example with 1007
        Invalid Frame Payload Data or 1008 Policy Violation, or do nothing.

        :param error: why the message is invalid.
        """
        ws.send_error(error)

    @does_nothing
    def on_close(self, ws: Any, code: int, reason: str) -> Any:
        """Called exactly once, after the connection has ended, if ``on_connect`` was called.

        :param code: the close code, see :attr:`WebSocketClient.close_code`.
        :param reason: the reason in the client's close frame, often empty.
        """

    def on_error(self, ws: Any, error: Exception) -> Any:
        """Called for an exception that a hook raised, in that hook's context.

        Raise :class:`CloseConnection` to choose the close code.

        :returns: ``True`` to keep the connection open. Otherwise the application's error handlers
            get the exception, and the connection is closed with 1011 Internal Error.
        """
        return None

    #: Whether any hook or handler is ``async def``.
    is_async = _IsAsync()

    # The methods below are private. The package calls them on the class, so that attributes of an
    # instance can't shadow them; the prefix keeps subclasses from overriding them by accident.

    def _wsviews_declared(self) -> WebSocketView | type[WebSocketView]:
        """Return the object that has the options as attributes: the class."""
        return type(self)

    def _wsviews_is_async(self) -> bool:
        view_class = type(self)
        # A hook may have been set on the instance.
        if vars(self).keys().isdisjoint(_hooks_of_class(view_class)):
            return _has_coroutines_of_class(view_class)
        return any(is_coroutine_function(hook_of(self, name)) for name in hooks_of(view_class))


#: The methods that a subclass may override.
OVERRIDABLE = tuple(
    name
    for name, value in vars(WebSocketView).items()
    if isinstance(value, FunctionType) and not name.startswith("_") and name != "dispatch_request"
)

#: The methods that may be ``async def``. ``rate_limit_key`` may not: the handshake needs its result
#: at once.
HOOKS = tuple(name for name in OVERRIDABLE if name != "rate_limit_key")


def hooks_of(view_class: type[WebSocketView]) -> Iterator[str]:
    """Yield the names of the hooks and message handlers of a class."""
    yield from HOOKS
    for handler in view_class.protocol.handlers.values():
        yield handler.name


def _has_coroutines(view_class: type[WebSocketView]) -> bool:
    return any(is_coroutine_function(getattr(view_class, name)) for name in hooks_of(view_class))


# Cached, because each handshake needs them.
_has_coroutines_of_class: Callable[[Any], bool] = lru_cache(maxsize=1024)(_has_coroutines)
_hooks_of_class: Callable[[Any], frozenset[str]] = lru_cache(maxsize=1024)(
    lambda view_class: frozenset(hooks_of(view_class))
)


def is_async_view(view: Any) -> bool:
    """Return whether any hook of a view, or its function, is ``async def``."""
    if isinstance(view, WebSocketView):
        return type(view)._wsviews_is_async(view)
    # A fake view, in a test.
    return bool(view.is_async)
