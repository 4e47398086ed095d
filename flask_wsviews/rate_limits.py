"""How many messages a client may send: by the library ``limits``, in memory or in Redis."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from .exceptions import ConfigError

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import RateLimiter

logger = logging.getLogger("flask_wsviews")

KEY = "WSVIEWS_RATE_LIMIT_STORAGE"
MEMORY = "memory://"


def check_rate(key: str, value: Any) -> str | None:
    """Check a rate such as ``"20/second"``.

    :raises ConfigError: if it is none, or the library isn't installed.
    """
    if value is None:
        return None
    limits = _library(key)
    try:
        limits.parse(value)
    except (ValueError, TypeError):
        raise ConfigError(f'{key} is a rate such as "20/second", or None: {value!r}') from None
    return str(value)


class RateLimits:
    """The rates of an application, and where they are counted.

    :param storage_url: as ``limits`` has it: ``memory://``, ``redis://…`` and so on.
    """

    def __init__(self, storage_url: str) -> None:
        self._url = storage_url
        self._limiter: RateLimiter | None = None
        self._pid: int | None = None
        self._lock = threading.Lock()
        self._is_failing = False

    def check(self) -> None:
        """See that there is such a storage; nothing is connected to yet.

        :raises ConfigError: if there is none, or a library is missing.
        """
        _library(KEY)
        if self._url != MEMORY:
            self._make()

    def meter(self, rate: str, key: str) -> Meter:
        """What counts the messages of one client.

        :param rate: such as ``"20/second"``.
        :param key: whose messages are counted together.
        """
        with self._lock:
            # Made in the worker: the library's memory runs a thread, which survives no fork.
            if self._limiter is None or self._pid != os.getpid():
                self._limiter, self._pid = self._make(), os.getpid()
        item = _library("rate_limit").parse(rate)
        return Meter(self, self._limiter, item, key, self._url != MEMORY)

    def _make(self) -> RateLimiter:
        from limits.errors import ConfigurationError
        from limits.storage import storage_from_string
        from limits.strategies import FixedWindowRateLimiter

        try:
            return FixedWindowRateLimiter(storage_from_string(self._url, wrap_exceptions=True))
        except (ConfigurationError, ValueError) as error:
            raise ConfigError(f"{KEY}: {error}") from None

    def note(self, error: Exception | None) -> None:
        """Tell the log once when the storage fails, and when it works again."""
        if error is not None and not self._is_failing:
            logger.error("rates aren't limited, as their storage fails: %s", error)
        elif error is None and self._is_failing:
            logger.warning("rates are limited again")
        self._is_failing = error is not None


class Meter:
    """Counts the messages of one client.

    :param waits: whether that waits for a network.
    """

    def __init__(
        self, owner: RateLimits, limiter: RateLimiter, rate: RateLimitItem, key: str, waits: bool
    ) -> None:
        self.waits = waits
        self.rate = str(rate)
        self._owner = owner
        self._limiter = limiter
        self._item = rate
        self._key = key

    def count(self) -> bool:
        """Count a message; says whether it is within the rate."""
        from limits.errors import StorageError

        try:
            is_within = self._limiter.hit(self._item, "wsviews", self._key)
        except StorageError as error:
            # Clients are not to suffer for it.
            self._owner.note(error)
            return True
        self._owner.note(None)
        return is_within


def _library(key: str) -> Any:
    try:
        import limits
    except ImportError:
        raise ConfigError(
            f"{key} needs the library limits: pip install 'flask-wsviews[limits]'"
        ) from None
    return limits
