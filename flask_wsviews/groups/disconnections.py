"""Closes single connections by their id, also for other workers."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from ..common.threads import start_thread
from ..exceptions import BrokerUnavailable
from .brokers.base import CONNECTIONS, Broker, Disconnection
from .brokers.health import delay_after
from .outcome import in_event_loop

if TYPE_CHECKING:
    from ..engines import Driver


class Connected(Protocol):
    """The part of a client that is needed to close its connection."""

    @property
    def _driver(self) -> Driver | None: ...


class Disconnections:
    """Subscribes to disconnections while this process has connections that can be closed by id.

    :param broker: the broker to subscribe with.
    :param clients: the clients by the ids of their connections.
    """

    def __init__(self, broker: Broker, clients: Mapping[str, Connected]) -> None:
        self._broker = broker
        self._clients = clients
        self._lock = threading.Lock()
        self._listening: WeakSet[Connected] = WeakSet()
        self._is_subscribing = self._is_subscribed = False
        self._closed = threading.Event()

    def listen(self, client: Connected) -> None:
        """Subscribe, if nothing is subscribed yet, until *client* is forgotten.

        This waits for the broker, except in an event loop. If it fails, a thread retries.
        """
        with self._lock:
            self._listening.add(client)
            if self._is_subscribing:
                return
            self._is_subscribing = True
        if in_event_loop() or not self._subscribe():
            try:
                start_thread(self._keep_trying, "wsviews-listen")
            except RuntimeError:
                # The next client tries again.
                self._is_subscribing = False
                raise

    def forget(self, client: Connected) -> None:
        """Unsubscribe if *client* was the last one. Never waits."""
        with self._lock:
            self._listening.discard(client)
            self._unsubscribe_if_unused()

    def close_connection(self, ending: Disconnection) -> None:
        """Close the connection with the id in *ending*, if it is in this process."""
        client = self._clients.get(ending.connection or "")
        driver = None if client is None else client._driver
        if driver is not None:
            driver.close(ending.code, ending.reason)

    def close(self) -> None:
        """Stop retrying."""
        self._closed.set()

    def _subscribe(self) -> bool:
        try:
            self._broker.subscribe(CONNECTIONS, None)
        except BrokerUnavailable:
            return False
        with self._lock:
            self._is_subscribed = True
            self._unsubscribe_if_unused()
        return True

    def _unsubscribe_if_unused(self) -> None:
        if self._is_subscribed and not self._listening:
            self._is_subscribing = self._is_subscribed = False
            self._broker.unsubscribe(CONNECTIONS)

    def _keep_trying(self) -> None:
        failures = 0
        while not self._subscribe():
            failures += 1
            if self._closed.wait(delay_after(failures)):
                return
