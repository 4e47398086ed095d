"""What one process has of groups: its members, its subscriptions and its threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakSet

from ..common.threads import Threads, start_thread
from ..config import Settings
from ..exceptions import BrokerUnavailable
from .brokers.base import CONNECTIONS, Broker, Delivery, Disconnection, History
from .brokers.health import delay_after
from .local import LocalGroup
from .mailbox import Counters, Mailbox, Member, SlowReport
from .outcome import in_event_loop
from .presence.attendance import Attendance
from .presence.chores import Chores
from .presence.events import PresenceEvents
from .presence.memory import MemoryPresence
from .replays import Replays

if TYPE_CHECKING:
    from ..engines import Driver

T = TypeVar("T")


class Connected(Protocol):
    """What is needed of a client object to close its connection."""

    @property
    def _driver(self) -> Driver | None: ...


# Operations that an event loop has handed over and that aren't done yet. A broker that is
# slow for a while delays them; more than that are refused.
MAX_PENDING = 10_000


class Worker:
    """The members of this process, and its part of the broker.

    :param broker: what carries messages.
    :param settings: the application's.
    :param events: who is told of members that come and go.
    :param connections: those that can be disconnected one by one, by their ids.
    """

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        events: PresenceEvents,
        connections: Mapping[str, Connected],
    ) -> None:
        self.pid = os.getpid()
        self.broker = broker
        self._timeout = settings.broker_timeout
        self.counters = Counters()
        self._report = SlowReport()
        self._lock = threading.Lock()
        self._groups: dict[str, _Subscription] = {}
        self._mailboxes: dict[object, Mailbox] = {}
        self._mailboxes_lock = threading.Lock()
        # One thread, for the order of what an event loop does.
        self._threads = Threads(1, "wsviews-groups")
        self._pending = 0
        self._event_chores = Chores("wsviews-events")
        #: The part in presence; nobody asks for it where the broker keeps none.
        self.attendance = Attendance(
            broker.presence or MemoryPresence(),
            settings.presence_ttl,
            partial(events.tell, self._event_chores),
        )
        self._connections = connections
        # Those that want to hear when they are disconnected.
        self._listeners: WeakSet[Connected] = WeakSet()
        self._is_listening = self._is_subscribed = False
        self._closed = threading.Event()
        #: The members that are sent what they have missed.
        self.replays = Replays(settings, broker.replay, self._note_closed)
        broker.start(self._deliver)

    def listen(self, client: Connected) -> None:
        """Subscribe to disconnections of single connections, as long as there are any.

        The subscription waits for the broker, except in an event loop. If it fails, a thread tries
        again until it succeeds.
        """
        with self._lock:
            self._listeners.add(client)
            if self._is_listening:
                return
            self._is_listening = True
        if in_event_loop() or not self._subscribe_to_connections():
            try:
                start_thread(self._keep_trying, "wsviews-listen")
            except RuntimeError:
                # The next one tries again.
                self._is_listening = False
                raise

    def stop_listening(self, client: Connected) -> None:
        """A connection has ended: unsubscribe if it was the last one. Never waits."""
        with self._lock:
            self._listeners.discard(client)
            self._unsubscribe_if_alone()

    def _unsubscribe_if_alone(self) -> None:
        if self._is_subscribed and not self._listeners:
            self._is_listening = self._is_subscribed = False
            self.broker.unsubscribe(CONNECTIONS)

    def _subscribe_to_connections(self) -> bool:
        try:
            self.broker.subscribe(CONNECTIONS, None)
        except BrokerUnavailable:
            return False
        with self._lock:
            self._is_subscribed = True
            self._unsubscribe_if_alone()
        return True

    def _keep_trying(self) -> None:
        failures = 0
        while not self._subscribe_to_connections():
            failures += 1
            if self._closed.wait(delay_after(failures)):
                return

    def call_in_thread(self, function: Callable[..., T], *arguments: Any) -> Any:
        """Call *function* in a thread, one after the other; for the event loop.

        :returns: an awaitable.
        :raises BrokerUnavailable: if too much is waiting already.
        """
        import asyncio

        if self._pending >= MAX_PENDING:
            raise BrokerUnavailable(f"{MAX_PENDING} operations wait for the broker already")
        self._pending += 1

        def call() -> T:
            try:
                return function(*arguments)
            finally:
                self._pending -= 1

        try:
            submitted = self._threads.submit(call)
        except RuntimeError:
            self._pending -= 1
            raise
        # Who waits may be cancelled, but what has been handed over is done.
        return asyncio.shield(asyncio.wrap_future(submitted))

    def close(self) -> None:
        """End what has been started; waits until the broker knows who has left."""
        self._closed.set()
        self._threads.close()
        self.attendance.close(self._timeout)
        self._event_chores.close(self._timeout)
        self.broker.close()

    def enter(self, group: str, history: History | None, member: Member) -> LocalGroup:
        """Find a group, subscribed to; it stays so until :meth:`entered`.

        :param member: who is about to join. A disconnection closes it from now on.

        :raises BrokerUnavailable: if that isn't possible.
        """
        with self._lock:
            subscription = self._groups.get(group)
            if subscription is None:
                subscription = self._groups[group] = _Subscription(LocalGroup(group, self._mailbox))
            subscription.entering += 1
            subscription.group.expect(member)
        try:
            with subscription.lock:
                if not subscription.subscribed:
                    self.broker.subscribe(group, history)
                    subscription.subscribed = True
        except BaseException:
            self.entered(group, member)
            raise
        return subscription.group

    def entered(self, group: str, member: Member) -> None:
        """A member that was on its way is in it, or isn't coming."""
        with self._lock:
            subscription = self._groups[group]
            subscription.group.arrived(member)
            subscription.entering -= 1
            self._forget_if_empty(group, subscription)

    def leave(self, member: Member, group: str) -> None:
        """Let a member go; nothing happens if it isn't in the group."""
        with self._lock:
            subscription = self._groups.get(group)
            if subscription is not None:
                subscription.group.discard(member)
                self._forget_if_empty(group, subscription)

    def count(self, group: str) -> int:
        """How many members a group has here."""
        with self._lock:
            subscription = self._groups.get(group)
        return 0 if subscription is None else len(subscription.group)

    def _forget_if_empty(self, group: str, subscription: _Subscription) -> None:
        if not subscription.entering and not len(subscription.group):
            del self._groups[group]
            self.broker.unsubscribe(group)

    def _note_closed(self) -> None:
        self.counters.closed += 1
        self._report.note(closed=1)

    def _deliver(self, delivery: Delivery) -> None:
        if delivery.group == CONNECTIONS:
            if delivery.disconnection is not None:
                self._disconnect(delivery.disconnection)
            return
        subscription = self._groups.get(delivery.group)
        if subscription is not None:
            subscription.group.deliver(delivery)

    def _disconnect(self, ending: Disconnection) -> None:
        connected = self._connections.get(ending.connection or "")
        driver = None if connected is None else connected._driver
        if driver is not None:
            driver.close(ending.code, ending.reason)

    def _mailbox(self, home: object, driver: Driver) -> Mailbox:
        with self._mailboxes_lock:
            mailbox = self._mailboxes.get(home)
            if mailbox is None:
                mailbox = self._mailboxes[home] = Mailbox(driver, self.counters, self._report)
            return mailbox


class _Subscription:
    """A group that this worker has members in, or is about to."""

    def __init__(self, group: LocalGroup) -> None:
        self.group = group
        self.lock = threading.Lock()
        self.subscribed = False
        self.entering = 0
