"""How a member joins a group: subscribe, replay missed messages, announce it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..common.steps import Step
from ..exceptions import GroupError
from .brokers.base import History, Replay, parse_id
from .declared import GroupOptions
from .fanout import Fanout
from .member import Member
from .members import Members
from .presence.store import GroupMember

# An id before all others.
BEGINNING = "0-0"


@dataclass(frozen=True)
class Joined:
    """The result of joining a group.

    :param group: the group's name.
    :param position: the id of the last message so far; ``None`` without a history. A client that
        reconnects before it receives a message resumes with ``since`` set to this id.
    :param lost: whether the history no longer has all messages after ``since``.
    :param replayed: how many missed messages were sent.
    """

    group: str
    position: str | None = None
    lost: bool = False
    replayed: int = 0


class Joining:
    """Lets a member join a group, in steps that may wait.

    :param fanout: this process's members.
    :param call: makes calls that may wait for the broker; may return an awaitable.
    :param member: the member.
    :param send: sends a message to the member; may wait until its send buffer has room.
    """

    def __init__(
        self,
        fanout: Fanout,
        call: Callable[..., Any],
        member: Member,
        send: Callable[[Any], Any],
    ) -> None:
        self._fanout = fanout
        self._call = call
        self._member = member
        self._send = send

    def join(
        self, group: str, options: GroupOptions, since: str | None, present: GroupMember
    ) -> Generator[Step, Any, Joined]:
        """Join *group*.

        :param since: replay what came after this id first.
        :param present: how the member appears in the group, if the group has presence.
        :raises BrokerUnavailable: if the broker can't be reached.
        """
        history = options.history
        fanout, member = self._fanout, self._member
        members: Members = yield partial(self._call, fanout.enter, group, history, member)
        try:
            if history is None:
                members.add(member)
                joined = Joined(group)
            elif since is None:
                joined = yield from self._catch_up(members, since, history)
            else:
                if not fanout.replays.enter_now():
                    yield fanout.replays.enter
                try:
                    joined = yield from self._catch_up(members, since, history)
                finally:
                    fanout.replays.leave()
            if options.presence:
                yield partial(self._call, fanout.attendance.enter, group, present)
            return joined
        except BaseException:
            members.discard(member)
            raise
        finally:
            fanout.entered(group, member)

    def _catch_up(
        self, members: Members, since: str | None, history: History
    ) -> Generator[Step, Any, Joined]:
        """Send the messages after *since*, then add the member."""
        member, replays = self._member, self._fanout.replays
        lost = False
        replayed = 0
        while True:
            # Live messages are held from here on, so none falls between the replay and them.
            members.hold(member)
            page: Replay = yield partial(
                self._call, replays.pages.get, members.name, since, history
            )
            lost = lost or not page.complete
            if not page.is_last:
                members.discard(member)
            try:
                for delivery in page.deliveries:
                    if member.id not in delivery.exclude:
                        replays.deadlines.begin(member)
                        yield partial(self._send, delivery.content)
                        replayed += 1
            finally:
                replays.deadlines.end(member)
            since = page.position
            if page.is_last and members.release(member, since):
                return Joined(members.name, since, lost, replayed)


def checked_since(group: str, since: Any, history: History | None) -> str | None:
    """Return the id to resume after. An id that isn't valid counts as one that is gone.

    :raises GroupError: if the group has no history.
    """
    if since is None:
        return None
    if history is None:
        raise GroupError(f"{group!r} has no history: set one, or leave since out")
    try:
        parse_id(since)
    except (ValueError, AttributeError, TypeError):
        return BEGINNING
    return str(since)
