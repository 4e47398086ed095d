"""Handlers that are told who comes to a group and who leaves it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from ..names import Pattern
from .chores import Chores
from .store import GroupMember

logger = logging.getLogger("flask_wsviews")

#: Called with the group's name and the member.
PresenceHandler = Callable[[str, GroupMember], object]


class PresenceEvents:
    """The handlers of an application, by what they are told of and for which groups."""

    def __init__(self) -> None:
        self._handlers: list[tuple[str, Pattern, PresenceHandler]] = []

    @property
    def patterns(self) -> list[Pattern]:
        """The groups that there are handlers for."""
        return [pattern for _, pattern, _ in self._handlers]

    def add(self, event: str, pattern: str, handler: PresenceHandler) -> None:
        """Have *handler* called.

        :raises RegistrationError: if *pattern* is none.
        """
        self._handlers.append((event, Pattern(pattern), handler))

    def notify(self, chores: Chores, event: str, group: str, member: GroupMember) -> None:
        """Call whoever is to be told, in a thread of theirs: they may take their time."""
        for its_event, pattern, handler in self._handlers:
            if its_event == event and pattern.matches(group):
                chores.do(partial(_call, handler, group, member))


def _call(handler: PresenceHandler, group: str, member: GroupMember) -> None:
    try:
        handler(group, member)
    except Exception:
        logger.exception("a handler of what happens in the group %r failed", group)
