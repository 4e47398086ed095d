"""Calls to the Redis server: how many at a time, and what each failure means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

from ....common.urls import shown_url, without_secrets
from ....exceptions import BrokerUnavailable
from ..health import BrokerRefused, Health
from .client import SharedClient
from .url import why_no_master

T = TypeVar("T")

# The most calls that a worker makes at once. A connection pool of redis-py has 100 connections.
MAX_CALLS = 50


class Calls:
    """Calls the server through the shared client and turns failures into BrokerUnavailable.

    :param client: the client.
    :param url: the broker's URL, which the log shows without its password.
    :param timeout: seconds that a call waits for its turn.
    """

    def __init__(self, client: SharedClient, url: str, timeout: float) -> None:
        clean = partial(without_secrets, url=url)
        self._client = client
        self._timeout = timeout
        # With hundreds of callers, most wait here: redis-py's pool would refuse them, though the
        # server is fine.
        self._turns = threading.Semaphore(MAX_CALLS)
        #: Whether the server can be reached.
        self.health = Health(f"the broker {shown_url(url)}", clean)
        # A server that is out of memory still publishes, but keeps nothing.
        self._keeping = Health(f"keeping messages in {shown_url(url)}", clean)
        self._permissions = Health(f"the user's permission in {shown_url(url)}", clean)

    def call(self, function: Callable[[], T], *, keeps: bool = False) -> T:
        """Return what *function* returns, after waiting for a turn.

        :param keeps: whether the call needs memory on the server.
        :raises BrokerUnavailable: if the call fails, or doesn't get a turn in time.
        """
        if not self._turns.acquire(timeout=self._timeout):
            raise BrokerUnavailable(
                f"this worker already has {MAX_CALLS} calls to the broker, and none of them has "
                f"ended within {self._timeout:g} s"
            )
        try:
            self.health.begin()
            return self.call_at_once(function, keeps=keeps)
        finally:
            self._turns.release()

    def run(
        self, script: str, keys: Sequence[str], arguments: Sequence[Any], *, keeps: bool = False
    ) -> Any:
        """Run a Lua script, as :meth:`call` does."""
        run = partial(self._client.run_script, script, keys, arguments)
        return self.call(run, keeps=keeps)

    def call_at_once(self, function: Callable[[], T], *, keeps: bool = False) -> T:
        """Return what *function* returns, without waiting for a turn."""
        with self._client.in_use():
            try:
                result = function()
            except (RedisError, RedisClusterException, OSError) as error:
                raise self._explain(error) from None
        self.health.succeeded()
        self._permissions.succeeded()
        if keeps:
            self._keeping.succeeded()
        return result

    def _explain(self, error: Exception) -> BrokerUnavailable:
        """Return the exception to raise for an error of redis-py."""
        if isinstance(error, MasterNotFoundError):
            reason = why_no_master(self._client.get(), error)
            return self.health.failed(RedisConnectionError(reason))
        if isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError)):
            # Only a connection that breaks before the answer leaves the outcome open: the server
            # drops messages that reach it late.
            is_open = str(error).startswith(("Connection closed", "Error while reading"))
            outcome = "it may have been sent" if is_open else "nothing was sent"
            return self.health.failed(error, outcome)
        if isinstance(error, ResponseError):
            self.health.succeeded()
            refusal = self._permissions if _is_forbidden(error) else self._keeping
            return BrokerRefused(str(refusal.failed(error)))
        return self.health.failed(error)


def _is_forbidden(error: ResponseError) -> bool:
    """Return whether the user lacks a permission, for the command or for one inside a script."""
    text = str(error)
    # Redis 6.2 and 7 use different words when a script may not use a command, a key or a channel.
    in_script = "The user executing the script", "ACL failure", "NOPERM"
    return isinstance(error, NoPermissionError) or any(each in text for each in in_script)
