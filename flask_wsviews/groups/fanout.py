"""Delivers messages from the broker to the members in this process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from ..config import Settings
from .broker_thread import BrokerThread
from .brokers.base import CONNECTIONS, Broker, Delivery, History
from .delivery_queue import DeliveryQueue
from .disconnections import Connected, Disconnections
from .job_thread import JobThread
from .member import Member
from .members import Members
from .presence.attendance import Attendance
from .presence.events import PresenceEvents
from .presence.memory import MemoryPresence
from .replays import Replays
from .slow_clients import Counters, SlowClients

if TYPE_CHECKING:
    from ..engines import Driver


class Fanout:
    """This process's part of an application's groups: members, subscriptions, queues and threads.

    :param broker: carries the messages.
    :param settings: the application's settings.
    :param events: the handlers for members that join and leave.
    :param clients: the clients by the ids of their connections, for disconnecting single ones.
    """

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        events: PresenceEvents,
        clients: Mapping[str, Connected],
    ) -> None:
        self._broker = broker
        self._timeout = settings.broker_timeout
        self.counters = Counters()
        self._slow_clients = SlowClients(self.counters)
        self._lock = threading.Lock()
        self._groups: dict[str, _Subscription] = {}
        self._queues: dict[object, DeliveryQueue] = {}
        self._queues_lock = threading.Lock()
        #: Calls the broker for event loops.
        self.thread = BrokerThread()
        self._events_thread = JobThread("wsviews-events")
        #: This process's members of groups with presence. Unused if the broker has no presence.
        self.attendance = Attendance(
            broker.presence or MemoryPresence(),
            settings.presence_ttl,
            partial(events.notify, self._events_thread),
        )
        self.disconnections = Disconnections(broker, clients)
        #: Sends missed messages to members that resume.
        self.replays = Replays(settings, broker.replay, partial(self._slow_clients.note, closed=1))
        broker.start(self.deliver)

    def close(self) -> None:
        """Stop all threads, and wait until the broker knows which members have left."""
        self.disconnections.close()
        self.thread.close()
        self.attendance.close(self._timeout)
        self._events_thread.close(self._timeout)
        self._broker.close()

    def enter(self, group: str, history: History | None, member: Member) -> Members:
        """Return the members of a group, subscribed at least until :meth:`entered`.

        :param member: is about to join. A disconnection of the group closes it from now on.
        :raises BrokerUnavailable: if the broker can't subscribe.
        """
        with self._lock:
            subscription = self._groups.get(group)
            if subscription is None:
                subscription = self._groups[group] = _Subscription(Members(group, self._queue_of))
            subscription.entering += 1
            subscription.members.begin_joining(member)
        try:
            with subscription.lock:
                if not subscription.is_subscribed:
                    self._broker.subscribe(group, history)
                    subscription.is_subscribed = True
        except BaseException:
            self.entered(group, member)
            raise
        return subscription.members

    def entered(self, group: str, member: Member) -> None:
        """End :meth:`enter`: the member has joined, or doesn't join."""
        with self._lock:
            subscription = self._groups[group]
            subscription.members.end_joining(member)
            subscription.entering -= 1
            self._unsubscribe_if_empty(group, subscription)

    def leave(self, member: Member, group: str) -> None:
        """Remove a member from a group. Does nothing if it isn't in the group."""
        with self._lock:
            subscription = self._groups.get(group)
            if subscription is not None:
                subscription.members.discard(member)
                self._unsubscribe_if_empty(group, subscription)

    def count(self, group: str) -> int:
        """Return how many members a group has in this process."""
        with self._lock:
            subscription = self._groups.get(group)
        return 0 if subscription is None else len(subscription.members)

    def deliver(self, delivery: Delivery) -> None:
        """Queue a message from the broker for the group's members. Never waits."""
        if delivery.group == CONNECTIONS:
            if delivery.disconnection is not None:
                self.disconnections.close_connection(delivery.disconnection)
            return
        subscription = self._groups.get(delivery.group)
        if subscription is not None:
            subscription.members.deliver(delivery)

    def _unsubscribe_if_empty(self, group: str, subscription: _Subscription) -> None:
        if not subscription.entering and not len(subscription.members):
            del self._groups[group]
            self._broker.unsubscribe(group)

    def _queue_of(self, home: object, driver: Driver) -> DeliveryQueue:
        with self._queues_lock:
            queue = self._queues.get(home)
            if queue is None:
                queue = DeliveryQueue(driver, self.counters, self._slow_clients)
                self._queues[home] = queue
            return queue


class _Subscription:
    """A group that has members in this process, or is about to have some."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.lock = threading.Lock()
        self.is_subscribed = False
        #: How many members are between :meth:`Fanout.enter` and :meth:`Fanout.entered`.
        self.entering = 0
