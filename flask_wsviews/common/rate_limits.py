"""Rate limits for clients' messages, written as the library ``limits`` reads them.

A connection with its own limit counts its messages itself: it stays in one worker, its clock is
monotonic, and its counts vanish when it ends. The library counts the messages of connections that
share a key, in the worker's memory or in Redis.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..exceptions import ConfigError
from .per_process import PerProcess
from .urls import without_secrets

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import RateLimiter

logger = logging.getLogger("flask_wsviews")

KEY = "WSVIEWS_RATE_LIMIT_STORAGE"
MEMORY = "memory://"

# Seconds until a failed storage is asked again: its timeout then delays few messages, not each.
RETRY_AFTER = 1.0

# The storages that take a timeout.
_TAKES_TIMEOUT = ("redis", "valkey")


def check_rate(key: str, value: Any) -> str | None:
    """Check rates such as ``"20/second"`` or ``"20/second; 300/minute"``.

    :param key: the name of the option, for the error message.
    :returns: the rates, or ``None`` if *value* is ``None`` or ``""``, which mean no limit.
    :raises ConfigError: if *value* isn't a rate, or the library isn't installed.
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
    """Return the limits for a connection that counts its own messages.

    :param rate: a result of :func:`check_rate`.
    :returns: for each limit the number of messages, the seconds, and the close reason.
    """
    return [(item.amount, item.get_expiry(), _reason(item)) for item in _parse(rate)]


class RateLimits:
    """An application's storage for the counts that several connections share.

    :param storage_url: a URL that ``limits`` understands: ``memory://``, ``redis://…`` and so on.
    :param prefix: the prefix of keys in the storage.
    :param timeout: seconds to wait for an answer from Redis.
    """

    def __init__(self, storage_url: str, prefix: str = "wsviews", timeout: float = 2.0) -> None:
        self._url = storage_url
        # check() validates the rest.
        scheme, separator, _ = storage_url.partition("://")
        self._scheme = scheme.lower() if separator else ""
        self._timeout = timeout
        # Made in the worker: the library's memory runs a thread, which doesn't survive a fork.
        self._limiter = PerProcess(self._make)
        self._retry_at: float | None = None
        self.prefix = prefix

    def check(self) -> None:
        """Check the storage's URL and libraries. Connects only if the storage is a cluster.

        :raises ConfigError: if the URL is invalid, or a library is missing.
        """
        _library(KEY)
        if self._url != MEMORY:
            self._make()

    def meter(self, rate: str, key: str) -> Meter:
        """Return a meter for the messages of all connections with the same *key*.

        :param rate: a result of :func:`check_rate`.
        :param key: connections with the same key share one count.
        """
        return Meter(self, self._limiter.get(), _parse(rate), key, self._url != MEMORY)

    def _make(self) -> RateLimiter:
        from limits.errors import ConfigurationError
        from limits.storage import storage_from_string
        from limits.strategies import FixedWindowRateLimiter

        if self._scheme.startswith("async+"):
            raise ConfigError(
                f"{KEY}: remove async+ from the URL: the storage is used from threads"
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
        """Whether the storage failed less than ``RETRY_AFTER`` seconds ago and isn't asked."""
        return self._retry_at is not None and monotonic() < self._retry_at

    def note(self, error: Exception | None) -> None:
        """Log once when the storage begins to fail, and once when it works again."""
        was_failing = self._retry_at is not None
        self._retry_at = None if error is None else monotonic() + RETRY_AFTER
        if error is not None and not was_failing:
            reason = without_secrets(str(error), self._url)
            logger.error("rate limits are off because their storage fails: %s", reason)
        elif error is None and was_failing:
            logger.warning("rate limits are on again: their storage works")


class Meter:
    """Counts the messages of all connections with the same key.

    :param waits: whether :meth:`count` waits for the network.
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
        #: The close reason, once the rate is exceeded.
        self.reason = ""
        self._owner = owner
        self._limiter = limiter
        self._rates = rates
        self._key = key

    def count(self) -> bool:
        """Count a message and return whether it is within the rates."""
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
            # A failing storage doesn't close connections.
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
