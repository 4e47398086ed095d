"""Which members miss messages because a delivery queue was full, and how many."""

from __future__ import annotations

from collections.abc import Sequence

from .member import Recipient


class Missed:
    """The recipients that miss messages of one group, with the number of messages."""

    def __init__(self) -> None:
        # A group passes the same tuple of recipients, message after message, so counts are kept by
        # the tuple's identity. The tuple is kept too, so that the identity stays unique.
        self._runs: dict[int, tuple[Sequence[Recipient], int]] = {}
        self._recipients: set[Recipient] = set()
        self._split: tuple[Sequence[Recipient], Sequence[Recipient], Sequence[Recipient]]
        self._split = ((), (), ())

    def add(self, recipients: Sequence[Recipient]) -> None:
        """Count one more missed message for *recipients*."""
        _, count = self._runs.get(id(recipients), (recipients, 0))
        self._runs[id(recipients)] = recipients, count + 1
        if not count and not self._recipients.issuperset(recipients):
            self._recipients.update(recipients)
            self._split = ((), (), ())

    def split(
        self, recipients: Sequence[Recipient]
    ) -> tuple[Sequence[Recipient], Sequence[Recipient]]:
        """Return those of *recipients* that already miss something, and the others."""
        if id(recipients) in self._runs:
            return recipients, ()
        if self._split[0] is not recipients:
            known = self._recipients
            behind = tuple(each for each in recipients if each in known)
            others = tuple(each for each in recipients if each not in known)
            self._split = recipients, behind if others else recipients, others
        return self._split[1:]

    def counts(self) -> dict[Recipient, int]:
        """Return how many messages each recipient misses."""
        counts: dict[Recipient, int] = {}
        for recipients, count in self._runs.values():
            for recipient in recipients:
                counts[recipient] = counts.get(recipient, 0) + count
        return counts
