"""Whether a broker can be reached: told once when that changes, and not tried all the time."""

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

# Seconds between two attempts: at first, and at most.
FIRST_DELAY = 0.1
LONGEST_DELAY = 2.0

# Seconds for which the message of a check is kept.
CHECK_LIFE = 10.0


class BrokerRefused(BrokerUnavailable):
    """The server answers, but it refuses what it was asked for."""


def check_round_trip(broker: Broker, timeout: float) -> None:
    """Publish to a broker that hasn't been started, and wait for what comes back.

    It needs all permissions that a worker needs.

    :param timeout: seconds that a message may take to come back.
    :raises BrokerUnavailable: if one doesn't, or isn't kept.
    """
    heard = threading.Event()
    broker.start(lambda delivery: heard.set())
    keeps_history = type(broker).replay is not Broker.replay
    histories = (None, History(1, CHECK_LIFE)) if keeps_history else (None,)
    for history in histories:
        group = f"check-{secrets.token_hex(8)}"
        heard.clear()
        broker.subscribe(group, history)
        position = None if history is None else broker.replay(group, None, history).position
        broker.publish(Publication(group, "check", history=history))
        if not heard.wait(timeout):
            raise BrokerUnavailable(
                f"a message was published, but it didn't come back within {timeout:g} s"
            )
        if history is not None and not broker.replay(group, position, history).deliveries:
            raise BrokerUnavailable("a message was published, but its history didn't keep it")
        broker.unsubscribe(group)


def delay_after(failures: int) -> float:
    """How long to wait before the next attempt, in seconds.

    By chance up to a half less, so that workers which lost the broker together don't come back
    together.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311


class Health:
    """What is known of a broker.

    :param name: what the log calls it.
    :param clean: removes passwords from the text of an error.
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
        """Whether the last attempt succeeded, or there was none."""
        return not self._failures

    def begin(self) -> None:
        """Ask whether to try. While it fails, one attempt in a while is let through.

        :raises BrokerUnavailable: if there is no hope.
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
        """Note a failure; returns what to raise for it.

        :param began: when the attempt began, on the monotonic clock. One that began before the
            last recovery is old news.
        """
        with self._lock:
            if began is not None and began < self._recovered_at:
                return self.error(outcome)
            self._failures += 1
            self._retry_at = monotonic() + delay_after(self._failures)
            is_news = self._failures == 1
            self._error = self._clean(str(error) or type(error).__name__)
        if is_news:
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
        """What to raise."""
        return BrokerUnavailable(f"{self._name} fails, {outcome}: {self._error}")
