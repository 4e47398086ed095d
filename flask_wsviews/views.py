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

#: Where the middleware leaves what turns a view's answer into a WebSocket.
UPGRADER = "flask_wsviews.upgrader"

#: Times of a connection that a view may have in place of the settings of the same names.
TIME_LIMITS = ("idle_timeout", "max_lifetime")


class _IsAsync:
    """Whether a view, or a class of views, is asynchronous; an instance may hide it."""

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
    protocol: ClassVar[MessageProtocol] = MessageProtocol()

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
        as_schema(f"query_schema of {cls.__name__}", cls.query_schema)
        as_schema(f"headers_schema of {cls.__name__}", cls.headers_schema)

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
        return any(is_coroutine_function(hook_of(self, name)) for name in hooks_of(view_class))


#: The methods that a subclass may override.
OVERRIDABLE = tuple(
    name
    for name, value in vars(WebSocketView).items()
    if isinstance(value, FunctionType) and not name.startswith("_") and name != "dispatch_request"
)

#: The methods that are called for a connection, and may be ``async def``. The handshake needs the
#: answer of ``rate_limit_key`` at once.
HOOKS = tuple(name for name in OVERRIDABLE if name != "rate_limit_key")


def hooks_of(view_class: type[WebSocketView]) -> Iterator[str]:
    """Yield the names of the hooks and message handlers of a class."""
    yield from HOOKS
    for handler in view_class.protocol.handlers.values():
        yield handler.name


def _has_coroutines(view_class: type[WebSocketView]) -> bool:
    return any(is_coroutine_function(getattr(view_class, name)) for name in hooks_of(view_class))


# Each handshake asks for these.
_has_coroutines_of_class: Callable[[Any], bool] = lru_cache(maxsize=1024)(_has_coroutines)
_hooks_of_class: Callable[[Any], frozenset[str]] = lru_cache(maxsize=1024)(
    lambda view_class: frozenset(hooks_of(view_class))
)


def is_async_view(view: Any) -> bool:
    """Return whether any hook of a view, or its function, is ``async def``."""
    if isinstance(view, WebSocketView):
        return type(view)._wsviews_is_async(view)
    # A stand-in for a view, in a test.
    return bool(view.is_async)
