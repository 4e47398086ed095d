"""This worker's part in presence: its members are entered, kept alive, and taken out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial

from ...exceptions import BrokerUnavailable
from .chores import Chores
from .store import GroupMember, PresenceStore

logger = logging.getLogger("flask_wsviews")

# How many times in its length a lease is renewed.
RENEWALS = 3

# Seconds until leases are renewed that could not be because the broker was away, at most.
RETRY = 1.0

#: What may happen to a member.
JOINED, LEFT = "join", "leave"

#: Called with what has happened, the group's name and the member.
Tell = Callable[[str, str, GroupMember], object]


class Attendance:
    """The members of groups with presence that are connected to this worker.

    One thread says everything to the broker, so that it comes in the order in which it happened,
    and renews the leases.

    :param store: the broker's.
    :param lease: seconds for which members stay if their worker is gone.
    :param tell: told of members that come and go; of each in one worker.
    """

    def __init__(self, store: PresenceStore, lease: float, tell: Tell) -> None:
        self._store = store
        self._lease = lease
        self._tell = tell
        self._lock = threading.Lock()
        self._present: dict[str, dict[str, GroupMember]] = {}
        self._chores = Chores("wsviews-presence", self._renew, lease / RENEWALS)

    def enter(self, group: str, member: GroupMember) -> None:
        """Let a member in; returns once everybody can see it.

        :raises BrokerUnavailable: if the broker can't be reached.
        """
        if not self._store.waits:
            self._enter(group, member)
            return
        try:
            self._chores.do(partial(self._enter, group, member)).result()
        except CancelledError:
            raise BrokerUnavailable("this worker is about to end: nobody joins any more") from None

    def leave(self, group: str, id: str) -> None:
        """Let a member go. Never waits for the broker."""
        if self._store.waits:
            self._chores.do(partial(self._leave, group, id))
        else:
            self._leave(group, id)

    def close(self, timeout: float) -> None:
        """Renew nothing any more.

        :param timeout: seconds to wait until the broker has been told of those who have left.
        """
        self._chores.close(timeout)

    def _enter(self, group: str, member: GroupMember) -> None:
        is_new, gone = self._store.enter(group, member, self._lease)
        with self._lock:
            self._present.setdefault(group, {})[member.id] = member
        self._tell_gone(group, gone)
        if is_new:
            self._tell(JOINED, group, member)

    def _leave(self, group: str, id: str) -> None:
        with self._lock:
            members = self._present.get(group, {})
            member = members.pop(id, None)
            if not members:
                self._present.pop(group, None)
        try:
            was_in = self._store.leave(group, id)
        except BrokerUnavailable:
            # Its lease will run out.
            return
        if was_in and member is not None:
            self._tell(LEFT, group, member)

    def _renew(self) -> float:
        """Renew all leases; returns the seconds until the next time."""
        interval = self._lease / RENEWALS
        with self._lock:
            present = {group: list(members) for group, members in self._present.items()}
        try:
            for group, ids in present.items():
                missing, gone = self._store.renew(group, ids, self._lease)
                self._tell_gone(group, gone)
                for each in missing:
                    self._enter_again(group, each)
        except BrokerUnavailable:
            return min(interval, RETRY)
        except Exception:
            logger.exception("the members of groups could not be kept present")
        return interval

    def _enter_again(self, group: str, id: str) -> None:
        """Let a member in whose lease ran out, or that the broker has forgotten."""
        with self._lock:
            member = self._present.get(group, {}).get(id)
        if member is not None:
            self._enter(group, member)

    def _tell_gone(self, group: str, gone: list[GroupMember]) -> None:
        for member in gone:
            self._tell(LEFT, group, member)
