"""What an application has of groups: its broker, its patterns, and this worker's members."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from time import time
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ..common.process import other_workers
from ..common.steps import Step
from ..config import Settings
from ..exceptions import ConfigError, GroupError, RegistrationError, check_close
from ..typing import Sendable
from .brokers import make_broker
from .brokers.base import CONNECTIONS, Broker, Disconnection, History, Publication, Replay, parse_id
from .declared import Declarations
from .declared import GroupOptions as GroupOptions
from .declared import history_of as history_of
from .local import LocalGroup
from .mailbox import Counters, Member, text_of
from .names import check_group
from .outcome import Outcome, in_event_loop
from .presence.events import PresenceEvents
from .presence.store import GroupMember, PresenceStore, checked_meta
from .worker import Connected, Worker

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

# What ws.id looks like.
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# An id before all others.
BEGINNING = "0-0"


@dataclass(frozen=True)
class Joined:
    """What joining a group has come to.

    :param group: the group's name.
    :param position: the id up to which the group has been seen; ``None`` without a history.
        A client that comes back before it gets a message joins ``since`` this one.
    :param lost: whether messages after ``since`` are gone from the history.
    :param replayed: how many messages were sent again.
    """

    group: str
    position: str | None = None
    lost: bool = False
    replayed: int = 0


class Groups:
    """The groups of an application.

    :param settings: the application's.
    :param broker: in place of the one that the settings name.
    :raises ConfigError: if there is no such broker.
    """

    def __init__(self, settings: Settings, broker: Broker | None = None) -> None:
        self.settings = settings
        self._has_own_broker = broker is not None
        self.broker = broker or make_broker(settings)
        #: What views and :meth:`configure` have declared.
        self.declarations = Declarations()
        #: Who is told of members that come and go.
        self.events = PresenceEvents()
        # Of this process, by their ids, as far as somebody has asked for those.
        self._connections: WeakValueDictionary[str, Connected] = WeakValueDictionary()
        self._local: Worker | None = None
        self._lock = threading.Lock()

    def use(self, settings: Settings) -> None:
        """Take other settings, before the groups are first used.

        :raises ConfigError: if there is no such broker.
        :raises RegistrationError: if it keeps no presence, and a group needs that.
        """
        if settings == self.settings:
            return
        broker = self.broker if self._has_own_broker else make_broker(settings)
        for pattern, options in self.declarations:
            _check_presence(pattern.text, options, broker)
        self.settings, self.broker = settings, broker

    # -- what is set ------------------------------------------------------------------------------

    def configure(self, pattern: str, options: GroupOptions) -> None:
        """Set the options of the groups that match *pattern*.

        :raises RegistrationError: if it isn't a pattern, or has other options already.
        """
        _check_presence(pattern, options, self.broker)
        self.declarations.add(pattern, options)

    def options_of(self, group: str) -> GroupOptions:
        """What is set for *group*."""
        return self.declarations.options_of(group)

    def has_history(self, group: str) -> bool:
        """Whether messages of *group* are kept."""
        return self.options_of(group).history is not None

    def check_workers(self) -> None:
        """Check that the broker reaches whoever is to hear of a group.

        :raises ConfigError: if there are other workers, and it doesn't reach them.
        """
        others = "" if self.broker.is_shared else other_workers()
        if others:
            raise ConfigError(
                f"groups are in the memory of one worker, but {others}, and members "
                'elsewhere would hear nothing: set WSVIEWS_BROKER_URL = "redis://localhost/0", or '
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
        """Let *member* into a group, in steps.

        :param since: send what came after this id first, if the group has a history.
        :param send: sends a message to the member; it may wait until there is room for it.
        :param meta: what others shall see of the member, if the group has presence.
        :raises GroupError: if there is a *since*, but nothing is kept of the group, or a *meta*,
            but it has no presence.
        :raises TypeError: if *meta* is no mapping, or JSON can't express it.
        :raises BrokerUnavailable: if the broker can't be reached.
        """
        options = self.options_of(group)
        history = options.history
        since = _start(group, since, history)
        if meta is not None and not options.presence:
            raise _no_presence(group)
        present = GroupMember(member.id, checked_meta(meta), time())
        worker = self._the_worker()
        local: LocalGroup = yield partial(self._later, worker.enter, group, history, member)
        try:
            if history is None:
                local.add(member)
                joined = Joined(group)
            elif since is None:
                joined = yield from self._catch_up(worker, local, member, since, history, send)
            else:
                if not worker.replays.enter_now():
                    yield worker.replays.enter
                try:
                    joined = yield from self._catch_up(worker, local, member, since, history, send)
                finally:
                    worker.replays.leave()
            if options.presence:
                yield partial(self._later, worker.attendance.enter, group, present)
            return joined
        except BaseException:
            local.discard(member)
            raise
        finally:
            worker.entered(group, member)

    def _catch_up(
        self,
        worker: Worker,
        local: LocalGroup,
        member: Member,
        since: str | None,
        history: History,
        send: Callable[[Any], Any],
    ) -> Generator[Step, Any, Joined]:
        """Send what a member has missed, then let it in where that ends."""
        group = local.name
        patience = worker.replays.patience
        lost = False
        replayed = 0
        while True:
            # What arrives from here on is kept, so nothing falls between the two.
            local.hold(member)
            page: Replay = yield partial(
                self._later, worker.replays.pages.get, group, since, history
            )
            lost = lost or not page.complete
            if not page.is_last:
                local.discard(member)
            try:
                for delivery in page.deliveries:
                    if member.id not in delivery.exclude:
                        patience.begin(member)
                        yield partial(send, text_of(delivery))
                        replayed += 1
            finally:
                patience.end(member)
            since = page.position
            if page.is_last and local.release(member, since):
                return Joined(group, since, lost, replayed)

    def leave(self, member: Member, group: str) -> None:
        """Let *member* go; nothing happens if it isn't in the group. Never waits."""
        worker = self._the_worker()
        worker.leave(member, group)
        if self.options_of(group).presence:
            worker.attendance.leave(group, member.id)

    # -- presence ---------------------------------------------------------------------------------

    def members(self, group: str) -> list[GroupMember] | Outcome[list[GroupMember]]:
        """Who is in a group, in all workers.

        :returns: in the order in which they joined; in an event loop an awaitable for that.
        :raises GroupError: if *group* is no name, or has no presence.
        :raises BrokerUnavailable: if the broker can't be reached.
        """
        return self._run(self._presence_of(group).members, group)

    def count(self, group: str) -> int | Outcome[int]:
        """How many are in a group, in all workers; see :meth:`members`."""
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
        """Send a message to all members of a group.

        :param exclude: connections, or their ids, that don't get it: one or several.
        :param typed: whether it is a JSON object, which is given its id as ``message_id``.
        :param keep: whether the group's history keeps it.
        :returns: its id, if it is kept; in an event loop an awaitable for that.
        :raises BrokerUnavailable: if it was not sent.
        :raises GroupError: if *group* isn't a name, or *exclude* has something else than ids.
        :raises TypeError: if *message* is neither text nor bytes.
        """
        history = self.options_of(check_group(group)).history
        publication = make_publication(group, message, exclude, typed, history, keep)
        return self._run(self._the_worker().broker.publish, publication)

    def disconnect(
        self, group: str | None, connection: Any, code: int, reason: str
    ) -> str | Outcome[str | None] | None:
        """Close the members of a group or one connection, in all workers.

        :returns: ``None``; in an event loop an awaitable.
        :raises BrokerUnavailable: if that was not sent.
        """
        publication = make_disconnection(group, connection, code, reason)
        worker = self._the_worker()
        if not self.broker.is_shared:
            # All connections are here, and none has asked for it.
            self.broker.subscribe(CONNECTIONS, None)
        return self._run(worker.broker.publish, publication)

    def note_id(self, client: Connected, id: str) -> None:
        """Note that somebody knows the id of a connection, and may disconnect it."""
        self._connections[id] = client

    def listen(self, client: Connected) -> None:
        """Have *client* reached by :meth:`disconnect` in other workers, until :meth:`forget`."""
        if self.broker.is_shared:
            self._the_worker().listen(client)

    def forget(self, client: Connected) -> None:
        """Take :meth:`listen` back. Never waits."""
        if self.broker.is_shared and self._local is not None:
            self._local.stop_listening(client)

    def _later(self, function: Callable[..., T], *arguments: Any) -> T | Any:
        """Call what may wait for the broker.

        :returns: what it returns; in an event loop, where nothing may wait, an awaitable for that.
        """
        if not self.broker.waits or not in_event_loop():
            return function(*arguments)
        return self._the_worker().call_in_thread(function, *arguments)

    def _run(self, function: Callable[..., T], *arguments: Any) -> T | Outcome[T]:
        """As :meth:`_later`, for who may not await what is returned."""
        if not in_event_loop():
            return function(*arguments)
        if not self.broker.waits:
            return Outcome(result=function(*arguments))
        worker = self._the_worker()

        async def wait() -> T:
            result: T = await worker.call_in_thread(function, *arguments)
            return result

        return Outcome(wait())

    # -- this worker ------------------------------------------------------------------------------

    @property
    def counters(self) -> Counters:
        """What this worker has handed out."""
        return self._the_worker().counters

    def local_count(self, group: str) -> int:
        """How many members a group has in this worker."""
        return self._the_worker().count(group)

    def close(self) -> None:
        """End what this worker has started."""
        with self._lock:
            local, self._local = self._local, None
        if local is not None and local.pid == os.getpid():
            local.close()

    def _the_worker(self) -> Worker:
        # Made in the worker, when it is first needed: threads don't survive a fork.
        worker = self._local
        if worker is not None and worker.pid == os.getpid():
            return worker
        with self._lock:
            if self._local is None or self._local.pid != os.getpid():
                self.check_workers()
                self._check_events()
                self._local = Worker(self.broker, self.settings, self.events, self._connections)
            return self._local

    def _check_events(self) -> None:
        for pattern in self.events.patterns:
            if not self.options_of(pattern.example).presence:
                raise RegistrationError(
                    f"on_join() or on_leave() is used for {pattern.text!r}, which has no presence: "
                    "set presence = True for it"
                )


def _check_presence(pattern: str, options: GroupOptions, broker: Broker) -> None:
    if options.presence and broker.presence is None:
        raise RegistrationError(
            f"groups {pattern!r} need presence, which {type(broker).__name__} doesn't support"
        )


def make_disconnection(group: str | None, connection: Any, code: int, reason: str) -> Publication:
    """Make the publication that closes connections.

    :param connection: a connection or its id.
    :raises TypeError: unless there is either a group or a connection.
    :raises GroupError: if *group* isn't a name, or *connection* isn't an id.
    :raises ValueError: if code or reason can't go into a close frame.
    """
    if (group is None) == (connection is None):
        raise TypeError("disconnect() takes either group= or connection=")
    check_close(code, reason)
    if group is not None:
        ending = Disconnection(code, reason)
        return Publication(check_group(group), "", keep=False, disconnection=ending)
    ending = Disconnection(code, reason, _id_of("connection", connection))
    return Publication(CONNECTIONS, "", keep=False, disconnection=ending)


def make_publication(
    group: str,
    message: Sendable,
    exclude: Any,
    typed: bool,
    history: History | None,
    keep: bool = True,
) -> Publication:
    """What is to be published.

    :raises TypeError: if *message* is neither text nor bytes.
    :raises GroupError: if *group* isn't a name, or *exclude* has something else than ids.
    """
    if not isinstance(message, (str, bytes, bytearray, memoryview)):
        kind = type(message).__name__
        raise TypeError(f"a message is str or bytes, not {kind}; send_message() takes objects")
    body = message if isinstance(message, str) else bytes(message)
    return Publication(check_group(group), body, _ids(exclude), typed, history, keep)


def _ids(exclude: Any) -> frozenset[str]:
    if exclude is None:
        return frozenset()
    if isinstance(exclude, str) or hasattr(exclude, "id"):
        return frozenset((_id_of("exclude", exclude),))
    if not isinstance(exclude, Iterable):
        exclude = (exclude,)
    return frozenset(_id_of("exclude", one) for one in exclude)


def _id_of(where: str, connection: Any) -> str:
    """The id of a connection, or what was passed in place of one.

    :raises GroupError: if it isn't an id: it would match nothing, and nobody would notice.
    :raises TypeError: if it is neither an id nor a connection.
    """
    if not isinstance(connection, str):
        if not hasattr(connection, "id"):
            raise TypeError(f"{where} takes connections or their ids, not {connection!r}")
        return str(connection.id)
    if _ID.fullmatch(connection) is None:
        raise GroupError(
            f"{where} takes connections or their ids, ws.id, and {connection!r} isn't one"
        )
    return connection


def _no_presence(group: str) -> GroupError:
    return GroupError(f"{group!r} has no presence: set presence = True for it")


def _start(group: str, since: Any, history: History | None) -> str | None:
    """Where a member begins. Clients make ids up, and such a one is as one that is gone."""
    if since is None:
        return None
    if history is None:
        raise GroupError(f"nothing is kept of {group!r}: set a history for it, or leave since out")
    try:
        parse_id(since)
    except (ValueError, AttributeError, TypeError):
        return BEGINNING
    return str(since)
