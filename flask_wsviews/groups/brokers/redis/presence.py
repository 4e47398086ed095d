"""The members of groups in Redis: a sorted set of leases, and a hash of what is said of each.

Times are those of the server's clock, so it doesn't matter what the workers' clocks say. Both keys
end by themselves when nobody renews anything in them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from ...presence.store import GroupMember, PresenceStore

logger = logging.getLogger("flask_wsviews")

# Members that one script renews; while it runs the server does nothing else.
BATCH = 1000

# KEYS of all: the leases, what is said of the members. The beginning of those that change them.
COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function set_lease(id, lease)
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease), id)
end
local function keep(lease)
    -- Longer than a lease, for those that have run out shall be found.
    redis.call('PEXPIRE', KEYS[1], lease * 10)
    redis.call('PEXPIRE', KEYS[2], lease * 10)
end
local function sweep()
    local gone = {}
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))) do
        gone[#gone + 1] = id
        gone[#gone + 1] = redis.call('HGET', KEYS[2], id) or ''
        redis.call('ZREM', KEYS[1], id)
        redis.call('HDEL', KEYS[2], id)
    end
    return gone
end
"""

# ARGV: the lease in ms, the member's id, and what is said of it.
ENTER = (
    COMMON
    + """
local gone = sweep()
local is_new = redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
set_lease(ARGV[2], ARGV[1])
keep(ARGV[1])
return {is_new, gone}
"""
)

# ARGV: the lease in ms, and the ids. Who comes late, but before anybody has noticed, is not gone.
RENEW = (
    COMMON
    + """
local missing = {}
for i = 2, #ARGV do
    if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
        set_lease(ARGV[i], ARGV[1])
    else
        missing[#missing + 1] = ARGV[i]
    end
end
local gone = sweep()
keep(ARGV[1])
return {missing, gone}
"""
)

# ARGV: the id.
LEAVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
"""

MEMBERS = """
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
    found[#found + 1] = id
    found[#found + 1] = redis.call('HGET', KEYS[2], id) or ''
end
return found
"""

COUNT = """
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')
"""


class Scripts(Protocol):
    """Runs scripts in Redis; the broker does."""

    def run(
        self,
        script: str,
        group: str,
        names: tuple[str, ...],
        arguments: tuple[str, ...],
        *,
        keeps: bool,
    ) -> Any:
        """Run a script on the keys of a group that end in *names*."""


class RedisPresence(PresenceStore):
    """Members of all workers, on all machines.

    :param broker: runs the scripts.
    """

    def __init__(self, broker: Scripts) -> None:
        self._broker = broker

    def enter(
        self, group: str, member: GroupMember, lease: float
    ) -> tuple[bool, list[GroupMember]]:
        """See :meth:`PresenceStore.enter`."""
        said = json.dumps([member.meta, member.joined_at], separators=(",", ":"))
        is_new, gone = self._run(ENTER, group, _milliseconds(lease), member.id, said, keeps=True)
        return bool(is_new), _members(gone)

    def renew(
        self, group: str, ids: Sequence[str], lease: float
    ) -> tuple[list[str], list[GroupMember]]:
        """See :meth:`PresenceStore.renew`."""
        missing: list[str] = []
        gone: list[GroupMember] = []
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            absent, over = self._run(RENEW, group, _milliseconds(lease), *batch)
            missing += [each.decode() for each in absent]
            gone += _members(over)
        return missing, gone

    def leave(self, group: str, id: str) -> bool:
        """See :meth:`PresenceStore.leave`."""
        return bool(self._run(LEAVE, group, id))

    def members(self, group: str) -> list[GroupMember]:
        """See :meth:`PresenceStore.members`."""
        found = _members(self._run(MEMBERS, group))
        return sorted(found, key=lambda member: member.joined_at)

    def count(self, group: str) -> int:
        """See :meth:`PresenceStore.count`."""
        return int(self._run(COUNT, group))

    def _run(self, script: str, group: str, *arguments: str, keeps: bool = False) -> Any:
        return self._broker.run(script, group, ("leases", "members"), arguments, keeps=keeps)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _members(answer: list[bytes]) -> list[GroupMember]:
    found = []
    for name, said in zip(answer[::2], answer[1::2], strict=True):
        try:
            meta, joined_at = json.loads(said or b"[{}, 0]")
            found.append(GroupMember(name.decode(), dict(meta), float(joined_at)))
        except (ValueError, TypeError):
            logger.error("something that isn't a member is kept as %r", name)
    return found
