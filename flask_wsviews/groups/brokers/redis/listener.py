"""The thread that listens to Redis: one per worker. Under gevent it is a greenlet.

All engines use it, asyncio too: it hands what arrives to an event loop with one call for all of the
loop's members, so an asyncio client of Redis would gain nothing.
"""

from __future__ import annotations

import contextlib
import logging
import select
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from ....common.threads import start_thread
from ....common.waker import Waker
from ..base import Delivery, History
from ..health import Health, delay_after
from .history import Histories
from .incoming import Incoming, Subscription
from .keys import Keys
from .link import Link
from .servers import Servers

logger = logging.getLogger("flask_wsviews")


class Listener:
    """Subscribes to groups, and again after each lost connection.

    :param servers: the servers.
    :param keys: the names of channels.
    :param histories: the histories of groups.
    :param deliver: takes each message.
    :param health: notes successes and failures.
    :param timeout: seconds that an answer may take.
    """

    def __init__(
        self,
        servers: Servers,
        keys: Keys,
        histories: Histories,
        deliver: Callable[[Delivery], None],
        health: Health,
        timeout: float,
    ) -> None:
        self._servers = servers
        self._keys = keys
        self._histories = histories
        self._incoming = Incoming(histories, deliver)
        self._health = health
        self._timeout = timeout
        self._lock = threading.Lock()
        self._subscriptions: dict[str, Subscription] = {}
        self._unsubscribed: deque[str] = deque()
        #: Groups with a history that were unsubscribed, but whose options aren't released yet.
        self._releasing: set[str] = set()
        self._thread: threading.Thread | None = None
        self._waker: Waker | None = None
        self._closed = False
        self._is_connecting = False
        # Only the thread uses the following.
        self._links: dict[str, Link] = {}
        self._node_of: dict[str, str] = {}
        self._failures = 0
        self._retry_at = 0.0

    # -- from any thread --------------------------------------------------------------------------

    def subscribe(self, group: str, history: History | None) -> None:
        """Subscribe to a group, and return once the server has confirmed it.

        :raises BrokerUnavailable: if it doesn't confirm in time.
        """
        self._health.begin()
        subscription = Subscription(history)
        with self._lock:
            self._subscriptions[group] = subscription
            self._retry_at = 0.0
            self._start()
        self._wake()
        if not subscription.settled.wait(self._timeout):
            subscription.error = TimeoutError(self._why_late())
        if subscription.error is not None:
            self.unsubscribe(group)
            raise self._health.failed(subscription.error)
        if history is not None:
            try:
                self._find_position(group, subscription, history)
            except BaseException:
                self.unsubscribe(group)
                raise
            self._histories.start_renewing()

    def _why_late(self) -> str:
        if self._is_connecting:
            what = "connecting takes longer than"
            return f"{what} {self._timeout:g} s: check the host name, the network and TLS"
        return f"no answer within {self._timeout:g} s"

    def _find_position(self, group: str, subscription: Subscription, history: History) -> None:
        """Note the group's current position, from which gaps are filled later."""
        while subscription.position is None:
            confirmations = subscription.confirmations
            position = self._histories.replay(group, None, history).position
            with self._lock:
                # After a reconnect in between, that position may be past messages that were missed.
                if subscription.position is None and subscription.confirmations == confirmations:
                    subscription.position = position

    def unsubscribe(self, group: str) -> None:
        """Unsubscribe from a group, soon."""
        with self._lock:
            subscription = self._subscriptions.pop(group, None)
            if subscription is not None:
                self._unsubscribed.append(group)
                if subscription.history is not None:
                    self._releasing.add(group)
        self._wake()

    def histories(self) -> list[tuple[str, History]]:
        """Return the subscribed groups that have a history."""
        with self._lock:
            subscriptions = list(self._subscriptions.items())
        return [(group, one.history) for group, one in subscriptions if one.history is not None]

    def close(self) -> None:
        """End the thread, soon."""
        with self._lock:
            self._closed = True
        self._wake()

    def _start(self) -> None:
        if self._thread is None:
            self._waker = Waker()
            try:
                self._thread = start_thread(self._run, "wsviews-redis")
            except RuntimeError:
                self._waker.close()
                raise

    def _wake(self) -> None:
        if self._waker is not None:
            self._waker.wake()

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        with self._servers.client.in_use():
            self._listen()

    def _listen(self) -> None:
        assert self._waker is not None
        while not self._closed:
            began = monotonic()
            try:
                self._step()
            except Exception as error:
                if self._closed:
                    # The server is stopping at the same time: don't log that.
                    break
                if not isinstance(error, (RedisError, RedisClusterException, OSError)):
                    logger.exception("listening to the broker failed")
                self._reset(error, began)
        for link in self._links.values():
            link.close()
        self._waker.close()

    def _step(self) -> None:
        now = monotonic()
        if now >= self._retry_at:
            self._update_subscriptions()
        for link in self._links.values():
            link.tick(now)
        for link in self._wait(now):
            for response in link.read():
                self._handle(link, response)

    def _wait(self, now: float) -> list[Link]:
        """Wait until there is something to do, and return the links to read from."""
        assert self._waker is not None
        links = {link.fd: link for link in self._links.values()}
        due = [link.deadline for link in self._links.values()]
        if self._retry_at > now and self._subscriptions:
            due.append(self._retry_at)
        poll = select.poll()
        waker = self._waker
        poll.register(waker, select.POLLIN)
        for fd in links:
            poll.register(fd, select.POLLIN)
        milliseconds = None if not due else max(0.0, min(due) - monotonic()) * 1000 + 1
        buffered = [fd for fd, link in links.items() if link.has_more]
        ready = {*buffered, *(fd for fd, _ in poll.poll(0 if buffered else milliseconds))}
        if waker.fileno() in ready:
            waker.drain()
        return [links[fd] for fd in ready if fd in links]

    def _update_subscriptions(self) -> None:
        """Send the commands that subscribe to new groups and unsubscribe from old ones."""
        with self._lock:
            old = list(self._unsubscribed)
            self._unsubscribed.clear()
            groups = list(self._subscriptions)
        for group in old:
            self._send_unsubscribe(group)
        new: dict[str, list[str]] = {}
        for group in groups:
            if group not in self._node_of:
                node = self._servers.node_of(self._keys.channel(group))
                new.setdefault(node, []).append(group)
        for node, groups in new.items():
            self._send_subscribe(node, groups)

    def _send_unsubscribe(self, group: str) -> None:
        link = self._links.get(self._node_of.pop(group, "-"))
        if link is not None and group in link.groups:
            link.groups.discard(group)
            link.send(self._servers.subscribe_commands[1], self._keys.channel(group))
        else:
            self._releasing.discard(group)

    def _send_subscribe(self, node: str, groups: list[str]) -> None:
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = Link(self._connect(node), self._timeout)
        link.groups.update(groups)
        link.pending.update(groups)
        for group in groups:
            self._node_of[group] = node
        command = self._servers.subscribe_commands[0]
        channels = [self._keys.channel(group) for group in groups]
        if self._servers.takes_many_channels:
            link.send(command, *channels)
        else:
            for channel in channels:
                link.send(command, channel)

    def _connect(self, node: str) -> Any:
        self._is_connecting = True
        try:
            return self._servers.connect(node)
        finally:
            self._is_connecting = False

    def _handle(self, link: Link, response: Any) -> None:
        kind = response[0]
        if kind in (b"message", b"smessage"):
            group = self._keys.group_of(response[1])
            subscription = self._subscriptions.get(group)
            if subscription is not None:
                self._incoming.take(group, subscription, response[2])
        elif kind in (b"subscribe", b"ssubscribe"):
            group = self._keys.group_of(response[1])
            link.pending[group] -= 1
            if not link.pending[group]:
                del link.pending[group]
                self._confirmed(group)
        elif kind == b"unsubscribe":
            self._ended(self._keys.group_of(response[1]))
        elif kind == b"sunsubscribe":
            group = self._keys.group_of(response[1])
            if group not in link.groups:
                self._ended(group)
            else:
                # The channel's slot has moved to another server.
                link.groups.discard(group)
                self._node_of.pop(group, None)
                self._servers.refresh()

    def _confirmed(self, group: str) -> None:
        self._failures = 0
        self._health.succeeded()
        subscription = self._subscriptions.get(group)
        if subscription is None:
            return
        with self._lock:
            subscription.confirmations += 1
        self._incoming.fill_gap(group, subscription)
        subscription.settled.set()

    def _ended(self, group: str) -> None:
        if group not in self._subscriptions and group in self._releasing:
            self._releasing.discard(group)
            self._histories.release(group)

    def _reset(self, error: Exception, began: float) -> None:
        """Close all links after a failure; they are opened again after a delay."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._node_of.clear()
        self._releasing.clear()
        self._failures += 1
        self._retry_at = monotonic() + delay_after(self._failures)
        self._health.failed(error, began=began)
        for subscription in list(self._subscriptions.values()):
            if not subscription.confirmations:
                subscription.error = error
                subscription.settled.set()
        with contextlib.suppress(Exception):
            self._servers.refresh()
