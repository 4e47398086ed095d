"""A connection as its groups see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..protocol.prepared import PreparedMessage
from .brokers.base import Delivery, Position

if TYPE_CHECKING:
    from ..engines import Driver


class Member:
    """A connection that joins groups.

    :param id: the connection's id.
    :param driver: the connection's driver.
    :param policy: what happens if the client is slow: one of
        :data:`~flask_wsviews.common.option_checks.POLICIES`.
    :param lost_frame: makes the message that reports lost messages of a group; None to send none.
    """

    __slots__ = ("driver", "id", "lost_frame", "policy")

    def __init__(
        self,
        id: str,
        driver: Driver,
        policy: str,
        lost_frame: Callable[[str], str] | None = None,
    ) -> None:
        self.id = id
        self.driver = driver
        self.policy = policy
        self.lost_frame = lost_frame

    def messages_of(self, delivery: Delivery) -> list[PreparedMessage]:
        """Return the messages that this member gets for *delivery*."""
        messages = []
        if delivery.lost and self.lost_frame is not None:
            messages.append(PreparedMessage(self.lost_frame(delivery.group), is_notice=True))
        if delivery.body is not None and self.id not in delivery.exclude:
            messages.append(delivery.prepared)
        return messages


class Recipient:
    """A member in one group, from joining to leaving.

    A message that is already queued when the member leaves isn't delivered.
    """

    __slots__ = ("after", "is_active", "member")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.is_active = True
        #: The position up to which messages were replayed. The broker may still deliver some of
        #: them again.
        self.after: Position | None = None

    def unseen(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the deliveries that weren't replayed to the member."""
        after = self.after
        if after is None:
            return deliveries
        start = 0
        for number, delivery in enumerate(deliveries, 1):
            if delivery.is_up_to(after):
                # A message without an id that came before this one would be out of order.
                start = number
        found = deliveries[start:]
        if any(delivery.id is not None for delivery in found):
            # Ids only grow, so no later message can be one that was replayed.
            self.after = None
        return found
