"""The members that one group has in this process, and how a message reaches them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .brokers.base import Delivery, Key, parse_id
from .delivery_queue import DeliveryQueue
from .member import Member, Recipient

if TYPE_CHECKING:
    from ..engines import Driver

# How many epochs of a history to remember the last id of. After a new one begins, messages of the
# one before may still arrive.
EPOCHS = 4


class Members:
    """The members of one group in this process.

    Messages are delivered in the order of their arrival. Each message of a history is delivered
    once: one whose id isn't above the last id of its epoch has been delivered before.

    :param name: the group's name.
    :param queue_of: returns the delivery queue of a home; called with the home and a driver there.
    """

    def __init__(self, name: str, queue_of: Callable[[object, Driver], DeliveryQueue]) -> None:
        self.name = name
        self._queue_of = queue_of
        self._lock = threading.Lock()
        self._homes: dict[object, dict[Member, Recipient]] = {}
        #: The recipients at each home as a tuple. It is the same for all messages until it changes.
        self._recipients: dict[object, Sequence[Recipient]] = {}
        self._held: dict[Member, _Held] = {}
        #: The last key of each epoch that messages have come from.
        self._last: dict[str, Key] = {}
        #: Members that are still joining. A disconnection closes them, too.
        self._joining: set[Member] = set()

    def __len__(self) -> int:
        with self._lock:
            return len(self._held) + sum(len(members) for members in self._homes.values())

    def begin_joining(self, member: Member) -> None:
        """Let a disconnection of the group close *member* from now on."""
        with self._lock:
            self._joining.add(member)

    def end_joining(self, member: Member) -> None:
        """End :meth:`begin_joining`: the member has joined, or doesn't join."""
        with self._lock:
            self._joining.discard(member)

    def add(self, member: Member) -> None:
        """Deliver messages to *member* from now on."""
        with self._lock:
            self._add(member)

    def hold(self, member: Member) -> None:
        """Keep messages for *member* until :meth:`release`."""
        with self._lock:
            self._remove(member)
            self._held[member] = _Held(member.driver.connection.settings.max_send_buffer)

    def release(self, member: Member, position: str) -> bool:
        """Deliver the kept messages after *position* to *member*, and those that follow.

        :returns: False if too many messages arrived to keep them; then they are lost.
        """
        after = parse_id(position)
        with self._lock:
            held = self._held.pop(member, None)
            if held is None:  # it has left
                return True
            if held.is_overflown:
                return False
            recipient = self._add(member)
            recipient.after = after
            queue = self._queue_of(member.driver.home, member.driver)
            # The same tuple for all of them, so that they are sent together.
            recipients = (recipient,)
            for delivery in held.deliveries:
                queue.put(recipients, delivery)
        queue.flush()
        return True

    def discard(self, member: Member) -> None:
        """Stop delivering to *member*."""
        with self._lock:
            self._remove(member)

    def deliver(self, delivery: Delivery) -> None:
        """Queue a message for all members. Never waits for any of them."""
        if delivery.disconnection is not None:
            self._disconnect(delivery)
            return
        with self._lock:
            if delivery.lost:
                # What the broker delivers after a gap is new, whatever its ids are.
                self._last.clear()
            if delivery.id is not None and not self._is_new(delivery.id):
                return
            for held in self._held.values():
                held.add(delivery)
            queues = []
            for home, members in self._homes.items():
                recipients = self._recipients.get(home)
                if recipients is None:
                    recipients = self._recipients[home] = tuple(members.values())
                queue = self._queue_of(home, recipients[0].member.driver)
                queue.put(recipients, delivery)
                queues.append(queue)
        for queue in queues:
            queue.flush()

    def _is_new(self, message_id: str) -> bool:
        """Return whether a message hasn't been delivered before, and note its id."""
        epoch, key = parse_id(message_id)
        last = self._last
        known = last.get(epoch)
        if known is None:
            if len(last) >= EPOCHS:
                del last[next(iter(last))]
        elif key <= known:
            return False
        last[epoch] = key
        return True

    def _disconnect(self, delivery: Delivery) -> None:
        """Close all members, after the messages that are already queued."""
        with self._lock:
            recipients = {
                member: recipient
                for members in self._homes.values()
                for member, recipient in members.items()
            }
            for member in (*self._held, *self._joining):
                recipients.setdefault(member, Recipient(member))
            by_home: dict[object, list[Recipient]] = {}
            for member, recipient in recipients.items():
                by_home.setdefault(member.driver.home, []).append(recipient)
            queues = []
            for home, at_home in by_home.items():
                queue = self._queue_of(home, at_home[0].member.driver)
                queue.put(tuple(at_home), delivery)
                queues.append(queue)
        for queue in queues:
            queue.flush()

    def _add(self, member: Member) -> Recipient:
        home = member.driver.home
        recipient = self._homes.setdefault(home, {}).setdefault(member, Recipient(member))
        self._recipients.pop(home, None)
        return recipient

    def _remove(self, member: Member) -> None:
        self._held.pop(member, None)
        home = member.driver.home
        members = self._homes.get(home)
        if members is not None and member in members:
            members.pop(member).is_active = False
            self._recipients.pop(home, None)
            if not members:
                del self._homes[home]


class _Held:
    """Messages that arrive while a member is sent the ones that it missed."""

    __slots__ = ("_room", "deliveries", "is_overflown")

    def __init__(self, room: int) -> None:
        self._room = room
        self.deliveries: list[Delivery] = []
        self.is_overflown = False

    def add(self, delivery: Delivery) -> None:
        self._room -= len(delivery.body or "")
        if self._room < 0:
            # The member has to read the history again, from where it has got to.
            self.is_overflown = True
            self.deliveries.clear()
        if not self.is_overflown:
            self.deliveries.append(delivery)
