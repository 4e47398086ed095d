"""How many messages a client may send: rates as the library ``limits`` reads them.

A connection that is counted by itself does so itself: it lives in one worker, its clock can't be
set back, and nothing is left behind when it ends. What several connections share is counted by the
library, in the memory of the worker or in Redis.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..common.per_process import PerProcess
from ..common.urls import without_secrets
from ..exceptions import ConfigError

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import RateLimiter

logger = logging.getLogger("flask_wsviews")

KEY = "WSVIEWS_RATE_LIMIT_STORAGE"
MEMORY = "memory://"

# How long a storage that fails is left alone, in seconds, so that it delays a message now and then
# and not each.
RETRY_AFTER = 1.0

# The storages that wait for an answer as long as they are told.
_TAKES_TIMEOUT = ("redis", "valkey")


def check_rate(key: str, value: Any) -> str | None:
    """Check rates such as ``"20/second"`` or ``"20/second; 300/minute"``.

    :param key: what it is called, for the error.
    :returns: ``None`` if *value*, ``None`` or ``""``, stands for no limit.
    :raises ConfigError: if it is none, or the library isn't installed.
    """
    if value is None or value == "":
        return None
    limits = _library(key)
    try:
        items = limits.parse_many(value)
    except (ValueError, TypeError):
        items = []
    if not items or any(item.amount < 1 for item in items):
        raise ConfigError(f'{key} must be a rate such as "20/second", or None, not {value!r}')
    return str(value)


def windows(rate: str) -> list[tuple[int, float, str]]:
    """The limits of a connection that is counted by itself.

    :param rate: what :func:`check_rate` has returned.
    :returns: how many messages in how many seconds, and the reason to close with.
    """
    return [(item.amount, item.get_expiry(), _reason(item)) for item in _parse(rate)]


class RateLimits:
    """Where an application counts what several connections share.

    :param storage_url: as ``limits`` has it: ``memory://``, ``redis://…`` and so on.
    :param prefix: what keys in the storage begin with.
    :param timeout: seconds that an answer of Redis may take.
    """

    def __init__(self, storage_url: str, prefix: str = "wsviews", timeout: float = 2.0) -> None:
        self._url = storage_url
        # Whether the rest can be used is for check() to say.
        scheme, separator, _ = storage_url.partition("://")
        self._scheme = scheme.lower() if separator else ""
        self._timeout = timeout
        # Made in the worker: the library's memory runs a thread, which doesn't survive a fork.
        self._limiter = PerProcess(self._make)
        self._retry_at: float | None = None
        self.prefix = prefix

    def check(self) -> None:
        """See that there is such a storage; nothing is connected to yet, but for a cluster.

        :raises ConfigError: if there is none, or a library is missing.
        """
        _library(KEY)
        if self._url != MEMORY:
            self._make()

    def meter(self, rate: str, key: str) -> Meter:
        """What counts the messages that have *key* in common.

        :param rate: what :func:`check_rate` has returned.
        :param key: whose messages are counted together.
        """
        return Meter(self, self._limiter.get(), _parse(rate), key, self._url != MEMORY)

    def _make(self) -> RateLimiter:
        from limits.errors import ConfigurationError
        from limits.storage import storage_from_string
        from limits.strategies import FixedWindowRateLimiter

        if self._scheme.startswith("async+"):
            raise ConfigError(
                f"{KEY}: remove async+ from the URL, as the storage is used from threads"
            )
        options: dict[str, Any] = {}
        if self._scheme.startswith(_TAKES_TIMEOUT):
            options = {"socket_timeout": self._timeout, "socket_connect_timeout": self._timeout}
        try:
            storage = storage_from_string(self._url, wrap_exceptions=True, **options)
            return FixedWindowRateLimiter(storage)
        except (ConfigurationError, ValueError) as error:
            reason = str(error).replace(self._url, f"{self._scheme}://")
            raise ConfigError(f"{KEY}: {without_secrets(reason, self._url)}") from None

    @property
    def is_resting(self) -> bool:
        """Whether the storage has just failed, and isn't asked for now."""
        return self._retry_at is not None and monotonic() < self._retry_at

    def note(self, error: Exception | None) -> None:
        """Tell the log once when the storage fails, and when it works again."""
        was_failing = self._retry_at is not None
        self._retry_at = None if error is None else monotonic() + RETRY_AFTER
        if error is not None and not was_failing:
            reason = without_secrets(str(error), self._url)
            logger.error("rates aren't limited, as their storage fails: %s", reason)
        elif error is None and was_failing:
            logger.warning("rates are limited again")


class Meter:
    """Counts messages that have a key in common.

    :param waits: whether that waits for a network.
    """

    def __init__(
        self,
        owner: RateLimits,
        limiter: RateLimiter,
        rates: list[RateLimitItem],
        key: str,
        waits: bool,
    ) -> None:
        self.waits = waits
        #: Why the client is closed, once it has sent too many.
        self.reason = ""
        self._owner = owner
        self._limiter = limiter
        self._rates = rates
        self._key = key

    def count(self) -> bool:
        """Count a message; says whether it is within the rates."""
        from limits.errors import StorageError

        owner = self._owner
        if owner.is_resting:
            return True
        try:
            hits = (
                (rate, self._limiter.hit(rate, owner.prefix, self._key)) for rate in self._rates
            )
            exceeded = next((rate for rate, is_within in hits if not is_within), None)
        except StorageError as error:
            # Clients are not to suffer for it.
            owner.note(error)
            return True
        owner.note(None)
        if exceeded is not None:
            self.reason = _reason(exceeded)
        return exceeded is None


def _reason(rate: RateLimitItem) -> str:
    return f"too many messages: {rate} at most"


def _parse(rate: str) -> list[RateLimitItem]:
    items: list[RateLimitItem] = _library("rate_limit").parse_many(rate)
    return items


def _library(key: str) -> Any:
    try:
        import limits
    except ImportError:
        raise ConfigError(
            f"{key} needs the library limits: pip install 'flask-wsviews[limits]'"
        ) from None
    return limits
