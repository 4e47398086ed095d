"""This worker's members of groups with presence: adds them, renews their leases, removes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial

from ...exceptions import BrokerUnavailable
from ..job_thread import JobThread
from .store import GroupMember, PresenceStore

logger = logging.getLogger("flask_wsviews")

# How many times a lease is renewed before it would expire.
RENEWALS = 3

# The most seconds until the next renewal, after the broker couldn't be reached.
RETRY = 1.0

#: The events of a member.
JOINED, LEFT = "join", "leave"

#: Called with the event, the group's name and the member.
Notify = Callable[[str, str, GroupMember], object]


class Attendance:
    """Keeps this worker's members in the presence store.

    One thread makes all calls to the broker, so that they keep their order, and renews the leases.

    :param store: the broker's presence store.
    :param lease: seconds until members expire whose worker has ended.
    :param notify: called for each member that joins or leaves, in one worker.
    """

    def __init__(self, store: PresenceStore, lease: float, notify: Notify) -> None:
        self._store = store
        self._lease = lease
        self._notify = notify
        self._lock = threading.Lock()
        self._present: dict[str, dict[str, GroupMember]] = {}
        self._jobs = JobThread("wsviews-presence", self._renew, lease / RENEWALS)

    def enter(self, group: str, member: GroupMember) -> None:
        """Add a member; return once all workers can see it.

        :raises BrokerUnavailable: if the broker can't be reached.
        """
        if not self._store.waits:
            self._enter(group, member)
            return
        try:
            self._jobs.submit(partial(self._enter, group, member)).result()
        except CancelledError:
            raise BrokerUnavailable("this worker is shutting down: no member can join") from None

    def leave(self, group: str, id: str) -> None:
        """Remove a member. Never waits for the broker."""
        if self._store.waits:
            self._jobs.submit(partial(self._leave, group, id))
        else:
            self._leave(group, id)

    def close(self, timeout: float) -> None:
        """Stop renewing leases.

        :param timeout: seconds to wait until the broker knows which members have left.
        """
        self._jobs.close(timeout)

    def _enter(self, group: str, member: GroupMember) -> None:
        is_new, expired = self._store.enter(group, member, self._lease)
        with self._lock:
            self._present.setdefault(group, {})[member.id] = member
        self._notify_expired(group, expired)
        if is_new:
            self._notify(JOINED, group, member)

    def _leave(self, group: str, id: str) -> None:
        with self._lock:
            members = self._present.get(group, {})
            member = members.pop(id, None)
            if not members:
                self._present.pop(group, None)
        try:
            was_in = self._store.leave(group, id)
        except BrokerUnavailable:
            # Its lease will expire.
            return
        if was_in and member is not None:
            self._notify(LEFT, group, member)

    def _renew(self) -> float:
        """Renew all leases; return the seconds until the next renewal."""
        interval = self._lease / RENEWALS
        with self._lock:
            present = {group: list(members) for group, members in self._present.items()}
        try:
            for group, ids in present.items():
                missing, expired = self._store.renew(group, ids, self._lease)
                self._notify_expired(group, expired)
                for each in missing:
                    self._enter_again(group, each)
        except BrokerUnavailable:
            return min(interval, RETRY)
        except Exception:
            logger.exception("the leases of group members could not be renewed")
        return interval

    def _enter_again(self, group: str, id: str) -> None:
        """Add a member again whose lease has expired or whose entry is gone."""
        with self._lock:
            member = self._present.get(group, {}).get(id)
        if member is not None:
            self._enter(group, member)

    def _notify_expired(self, group: str, expired: list[GroupMember]) -> None:
        for member in expired:
            self._notify(LEFT, group, member)
