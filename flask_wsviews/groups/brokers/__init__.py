"""The registry of brokers. A new broker is a module and a line here."""

from __future__ import annotations

from ...common.registry import Registry
from ...common.urls import shown_url
from ...config import Settings
from ...exceptions import ConfigError
from .base import Broker

_REDIS = ("flask_wsviews.groups.brokers.redis.broker", "RedisBroker")

#: The broker classes by the scheme of their URL. Each is called with the :class:`Settings`.
REGISTRY = Registry(
    {
        "memory": ("flask_wsviews.groups.brokers.memory", "MemoryBroker"),
        "redis": _REDIS,
        "rediss": _REDIS,
        "unix": _REDIS,
        "redis+sentinel": _REDIS,
        "rediss+sentinel": _REDIS,
        "redis+cluster": _REDIS,
        "rediss+cluster": _REDIS,
    }
)


def make_broker(settings: Settings) -> Broker:
    """Return the broker for ``WSVIEWS_BROKER_URL``. It connects later.

    :raises ConfigError: if no broker has the URL's scheme, or a library is missing.
    """
    scheme, separator, _ = settings.broker_url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in REGISTRY:
        shown = scheme if separator else shown_url(settings.broker_url)
        raise ConfigError(
            f"WSVIEWS_BROKER_URL: there is no broker for {shown!r}; "
            f"known are {', '.join(f'{known}://' for known in REGISTRY)}"
        )
    try:
        made: Broker = REGISTRY.load(scheme)(settings)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"WSVIEWS_BROKER_URL: {scheme}:// needs {error.name}: "
            f"pip install 'flask-wsviews[{error.name}]'"
        ) from error
    return made
