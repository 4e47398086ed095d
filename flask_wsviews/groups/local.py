"""Which connections of this worker are in which group, and how messages get to them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from ..connection import PreparedMessage
from .base import Delivery, id_key

if TYPE_CHECKING:
    from ..engines import Driver

logger = logging.getLogger("flask_wsviews")

# Slow clients are told of at most this often, in seconds.
REPORT_INTERVAL = 10.0

# Messages that a mailbox hands out before others have their turn in the event loop.
BATCH = 64

#: The field by which a typed message tells its id.
MESSAGE_ID = "message_id"

Key = tuple[int, int]


class Member:
    """A connection as groups see it.

    :param id: the connection's.
    :param driver: its driver.
    :param policy: of :data:`~flask_wsviews.config.POLICIES`.
    :param tell_lost: makes the message that tells of a gap in a group; ``None`` for none.
    """

    __slots__ = ("driver", "id", "policy", "tell_lost")

    def __init__(
        self,
        id: str,
        driver: Driver,
        policy: str,
        tell_lost: Callable[[str], str] | None = None,
    ) -> None:
        self.id = id
        self.driver = driver
        self.policy = policy
        self.tell_lost = tell_lost


@dataclass
class Counters:
    """What this worker has done, since it began."""

    #: Messages that were handed to a connection.
    delivered: int = 0
    #: Messages that slow clients have to do without.
    dropped: int = 0
    #: Slow clients that were closed.
    closed: int = 0


class _Seat:
    """A member's place in a group; nothing reaches it any more once it is given up."""

    __slots__ = ("after", "member", "taken")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.taken = True
        #: What has been replayed up to: the same may still be on its way from the broker.
        self.after: Key | None = None

    def unseen(self, parcels: list[_Parcel]) -> list[_Parcel]:
        """Those of *parcels* that haven't been replayed to the member."""
        after = self.after
        if after is None:
            return parcels
        found = [p for p in parcels if p.delivery.id is None or id_key(p.delivery.id) > after]
        if any(parcel.delivery.id is not None for parcel in found):
            # They come in order, so there is nothing left to look out for.
            self.after = None
        return found


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

    What arrives goes out in its order, and with a history each message once: one that has an id
    which isn't above the last one's has been here already.
    """

    def __init__(self, name: str, mailbox: Callable[[object, Driver], Mailbox]) -> None:
        self.name = name
        self._mailbox = mailbox
        self._lock = threading.Lock()
        self._homes: dict[object, dict[Member, _Seat]] = {}
        self._targets: dict[object, Sequence[_Seat]] = {}
        self._held: dict[Member, _Held] = {}
        self._last: Key = (0, 0)

    def __len__(self) -> int:
        with self._lock:
            return len(self._held) + sum(len(members) for members in self._homes.values())

    def members(self) -> list[Member]:
        """Who is in it."""
        with self._lock:
            return [*self._held, *(m for members in self._homes.values() for m in members)]

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
        after = id_key(position)
        with self._lock:
            held = self._held.pop(member, None)
            if held is None:  # it has left
                return True
            if held.overflown:
                return False
            seat = self._add(member)
            seat.after = after
            mailbox = self._mailbox(member.driver.home, member.driver)
            for delivery in held.deliveries:
                mailbox.put([seat], _Parcel(delivery))
        mailbox.hand_out()
        return True

    def discard(self, member: Member) -> None:
        """Hand *member* no more."""
        with self._lock:
            self._remove(member)

    def deliver(self, delivery: Delivery) -> None:
        """Hand a message to all members. Never waits for any of them."""
        parcel = _Parcel(delivery)
        with self._lock:
            if delivery.id is not None:
                key = id_key(delivery.id)
                if key <= self._last:
                    return
                self._last = key
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

    def _add(self, member: Member) -> _Seat:
        home = member.driver.home
        seat = self._homes.setdefault(home, {}).setdefault(member, _Seat(member))
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


class _Parcel:
    """A message for many: what goes over the wire is made once, when it is first needed."""

    __slots__ = ("_prepared", "delivery")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self._prepared: PreparedMessage | None = None

    @property
    def prepared(self) -> PreparedMessage:
        if self._prepared is None:
            self._prepared = PreparedMessage(text_of(self.delivery))
        return self._prepared

    def messages_for(self, member: Member) -> list[PreparedMessage]:
        """What *member* gets of it."""
        delivery = self.delivery
        messages = []
        if delivery.lost and member.tell_lost is not None:
            messages.append(PreparedMessage(member.tell_lost(delivery.group)))
        if delivery.body is not None and member.id not in delivery.exclude:
            messages.append(self.prepared)
        return messages


class Mailbox:
    """Messages for the connections of one home, in the order in which they arrived.

    However many are waiting, the home is called once for all of them. Where several threads are
    at home, as with the blocking engine, one of them hands out what the others bring.
    """

    def __init__(self, home: Driver, counters: Counters, report: SlowReport) -> None:
        self._home = home
        self._counters = counters
        self._report = report
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Sequence[_Seat], _Parcel]] = deque()
        self._is_called = False

    def put(self, seats: Sequence[_Seat], parcel: _Parcel) -> None:
        """Take a message; :meth:`hand_out` has to follow."""
        self._waiting.append((seats, parcel))

    def hand_out(self) -> None:
        """See that what is waiting goes out: now, if this is the place, or else soon."""
        with self._lock:
            if self._is_called or not self._waiting:
                return
            self._is_called = True
        try:
            self._home.call_at_home(self._hand_out)
        except RuntimeError:
            # Its event loop has ended, and its connections with it.
            self._waiting.clear()
            self._is_called = False

    def _hand_out(self) -> None:
        done = 0
        while done < BATCH or not self._home.shares_thread:
            with self._lock:
                if not self._waiting:
                    self._is_called = False
                    return
                seats, parcels = self._next()
            self._deliver(seats, parcels)
            done += len(parcels)
        self._home.call_soon_at_home(self._hand_out)

    def _next(self) -> tuple[Sequence[_Seat], list[_Parcel]]:
        """What is first, and with it what follows for the same members."""
        waiting = self._waiting
        seats, parcel = waiting.popleft()
        parcels = [parcel]
        while waiting and waiting[0][0] is seats and len(parcels) < BATCH:
            parcels.append(waiting.popleft()[1])
        return seats, parcels

    def _deliver(self, seats: Sequence[_Seat], parcels: list[_Parcel]) -> None:
        counters = self._counters
        is_plain = not any(p.delivery.exclude or p.delivery.lost for p in parcels)
        for_all = [parcel.prepared for parcel in parcels] if is_plain else []
        for seat in seats:
            if not seat.taken:
                continue
            member = seat.member
            try:
                unseen = seat.unseen(parcels)
                messages = for_all
                if not is_plain or unseen is not parcels:
                    messages = [m for parcel in unseen for m in parcel.messages_for(member)]
                dropped = member.driver.deliver(messages, member.policy)
            except Exception:
                logger.exception("a message could not be handed to a connection")
                continue
            counters.delivered += len(messages) - dropped
            if not dropped:
                continue
            if member.policy == "close":
                counters.closed += 1
                self._report.note(closed=1)
            else:
                counters.dropped += dropped
                self._report.note(dropped=dropped)


class SlowReport:
    """Tells of slow clients in the log, in one line now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = 0
        self._dropped = 0
        self._next = 0.0

    def note(self, *, closed: int = 0, dropped: int = 0) -> None:
        """Count, and log if it's time to."""
        with self._lock:
            self._closed += closed
            self._dropped += dropped
            now = monotonic()
            if now < self._next:
                return
            self._next = now + REPORT_INTERVAL
            closed, self._closed = self._closed, 0
            dropped, self._dropped = self._dropped, 0
        logger.warning(
            "clients are too slow for what their groups get: %d closed with 1008, %d messages "
            "dropped since the last such line",
            closed,
            dropped,
        )


def text_of(delivery: Delivery) -> str | bytes:
    """What goes to the client: a typed message carries its id."""
    body = delivery.body
    assert body is not None
    if delivery.typed and delivery.id is not None and isinstance(body, str):
        # An object with a discriminator in it is never empty.
        return f'{{"{MESSAGE_ID}": "{delivery.id}", {body[1:].lstrip()}'
    return body
