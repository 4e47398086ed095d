"""The interface for storing which members a group has."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class GroupMember:
    """A connection that is in a group with presence.

    :param id: the connection's id, as ``ws.id``.
    :param meta: the data that was passed to ``ws.join()``.
    :param joined_at: when it joined, in seconds since 1970.
    """

    id: str
    meta: dict[str, Any] = field(default_factory=dict)
    joined_at: float = 0.0


class PresenceStore(ABC):
    """Stores the members of groups. A member stays until its lease expires, unless it is renewed.

    :meth:`enter` and :meth:`renew` also remove and return the members whose leases have expired, so
    each expired member is returned once. All methods raise
    :class:`~flask_wsviews.BrokerUnavailable` if the broker can't be reached.
    """

    #: Whether calls may wait for the network.
    waits: ClassVar[bool] = True

    @abstractmethod
    def enter(
        self, group: str, member: GroupMember, lease: float
    ) -> tuple[bool, list[GroupMember]]:
        """Add a member.

        :param lease: seconds until the member expires.
        :returns: whether the member is new, and the expired members.
        """

    @abstractmethod
    def renew(
        self, group: str, ids: Sequence[str], lease: float
    ) -> tuple[list[str], list[GroupMember]]:
        """Renew the leases of members.

        :returns: the ids that the group no longer has, and the expired members.
        """

    @abstractmethod
    def leave(self, group: str, id: str) -> bool:
        """Remove a member.

        :returns: whether the group had it.
        """

    @abstractmethod
    def members(self, group: str) -> list[GroupMember]:
        """Return the members of a group, in the order in which they joined."""

    @abstractmethod
    def count(self, group: str) -> int:
        """Return the number of members."""


def checked_meta(meta: Any) -> dict[str, Any]:
    """Return a member's data as it looks after JSON.

    :raises TypeError: if it isn't a mapping, or JSON can't represent it.
    """
    if meta is None:
        return {}
    if not isinstance(meta, Mapping):
        raise TypeError(f"meta must be a mapping that JSON can represent, not {meta!r}")
    try:
        through_json: dict[str, Any] = json.loads(json.dumps(dict(meta), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"meta must be a mapping that JSON can represent: {error}") from None
    return through_json
