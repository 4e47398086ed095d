"""What listens to Redis: one thread per worker, which under gevent is a greenlet.

It is the same for all engines. What it hears goes to an event loop by that loop's own means, in
one call for all members, so a second one for asyncio would gain nothing.
"""

from __future__ import annotations

import contextlib
import logging
import select
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, Protocol

from redis.exceptions import RedisClusterException, RedisError

from ....common.threads import start_thread
from ....common.waker import Waker
from ....exceptions import BrokerUnavailable
from ..base import Delivery, History, Replay
from ..health import BrokerRefused, Health, delay_after
from ..wire import decode

logger = logging.getLogger("flask_wsviews")

# A server that hasn't been heard for so many seconds is asked whether it is there.
PING_INTERVAL = 5.0

# Messages that are taken before others have their turn: where the thread is a greenlet, nothing
# else would run for as long as more arrive than are handed out.
BATCH = 64


class Servers(Protocol):
    """What a listener needs of the broker that it belongs to."""

    @property
    def subscribe_commands(self) -> tuple[str, str]:
        """The commands that subscribe to a channel and unsubscribe from it."""
        ...

    @property
    def takes_many_channels(self) -> bool:
        """Whether one command can subscribe to several channels."""
        ...

    def node_of(self, group: str) -> str:
        """Return the name of the server that has a group's channel."""
        ...

    def connect(self, node: str) -> Any:
        """Open a connection of redis-py to one of the servers."""
        ...

    def look_again(self) -> None:
        """Find the servers again, after one has failed."""

    def channel(self, group: str) -> str:
        """Return the channel of a group."""
        ...

    def group_of(self, channel: bytes) -> str:
        """Return the group of a channel."""
        ...

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """Return the messages of a history after an id."""
        ...

    def catch_up(self, group: str, since: str | None, history: History) -> Replay:
        """Return them ahead of all other requests."""
        ...

    def subscribed(self) -> None:
        """Called when a subscription begins."""

    def unsubscribed(self, group: str) -> None:
        """Called when a subscription has ended."""

    def client_in_use(self) -> AbstractContextManager[None]:
        """Keep the client open until the block ends."""
        ...


class Wanted:
    """A group that is to be listened to."""

    def __init__(self, history: History | None) -> None:
        self.history = history
        self.confirmed = threading.Event()
        #: The id up to which everything has been delivered; ``None`` if that isn't known.
        self.position: str | None = None
        #: How many times it has been subscribed to. From the second on, something may have
        #: been missed.
        self.subscriptions = 0
        #: Why it can't be listened to, if it never could.
        self.error: Exception | None = None


class Link:
    """The connection to one server, and what is subscribed to on it."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self.connection = connection
        self.groups: set[str] = set()
        self.pending: Counter[str] = Counter()
        #: Whether there may be more to read that poll() doesn't tell of.
        self.is_behind = False
        self._timeout = timeout
        self._heard = monotonic()
        self._asked: float | None = None

    @property
    def fd(self) -> int:
        """The socket's descriptor."""
        return int(self.connection._sock.fileno())

    @property
    def deadline(self) -> float:
        """When to call :meth:`tick`."""
        if self._asked is not None:
            return self._asked + self._timeout
        return self._heard + PING_INTERVAL

    def send(self, command: str, *channels: str) -> None:
        """Send a command. Its answer comes among the messages."""
        self.connection.send_command(command, *channels, check_health=False)
        if self._asked is None:
            self._asked = monotonic()

    def read(self) -> Iterable[list[Any]]:
        """What has arrived, but not all of it at once."""
        self.is_behind = False
        for _ in range(BATCH):
            if not self.connection.can_read(0):
                return
            response = self.connection.read_response()
            self._heard = monotonic()
            self._asked = None
            yield response
        self.is_behind = True

    def tick(self, now: float) -> None:
        """Ask whether the server is there.

        :raises TimeoutError: if it hasn't answered.
        """
        if now < self.deadline or self.connection.can_read(0):
            return
        if self._asked is not None:
            raise TimeoutError(f"no answer within {self._timeout:g} s")
        self.send("PING")

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self.connection.disconnect()


class Listener:
    """Subscribes to groups, and again whenever the network has failed.

    :param broker: the broker, which knows the servers.
    :param deliver: takes what is heard.
    :param health: is told how it goes.
    :param timeout: seconds that an answer may take.
    """

    def __init__(
        self,
        broker: Servers,
        deliver: Callable[[Delivery], None],
        health: Health,
        timeout: float,
    ) -> None:
        self._broker = broker
        self._deliver = deliver
        self._health = health
        self._timeout = timeout
        self._lock = threading.Lock()
        self._wanted: dict[str, Wanted] = {}
        self._unwanted: deque[str] = deque()
        #: Groups with a history that aren't wanted any more.
        self._kept: set[str] = set()
        self._thread: threading.Thread | None = None
        self._waker: Waker | None = None
        self._closed = False
        self._is_connecting = False
        # Of the thread alone.
        self._links: dict[str, Link] = {}
        self._node_of: dict[str, str] = {}
        self._failures = 0
        self._retry_at = 0.0

    # -- from any thread --------------------------------------------------------------------------

    def subscribe(self, group: str, history: History | None) -> None:
        """See :meth:`Broker.subscribe`."""
        self._health.begin()
        wanted = Wanted(history)
        with self._lock:
            self._wanted[group] = wanted
            self._retry_at = 0.0
            self._start()
        self._wake()
        if not wanted.confirmed.wait(self._timeout):
            wanted.error = TimeoutError(self._why_late())
        if wanted.error is not None:
            self.unsubscribe(group)
            raise self._health.failed(wanted.error)
        if history is not None:
            try:
                self._find_position(group, wanted, history)
            except BaseException:
                self.unsubscribe(group)
                raise
            self._broker.subscribed()

    def _why_late(self) -> str:
        if self._is_connecting:
            what = "connecting takes longer than"
            return f"{what} {self._timeout:g} s: look at the name, the network and TLS"
        return f"no answer within {self._timeout:g} s"

    def _find_position(self, group: str, wanted: Wanted, history: History) -> None:
        """Find out where a group stands, so that there is a place to fill gaps from."""
        while wanted.position is None:
            subscriptions = wanted.subscriptions
            position = self._broker.replay(group, None, history).position
            with self._lock:
                # What was published while it wasn't listened to may come before that place.
                if wanted.position is None and wanted.subscriptions == subscriptions:
                    wanted.position = position

    def unsubscribe(self, group: str) -> None:
        """See :meth:`Broker.unsubscribe`."""
        with self._lock:
            wanted = self._wanted.pop(group, None)
            if wanted is not None:
                self._unwanted.append(group)
            if wanted is not None and wanted.history is not None:
                self._kept.add(group)
        self._wake()

    def histories(self) -> list[tuple[str, History]]:
        """The groups with a history that are listened to."""
        with self._lock:
            wanted = list(self._wanted.items())
        return [(group, one.history) for group, one in wanted if one.history is not None]

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
        with self._broker.client_in_use():
            self._listen()

    def _listen(self) -> None:
        assert self._waker is not None
        while not self._closed:
            began = monotonic()
            try:
                self._look_after()
            except Exception as error:
                if self._closed:
                    # A server that ends at the same time is no news any more.
                    break
                if not isinstance(error, (RedisError, RedisClusterException, OSError)):
                    logger.exception("what listens to the broker failed")
                self._lose_all(error, began)
        for link in self._links.values():
            link.close()
        self._waker.close()

    def _look_after(self) -> None:
        now = monotonic()
        if now >= self._retry_at:
            self._bring_in_line()
        for link in self._links.values():
            link.tick(now)
        for link in self._wait(now):
            for response in link.read():
                self._take(link, response)

    def _wait(self, now: float) -> list[Link]:
        """Wait until something is to be done; returns what may be read from."""
        assert self._waker is not None
        links = {link.fd: link for link in self._links.values()}
        due = [link.deadline for link in self._links.values()]
        if self._retry_at > now and self._wanted:
            due.append(self._retry_at)
        poll = select.poll()
        waker = self._waker
        poll.register(waker, select.POLLIN)
        for fd in links:
            poll.register(fd, select.POLLIN)
        milliseconds = None if not due else max(0.0, min(due) - monotonic()) * 1000 + 1
        behind = [fd for fd, link in links.items() if link.is_behind]
        ready = {*behind, *(fd for fd, _ in poll.poll(0 if behind else milliseconds))}
        if waker.fileno() in ready:
            waker.drain()
        return [links[fd] for fd in ready if fd in links]

    def _bring_in_line(self) -> None:
        """Subscribe to what is wanted, and no more to what isn't."""
        subscribe, unsubscribe = self._broker.subscribe_commands
        with self._lock:
            unwanted = list(self._unwanted)
            self._unwanted.clear()
            wanted = list(self._wanted)
        for group in unwanted:
            link = self._links.get(self._node_of.pop(group, "-"))
            if link is not None and group in link.groups:
                link.groups.discard(group)
                link.send(unsubscribe, self._broker.channel(group))
            else:
                self._kept.discard(group)
        new: dict[str, list[str]] = {}
        for group in wanted:
            if group not in self._node_of:
                new.setdefault(self._broker.node_of(group), []).append(group)
        for node, groups in new.items():
            link = self._links.get(node)
            if link is None:
                link = self._links[node] = Link(self._connect(node), self._timeout)
            link.groups.update(groups)
            link.pending.update(groups)
            for group in groups:
                self._node_of[group] = node
            channels = [self._broker.channel(group) for group in groups]
            if self._broker.takes_many_channels:
                link.send(subscribe, *channels)
            else:
                for channel in channels:
                    link.send(subscribe, channel)

    def _connect(self, node: str) -> Any:
        self._is_connecting = True
        try:
            return self._broker.connect(node)
        finally:
            self._is_connecting = False

    def _take(self, link: Link, response: Any) -> None:
        kind = response[0]
        if kind in (b"message", b"smessage"):
            self._hear(self._broker.group_of(response[1]), response[2])
        elif kind in (b"subscribe", b"ssubscribe"):
            group = self._broker.group_of(response[1])
            link.pending[group] -= 1
            if not link.pending[group]:
                del link.pending[group]
                self._subscribed(group)
        elif kind == b"unsubscribe":
            self._unsubscribed(self._broker.group_of(response[1]))
        elif kind == b"sunsubscribe":
            group = self._broker.group_of(response[1])
            if group not in link.groups:
                self._unsubscribed(group)
            else:
                # Its slot has moved to another server.
                link.groups.discard(group)
                self._node_of.pop(group, None)
                self._broker.look_again()

    def _hear(self, group: str, payload: bytes) -> None:
        wanted = self._wanted.get(group)
        if wanted is None:
            return
        message_id, _, message = payload.partition(b"\n")
        try:
            delivery = decode(group, message_id.decode(), message)
        except ValueError:
            logger.error("something that isn't a message was published to the group %r", group)
            return
        if delivery.id is not None:
            wanted.position = delivery.id
        self._hand_over(delivery)

    def _hand_over(self, delivery: Delivery) -> None:
        try:
            self._deliver(delivery)
        except Exception:
            # The connection to the server isn't to blame, and others are waiting for it.
            logger.exception("a message to the group %r could not be delivered", delivery.group)

    def _subscribed(self, group: str) -> None:
        self._failures = 0
        self._health.succeeded()
        wanted = self._wanted.get(group)
        if wanted is None:
            return
        with self._lock:
            wanted.subscriptions += 1
            position = wanted.position
        if wanted.history is not None and position is not None:
            self._fill_gap(group, wanted, wanted.history)
        wanted.confirmed.set()

    def _unsubscribed(self, group: str) -> None:
        if group not in self._wanted and group in self._kept:
            self._kept.discard(group)
            self._broker.unsubscribed(group)

    def _fill_gap(self, group: str, wanted: Wanted, history: History) -> None:
        """Deliver what was published while nobody listened."""
        while True:
            try:
                page = self._broker.catch_up(group, wanted.position, history)
            except BrokerRefused as error:
                # Whatever is wrong with this group, the others are listened to.
                self._lose(group, str(error))
                return
            except BrokerUnavailable as error:
                raise OSError(str(error)) from None
            if not page.complete:
                self._lose(group, "its history ends later")
            for delivery in page.deliveries:
                self._hand_over(delivery)
            wanted.position = page.position
            if page.is_last:
                return

    def _lose(self, group: str, reason: str) -> None:
        logger.warning("messages to the group %r are lost: %s", group, reason)
        self._hand_over(Delivery(group, None, lost=True))

    def _lose_all(self, error: Exception, began: float) -> None:
        """Give the connections up, to begin anew after a while."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._node_of.clear()
        self._kept.clear()
        self._failures += 1
        self._retry_at = monotonic() + delay_after(self._failures)
        self._health.failed(error, began=began)
        for wanted in list(self._wanted.values()):
            if not wanted.subscriptions:
                wanted.error = error
                wanted.confirmed.set()
        with contextlib.suppress(Exception):
            self._broker.look_again()
