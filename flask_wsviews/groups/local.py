"""Which connections of this worker are in which group, and how messages get to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .brokers.base import Delivery, Key, parse_id
from .mailbox import Mailbox, Member, Parcel, Seat

if TYPE_CHECKING:
    from ..engines import Driver

# Epochs of a history whose last ids are known: when one begins, messages of the one before it may
# still be on their way.
EPOCHS = 4


class _Held:
    """What arrives for a member that is still being told what it has missed."""

    __slots__ = ("deliveries", "overflown", "room")

    def __init__(self, room: int) -> None:
        self.deliveries: list[Delivery] = []
        self.room = room
        self.overflown = False

    def add(self, delivery: Delivery) -> None:
        self.room -= len(delivery.body or "")
        if self.room < 0:
            # It will have to ask again for what comes after the place that it has got to.
            self.overflown = True
            self.deliveries.clear()
        if not self.overflown:
            self.deliveries.append(delivery)


class LocalGroup:
    """The members of one group in this worker.

    What arrives goes out in its order, and with a history each message once: one whose id isn't
    above the last one's of the same epoch has been here already.
    """

    def __init__(self, name: str, mailbox: Callable[[object, Driver], Mailbox]) -> None:
        self.name = name
        self._mailbox = mailbox
        self._lock = threading.Lock()
        self._homes: dict[object, dict[Member, Seat]] = {}
        self._targets: dict[object, Sequence[Seat]] = {}
        self._held: dict[Member, _Held] = {}
        #: The last key of each epoch that messages have come from.
        self._last: dict[str, Key] = {}
        # On their way in: a disconnection closes them, too.
        self._arriving: set[Member] = set()

    def __len__(self) -> int:
        with self._lock:
            return len(self._held) + sum(len(members) for members in self._homes.values())

    def members(self) -> list[Member]:
        """Who is in it."""
        with self._lock:
            return [*self._held, *(m for members in self._homes.values() for m in members)]

    def expect(self, member: Member) -> None:
        """Close *member* like the others from now on, though it isn't in yet."""
        with self._lock:
            self._arriving.add(member)

    def arrived(self, member: Member) -> None:
        """End :meth:`expect`: the member is in, or isn't coming."""
        with self._lock:
            self._arriving.discard(member)

    def add(self, member: Member) -> None:
        """Have *member* get what arrives from now on."""
        with self._lock:
            self._add(member)

    def hold(self, member: Member) -> None:
        """Keep what arrives for *member*, until :meth:`release`."""
        with self._lock:
            self._remove(member)
            self._held[member] = _Held(member.driver.connection.settings.max_send_buffer)

    def release(self, member: Member, position: str) -> bool:
        """Hand *member* what has been kept, as far as it comes after *position*, and what follows.

        :returns: whether that is so; else too much came meanwhile, and it was thrown away.
        """
        after = parse_id(position)
        with self._lock:
            held = self._held.pop(member, None)
            if held is None:  # it has left
                return True
            if held.overflown:
                return False
            seat = self._add(member)
            seat.after = after
            mailbox = self._mailbox(member.driver.home, member.driver)
            # One tuple for all of them, so that they go out together.
            seats = (seat,)
            for delivery in held.deliveries:
                mailbox.put(seats, Parcel(delivery))
        mailbox.hand_out()
        return True

    def discard(self, member: Member) -> None:
        """Hand *member* no more."""
        with self._lock:
            self._remove(member)

    def deliver(self, delivery: Delivery) -> None:
        """Hand a message to all members. Never waits for any of them."""
        parcel = Parcel(delivery)
        if delivery.disconnection is not None:
            self._disconnect(parcel)
            return
        with self._lock:
            if delivery.lost:
                # What the broker has after a gap is news, whatever its ids are.
                self._last.clear()
            if delivery.id is not None and not self._is_news(delivery.id):
                return
            for held in self._held.values():
                held.add(delivery)
            mailboxes = []
            for home, members in self._homes.items():
                targets = self._targets.get(home)
                if targets is None:
                    targets = self._targets[home] = tuple(members.values())
                mailbox = self._mailbox(home, targets[0].member.driver)
                mailbox.put(targets, parcel)
                mailboxes.append(mailbox)
        for mailbox in mailboxes:
            mailbox.hand_out()

    def _is_news(self, message_id: str) -> bool:
        """Whether a message hasn't been here; notes its id."""
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

    def _disconnect(self, parcel: Parcel) -> None:
        """Close all members, after what they are sent already."""
        with self._lock:
            seats = {m: seat for members in self._homes.values() for m, seat in members.items()}
            for member in (*self._held, *self._arriving):
                seats.setdefault(member, Seat(member))
            by_home: dict[object, list[Seat]] = {}
            for member, seat in seats.items():
                by_home.setdefault(member.driver.home, []).append(seat)
            mailboxes = []
            for home, targets in by_home.items():
                mailbox = self._mailbox(home, targets[0].member.driver)
                mailbox.put(tuple(targets), parcel)
                mailboxes.append(mailbox)
        for mailbox in mailboxes:
            mailbox.hand_out()

    def _add(self, member: Member) -> Seat:
        home = member.driver.home
        seat = self._homes.setdefault(home, {}).setdefault(member, Seat(member))
        self._targets.pop(home, None)
        return seat

    def _remove(self, member: Member) -> None:
        self._held.pop(member, None)
        home = member.driver.home
        members = self._homes.get(home)
        if members is not None and member in members:
            members.pop(member).taken = False
            self._targets.pop(home, None)
            if not members:
                del self._homes[home]
