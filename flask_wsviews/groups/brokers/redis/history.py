"""The histories of groups in Redis: reading them, and keeping their options alive."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ....exceptions import BrokerUnavailable
from ...job_thread import JobThread
from ..base import PAGE, PAGE_SIZE, History, Replay, new_epoch, parse_id
from ..wire import decode
from .calls import Calls
from .keys import Keys
from .scripts import RELEASE_OPTIONS, RENEW_OPTIONS, REPLAY
from .servers import Servers

logger = logging.getLogger("flask_wsviews")

# How long a group's options are kept after the last renewal, in ms.
LEASE = 300_000

# Seconds between renewals, and after a failed one.
RENEWAL = 100.0
RENEWAL_RETRY = 10.0

# In a cluster each group has its own base epoch. It is kept for this long, in ms.
BASE_EPOCH_LIFE = 3_600_000


class Histories:
    """Reads histories, and renews the options of the groups that have members in this worker.

    A publisher may not know how much of a group to keep, so the options are kept in Redis.

    :param calls: calls the server.
    :param servers: the servers.
    :param keys: the names of keys.
    """

    def __init__(self, calls: Calls, servers: Servers, keys: Keys) -> None:
        self._calls = calls
        self._servers = servers
        self._keys = keys
        self._jobs = JobThread("wsviews-redis-groups", self._renew, RENEWAL)
        #: Returns the subscribed groups that have a history.
        self.subscribed: Callable[[], Iterable[tuple[str, History]]] = tuple

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """Return a page of the history, as :meth:`Broker.replay` does."""
        return _page(group, self._calls.call(partial(self._ask, group, since, history)))

    def catch_up(self, group: str, since: str | None, history: History) -> Replay:
        """Return a page at once, before calls that wait for a turn: they wait for this one too.

        :param since: an id that this worker has received from the server.
        """
        ask = partial(self._ask, group, since, history, is_trusted=True)
        return _page(group, self._calls.call_at_once(ask))

    def _ask(
        self, group: str, since: str | None, history: History, *, is_trusted: bool = False
    ) -> Any:
        epoch, rest = ("", "") if since is None else _split(since)
        arguments = [
            epoch,
            rest,
            PAGE,
            PAGE_SIZE,
            *limits_of(history),
            new_epoch(),
            LEASE,
            BASE_EPOCH_LIFE if self._servers.is_cluster else "",
            "1" if is_trusted else "",
        ]
        return self._servers.client.run_script(REPLAY, self._keys.of_history(group), arguments)

    def start_renewing(self) -> None:
        """Start to renew options, if that hasn't started yet."""
        self._jobs.submit(_start)

    def release(self, group: str) -> None:
        """Remove the options of a group without members here, if no other worker needs them."""
        self._jobs.submit(partial(self._release, group))

    def close(self) -> None:
        """Stop renewing options."""
        self._jobs.close(0)

    def _renew(self) -> float:
        """Renew the options; return the seconds until the next renewal."""
        try:
            for group, history in self.subscribed():
                arguments = (*limits_of(history), str(LEASE))
                self._calls.run(RENEW_OPTIONS, self._keys.of_history(group), arguments)
        except BrokerUnavailable:
            return RENEWAL_RETRY
        return RENEWAL

    def _release(self, group: str) -> None:
        arguments = (self._keys.channel(group), self._servers.count_command)
        with contextlib.suppress(BrokerUnavailable):
            self._calls.run(RELEASE_OPTIONS, self._keys.of_history(group), arguments)


def limits_of(history: History | None) -> tuple[str, str]:
    """Return how many messages to keep, and for how many ms, as the scripts take them."""
    if history is None:
        return "", ""
    count = "" if history.messages is None else str(history.messages)
    age = "" if history.seconds is None else f"{history.seconds * 1000:.0f}"
    return count, age


def _split(message_id: str) -> tuple[str, str]:
    epoch, (milliseconds, number) = parse_id(message_id)
    return epoch, f"{milliseconds}-{number}"


def _page(group: str, answer: Any) -> Replay:
    position, complete, is_last, current, entries = answer
    deliveries = []
    for entry, fields in entries:
        found = dict(zip(fields[::2], fields[1::2], strict=False))
        if b"message" not in found:
            continue
        try:
            message_id = b"%b-%b" % (found.get(b"epoch", current), entry)
            deliveries.append(decode(group, message_id.decode(), found[b"message"]))
        except ValueError:
            logger.error("the history of the group %r has an entry that isn't a message", group)
    return Replay(position.decode(), deliveries, bool(complete), bool(is_last))


def _start() -> None:
    """Do nothing: any first job starts the thread that renews."""
