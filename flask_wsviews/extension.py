"""The Flask extension, with a class for each engine."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from flask import current_app
from werkzeug.routing.exceptions import WebsocketMismatch

from .app_state import EXTENSION, STATE, AppState, state_of
from .blueprints import Blueprint, register_as_websockets
from .close_codes import POLICY_VIOLATION
from .commands import cli
from .common.admission import Admission
from .config import Settings
from .engines import Engine
from .engines.shared import SharedEngines
from .exceptions import EngineError, RegistrationError
from .groups import GroupMember, Groups, Outcome
from .groups.declared import GroupOptions, history_of
from .groups.presence.attendance import JOINED, LEFT
from .handshake.middleware import (
    AsyncioWebSocketMiddleware,
    GeventWebSocketMiddleware,
    WebSocketMiddleware,
)
from .handshake.mismatch import answer_mismatch
from .handshake.wrapping import flask_app_in, wrapped
from .messages.errors import ErrorMessage
from .messages.schemas import SchemaLike, as_schema
from .observers import Observer
from .registration.deferred import DeferredRegistrations
from .registration.mistakes import check_presence_handler
from .registration.rules import registering, rule_options, rule_variables
from .registration.view_functions import view_function
from .servers import when_worker_starts
from .servers.uwsgi.command import is_debug_mode, run_app, run_uwsgi, with_debugger
from .typing import Sendable
from .views import WebSocketView

if TYPE_CHECKING:
    import flask

T = TypeVar("T", bound=Callable[..., Any])


class WebSocket:
    """WebSockets for a Flask application, with one thread per connection.

    Wraps ``app.wsgi_app`` in :attr:`middleware`, and makes ``app.run()`` start uWSGI.

    :param app: the application. Leave it out and call :meth:`init_app` later, if you like.
    :param timeout: seconds that the closing handshake may take, unless ``WSVIEWS_CLOSE_TIMEOUT`` is
        set.
    :param engine: ``"blocking"``, ``"gevent"``, ``"asyncio"``, or ``"auto"`` for the one that fits
        the server. Each class has its default; ``WSVIEWS_ENGINE`` overrides both.
    :param error_schema: the schema of error frames, which answer invalid messages: a marshmallow
        schema, class or instance, that dumps an :class:`~flask_wsviews.InvalidMessage`.
    :raises EngineError: if the engine's library isn't installed.
    :raises RegistrationError: if *error_schema* isn't a schema.
    """

    #: The class of the middleware. Its ``client`` is the class of the ``ws`` that handlers get.
    middleware: ClassVar[type[WebSocketMiddleware]] = WebSocketMiddleware

    _engine_name: ClassVar[str] = "blocking"

    def __init__(
        self,
        app: flask.Flask | None = None,
        timeout: float = 5,
        engine: str | None = None,
        error_schema: SchemaLike = ErrorMessage,
    ) -> None:
        self.timeout = timeout
        #: Dumps error frames.
        self.error_schema = as_schema("error_schema", error_schema) or ErrorMessage()
        #: The application; the newest one if several are set up.
        self.app: flask.Flask | None = None
        #: Shared by all applications of the extension, as are the next two.
        self.engines = SharedEngines(engine or self._engine_name)
        #: The observers that :meth:`add_observer` got.
        self.observers: list[Observer] = []
        #: Counts the connections of this worker, in total and by address.
        self.admission = Admission()
        self._registrations = DeferredRegistrations(type(self).__name__)
        if app is not None:
            self.init_app(app)

    # -- setting up -----------------------------------------------------------------------------

    def init_app(self, app: flask.Flask) -> None:
        """Set up an application, and wrap its ``wsgi_app`` in :attr:`middleware`.

        This checks the ``WSVIEWS_*`` settings. They become final at their first use: by a
        handshake, a broadcast or a command. Changes before that count.

        :raises ConfigError: if a ``WSVIEWS_*`` setting isn't valid.
        :raises EngineError: if the engine can't run in this process.
        :raises ServerError: if the server gives no access to the sockets of clients.
        :raises RegistrationError: if a view doesn't fit the engine, or *app* is already set up.
        """
        extension = app.extensions.get(EXTENSION)
        if extension is None:
            self._set_up(app)
        elif extension is self and state_of(app).is_set_up_by_middleware:
            # One call is allowed after that.
            state_of(app).is_set_up_by_middleware = False
            if any(isinstance(one, WebSocketMiddleware) for one in wrapped(app.wsgi_app)):
                return
        else:
            raise RegistrationError(
                f"{type(extension).__name__} is already set up for {app.name!r}"
            )
        # Any, because type checkers don't let methods be replaced.
        replaceable: Any = app
        replaceable.wsgi_app = self.middleware(with_debugger(app.wsgi_app), self)

    def adopt(self, middleware: WebSocketMiddleware) -> AppState:
        """Return the state of the application that a new middleware wraps.

        This sets up the application if the extension has none yet: with Flask-uWSGI-WebSocket,
        applications could make the middleware themselves instead of calling ``init_app()``.

        :raises RegistrationError: if the extension has no application, and the middleware wraps
            none or one with another extension.
        """
        wsgi_app = middleware.wsgi_app
        app = flask_app_in(wsgi_app)
        if self.app is None:
            kind, name = type(middleware).__name__, type(self).__name__
            if app is None:
                raise RegistrationError(
                    f"{kind}: {wsgi_app!r} doesn't lead to a Flask application. Call init_app(app) "
                    f"of the {name} that you pass: it wraps app.wsgi_app by itself"
                )
            if EXTENSION in app.extensions:
                raise RegistrationError(
                    f"{kind}: another extension is set up for {app.name!r}. Pass that one instead "
                    f"of a new {name}"
                )
            state = self._set_up(app)
            state.is_set_up_by_middleware = True
            middleware.wsgi_app = with_debugger(wsgi_app)
            return state
        if app is None or app.extensions.get(EXTENSION) is not self:
            # It wraps a dispatcher of several applications, for example.
            app = self.app
        return state_of(app)

    def _set_up(self, app: flask.Flask) -> AppState:
        state = AppState(app, self)
        if is_debug_mode():
            app.debug = True
        app.extensions[EXTENSION] = self
        app.extensions[STATE] = state
        replaceable: Any = app
        replaceable.run = partial(run_app, app)
        app.register_error_handler(WebsocketMismatch, partial(answer_mismatch, app))
        app.cli.add_command(cli.ws)
        self.app = app
        self._registrations.apply(app)
        state.check_views()
        when_worker_starts(state.settle_at_start)
        return state

    def read_settings(self, config: Mapping[str, Any]) -> Settings:
        """Return the ``WSVIEWS_*`` settings in *config*.

        :raises ConfigError: if one isn't valid.
        """
        return Settings.from_mapping(config, close_timeout=self.timeout)

    @property
    def engine(self) -> Engine:
        """The engine of the current application, or of :attr:`app` outside of applications.

        :raises EngineError: if it is chosen by the server, and no application is set up.
        """
        app: flask.Flask | None = current_app or self.app
        if app and app.extensions.get(EXTENSION) is self:
            return state_of(app).engine
        if self.engines.default == "auto":
            raise EngineError(
                'with engine="auto" the engine is chosen when an application is set up: call '
                "init_app()"
            )
        return self.engines.unused(None)

    def add_observer(self, observer: Observer) -> None:
        """Notify an observer of all connections that open from now on.

        :param observer: an :class:`~flask_wsviews.observers.Observer`.
        """
        self.observers.append(observer)

    # -- registration ---------------------------------------------------------------------------

    def route(self, rule: str, **options: Any) -> Callable[[T], T]:
        """Decorate a function or a :class:`WebSocketView` class to serve *rule*.

        :param rule: the URL rule, with variables as in any Flask rule.
        :param options: as for :meth:`add_url_rule`.
        """
        return registering(self.add_url_rule, rule, options)

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        """Register a WebSocket rule on the application, and on those that are set up later.

        :param rule: the URL rule.
        :param endpoint: the endpoint's name; by default that of the function or class.
        :param view_func: a function, called once per connection as ``function(ws, **view_args)``; a
            :class:`WebSocketView` class; or its ``as_view()``.
        :param options: of the :class:`werkzeug.routing.Rule`, where ``strict_slashes`` is
            ``False`` by default: ``/chat`` and ``/chat/`` both match. A function also takes the
            options that a class has as attributes: ``allowed_origins``, ``binary``,
            ``compression``, ``decorators``, ``emits``, ``groups``, ``headers_schema``, ``history``,
            ``history_seconds``, ``idle_timeout``, ``keep_g``, ``max_lifetime``,
            ``message_schema``, ``presence``, ``query_schema``, ``rate_limit``,
            ``rate_limit_key``, ``security``, ``slow_clients`` and ``subprotocols``.
        :raises RegistrationError: if *view_func* can't serve a WebSocket on this engine.
        """
        self._registrations.add(partial(_add_rule, rule, endpoint, view_func, options), self.app)

    def register_blueprint(self, blueprint: flask.Blueprint, **options: Any) -> None:
        """Register a blueprint, with all of its rules as WebSockets.

        Of a :class:`flask_wsviews.Blueprint`, only the WebSocket rules are: it is registered as by
        ``app.register_blueprint()``.

        :param options: as for :meth:`flask.Flask.register_blueprint`.
        """

        def register(app: flask.Flask) -> None:
            if isinstance(blueprint, Blueprint):
                app.register_blueprint(blueprint, **options)
            else:
                register_as_websockets(blueprint, app, options)

        self._registrations.add(register, self.app)

    # -- groups ---------------------------------------------------------------------------------

    @property
    def groups(self) -> Groups:
        """The groups of the current application, or of :attr:`app` outside of applications.

        :raises RegistrationError: if no application is set up.
        :raises ConfigError: if a setting isn't valid, or was changed after its first use.
        """
        state = self._current_state()
        state.settle()
        return state.groups

    def _current_state(self) -> AppState:
        app = current_app or self.app
        if not app:
            raise RegistrationError("groups need an application: call init_app() first")
        return state_of(app)

    def broadcast(
        self, group: str, message: Sendable, *, exclude: Any = None, keep: bool = True
    ) -> str | None:
        """Send a message to all members of a group, in all workers.

        You can call it from hooks, pages, CLI commands and threads. It never waits for a member:
        ``WSVIEWS_SLOW_CLIENTS`` sets what happens to one that is too slow.

        :param group: the group's name.
        :param message: ``str`` is sent as text, bytes-like objects as binary.
        :param exclude: a connection or its id, or several, that don't get the message.
        :param keep: ``False`` to send the message only live: a group with a history doesn't keep
            it, and it has no id.
        :returns: the message's id, if the group has a history that keeps it.
        :raises BrokerUnavailable: if the message couldn't be sent.
        :raises GroupError: if *group* isn't a valid name, or *exclude* has anything but ids.
        :raises ConfigError: if members may be in other workers, and the broker is ``memory://``.
        """
        message_id = self.groups.publish(group, message, exclude=exclude, keep=keep)
        return cast("str | None", message_id)

    def send_message(
        self,
        group: str,
        type: str,
        obj: Any,
        *,
        exclude: Any = None,
        keep: bool = True,
        view: builtins.type[WebSocketView] | None = None,
    ) -> str | None:
        """Send a typed message to all members of a group, dumped and checked by its schema.

        In a group with a history, the message carries its id as ``message_id``.

        :param type: a key of a view's ``emits``.
        :param obj: the object that the schema dumps.
        :param exclude: as for :meth:`broadcast`.
        :param keep: as for :meth:`broadcast`.
        :param view: the view whose ``emits`` to use; by default a view that declares the group,
            otherwise any view that declares the type.
        :returns: the message's id, if the group has a history that keeps it.
        :raises OutgoingMessageError: if no view declares the type, several declare it differently,
            or *obj* doesn't match the schema.
        :raises BrokerUnavailable: if the message couldn't be sent.
        """
        groups, views = self.groups, self._current_state().views
        text = views.dump_for_group(group, type, obj, view=view, keep=keep)
        message_id = groups.publish(group, text, exclude=exclude, typed=True, keep=keep)
        return cast("str | None", message_id)

    def disconnect(
        self,
        *,
        group: str | None = None,
        connection: Any = None,
        code: int = POLICY_VIOLATION,
        reason: str = "",
    ) -> None:
        """Close all members of a group, or one connection, in all workers.

        You can call it from wherever you can call :meth:`broadcast`. It returns once the broker has
        the request, before the connections are closed. Members first get the messages that were
        broadcast before. Members that are still joining or resuming are closed, too. Clients may
        reconnect: to prevent that, refuse them in ``on_handshake`` or ``authorize_group`` first.

        :param group: the group's name.
        :param connection: a connection or its id, ``ws.id``.
        :param code: the close code; 1008 Policy Violation by default.
        :param reason: the reason, at most 123 bytes as UTF-8.
        :raises BrokerUnavailable: if the request couldn't be sent.
        :raises GroupError: if *group* isn't a valid name, or *connection* isn't an id.
        :raises ValueError: if *code* or *reason* can't be sent.
        :raises TypeError: unless you pass either a group or a connection.
        :raises ConfigError: if connections may be in other workers, and the broker is
            ``memory://``.
        """
        self.groups.disconnect(group, connection, code, reason)

    def members(self, group: str) -> list[GroupMember]:
        """Return the members of a group, in all workers, in the order in which they joined.

        :param group: the name of a group with presence: a view that declares the group has
            ``presence = True``, or :meth:`configure_group` sets it.
        :raises GroupError: if *group* isn't a valid name, or has no presence.
        :raises BrokerUnavailable: if the broker can't be reached.
        """
        return cast("list[GroupMember]", self.groups.members(group))

    def count(self, group: str) -> int:
        """Return the number of members of a group, in all workers, as in :meth:`members`."""
        return cast("int", self.groups.count(group))

    def on_join(self, pattern: str) -> Callable[[T], T]:
        """Decorate a function to be called when a connection joins a group with presence::

            @websocket.on_join("room:{room}")
            def joined(group, member):
                websocket.send_message(group, "joined", member.meta)

        It is called in the worker of the connection, after the connection has joined. It has an
        application context, and runs in a thread of its worker or, under gevent, in a greenlet: it
        may wait. Events are handled in order. Exceptions are logged.

        :param pattern: the groups, such as ``"room:{room}"``.
        :raises RegistrationError: if *pattern* isn't valid, or if the function is ``async def``, a
            generator or can't be called with two arguments. The first use of groups raises it if
            they have no presence.
        """
        return self._presence_handler(JOINED, pattern)

    def on_leave(self, pattern: str) -> Callable[[T], T]:
        """Decorate a function to be called when a connection leaves a group, or ends.

        If a worker is killed, another worker with members in the group calls it, after at most one
        and a third times ``WSVIEWS_PRESENCE_TTL``. Otherwise it works as :meth:`on_join`.
        """
        return self._presence_handler(LEFT, pattern)

    def _presence_handler(self, event: str, pattern: str) -> Callable[[T], T]:
        def decorator(handler: T) -> T:
            check_presence_handler(handler)
            self._registrations.add(
                lambda app: state_of(app).add_presence_handler(event, pattern, handler), self.app
            )
            return handler

        return decorator

    def configure_group(
        self,
        pattern: str,
        *,
        history: int | None = None,
        history_seconds: float | None = None,
        presence: bool = False,
    ) -> None:
        """Configure groups that no view names in its ``groups``.

        :param pattern: the groups, such as ``"user:{id}"``.
        :param history: the number of messages to keep.
        :param history_seconds: how long to keep them; ``None`` for a day after the newest one.
        :param presence: whether :meth:`members` and :meth:`count` work for the groups.
        :raises RegistrationError: if *pattern* isn't valid, or already has other options.
        """
        options = GroupOptions(history_of(history, history_seconds), presence)
        self._registrations.add(
            lambda app: state_of(app).groups.configure(pattern, options), self.app
        )

    # -- running --------------------------------------------------------------------------------

    def run(
        self,
        app: str | None = None,
        debug: bool = False,
        host: str = "localhost",
        port: int = 5000,
        uwsgi_binary: str | None = None,
        verbose: bool = False,
        **options: Any,
    ) -> None:
        """Replace this process by uWSGI, which serves the application.

        One line shows the URL once uWSGI serves it. Errors of uWSGI and Python are shown unchanged.

        :param app: what uWSGI imports, as ``"module:callable"``. By default it is found by itself,
            if the application is a global of a module.
        :param debug: use Werkzeug's debugger, and reload when a module changes. To leave one out,
            pass ``use_debugger=False`` or ``use_reloader=False``.
        :param host: the address to listen on.
        :param port: the TCP port to listen on.
        :param uwsgi_binary: the path of uWSGI; by default ``FLASK_UWSGI_BINARY``, then ``uwsgi``
            beside the Python executable, then on ``PATH``.
        :param verbose: show all of uWSGI's output, with each request, and its command line.
        :param options: options of uWSGI, with ``_`` for ``-``: ``True`` is a bare flag, a list
            repeats the option, ``None`` and ``False`` leave it out.
        :raises CommandError: if uWSGI or the application can't be found, uWSGI was built without
            the loop that you ask for, or an option belongs to Werkzeug's server.
        """
        target = app or self.app
        if target is None:
            raise RegistrationError("run() needs an application: call init_app() first")
        debug = debug or (self.app is not None and self.app.debug)
        if verbose:
            options["verbose"] = True
        run_uwsgi(target, debug, host, port, uwsgi_binary, **options)

    def stop(self) -> None:
        """Stop the threads that serve connections in this process, for tests.

        No connection may be open. The next connection starts the threads again.
        """
        self.engines.stop()
        if self.app is not None:
            state_of(self.app).groups.close()


class GeventWebSocket(WebSocket):
    """WebSockets for a Flask application, with one greenlet per connection.

    Under uWSGI it needs the gevent loop: ``--gevent 100``, or ``app.run(gevent=100)``. Connections
    don't count against that number.
    """

    middleware = GeventWebSocketMiddleware
    _engine_name = "gevent"


class AsyncWebSocket(WebSocket):
    """WebSockets on the engine that fits the server. Flask-uWSGI-WebSocket has this name."""

    _engine_name = "auto"


class AsyncioWebSocket(WebSocket):
    """WebSockets for a Flask application, with one asyncio task per connection.

    Handlers may be ``async def``; plain ones run in a pool of threads. uWSGI needs neither
    ``--asyncio`` nor a special build: the event loop runs in a thread of each worker.
    """

    middleware = AsyncioWebSocketMiddleware
    _engine_name = "asyncio"

    # These return awaitables, as the methods of the class's clients do.

    def broadcast(  # type: ignore[override]
        self, group: str, message: Sendable, *, exclude: Any = None, keep: bool = True
    ) -> Outcome[str | None]:
        """Send a message to all members of a group, as :meth:`WebSocket.broadcast` does.

        :returns: in a coroutine, an awaitable for the id. Elsewhere the message has been sent.
        """
        return _outcome(super().broadcast(group, message, exclude=exclude, keep=keep))

    def send_message(  # type: ignore[override]
        self,
        group: str,
        type: str,
        obj: Any,
        *,
        exclude: Any = None,
        keep: bool = True,
        view: builtins.type[WebSocketView] | None = None,
    ) -> Outcome[str | None]:
        """Send a typed message to a group, as :meth:`WebSocket.send_message` does.

        :returns: as for :meth:`broadcast`.
        """
        result = super().send_message(group, type, obj, exclude=exclude, keep=keep, view=view)
        return _outcome(result)

    def disconnect(  # type: ignore[override]
        self,
        *,
        group: str | None = None,
        connection: Any = None,
        code: int = POLICY_VIOLATION,
        reason: str = "",
    ) -> Outcome[None]:
        """Close the members of a group or one connection, as :meth:`WebSocket.disconnect` does.

        :returns: an awaitable for ``None``, as for :meth:`broadcast`.
        """
        return _outcome(self.groups.disconnect(group, connection, code, reason))

    def members(self, group: str) -> Any:
        """Return the members of a group, as :meth:`WebSocket.members` does.

        :returns: in a coroutine, an awaitable for the list; elsewhere the list.
        """
        return self.groups.members(group)

    def count(self, group: str) -> Any:
        """Return the number of members of a group, as :meth:`members` returns the list."""
        return self.groups.count(group)


def _add_rule(
    rule: str,
    endpoint: str | None,
    view_func: Callable[..., Any] | None,
    options: Mapping[str, Any],
    app: flask.Flask,
) -> None:
    """Register a WebSocket rule on an application."""
    own_options = dict(options)
    endpoint, view = view_function(view_func, endpoint, own_options, app.view_functions)
    state = state_of(app)
    state.views.check_view(view, state.engine)
    app.add_url_rule(rule, endpoint, view, **rule_options(own_options))
    state.check_newest_rule(endpoint, rule_variables(rule, own_options.get("defaults")))


def _outcome(result: Any) -> Outcome[Any]:
    return result if isinstance(result, Outcome) else Outcome(result=result)
