"""The state of one application, and the moment when its settings become final."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Mapping
from copy import copy
from dataclasses import fields
from typing import Any, Protocol

from flask import Flask
from marshmallow import Schema

from .close_codes import GOING_AWAY, SERVICE_RESTART
from .common.admission import Admission
from .common.rate_limits import RateLimits, check_rate
from .common.urls import shown_url
from .config import Settings, key_of
from .engines import Engine
from .engines.shared import SharedEngines
from .exceptions import ConfigError, RegistrationError, WSViewsError
from .groups import GroupMember, Groups
from .logs import ConnectionLog
from .observers import Observer
from .registration.app_views import AppViews
from .servers import check_start
from .signals import Signals

logger = logging.getLogger("flask_wsviews")

#: The key of the extension in ``app.extensions``.
EXTENSION = "wsviews"

#: The key of the :class:`AppState` in ``app.extensions``.
STATE = "wsviews.state"

# They may contain passwords.
_URLS = ("broker_url", "rate_limit_storage")

_FAREWELLS = {GOING_AWAY: "the server stops", SERVICE_RESTART: "the server restarts"}


class Extension(Protocol):
    """The parts of an extension that its applications share."""

    #: The engines that serve connections.
    engines: SharedEngines
    #: Counts the connections of this worker.
    admission: Admission
    #: Dumps error frames.
    error_schema: Schema
    #: Observe the connections of all applications.
    observers: list[Observer]

    def read_settings(self, config: Mapping[str, Any]) -> Settings:
        """Return the settings in *config*."""
        ...


class AppState:
    """Everything that the package keeps for one application.

    The settings are checked when the application is set up, and become final at their first use: by
    a handshake, a broadcast or a command, or when a worker starts. All changes of ``app.config``
    before that count; later changes are refused.

    :param app: the application.
    :param extension: the extension that sets the application up.
    :raises ConfigError: if a setting isn't valid.
    :raises EngineError: if the engine can't run in this process.
    :raises ServerError: if the server gives no access to the sockets of clients.
    """

    def __init__(self, app: Flask, extension: Extension) -> None:
        self.app = app
        self.extension = extension
        self._initial = extension.read_settings(app.config)
        extension.engines.prepared(self._initial)
        check_start()
        self.groups = Groups(self._initial)
        self.rate_limits = _rate_limits(self._initial)
        self.views = AppViews(app, self.groups, type(extension).__name__)
        #: Whether a middleware has set the application up, and ``init_app()`` may still be called.
        self.is_set_up_by_middleware = False
        self._observers: tuple[Observer, ...] = (ConnectionLog(), Signals(app))
        self._all_observers: tuple[Observer, ...] = ()
        self._lock = threading.RLock()
        #: The final settings; ``None`` before their first use.
        self.settings: Settings | None = None
        self._engine: Engine | None = None
        # The configuration when it was last compared with the settings.
        self._seen: dict[str, Any] = {}

    # -- settings -------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether the settings are final."""
        return self.settings is not None

    def settle(self) -> Settings:
        """Return the settings. The first call makes them final.

        :raises ConfigError: if a setting isn't valid, or was changed after the first call.
        :raises WSViewsError: if the registered views don't fit the settings.
        """
        # Comparing takes less than a microsecond: most values are the same objects.
        if self.settings is None or self.app.config != self._seen:
            with self._lock:
                self._compare()
        assert self.settings is not None
        return self.settings

    def settle_at_start(self) -> None:
        """Make the settings final when a worker starts; log an error instead of raising it."""
        try:
            self.settle()
        except WSViewsError as error:
            logger.error("this worker can't serve WebSockets: %s", error)

    def _compare(self) -> None:
        config = self.app.config
        seen = {key: _kept(value) for key, value in config.items()}
        settings = self.extension.read_settings(config)
        if self.settings is None:
            self._engine = self._apply(settings)
            self.settings = settings
        elif settings != self.settings:
            raise ConfigError(_changes(self.settings, settings))
        self._seen = seen

    def _apply(self, settings: Settings) -> Engine:
        """Apply the final settings, and return the engine."""
        if settings.monkey_patch != self._initial.monkey_patch:
            raise ConfigError(
                f"WSVIEWS_MONKEY_PATCH was changed from {self._initial.monkey_patch} to "
                f"{settings.monkey_patch} after it took effect: set it before "
                f"{type(self.extension).__name__}(app) or init_app()"
            )
        rate_limits = _rate_limits(settings)
        engine = self.extension.engines.use(settings)
        self.groups.use(settings)
        self.rate_limits = rate_limits
        self.views.check_engine_of_all(engine)
        self.views.check_rules()
        self.views.check_services(rate_limits)
        return engine

    # -- registered views -----------------------------------------------------------------------

    def check_views(self) -> None:
        """Check all registered views.

        Once the settings are final, this includes the broker and the storage of rate limits.

        :raises RegistrationError: naming the handlers, rules or groups that don't fit.
        :raises ConfigError: if groups don't reach all workers, or messages can't be counted.
        """
        self.views.check_all(self.engine)
        if self.is_settled:
            self.views.check_services(self.rate_limits)

    def check_endpoint(self, endpoint: str, variables: Container[str]) -> None:
        """Check a view and its newest rule, as :meth:`check_views` does for all.

        :param variables: those of the rule, if they are known.
        """
        self.views.check_view(self.app.view_functions[endpoint], self.engine)
        self.check_newest_rule(endpoint, variables)

    def check_newest_rule(self, endpoint: str, variables: Container[str]) -> None:
        """Check the newest rule of a view, as :meth:`check_endpoint` does.

        :param variables: those of the rule, if they are known.
        """
        self.views.check_newest_rule(endpoint)
        self.views.check_groups(endpoint, variables)
        if self.is_settled:
            self.views.check_services(self.rate_limits, [self.app.view_functions[endpoint]])

    def add_presence_handler(
        self, event: str, pattern: str, handler: Callable[[str, GroupMember], object]
    ) -> None:
        """Call *handler*, in an application context, when a connection joins or leaves a group.

        :param event: ``JOINED`` or ``LEFT``.
        :param pattern: the groups.
        :raises RegistrationError: if *pattern* isn't valid.
        """

        def call(group: str, member: GroupMember) -> None:
            with self.app.app_context():
                handler(group, member)

        self.groups.events.add(event, pattern, call)

    # -- serving --------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The application's engine. Until the settings are final, it follows ``app.config``.

        :raises EngineError: if there is no such engine, or its library isn't installed.
        """
        if self._engine is not None:
            return self._engine
        return self.extension.engines.unused(self.app.config.get("WSVIEWS_ENGINE"))

    def observers(self) -> tuple[Observer, ...]:
        """Return the observers of the application's connections: one object until they change."""
        every = (*self._observers, *self.extension.observers)
        if every != self._all_observers:
            self._all_observers = every
        return self._all_observers

    def close_connections(self, code: int) -> None:
        """Close the connections of this worker because it ends, within ``shutdown_timeout``.

        :param code: 1012 Service Restart if the worker is replaced, otherwise 1001 Going Away.
        """
        if self.settings is not None and self.engine.is_last_call():
            self.engine.shutdown(code, _FAREWELLS.get(code, ""), self.settings.shutdown_timeout)
            self.groups.close()


def state_of(app: Flask) -> AppState:
    """Return the state of an application.

    :raises RegistrationError: if the application isn't set up.
    """
    state: AppState | None = app.extensions.get(STATE)
    if state is None:
        raise RegistrationError(
            f"no WebSocket(app) has been made for {app.name!r}: call init_app() first"
        )
    return state


def groups_of(app: Flask) -> Groups:
    """Return the groups of an application, for use: its settings become final.

    :raises RegistrationError: if the application isn't set up.
    :raises ConfigError: if a setting isn't valid, or was changed after its first use.
    """
    state = state_of(app)
    state.settle()
    return state.groups


def _rate_limits(settings: Settings) -> RateLimits:
    """Return the storage of rate limits, which is checked if the settings have a limit.

    :raises ConfigError: if the limit or the storage isn't valid.
    """
    limits = RateLimits(settings.rate_limit_storage, settings.key_prefix, settings.broker_timeout)
    if check_rate("WSVIEWS_RATE_LIMIT", settings.rate_limit) is not None:
        limits.check()
    return limits


def _kept(value: Any) -> Any:
    """Return a copy of a value that can be changed in place, otherwise the value."""
    return copy(value) if isinstance(value, (list, set)) else value


def _changes(settled: Settings, changed: Settings) -> str:
    """Return an error message that lists the settings that were changed too late."""
    changes = [
        f"{key_of(field.name)} was changed from {_shown(field.name, settled)} "
        f"to {_shown(field.name, changed)}"
        for field in fields(Settings)
        if getattr(settled, field.name) != getattr(changed, field.name)
    ]
    return (
        f"{'; '.join(changes)} after the settings were first used: set it before the first "
        "handshake, broadcast or command"
    )


def _shown(name: str, settings: Settings) -> str:
    """Return a setting as it may be shown, without passwords."""
    value = getattr(settings, name)
    if name in _URLS:
        value = shown_url(value)
    return repr(sorted(value) if isinstance(value, frozenset) else value)
