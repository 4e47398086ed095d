"""The handlers for members that join and leave groups."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from ..job_thread import JobThread
from ..names import Pattern
from .store import GroupMember

logger = logging.getLogger("flask_wsviews")

#: Called with the group's name and the member.
PresenceHandler = Callable[[str, GroupMember], object]


class PresenceEvents:
    """The handlers of an application, each for one event and one pattern of groups."""

    def __init__(self) -> None:
        self._handlers: list[tuple[str, Pattern, PresenceHandler]] = []

    @property
    def patterns(self) -> list[Pattern]:
        """The patterns of the groups that have handlers."""
        return [pattern for _, pattern, _ in self._handlers]

    def add(self, event: str, pattern: str, handler: PresenceHandler) -> None:
        """Call *handler* at each *event* in the groups that match *pattern*.

        :raises RegistrationError: if *pattern* isn't valid.
        """
        self._handlers.append((event, Pattern(pattern), handler))

    def notify(self, thread: JobThread, event: str, group: str, member: GroupMember) -> None:
        """Call the event's handlers in *thread*, because they may be slow."""
        for its_event, pattern, handler in self._handlers:
            if its_event == event and pattern.matches(group):
                thread.submit(partial(_call, handler, group, member))


def _call(handler: PresenceHandler, group: str, member: GroupMember) -> None:
    try:
        handler(group, member)
    except Exception:
        logger.exception("a presence handler for the group %r failed", group)
