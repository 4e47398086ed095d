"""Tracks whether a broker can be reached: logs changes once, and limits retries."""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections.abc import Callable
from time import monotonic

from ...exceptions import BrokerUnavailable
from .base import Broker, History, Publication

logger = logging.getLogger("flask_wsviews")

# Seconds between two attempts: the first and the longest delay.
FIRST_DELAY = 0.1
LONGEST_DELAY = 2.0

# Seconds that a history keeps the message of a check.
CHECK_LIFE = 10.0


class BrokerRefused(BrokerUnavailable):
    """The server answers, but refuses the request."""


def check_round_trip(broker: Broker, timeout: float) -> None:
    """Start a broker, publish messages, and check that they are delivered and kept.

    This needs all permissions that a worker needs.

    :param timeout: seconds that a delivery may take.
    :raises BrokerUnavailable: if a message isn't delivered in time, or its history doesn't keep it.
    """
    delivered = threading.Event()
    broker.start(lambda delivery: delivered.set())
    keeps_history = type(broker).replay is not Broker.replay
    histories = (None, History(1, CHECK_LIFE)) if keeps_history else (None,)
    for history in histories:
        group = f"check-{secrets.token_hex(8)}"
        delivered.clear()
        broker.subscribe(group, history)
        position = None if history is None else broker.replay(group, None, history).position
        broker.publish(Publication(group, "check", history=history))
        if not delivered.wait(timeout):
            raise BrokerUnavailable(
                f"a message was published, but it didn't come back within {timeout:g} s"
            )
        if history is not None and not broker.replay(group, position, history).deliveries:
            raise BrokerUnavailable("a message was published, but its history didn't keep it")
        broker.unsubscribe(group)


def delay_after(failures: int) -> float:
    """Return the seconds to wait before the next attempt: exponential backoff with jitter.

    The jitter keeps workers that lost the broker together from reconnecting together.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311


class Health:
    """Notes whether calls to a broker succeed, and limits attempts while they fail.

    :param name: the broker's name in the log.
    :param clean: removes passwords from an error's text.
    """

    def __init__(self, name: str, clean: Callable[[str], str] = str) -> None:
        self._name = name
        self._clean = clean
        self._lock = threading.Lock()
        self._failures = 0
        self._retry_at = 0.0
        self._error = ""
        self._recovered_at = 0.0

    @property
    def is_good(self) -> bool:
        """Whether the last attempt succeeded, or none was made."""
        return not self._failures

    def begin(self) -> None:
        """Call this before an attempt. While the broker fails, only some attempts are made.

        :raises BrokerUnavailable: if this attempt shouldn't be made.
        """
        if not self._failures:
            return
        with self._lock:
            now = monotonic()
            if self._failures and now < self._retry_at:
                raise self.error()
            self._retry_at = now + LONGEST_DELAY

    def failed(
        self,
        error: BaseException,
        outcome: str = "nothing was sent",
        *,
        began: float | None = None,
    ) -> BrokerUnavailable:
        """Note a failure, and return the exception to raise.

        :param outcome: what happened to the message, for the exception.
        :param began: when the attempt began, on the monotonic clock. An attempt from before the
            last recovery changes nothing.
        """
        with self._lock:
            if began is not None and began < self._recovered_at:
                return self.error(outcome)
            self._failures += 1
            self._retry_at = monotonic() + delay_after(self._failures)
            is_first = self._failures == 1
            self._error = self._clean(str(error) or type(error).__name__)
        if is_first:
            logger.error("%s fails: %s", self._name, self._error)
        return self.error(outcome)

    def succeeded(self) -> None:
        """Note a success."""
        if not self._failures:
            return
        with self._lock:
            was_bad = self._failures > 0
            self._failures = 0
            self._recovered_at = monotonic()
        if was_bad:
            logger.warning("%s works again", self._name)

    def error(self, outcome: str = "nothing was sent") -> BrokerUnavailable:
        """Return the exception for the last failure."""
        return BrokerUnavailable(f"{self._name} fails, {outcome}: {self._error}")
