"""Presence in Redis: a sorted set of leases and a hash of members for each group.

All times are of the server's clock. Both keys expire when no lease is renewed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from ...presence.store import GroupMember, PresenceStore
from .calls import Calls
from .keys import Keys
from .presence_scripts import COUNT, ENTER, LEAVE, MEMBERS, RENEW_LEASES

logger = logging.getLogger("flask_wsviews")

# The most leases that one script renews. The server does nothing else while a script runs.
BATCH = 1000


class RedisPresence(PresenceStore):
    """Keeps the members of all workers, on all machines.

    :param calls: runs the scripts.
    :param keys: the names of keys.
    """

    def __init__(self, calls: Calls, keys: Keys) -> None:
        self._calls = calls
        self._keys = keys

    def enter(
        self, group: str, member: GroupMember, lease: float
    ) -> tuple[bool, list[GroupMember]]:
        """Add a member, and return whether it is new and whose leases have expired."""
        data = json.dumps([member.meta, member.joined_at], separators=(",", ":"))
        is_new, gone = self._run(ENTER, group, _milliseconds(lease), member.id, data, keeps=True)
        return bool(is_new), _members(gone)

    def renew(
        self, group: str, ids: Sequence[str], lease: float
    ) -> tuple[list[str], list[GroupMember]]:
        """Renew leases, and return the missing ids and whose leases have expired."""
        missing: list[str] = []
        gone: list[GroupMember] = []
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            absent, expired = self._run(RENEW_LEASES, group, _milliseconds(lease), *batch)
            missing += [each.decode() for each in absent]
            gone += _members(expired)
        return missing, gone

    def leave(self, group: str, id: str) -> bool:
        """Remove a member, and return whether it was there."""
        return bool(self._run(LEAVE, group, id))

    def members(self, group: str) -> list[GroupMember]:
        """Return the members, in the order in which they joined."""
        found = _members(self._run(MEMBERS, group))
        return sorted(found, key=lambda member: member.joined_at)

    def count(self, group: str) -> int:
        """Return the number of members."""
        return int(self._run(COUNT, group))

    def _run(self, script: str, group: str, *arguments: str, keeps: bool = False) -> Any:
        return self._calls.run(script, self._keys.of_presence(group), arguments, keeps=keeps)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _members(answer: list[bytes]) -> list[GroupMember]:
    found = []
    for name, data in zip(answer[::2], answer[1::2], strict=True):
        try:
            meta, joined_at = json.loads(data or b"[{}, 0]")
            found.append(GroupMember(name.decode(), dict(meta), float(joined_at)))
        except (ValueError, TypeError):
            logger.error("presence has an entry %r that isn't a member", name)
    return found
