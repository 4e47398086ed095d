"""The groups of an application: their options, their broker, and this process's members."""

from __future__ import annotations

from collections.abc import Callable, Generator
from time import time
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ..common.per_process import PerProcess
from ..common.process import other_workers
from ..common.steps import Step
from ..config import Settings
from ..exceptions import ConfigError, GroupError, RegistrationError
from ..typing import Sendable
from .brokers import make_broker
from .brokers.base import CONNECTIONS, Broker
from .declared import Declarations, GroupOptions
from .disconnections import Connected
from .fanout import Fanout
from .join import Joined, Joining, checked_since
from .member import Member
from .names import check_group
from .outcome import Outcome, in_event_loop
from .presence.events import PresenceEvents
from .presence.store import GroupMember, PresenceStore, checked_meta
from .publications import make_disconnection, make_publication
from .slow_clients import Counters

T = TypeVar("T")


class Groups:
    """The groups of an application.

    :param settings: the application's settings.
    :param broker: used instead of the one that the settings name.
    :raises ConfigError: if the settings name no known broker.
    """

    def __init__(self, settings: Settings, broker: Broker | None = None) -> None:
        self.settings = settings
        self._has_given_broker = broker is not None
        self.broker = broker or make_broker(settings)
        #: The options of groups, from views and from :meth:`configure`.
        self.declarations = Declarations()
        #: The handlers for members that join and leave.
        self.events = PresenceEvents()
        # By their connections' ids. A client is added when somebody reads its id.
        self._clients: WeakValueDictionary[str, Connected] = WeakValueDictionary()
        self._fanout = PerProcess(self._make_fanout)

    def use(self, settings: Settings) -> None:
        """Change the settings. Call it before the groups are first used.

        :raises ConfigError: if the settings name no known broker.
        :raises RegistrationError: if a group has presence and the new broker doesn't support it.
        """
        if settings == self.settings:
            return
        broker = self.broker if self._has_given_broker else make_broker(settings)
        for pattern, options in self.declarations:
            _check_presence(pattern.text, options, broker)
        self.settings, self.broker = settings, broker

    # -- options ----------------------------------------------------------------------------------

    def configure(self, pattern: str, options: GroupOptions) -> None:
        """Set the options of the groups that match *pattern*.

        :raises RegistrationError: if *pattern* isn't valid, or already has other options.
        """
        _check_presence(pattern, options, self.broker)
        self.declarations.add(pattern, options)

    def options_of(self, group: str) -> GroupOptions:
        """Return the options of *group*."""
        return self.declarations.options_of(group)

    def has_history(self, group: str) -> bool:
        """Return whether *group* has a history."""
        return self.options_of(group).history is not None

    def check_workers(self) -> None:
        """Check that the broker reaches the members in all workers.

        :raises ConfigError: if there are other workers and the broker doesn't reach them.
        """
        others = "" if self.broker.is_shared else other_workers()
        if others:
            raise ConfigError(
                f"groups are in the memory of one worker, but {others}, and members elsewhere "
                'would miss all messages: set WSVIEWS_BROKER_URL = "redis://localhost/0", or '
                "run a single worker"
            )

    # -- members ----------------------------------------------------------------------------------

    def join(
        self,
        member: Member,
        group: str,
        since: str | None,
        send: Callable[[Any], Any],
        meta: Any = None,
    ) -> Generator[Step, Any, Joined]:
        """Let *member* join a group, in steps.

        :param since: if the group has a history, first send what came after this id.
        :param send: sends a message to the member; may wait until its send buffer has room.
        :param meta: data that others see of the member, if the group has presence.
        :raises GroupError: if there is a *since* but the group has no history, or a *meta* but it
            has no presence.
        :raises TypeError: if *meta* isn't a mapping that JSON can represent.
        :raises BrokerUnavailable: if the broker can't be reached.
        """
        options = self.options_of(group)
        since = checked_since(group, since, options.history)
        if meta is not None and not options.presence:
            raise _no_presence(group)
        present = GroupMember(member.id, checked_meta(meta), time())
        joining = Joining(self._fanout.get(), self._call, member, send)
        return (yield from joining.join(group, options, since, present))

    def leave(self, member: Member, group: str) -> None:
        """Remove *member* from a group. Does nothing if it isn't in the group; never waits."""
        fanout = self._fanout.get()
        fanout.leave(member, group)
        if self.options_of(group).presence:
            fanout.attendance.leave(group, member.id)

    def members(self, group: str) -> list[GroupMember] | Outcome[list[GroupMember]]:
        """Return the members of a group in all workers, in the order in which they joined.

        :returns: in an event loop, an awaitable for them.
        :raises GroupError: if *group* isn't a valid name, or has no presence.
        :raises BrokerUnavailable: if the broker can't be reached.
        """
        return self._run(self._presence_of(group).members, group)

    def count(self, group: str) -> int | Outcome[int]:
        """Return the number of members of a group in all workers, as :meth:`members` does."""
        return self._run(self._presence_of(group).count, group)

    def _presence_of(self, group: str) -> PresenceStore:
        store = self.broker.presence
        if not self.options_of(check_group(group)).presence or store is None:
            raise _no_presence(group)
        self.check_workers()
        return store

    # -- messages ---------------------------------------------------------------------------------

    def publish(
        self,
        group: str,
        message: Sendable,
        *,
        exclude: Any = None,
        typed: bool = False,
        keep: bool = True,
    ) -> str | Outcome[str | None] | None:
        """Broadcast a message to all members of a group.

        :param exclude: connections that don't get it, or their ids: one or several.
        :param typed: whether it is a JSON object, which gets its id as ``message_id``.
        :param keep: whether the group's history keeps it.
        :returns: the message's id, if a history keeps it; in an event loop, an awaitable for it.
        :raises BrokerUnavailable: if the message was not sent.
        :raises GroupError: if *group* isn't a valid name, or *exclude* contains something that
            isn't an id.
        :raises TypeError: if *message* is neither text nor bytes.
        """
        history = self.options_of(check_group(group)).history
        publication = make_publication(group, message, exclude, typed, history, keep)
        self._fanout.get()
        return self._run(self.broker.publish, publication)

    def disconnect(
        self, group: str | None, connection: Any, code: int, reason: str
    ) -> str | Outcome[str | None] | None:
        """Close the members of a group, or one connection, in all workers.

        :returns: ``None``; in an event loop, an awaitable.
        :raises BrokerUnavailable: if the request was not sent.
        """
        publication = make_disconnection(group, connection, code, reason)
        self._fanout.get()
        if not self.broker.is_shared:
            # No client has called listen(): all connections are in this process.
            self.broker.subscribe(CONNECTIONS, None)
        return self._run(self.broker.publish, publication)

    def note_id(self, client: Connected, id: str) -> None:
        """Note that somebody has read a connection's id and may disconnect it."""
        self._clients[id] = client

    def listen(self, client: Connected) -> None:
        """Let :meth:`disconnect` in other workers reach *client*, until :meth:`forget`."""
        if self.broker.is_shared:
            self._fanout.get().disconnections.listen(client)

    def forget(self, client: Connected) -> None:
        """End :meth:`listen`. Never waits."""
        fanout = self._fanout.peek()
        if self.broker.is_shared and fanout is not None:
            fanout.disconnections.forget(client)

    def _call(self, function: Callable[..., T], *arguments: Any) -> T | Any:
        """Call a function that may wait for the broker.

        :returns: its result; in an event loop, which mustn't wait, an awaitable for it.
        """
        if not self.broker.waits or not in_event_loop():
            return function(*arguments)
        return self._fanout.get().thread.call(function, *arguments)

    def _run(self, function: Callable[..., T], *arguments: Any) -> T | Outcome[T]:
        """Call a function as :meth:`_call` does, for callers that may ignore the awaitable."""
        if not in_event_loop():
            return function(*arguments)
        if not self.broker.waits:
            return Outcome(result=function(*arguments))
        thread = self._fanout.get().thread

        async def wait() -> T:
            result: T = await thread.call(function, *arguments)
            return result

        return Outcome(wait())

    # -- this process -----------------------------------------------------------------------------

    @property
    def counters(self) -> Counters:
        """The numbers of messages that this process has delivered and dropped."""
        return self._fanout.get().counters

    def local_count(self, group: str) -> int:
        """Return how many members a group has in this process."""
        return self._fanout.get().count(group)

    def close(self) -> None:
        """Stop all threads that this process has started for groups."""
        fanout = self._fanout.take()
        if fanout is not None:
            fanout.close()

    def _make_fanout(self) -> Fanout:
        self.check_workers()
        for pattern in self.events.patterns:
            if not self.options_of(pattern.example).presence:
                raise RegistrationError(
                    f"on_join() or on_leave() is used for {pattern.text!r}, which has no presence: "
                    "set presence = True for it"
                )
        return Fanout(self.broker, self.settings, self.events, self._clients)


def _check_presence(pattern: str, options: GroupOptions, broker: Broker) -> None:
    if options.presence and broker.presence is None:
        raise RegistrationError(
            f"groups {pattern!r} need presence, which {type(broker).__name__} doesn't support"
        )


def _no_presence(group: str) -> GroupError:
    return GroupError(f"{group!r} has no presence: set presence = True for it")
