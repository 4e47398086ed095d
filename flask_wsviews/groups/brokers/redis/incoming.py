"""Turns messages from Redis into deliveries, and fills the gaps that lost connections leave."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ....exceptions import BrokerUnavailable
from ..base import Delivery, History
from ..health import BrokerRefused
from ..wire import decode
from .history import Histories

logger = logging.getLogger("flask_wsviews")


class Subscription:
    """A group that this worker subscribes to.

    :param history: the group's history; None if it has none.
    """

    def __init__(self, history: History | None) -> None:
        self.history = history
        #: Set once the server has confirmed the subscription, or it has failed.
        self.settled = threading.Event()
        #: The id up to which everything has been delivered; None if it isn't known.
        self.position: str | None = None
        #: How many times the group was subscribed to. Each time after the first, messages may have
        #: been missed.
        self.confirmations = 0
        #: Why subscribing has failed, if it never succeeded.
        self.error: Exception | None = None


class Incoming:
    """Delivers the messages of the subscribed groups, in order.

    :param histories: reads missed messages.
    :param deliver: takes each message.
    """

    def __init__(self, histories: Histories, deliver: Callable[[Delivery], None]) -> None:
        self._histories = histories
        self._deliver = deliver

    def take(self, group: str, subscription: Subscription, payload: bytes) -> None:
        """Deliver a published message."""
        message_id, _, message = payload.partition(b"\n")
        try:
            delivery = decode(group, message_id.decode(), message)
        except ValueError:
            logger.error("the group %r received something that isn't a message", group)
            return
        if delivery.id is not None:
            subscription.position = delivery.id
        self._hand_over(delivery)

    def fill_gap(self, group: str, subscription: Subscription) -> None:
        """Deliver what was published while nothing was subscribed.

        :raises OSError: if the server can't be reached.
        """
        history = subscription.history
        if history is None or subscription.position is None:
            return
        while True:
            try:
                page = self._histories.catch_up(group, subscription.position, history)
            except BrokerRefused as error:
                # Something is wrong with this group only, so the others go on.
                self._report_lost(group, str(error))
                return
            except BrokerUnavailable as error:
                raise OSError(str(error)) from None
            if not page.complete:
                self._report_lost(group, "the history no longer has them")
            for delivery in page.deliveries:
                self._hand_over(delivery)
            subscription.position = page.position
            if page.is_last:
                return

    def _report_lost(self, group: str, reason: str) -> None:
        logger.warning("messages to the group %r are lost: %s", group, reason)
        self._hand_over(Delivery(group, None, lost=True))

    def _hand_over(self, delivery: Delivery) -> None:
        try:
            self._deliver(delivery)
        except Exception:
            # The connection to the server is fine, and other messages wait behind this one.
            logger.exception("a message to the group %r could not be delivered", delivery.group)
