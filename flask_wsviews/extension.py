"""The Flask extension, in one flavour for each engine."""

from __future__ import annotations

import builtins
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from flask import current_app, request
from flask.signals import request_started
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.routing.exceptions import WebsocketMismatch

from .app_state import EXTENSION, STATE, AppState, groups_of, state_of
from .blueprints import Blueprint, register_as_websockets
from .close_codes import POLICY_VIOLATION
from .commands import cli
from .common.admission import Admission
from .common.json_text import dump_text
from .common.steps import is_coroutine_function
from .config import Settings
from .engines import Engine
from .engines.shared import SharedEngines
from .exceptions import EngineError, OutgoingMessageError, RegistrationError
from .groups import GroupMember, Groups, Outcome
from .groups.declared import GroupOptions, history_of
from .groups.mailbox import MESSAGE_ID
from .groups.presence.attendance import JOINED, LEFT
from .handshake.middleware import (
    AsyncioWebSocketMiddleware,
    GeventWebSocketMiddleware,
    WebSocketMiddleware,
)
from .handshake.wrapping import flask_app_in, wrapped
from .messages.declared import ErrorMessage, SchemaLike, as_schema
from .observers import Observer
from .protocol.opening import UpgradeRequired, asks_for_websocket, is_handshake
from .registration.mistakes import check_presence_handler
from .registration.rules import registering, rule_options, rule_variables
from .registration.view_functions import view_function
from .servers import when_worker_starts
from .servers.uwsgi.command import DEBUG_VARIABLE, WITHOUT_DEBUGGER, debugged, run_uwsgi
from .typing import Sendable
from .views import WebSocketView

if TYPE_CHECKING:
    import flask
    from _typeshed.wsgi import WSGIApplication

T = TypeVar("T", bound=Callable[..., Any])

logger = logging.getLogger("flask_wsviews")


class WebSocket:
    """WebSockets for a Flask application, one thread per connection.

    Wraps ``app.wsgi_app`` in :attr:`middleware`, and makes ``app.run()`` start uWSGI.

    :param app: the application; leave it out to call :meth:`init_app` later.
    :param timeout: seconds that a closing handshake may take, unless ``WSVIEWS_CLOSE_TIMEOUT`` is
        configured.
    :param engine: ``"blocking"``, ``"gevent"``, ``"asyncio"``, or ``"auto"`` for the one that fits
        the server; by default the class's own. ``WSVIEWS_ENGINE`` overrides it.
    :param error_schema: shapes the frame that answers a message which can't be used: a marshmallow
        schema, class or instance, that dumps an :class:`~flask_wsviews.InvalidMessage`.
    :raises EngineError: if the engine's library isn't installed.
    :raises RegistrationError: if *error_schema* isn't a schema.
    """

    #: The middleware's class; its ``client`` is the class of what handlers get.
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
        #: What shapes error frames.
        self.error_schema = as_schema("error_schema", error_schema) or ErrorMessage()
        #: The engines of its applications.
        self.engines = SharedEngines(engine or self._engine_name)
        #: The application, the last one if several are set up.
        self.app: flask.Flask | None = None
        #: What :meth:`add_observer` was given.
        self.observers: list[Observer] = []
        #: Counts the connections of this worker, and those of each address.
        self.admission = Admission()
        self._rules: list[Callable[[flask.Flask], None]] = []
        if app is not None:
            self.init_app(app)

    @property
    def engine(self) -> Engine:
        """What drives the connections of the current application, else of the last one set up.

        :raises EngineError: if it is to be chosen by the server, and no application is set up.
        """
        app: flask.Flask | None = current_app or self.app
        extension: WebSocket | None = app.extensions.get(EXTENSION) if app else None
        if app and extension is self:
            return state_of(app).engine
        if self.engines.default == "auto":
            raise EngineError(
                'with engine="auto" the engine is chosen when an application is set up: call '
                "init_app()"
            )
        return self.engines.unused(None)

    def init_app(self, app: flask.Flask) -> None:
        """Set an application up, and wrap its ``wsgi_app`` in :attr:`middleware`.

        The ``WSVIEWS_*`` settings are checked here, and settled when they are first used: by a
        handshake, a broadcast, a command. What is set between the two counts.

        :raises ConfigError: if a ``WSVIEWS_*`` value can't be used.
        :raises EngineError: if the engine can't run in this process.
        :raises ServerError: if the server has no socket that WebSockets can be taken from.
        :raises RegistrationError: if a view doesn't fit the engine, or *app* was set up before.
        """
        extension = app.extensions.get(EXTENSION)
        if extension is None:
            self._set_up(app)
        else:
            state = state_of(app)
            if extension is not self or not state.is_set_up_by_middleware:
                raise RegistrationError(
                    f"{type(extension).__name__} is already set up for {app.name!r}"
                )
            state.is_set_up_by_middleware = False
            if any(isinstance(one, WebSocketMiddleware) for one in wrapped(app.wsgi_app)):
                return
        made = self.middleware(_with_debugger(app.wsgi_app), self)
        setting_up: Any = app
        setting_up.wsgi_app = made

    def adopt(self, middleware: WebSocketMiddleware) -> AppState:
        """Prepare a middleware that wraps an application; it calls this when it is made.

        An application of the old package may make it itself, without ``init_app()``. The
        application is set up here then.

        :raises RegistrationError: if no application is set up and *middleware* wraps none, or one
            with another extension.
        """
        wraps = middleware.wsgi_app
        app = flask_app_in(wraps)
        if self.app is None:
            kind, name = type(middleware).__name__, type(self).__name__
            if app is None:
                raise RegistrationError(
                    f"{kind}: {wraps!r} doesn't lead to a Flask application. Call init_app(app) "
                    f"of the {name} that you pass: it wraps app.wsgi_app by itself"
                )
            if EXTENSION in app.extensions:
                raise RegistrationError(
                    f"{kind}: another extension is set up for {app.name!r}. Pass that one in "
                    f"place of a new {name}"
                )
            self._set_up(app)
            state_of(app).is_set_up_by_middleware = True
            middleware.wsgi_app = _with_debugger(wraps)
        if app is None or app.extensions.get(EXTENSION) is not self:
            app = self.app
        assert app is not None
        return state_of(app)

    def _set_up(self, app: flask.Flask) -> None:
        state = AppState(app, self)
        if os.environ.get(DEBUG_VARIABLE):
            app.debug = True
        app.extensions[EXTENSION] = self
        app.extensions[STATE] = state
        setting_up: Any = app
        setting_up.run = partial(self._run_app, app)
        app.register_error_handler(WebsocketMismatch, partial(_answer_mismatch, app))
        app.cli.add_command(cli.ws)
        self.app = app
        request_started.disconnect(self._explain_unused)
        for add_rule in self._rules:
            add_rule(app)
        state.check_views()
        when_worker_starts(state.settle_at_start)

    def read_settings(self, config: Mapping[str, Any]) -> Settings:
        """The ``WSVIEWS_*`` settings in *config*.

        :raises ConfigError: for one that can't be used.
        """
        return Settings.from_mapping(config, close_timeout=self.timeout)

    def add_observer(self, observer: Observer) -> None:
        """Have something told of all connections from now on.

        :param observer: see :class:`~flask_wsviews.observers.Observer`.
        """
        self.observers.append(observer)

    # -- registration ---------------------------------------------------------------------------

    def route(self, rule: str, **options: Any) -> Callable[[T], T]:
        """Decorate a function or a :class:`WebSocketView` class to serve *rule*.

        :param rule: the URL rule, with variables as in any Flask rule.
        :param options: see :meth:`add_url_rule`.
        """
        return registering(self.add_url_rule, rule, options)

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        """Register a WebSocket rule on the application, or on each one still to be set up.

        :param rule: the URL rule.
        :param endpoint: the endpoint's name; by default that of the function or class.
        :param view_func: a function, called once per connection as ``function(ws, **view_args)``; a
            :class:`WebSocketView` class; or its ``as_view()``.
        :param options: of the :class:`werkzeug.routing.Rule`, where ``strict_slashes`` is
            ``False`` by default: ``/chat`` and ``/chat/`` both match. For functions also what a
            class has as attributes: ``allowed_origins``, ``binary``, ``compression``,
            ``decorators``, ``emits``, ``groups``, ``headers_schema``, ``history``,
            ``history_seconds``, ``idle_timeout``, ``keep_g``, ``max_lifetime``,
            ``message_schema``, ``presence``, ``query_schema``, ``rate_limit``,
            ``rate_limit_key``, ``security``, ``slow_clients`` and ``subprotocols``.
        :raises RegistrationError: if *view_func* can't serve a WebSocket on this engine.
        """
        self._add(partial(self._add_rule, rule, endpoint, view_func, options))

    def register_blueprint(self, blueprint: flask.Blueprint, **options: Any) -> None:
        """Register a blueprint all of whose rules are WebSockets.

        A :class:`flask_wsviews.Blueprint` knows which of its rules are, and is registered as
        ``app.register_blueprint()`` would.

        :param options: as for :meth:`flask.Flask.register_blueprint`.
        """

        def add_to(app: flask.Flask) -> None:
            if isinstance(blueprint, Blueprint):
                app.register_blueprint(blueprint, **options)
            else:
                register_as_websockets(blueprint, app, options)

        self._add(add_to)

    def _add_rule(
        self,
        rule: str,
        endpoint: str | None,
        view_func: Callable[..., Any] | None,
        options: Mapping[str, Any],
        app: flask.Flask,
    ) -> None:
        own_options = dict(options)
        endpoint, view = view_function(view_func, endpoint, own_options, app.view_functions)
        state = state_of(app)
        state.views.check_view(view, state.engine)
        app.add_url_rule(rule, endpoint, view, **rule_options(own_options))
        state.check_newest_rule(endpoint, rule_variables(rule, own_options.get("defaults")))

    def _add(self, add_to: Callable[[flask.Flask], None]) -> None:
        if self.app is not None:
            add_to(self.app)
        elif not self._rules:
            # Until it is set up nobody else would notice.
            request_started.connect(self._explain_unused)
        self._rules.append(add_to)

    def _explain_unused(self, app: flask.Flask, **more: Any) -> None:
        """Log why a handshake meets no rule of this extension."""
        if is_handshake(request.environ) and request.routing_exception is not None:
            name = type(self).__name__
            app.logger.error(
                "no rule matches the handshake for %r, and %s() has rules but no application: "
                "call its init_app(app), or make it with %s(app)",
                request.path,
                name,
                name,
            )

    # -- groups ---------------------------------------------------------------------------------

    @property
    def groups(self) -> Groups:
        """The groups of the current application, else of the one that was set up last.

        :raises RegistrationError: if none was.
        :raises ConfigError: if the settings can't be used, or were changed after their first use.
        """
        app = current_app or self.app
        if not app:
            raise RegistrationError("groups need an application: call init_app() first")
        return groups_of(app)

    def broadcast(
        self, group: str, message: Sendable, *, exclude: Any = None, keep: bool = True
    ) -> str | None:
        """Send a message to all members of a group, wherever they are connected.

        It may be called from hooks, pages, CLI commands and threads, and never waits for a
        receiver. A member that is too slow is treated as ``WSVIEWS_SLOW_CLIENTS`` says.

        :param group: its name.
        :param message: ``str`` goes out as text, ``bytes`` and the like as binary.
        :param exclude: connections, or their ids, that don't get it: one or several.
        :param keep: ``False`` to send it live only: a group with a history doesn't keep it, and
            it has no id.
        :returns: the message's id, if the group has a history that keeps it.
        :raises BrokerUnavailable: if it was not sent.
        :raises GroupError: if *group* isn't a name, or *exclude* has something else than ids.
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
        """Send a typed message to all members of a group: dumped and checked by its schema.

        In a group with a history it carries its id as ``message_id``.

        :param type: one of those in the ``emits`` of a view.
        :param obj: what the schema dumps.
        :param exclude: as for :meth:`broadcast`.
        :param keep: as for :meth:`broadcast`.
        :param view: whose ``emits`` it is; by default that of a view which declares the group,
            else of any view that declares the type.
        :returns: the message's id, if the group has a history that keeps it.
        :raises OutgoingMessageError: if it isn't declared, or by several views each in its own
            way, or isn't as its schema says.
        :raises BrokerUnavailable: if it was not sent.
        """
        groups = self.groups
        app = current_app or self.app
        assert app is not None
        protocol = view.protocol if view else state_of(app).views.protocol_for(group, type)
        payload = protocol.dump(type, obj, validate=groups.settings.validate_outgoing)
        if MESSAGE_ID in payload and keep and groups.has_history(group):
            raise OutgoingMessageError(
                f"{type!r} already has a field {MESSAGE_ID!r}, which {group!r} needs for the id"
            )
        text = dump_text(app.json.dumps, payload)
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

        It may be called from wherever :meth:`broadcast` may, and returns when the broker has it,
        not when the connections are closed. Members get what was broadcast before. Those that are
        still joining or resuming are closed, too. Clients may reconnect: refuse them in
        ``on_handshake`` or ``authorize_group`` first, if they shouldn't.

        :param group: the group's name.
        :param connection: a connection or its id, ``ws.id``.
        :param code: the close code; 1008 Policy Violation by default.
        :param reason: the reason, at most 123 bytes as UTF-8.
        :raises BrokerUnavailable: if that was not sent.
        :raises GroupError: if *group* isn't a name, or *connection* isn't an id.
        :raises ValueError: if code or reason can't go into a close frame.
        :raises TypeError: unless either a group or a connection is given.
        :raises ConfigError: if connections may be in other workers, and the broker is
            ``memory://``.
        """
        self.groups.disconnect(group, connection, code, reason)

    def members(self, group: str) -> list[GroupMember]:
        """Who is in a group, in all workers.

        :param group: its name; it needs presence: ``presence = True`` on a view that declares it,
            or by :meth:`configure_group`.
        :returns: in the order in which they joined.
        :raises GroupError: if *group* isn't a valid name, or has no presence.
        :raises BrokerUnavailable: if the broker can't be reached.
        """
        return cast("list[GroupMember]", self.groups.members(group))

    def count(self, group: str) -> int:
        """How many connections are in a group, in all workers; see :meth:`members`."""
        return cast("int", self.groups.count(group))

    def on_join(self, pattern: str) -> Callable[[T], T]:
        """Decorate a function to be told of each connection that joins a group with presence::

            @websocket.on_join("room:{room}")
            def joined(group, member):
                websocket.send_message(group, "joined", member.meta)

        It is called in the worker that the connection is in, once the connection is a member, in
        an application context, in a thread of its own or, under gevent, in a greenlet. It may
        wait; events come in their order. What it raises is logged.

        :param pattern: the groups, such as ``"room:{room}"``.
        :raises RegistrationError: if it isn't a valid pattern, or the function is ``async def``, a
            generator or can't be called with two arguments; at the first use of groups if they have
            no presence.
        """
        return self._telling(JOINED, pattern)

    def on_leave(self, pattern: str) -> Callable[[T], T]:
        """Decorate a function to be told of each connection that leaves a group, or ends.

        If its worker was killed another one that has members in the group finds out, within
        ``WSVIEWS_PRESENCE_TTL`` and a third of it. Otherwise as :meth:`on_join`.
        """
        return self._telling(LEFT, pattern)

    def _telling(self, event: str, pattern: str) -> Callable[[T], T]:
        def decorator(handler: T) -> T:
            if is_coroutine_function(handler):
                raise RegistrationError(
                    f"{getattr(handler, '__name__', handler)!r} is async def, but handlers of "
                    "on_join() and on_leave() run in a thread: make it a plain function"
                )
            check_presence_handler(handler)
            self._add(partial(_add_presence_handler, event, pattern, handler))
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
        """Set what is kept of groups that no view names in its ``groups``.

        :param pattern: such as ``"user:{id}"``.
        :param history: how many messages.
        :param history_seconds: for how long; ``None`` for a day after the last one.
        :param presence: whether :meth:`members` and :meth:`count` tell who is in it.
        :raises RegistrationError: if *pattern* isn't valid, or has other options already.
        """
        options = GroupOptions(history_of(history, history_seconds), presence)
        self._add(lambda app: state_of(app).groups.configure(pattern, options))

    def stop(self) -> None:
        """End the threads that serving connections has begun in this process, for tests.

        There may be no connection any more; the next one begins them anew.
        """
        self.engines.stop()
        if self.app is not None:
            state_of(self.app).groups.close()

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
        """Replace this process by uWSGI serving the application.

        One line says where, once it serves. Errors are shown as uWSGI and Python write them.

        :param app: what uWSGI imports, as ``"module:callable"``; found by itself if the application
            is a module's global.
        :param debug: Werkzeug's debugger, and a reload whenever a module changes;
            ``use_debugger=False`` or ``use_reloader=False`` leaves one out.
        :param host: address to listen on.
        :param port: TCP port to listen on.
        :param uwsgi_binary: uWSGI's path; by default ``FLASK_UWSGI_BINARY``, then ``uwsgi`` beside
            the Python executable, then on ``PATH``.
        :param verbose: show all of uWSGI's output, with each request, and its command line.
        :param options: any of uWSGI's, with ``_`` for ``-``: ``True`` is a bare flag, a list
            repeats the option, ``None`` and ``False`` leave it out.
        :raises CommandError: if uWSGI or the application can't be found, uWSGI was built without
            the loop that is asked for, or an option belongs to Werkzeug's server.
        """
        target = app or self.app
        if target is None:
            raise RegistrationError("run() needs an application: call init_app() first")
        debug = debug or (self.app is not None and self.app.debug)
        if verbose:
            options["verbose"] = True
        run_uwsgi(target, debug, host, port, uwsgi_binary, **options)

    def _run_app(
        self,
        app: flask.Flask,
        host: str | None = None,
        port: int | None = None,
        debug: bool | None = None,
        load_dotenv: bool | None = None,
        **options: Any,
    ) -> None:
        """Takes the place of ``app.run()``, with its signature."""
        if load_dotenv is not None:
            options["load_dotenv"] = load_dotenv
        run_uwsgi(app, debug or app.debug, host or "localhost", port or 5000, **options)


class GeventWebSocket(WebSocket):
    """WebSockets for a Flask application, one greenlet per connection.

    Under uWSGI it needs the gevent loop: ``--gevent 100``, or ``app.run(gevent=100)``. Connections
    don't count against that number.
    """

    middleware = GeventWebSocketMiddleware
    _engine_name = "gevent"


class AsyncWebSocket(WebSocket):
    """WebSockets on the engine that fits the server, under a name of Flask-uWSGI-WebSocket's."""

    _engine_name = "auto"


class AsyncioWebSocket(WebSocket):
    """WebSockets for a Flask application, one asyncio task per connection.

    Handlers may be ``async def``; plain ones run in a pool of threads. uWSGI needs neither
    ``--asyncio`` nor a build of its own: the event loop runs in a thread of each worker.
    """

    middleware = AsyncioWebSocketMiddleware
    _engine_name = "asyncio"

    # Like the methods of its clients, these return something to await.
    def broadcast(  # type: ignore[override]
        self, group: str, message: Sendable, *, exclude: Any = None, keep: bool = True
    ) -> Outcome[str | None]:
        """Send a message to all members of a group, as :meth:`WebSocket.broadcast` does.

        :returns: what may be awaited in a coroutine, for the id; elsewhere it is done already.
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

        :returns: an awaitable, as for :meth:`broadcast`; it returns ``None``.
        """
        return _outcome(self.groups.disconnect(group, connection, code, reason))

    def members(self, group: str) -> Any:
        """Who is in a group, as :meth:`WebSocket.members` tells.

        :returns: in a coroutine what has to be awaited for the list; elsewhere the list itself.
        """
        return self.groups.members(group)

    def count(self, group: str) -> Any:
        """How many connections are in a group; see :meth:`members`."""
        return self.groups.count(group)


def _outcome(result: Any) -> Outcome[Any]:
    return result if isinstance(result, Outcome) else Outcome(result=result)


def _with_debugger(wsgi_app: WSGIApplication) -> WSGIApplication:
    """Put Werkzeug's debugger around an application that ``app.run(debug=True)`` has started."""
    wants_it = os.environ.get(DEBUG_VARIABLE) not in (None, "", WITHOUT_DEBUGGER)
    return debugged(wsgi_app) if wants_it else wsgi_app


def _add_presence_handler(
    event: str, pattern: str, handler: Callable[..., Any], app: flask.Flask
) -> None:
    def call(group: str, member: GroupMember) -> None:
        with app.app_context():
            handler(group, member)

    state_of(app).groups.events.add(event, pattern, call)


def _answer_mismatch(app: flask.Flask, error: WebsocketMismatch) -> ResponseReturnValue:
    """A request that met only rules of the other kind: say what would have worked."""
    answer: HTTPException
    if is_handshake(request.environ):
        answer = BadRequest("This resource is no WebSocket.")
    elif asks_for_websocket(request.environ):
        answer = BadRequest("The Connection header of a WebSocket handshake must contain Upgrade.")
    else:
        answer = UpgradeRequired()
    # The application's error page for it, if there is one.
    return app.handle_http_exception(answer)
