"""Presence in the memory of one process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar

from .store import GroupMember, PresenceStore


class MemoryPresence(PresenceStore):
    """Keeps members without leases: they end together with the process that would renew them."""

    waits: ClassVar[bool] = False

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, GroupMember]] = {}
        self._lock = threading.Lock()

    def enter(
        self, group: str, member: GroupMember, lease: float
    ) -> tuple[bool, list[GroupMember]]:
        """Add a member, and return whether it is new."""
        with self._lock:
            members = self._groups.setdefault(group, {})
            is_new = member.id not in members
            members[member.id] = member
        return is_new, []

    def renew(
        self, group: str, ids: Sequence[str], lease: float
    ) -> tuple[list[str], list[GroupMember]]:
        """Return the ids that are missing."""
        with self._lock:
            members = self._groups.get(group, {})
            return [each for each in ids if each not in members], []

    def leave(self, group: str, id: str) -> bool:
        """Remove a member, and return whether it was there."""
        with self._lock:
            members = self._groups.get(group, {})
            was_in = members.pop(id, None) is not None
            if not members:
                self._groups.pop(group, None)
        return was_in

    def members(self, group: str) -> list[GroupMember]:
        """Return the members, in the order in which they joined."""
        with self._lock:
            members = list(self._groups.get(group, {}).values())
        return sorted(members, key=lambda member: member.joined_at)

    def count(self, group: str) -> int:
        """Return the number of members."""
        with self._lock:
            return len(self._groups.get(group, {}))
