"""Who is in a group: what a broker keeps of its members, and for how long."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class GroupMember:
    """A connection that is in a group with presence.

    :param id: the connection's, as ``ws.id``.
    :param meta: what was said of it when it joined.
    :param joined_at: when that was, in seconds since 1970.
    """

    id: str
    meta: dict[str, Any] = field(default_factory=dict)
    joined_at: float = 0.0


class PresenceStore(ABC):
    """Keeps the members of groups, each for the time of its lease unless that is renewed.

    The methods that change something also tell who is *gone*: members whose lease has run out,
    each told once, to whoever looks first. All of them raise
    :class:`~flask_wsviews.BrokerUnavailable` if the broker can't be reached.
    """

    #: Whether calls wait for a network.
    waits: ClassVar[bool] = True

    @abstractmethod
    def enter(
        self, group: str, member: GroupMember, lease: float
    ) -> tuple[bool, list[GroupMember]]:
        """Let a member in.

        :param lease: seconds for which it stays.
        :returns: whether it wasn't in yet, and who is gone.
        """

    @abstractmethod
    def renew(
        self, group: str, ids: Sequence[str], lease: float
    ) -> tuple[list[str], list[GroupMember]]:
        """Let members stay.

        :returns: the ids of those that aren't in any more, and who is gone.
        """

    @abstractmethod
    def leave(self, group: str, id: str) -> bool:
        """Let a member go.

        :returns: whether it was in.
        """

    @abstractmethod
    def members(self, group: str) -> list[GroupMember]:
        """Who is in, in the order in which they joined."""

    @abstractmethod
    def count(self, group: str) -> int:
        """How many are in."""


def checked_meta(meta: Any) -> dict[str, Any]:
    """What is said of a member, as everybody will see it.

    :raises TypeError: if it is no mapping, or JSON can't express it.
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
