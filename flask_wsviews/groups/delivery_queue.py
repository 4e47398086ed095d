"""The queue of messages for the connections that one thread or event loop serves."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..close_codes import POLICY_VIOLATION
from .brokers.base import Delivery
from .member import Recipient
from .missed import Missed
from .slow_clients import Counters, SlowClients

if TYPE_CHECKING:
    from ..engines import Driver

logger = logging.getLogger("flask_wsviews")

# The most messages that are delivered before an event loop's other callbacks run.
BATCH = 64

# The queue's limit in bytes, as a multiple of one client's send buffer. All members share one copy
# of a message, so a burst while the event loop is busy doesn't make their clients slow.
QUEUE_SHARE = 16

# What a queued message takes besides its body, in bytes.
DELIVERY_SIZE = 500

# The close reason for clients that missed messages because the queue was full.
TOO_BUSY = "the server is too busy"


class DeliveryQueue:
    """Messages for the connections of one home, in the order in which they arrived.

    However many messages are waiting, the home is called once for all of them. With several threads
    per home, as in the blocking engine, one thread delivers what the others put in.

    :param home: the driver of any connection at that home.
    :param counters: counts delivered messages.
    :param slow_clients: counts dropped messages and closed connections.
    """

    def __init__(self, home: Driver, counters: Counters, slow_clients: SlowClients) -> None:
        self._home = home
        self._counters = counters
        self._slow_clients = slow_clients
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Sequence[Recipient], Delivery]] = deque()
        self._room = QUEUE_SHARE * home.connection.settings.max_send_buffer
        #: By group, the members that missed messages because the queue was full.
        self._missed: dict[str, Missed] = {}
        self._is_scheduled = False

    def put(self, recipients: Sequence[Recipient], delivery: Delivery) -> None:
        """Queue a message; call :meth:`flush` afterwards.

        If the queue is full, the message is dropped, and the recipients are treated as slow clients
        once the home runs again. A disconnection is always queued.
        """
        is_message = delivery.disconnection is None
        size = _size(delivery)
        with self._lock:
            if self._missed and is_message:
                recipients = self._without_missing(recipients, delivery)
            if not recipients:
                return
            if self._room >= size or not is_message:
                self._room -= size
                self._waiting.append((recipients, delivery))
            else:
                self._missed.setdefault(delivery.group, Missed()).add(recipients)

    def _without_missing(
        self, recipients: Sequence[Recipient], delivery: Delivery
    ) -> Sequence[Recipient]:
        """Return the recipients that miss nothing, and count one more message for the others.

        A client has to learn of a gap before it gets the next message.
        """
        missed = self._missed.get(delivery.group)
        if missed is None:
            return recipients
        behind, others = missed.split(recipients)
        if behind:
            missed.add(behind)
        return others

    def flush(self) -> None:
        """Deliver what is queued: now, if this is the home's thread, otherwise soon."""
        with self._lock:
            if self._is_scheduled or not (self._waiting or self._missed):
                return
            self._is_scheduled = True
        try:
            self._home.call_at_home(self._flush)
        except RuntimeError:
            # The event loop has ended, and its connections with it.
            with self._lock:
                self._waiting.clear()
                self._missed.clear()
                self._is_scheduled = False

    def _flush(self) -> None:
        done = 0
        while done < BATCH or not self._home.shares_thread:
            missed: dict[str, Missed] | None = None
            recipients: Sequence[Recipient] = ()
            deliveries: list[Delivery] = []
            with self._lock:
                if self._waiting:
                    recipients, deliveries = self._next()
                elif self._missed:
                    missed, self._missed = self._missed, {}
                else:
                    self._is_scheduled = False
                    return
            if missed is not None:
                self._report_missed(missed)
                continue
            self._deliver(recipients, deliveries)
            done += len(deliveries)
        self._home.call_soon_at_home(self._flush)

    def _next(self) -> tuple[Sequence[Recipient], list[Delivery]]:
        """Remove the first message, and those after it that have the same recipients."""
        waiting = self._waiting
        recipients, delivery = waiting.popleft()
        deliveries = [delivery]
        size = _size(delivery)
        while (
            waiting
            and waiting[0][0] is recipients
            and len(deliveries) < BATCH
            # A disconnection is the last one for its recipients.
            and delivery.disconnection is None
        ):
            delivery = waiting.popleft()[1]
            deliveries.append(delivery)
            size += _size(delivery)
        self._room += size
        return recipients, deliveries

    def _report_missed(self, missed: dict[str, Missed]) -> None:
        """Close the members that missed messages, or report the gap, depending on their policy."""
        for group, one in missed.items():
            staying = []
            for recipient, count in one.counts().items():
                if not recipient.is_active:
                    continue
                if recipient.member.policy == "close":
                    recipient.member.driver.close(POLICY_VIOLATION, TOO_BUSY)
                    self._slow_clients.note(closed=1)
                else:
                    staying.append(recipient)
                    self._slow_clients.note(dropped=count)
            self._deliver(staying, [Delivery(group, None, lost=True)])

    def _deliver(self, recipients: Sequence[Recipient], deliveries: list[Delivery]) -> None:
        ending = deliveries[-1].disconnection
        if ending is not None:
            deliveries.pop()
        # Usually all recipients get the same messages, so the list is made once.
        is_same = not any(each.exclude or each.lost for each in deliveries)
        for_all = [each.prepared for each in deliveries] if is_same else []
        delivered = 0
        for recipient in recipients:
            if not recipient.is_active:
                continue
            member = recipient.member
            try:
                unseen = deliveries if recipient.after is None else recipient.unseen(deliveries)
                messages = for_all
                if not is_same or unseen is not deliveries:
                    messages = [m for each in unseen for m in member.messages_of(each)]
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
                self._slow_clients.note(closed=1)
            else:
                self._slow_clients.note(dropped=dropped)
        self._counters.delivered += delivered


def _size(delivery: Delivery) -> int:
    return DELIVERY_SIZE + len(delivery.body or "")
