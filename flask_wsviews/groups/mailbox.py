"""What brings a group's messages to the connections that one thread or event loop serves."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from ..protocol.prepared import PreparedMessage
from .brokers.base import Delivery, Key, parse_id

if TYPE_CHECKING:
    from ..engines import Driver

logger = logging.getLogger("flask_wsviews")

# Slow clients are told of at most this often, in seconds.
REPORT_INTERVAL = 10.0

# Messages that a mailbox hands out before others have their turn in the event loop.
BATCH = 64

# How much a mailbox keeps while its event loop does something else, as a multiple of what a slow
# client may have to catch up. It is one copy for all members, so a burst doesn't count as slowness.
MAILBOX_SHARE = 16

# What a message takes beside its body, in bytes.
PARCEL_SIZE = 500

#: The field by which a typed message tells its id.
MESSAGE_ID = "message_id"

# Why a client is closed that can't be told what it misses.
TOO_BUSY = "the server is too busy"

POLICY_VIOLATION = 1008


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


class Seat:
    """A member's place in a group; nothing reaches it any more once it is given up."""

    __slots__ = ("after", "member", "taken")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.taken = True
        #: The epoch and key that has been replayed up to: the same messages may still be on their
        #: way from the broker.
        self.after: tuple[str, Key] | None = None

    def unseen(self, parcels: list[Parcel]) -> list[Parcel]:
        """Those of *parcels* that haven't been replayed to the member."""
        after = self.after
        if after is None:
            return parcels
        start = 0
        for number, parcel in enumerate(parcels, 1):
            if parcel.is_up_to(*after):
                # What isn't kept and came before it would be out of order.
                start = number
        found = parcels[start:]
        if any(parcel.delivery.id is not None for parcel in found):
            # They come in order, so there is nothing left to look out for.
            self.after = None
        return found


class Parcel:
    """A message for many: what goes over the wire is made once, when it is first needed."""

    __slots__ = ("_position", "_prepared", "delivery", "size")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        #: What it counts for in a mailbox, in bytes.
        self.size = PARCEL_SIZE + len(delivery.body or "")
        self._prepared: PreparedMessage | None = None
        self._position: tuple[str, Key] | None = None

    def is_up_to(self, epoch: str, key: Key) -> bool:
        """Whether it is of an epoch, and not above a key of it."""
        if self._position is None and self.delivery.id is not None:
            self._position = parse_id(self.delivery.id)
        its = self._position
        return its is not None and its[0] == epoch and its[1] <= key

    @property
    def prepared(self) -> PreparedMessage:
        """The message as it goes out."""
        if self._prepared is None:
            self._prepared = PreparedMessage(text_of(self.delivery))
        return self._prepared

    def messages_for(self, member: Member) -> list[PreparedMessage]:
        """What *member* gets of it."""
        delivery = self.delivery
        messages = []
        if delivery.lost and member.tell_lost is not None:
            messages.append(PreparedMessage(member.tell_lost(delivery.group), is_notice=True))
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
        self._waiting: deque[tuple[Sequence[Seat], Parcel]] = deque()
        self._room = MAILBOX_SHARE * home.connection.settings.max_send_buffer
        #: By group: whom messages were not kept for.
        self._missed: dict[str, _Missed] = {}
        self._is_called = False

    def put(self, seats: Sequence[Seat], parcel: Parcel) -> None:
        """Take a message; :meth:`hand_out` has to follow.

        While its place hangs only so much is kept. Whoever is to get more is treated as a slow
        client, once that place comes back.
        """
        with self._lock:
            if self._missed and parcel.delivery.disconnection is None:
                seats = self._without_missing(seats, parcel)
            if not seats:
                return
            if self._room >= parcel.size or parcel.delivery.disconnection is not None:
                self._room -= parcel.size
                self._waiting.append((seats, parcel))
            else:
                self._missed.setdefault(parcel.delivery.group, _Missed()).add(seats)

    def _without_missing(self, seats: Sequence[Seat], parcel: Parcel) -> Sequence[Seat]:
        """Leave out the seats that have to hear of a gap first, and count one more for them."""
        missed = self._missed.get(parcel.delivery.group)
        if missed is None:
            return seats
        behind, others = missed.split(seats)
        if behind:
            missed.add(behind)
        return others

    def hand_out(self) -> None:
        """See that what is waiting goes out: now, if this is the place, or else soon."""
        with self._lock:
            if self._is_called or not (self._waiting or self._missed):
                return
            self._is_called = True
        try:
            self._home.call_at_home(self._hand_out)
        except RuntimeError:
            # Its event loop has ended, and its connections with it.
            with self._lock:
                self._waiting.clear()
                self._missed.clear()
                self._is_called = False

    def _hand_out(self) -> None:
        done = 0
        while done < BATCH or not self._home.shares_thread:
            missed: dict[str, _Missed] | None = None
            seats: Sequence[Seat] = ()
            parcels: list[Parcel] = []
            with self._lock:
                if self._waiting:
                    seats, parcels = self._next()
                elif self._missed:
                    missed, self._missed = self._missed, {}
                else:
                    self._is_called = False
                    return
            if missed is not None:
                self._tell_missed(missed)
                continue
            self._deliver(seats, parcels)
            done += len(parcels)
        self._home.call_soon_at_home(self._hand_out)

    def _next(self) -> tuple[Sequence[Seat], list[Parcel]]:
        """What is first, and with it what follows for the same members."""
        waiting = self._waiting
        seats, parcel = waiting.popleft()
        parcels = [parcel]
        while (
            waiting
            and waiting[0][0] is seats
            and len(parcels) < BATCH
            # It is the last for them.
            and parcels[-1].delivery.disconnection is None
        ):
            parcels.append(waiting.popleft()[1])
        self._room += sum(parcel.size for parcel in parcels)
        return seats, parcels

    def _tell_missed(self, missed: dict[str, _Missed]) -> None:
        """Do with those who miss messages what their policy says."""
        for group, one in missed.items():
            gap = Parcel(Delivery(group, None, lost=True))
            staying = []
            for seat, count in one.counts().items():
                if not seat.taken:
                    continue
                if seat.member.policy == "close":
                    seat.member.driver.close(POLICY_VIOLATION, TOO_BUSY)
                    self._counters.closed += 1
                    self._report.note(closed=1)
                else:
                    staying.append(seat)
                    self._counters.dropped += count
                    self._report.note(dropped=count)
            self._deliver(staying, [gap])

    def _deliver(self, seats: Sequence[Seat], parcels: list[Parcel]) -> None:
        counters = self._counters
        ending = parcels[-1].delivery.disconnection
        if ending is not None:
            parcels.pop()
        is_plain = not any(p.delivery.exclude or p.delivery.lost for p in parcels)
        for_all = [parcel.prepared for parcel in parcels] if is_plain else []
        delivered = 0
        for seat in seats:
            if not seat.taken:
                continue
            member = seat.member
            try:
                unseen = parcels if seat.after is None else seat.unseen(parcels)
                messages = for_all
                if not is_plain or unseen is not parcels:
                    messages = [m for parcel in unseen for m in parcel.messages_for(member)]
                dropped = member.driver.deliver(messages, member.policy) if messages else 0
                if ending is not None:
                    member.driver.close(ending.code, ending.reason)
            except Exception:
                logger.exception("a message could not be handed to a connection")
                continue
            delivered += len(messages) - dropped
            if not dropped:
                continue
            if member.policy == "close":
                counters.closed += 1
                self._report.note(closed=1)
            else:
                counters.dropped += dropped
                self._report.note(dropped=dropped)
        counters.delivered += delivered


class _Missed:
    """Seats that messages of a group were not kept for, and how many messages each."""

    def __init__(self) -> None:
        # The members of a group come as the same tuple, message after message, so what is known
        # of a tuple is kept by its identity. It is kept with the tuple, which can't go meanwhile.
        self._runs: dict[int, tuple[Sequence[Seat], int]] = {}
        self._seats: set[Seat] = set()
        self._split: tuple[Sequence[Seat], Sequence[Seat], Sequence[Seat]] = ((), (), ())

    def add(self, seats: Sequence[Seat]) -> None:
        """Count one more message for *seats*."""
        _, count = self._runs.get(id(seats), (seats, 0))
        self._runs[id(seats)] = seats, count + 1
        if not count and not self._seats.issuperset(seats):
            self._seats.update(seats)
            self._split = ((), (), ())

    def split(self, seats: Sequence[Seat]) -> tuple[Sequence[Seat], Sequence[Seat]]:
        """Those of *seats* that miss something, and the others."""
        if id(seats) in self._runs:
            return seats, ()
        if self._split[0] is not seats:
            known = self._seats
            behind = tuple(seat for seat in seats if seat in known)
            others = tuple(seat for seat in seats if seat not in known)
            self._split = seats, behind if others else seats, others
        return self._split[1:]

    def counts(self) -> dict[Seat, int]:
        """How many messages each of them misses."""
        counts: dict[Seat, int] = {}
        for seats, count in self._runs.values():
            for seat in seats:
                counts[seat] = counts.get(seat, 0) + count
        return counts


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
