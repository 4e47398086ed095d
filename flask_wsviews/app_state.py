"""The one moment from which an application's settings count: when they are first used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .common.urls import shown_url
from .config import Settings, key_of
from .exceptions import ConfigError

if TYPE_CHECKING:
    from flask import Flask

    from .engines import Engine

#: Where the extension keeps the settings of an application.
SETTINGS = "wsviews.settings"

# They may contain passwords.
_URLS = ("broker_url", "rate_limit_storage")


class AppSettings:
    """The settings of one application: checked when it is set up, settled at first use.

    What ``app.config`` says between the two counts in full. What changes later is refused.

    :param app: the application.
    :param read: makes settings of ``app.config``.
    :param apply: called once, with the settings as they are settled; returns the engine that they
        name. What it raises leaves them unsettled.
    :raises ConfigError: if ``app.config`` has a value that can't be used.
    """

    def __init__(
        self,
        app: Flask,
        read: Callable[[Mapping[str, Any]], Settings],
        apply: Callable[[Settings], Engine],
    ) -> None:
        self._app = app
        self._read = read
        self._apply = apply
        self._lock = threading.RLock()
        #: As they were settled; ``None`` before.
        self.settings: Settings | None = None
        #: The engine that they name; ``None`` before they are settled.
        self.engine: Engine | None = None
        # The configuration as it was when it was last found to be unchanged.
        self._seen: dict[str, Any] = {}
        #: As they were when the application was set up.
        self.initial = read(app.config)

    @property
    def is_settled(self) -> bool:
        """Whether they have been used."""
        return self.settings is not None

    def settle(self) -> Settings:
        """Return the settings; from the first call on they may not change.

        :raises ConfigError: if a value can't be used, or was changed after the first call.
        """
        # Comparing takes less than a microsecond: most values are the same objects.
        if self.settings is None or self._app.config != self._seen:
            with self._lock:
                self._look()
        assert self.settings is not None
        return self.settings

    def _look(self) -> None:
        config = self._app.config
        seen = {key: _kept(value) for key, value in config.items()}
        settings = self._read(config)
        if self.settings is None:
            self.engine = self._apply(settings)
            self.settings = settings
        elif settings != self.settings:
            raise ConfigError(_changes(self.settings, settings))
        self._seen = seen


def _kept(value: Any) -> Any:
    """A copy of what may be changed in place."""
    return copy(value) if isinstance(value, (list, set)) else value


def _changes(settled: Settings, changed: Settings) -> str:
    """Name the settings that were changed too late."""
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
    value = getattr(settings, name)
    if name in _URLS:
        value = shown_url(value)
    return repr(sorted(value) if isinstance(value, frozenset) else value)
