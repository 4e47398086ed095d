"""What an application has of groups: its broker, its patterns, and this worker's members."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from ..config import Settings
from ..engines.auto import find_uwsgi
from ..engines.threads import Threads
from ..exceptions import BrokerUnavailable, ConfigError, GroupError, RegistrationError
from ..steps import Step
from ..typing import Sendable
from .base import Broker, Delivery, History, Publication, Replay, id_key
from .brokers import make_broker
from .local import Counters, LocalGroup, Mailbox, Member, SlowReport, text_of
from .names import Pattern, check_group
from .outcome import Outcome, in_event_loop

if TYPE_CHECKING:
    from ..engines import Driver

T = TypeVar("T")

logger = logging.getLogger("flask_wsviews")

# Operations that an event loop has handed over and that aren't done yet. A broker that is
# slow for a while delays them; more than that are refused.
MAX_PENDING = 10_000

# An id before all others.
BEGINNING = "0-0"

# Groups whose options are remembered.
MAX_REMEMBERED = 10_000


@dataclass(frozen=True)
class GroupOptions:
    """What is set for the groups of a pattern."""

    history: History | None = None


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


def history_of(messages: int | None, seconds: float | None) -> History | None:
    """What is kept; ``None`` if that is nothing.

    :raises RegistrationError: if a number can't be used.
    """
    if messages is None and seconds is None:
        return None
    is_int = isinstance(messages, int) and not isinstance(messages, bool)
    if messages is not None and (not is_int or messages < 1):
        raise RegistrationError(f"history is a number of messages from 1 on, not {messages!r}")
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if seconds is not None and (not is_number or not 0 < seconds < inf):
        raise RegistrationError(f"history_seconds is a number above 0, not {seconds!r}")
    return History(messages, seconds)


class Groups:
    """The groups of an application.

    :param settings: the application's.
    :param broker: in place of the one that the settings name.
    :raises ConfigError: if there is no such broker.
    """

    def __init__(self, settings: Settings, broker: Broker | None = None) -> None:
        self.settings = settings
        self.broker = broker or make_broker(settings)
        self._patterns: list[tuple[Pattern, GroupOptions]] = []
        self._remembered: dict[str, GroupOptions] = {}
        self._local: _Worker | None = None
        self._lock = threading.Lock()

    # -- what is set ------------------------------------------------------------------------------

    def configure(self, pattern: str, options: GroupOptions) -> None:
        """Set the options of the groups that match *pattern*; of several, the first counts.

        :raises RegistrationError: if it is no pattern, or options differ from those it has.
        """
        made = Pattern(pattern)
        for known, its_options in self._patterns:
            if known.text == pattern and its_options != options:
                raise RegistrationError(
                    f"groups {pattern!r} have {its_options.history} already, not {options.history}"
                )
            if known.text == pattern:
                return
        self._patterns.append((made, options))
        self._remembered.clear()

    def options_of(self, group: str) -> GroupOptions:
        """What is set for *group*."""
        options = self._remembered.get(group)
        if options is None:
            matching = (options for pattern, options in self._patterns if pattern.matches(group))
            options = next(matching, GroupOptions())
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[group] = options
        return options

    def has_history(self, group: str) -> bool:
        """Whether messages of *group* are kept."""
        return self.options_of(group).history is not None

    def check_workers(self) -> None:
        """Check that the broker reaches whoever is to hear of a group.

        :raises ConfigError: if there are other workers, and it doesn't reach them.
        """
        uwsgi = None if self.broker.is_shared else find_uwsgi()
        if uwsgi is None:
            return
        workers = int(getattr(uwsgi, "numproc", 1))
        if workers > 1 or uwsgi.mule_id():
            where = f"{workers} workers" if workers > 1 else "a mule beside its worker"
            raise ConfigError(
                f"groups are in the memory of one worker, but this uWSGI has {where}, and members "
                'elsewhere would hear nothing: set WSVIEWS_BROKER_URL = "redis://localhost/0", or '
                "run a single worker"
            )

    # -- members ----------------------------------------------------------------------------------

    def join(
        self, member: Member, group: str, since: str | None, send: Callable[[Any], Any]
    ) -> Generator[Step, Any, Joined]:
        """Let *member* into a group, in steps.

        :param since: send what came after this id first, if the group has a history.
        :param send: sends a message to the member; it may wait until there is room for it.
        :raises GroupError: if there is a *since*, but nothing is kept of the group.
        :raises BrokerUnavailable: if the broker can't be reached.
        """
        history = self.options_of(group).history
        since = _start(group, since, history)
        worker = self._the_worker()
        local: LocalGroup = yield partial(self._later, worker.enter, group, history)
        try:
            if history is None:
                local.add(member)
                return Joined(group)
            return (yield from self._catch_up(worker, local, member, since, history, send))
        except BaseException:
            local.discard(member)
            raise
        finally:
            worker.entered(group)

    def _catch_up(
        self,
        worker: _Worker,
        local: LocalGroup,
        member: Member,
        since: str | None,
        history: History,
        send: Callable[[Any], Any],
    ) -> Generator[Step, Any, Joined]:
        """Send what a member has missed, then let it in where that ends."""
        group = local.name
        lost = False
        replayed = 0
        while True:
            # What arrives from here on is kept, so nothing falls between the two.
            local.hold(member)
            page: Replay = yield partial(self._later, worker.broker.replay, group, since, history)
            lost = lost or not page.complete
            if not page.is_last:
                local.discard(member)
            for delivery in page.deliveries:
                if member.id not in delivery.exclude:
                    yield partial(send, text_of(delivery))
                    replayed += 1
            since = page.position
            if page.is_last and local.release(member, since):
                return Joined(group, since, lost, replayed)

    def leave(self, member: Member, group: str) -> None:
        """Let *member* go; nothing happens if it isn't in the group. Never waits."""
        self._the_worker().leave(member, group)

    # -- messages ---------------------------------------------------------------------------------

    def publish(
        self, group: str, message: Sendable, exclude: Any = None, *, typed: bool = False
    ) -> str | Outcome[str | None] | None:
        """Send a message to all members of a group.

        :param exclude: connections, or their ids, that shall not get it: one or several.
        :param typed: whether it is a JSON object, which is given its id as ``message_id``.
        :returns: its id, if the group has a history; in an event loop an awaitable for that.
        :raises BrokerUnavailable: if it was not sent.
        :raises GroupError: if *group* is no name.
        :raises TypeError: if *message* is neither text nor bytes.
        """
        history = self.options_of(check_group(group)).history
        publication = make_publication(group, message, exclude, typed, history)
        return self._run(self._the_worker().broker.publish, publication)

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

    def _the_worker(self) -> _Worker:
        # Made in the worker, when it is first needed: threads don't survive a fork.
        worker = self._local
        if worker is not None and worker.pid == os.getpid():
            return worker
        with self._lock:
            if self._local is None or self._local.pid != os.getpid():
                self.check_workers()
                self._local = _Worker(self.broker)
            return self._local


class _Worker:
    """What one process has: its members, and its part of the broker."""

    def __init__(self, broker: Broker) -> None:
        self.pid = os.getpid()
        self.broker = broker
        self.counters = Counters()
        self._report = SlowReport()
        self._lock = threading.Lock()
        self._groups: dict[str, _Subscription] = {}
        self._mailboxes: dict[object, Mailbox] = {}
        self._mailboxes_lock = threading.Lock()
        # One thread, for the order of what an event loop does.
        self._threads = Threads(1, "wsviews-groups")
        self._pending = 0
        broker.start(self._deliver)

    def call_in_thread(self, function: Callable[..., T], *arguments: Any) -> Any:
        """Call *function* in a thread, one after the other; for the event loop.

        :returns: an awaitable.
        :raises BrokerUnavailable: if too much is waiting already.
        """
        import asyncio

        if self._pending >= MAX_PENDING:
            raise BrokerUnavailable(f"{MAX_PENDING} operations wait for the broker already")
        self._pending += 1

        def call() -> T:
            try:
                return function(*arguments)
            finally:
                self._pending -= 1

        # Who waits may be cancelled, but what has been handed over is done.
        return asyncio.shield(asyncio.wrap_future(self._threads.submit(call)))

    def close(self) -> None:
        """End what has been started."""
        self._threads.close()
        self.broker.close()

    def enter(self, group: str, history: History | None) -> LocalGroup:
        """Find a group, subscribed to; it stays so until :meth:`entered`.

        :raises BrokerUnavailable: if that isn't possible.
        """
        with self._lock:
            subscription = self._groups.get(group)
            if subscription is None:
                subscription = self._groups[group] = _Subscription(LocalGroup(group, self._mailbox))
            subscription.entering += 1
        try:
            with subscription.lock:
                if not subscription.subscribed:
                    self.broker.subscribe(group, history)
                    subscription.subscribed = True
        except BaseException:
            self.entered(group)
            raise
        return subscription.group

    def entered(self, group: str) -> None:
        """A member that was on its way is in it, or isn't coming."""
        with self._lock:
            subscription = self._groups[group]
            subscription.entering -= 1
            self._forget_if_empty(group, subscription)

    def leave(self, member: Member, group: str) -> None:
        with self._lock:
            subscription = self._groups.get(group)
            if subscription is not None:
                subscription.group.discard(member)
                self._forget_if_empty(group, subscription)

    def count(self, group: str) -> int:
        with self._lock:
            subscription = self._groups.get(group)
        return 0 if subscription is None else len(subscription.group)

    def _forget_if_empty(self, group: str, subscription: _Subscription) -> None:
        if not subscription.entering and not len(subscription.group):
            del self._groups[group]
            self.broker.unsubscribe(group)

    def _deliver(self, delivery: Delivery) -> None:
        subscription = self._groups.get(delivery.group)
        if subscription is not None:
            subscription.group.deliver(delivery)

    def _mailbox(self, home: object, driver: Driver) -> Mailbox:
        with self._mailboxes_lock:
            mailbox = self._mailboxes.get(home)
            if mailbox is None:
                mailbox = self._mailboxes[home] = Mailbox(driver, self.counters, self._report)
            return mailbox


class _Subscription:
    """A group that this worker has members in, or is about to."""

    def __init__(self, group: LocalGroup) -> None:
        self.group = group
        self.lock = threading.Lock()
        self.subscribed = False
        self.entering = 0


def make_publication(
    group: str, message: Sendable, exclude: Any, typed: bool, history: History | None
) -> Publication:
    """What is to be published.

    :raises TypeError: if *message* is neither text nor bytes.
    """
    if not isinstance(message, (str, bytes, bytearray, memoryview)):
        kind = type(message).__name__
        raise TypeError(f"a message is str or bytes, not {kind}; send_message() takes objects")
    body = message if isinstance(message, str) else bytes(message)
    return Publication(check_group(group), body, _ids(exclude), typed, history)


def _ids(exclude: Any) -> frozenset[str]:
    if exclude is None:
        return frozenset()
    if isinstance(exclude, str):
        return frozenset((exclude,))
    if hasattr(exclude, "id"):
        return frozenset((str(exclude.id),))
    if not isinstance(exclude, Iterable):
        raise TypeError(f"exclude takes connections or their ids, not {exclude!r}")
    return frozenset(each for one in exclude for each in _ids(one))


def _start(group: str, since: Any, history: History | None) -> str | None:
    """Where a member begins. Clients make ids up, and such a one is as one that is gone."""
    if since is None:
        return None
    if history is None:
        raise GroupError(f"nothing is kept of {group!r}: set a history for it, or leave since out")
    try:
        id_key(since)
    except (ValueError, AttributeError):
        return BEGINNING
    return str(since)
