"""What a broker is: it carries messages between those who publish and the workers that listen."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from ...exceptions import BrokerUnavailable
from ..presence.store import PresenceStore

#: How long what is known of a group is kept if only a number of messages is set, in seconds.
IDLE_TIME = 24 * 3600.0

#: Most messages that one :meth:`Broker.replay` brings.
PAGE = 100

#: Bytes of messages after which a page of :meth:`Broker.replay` ends. A longer one comes alone.
PAGE_SIZE = 1024 * 1024

#: Digits of an epoch.
EPOCH_LENGTH = 12

#: What orders the ids of one epoch.
Key = tuple[int, int]


@dataclass(frozen=True)
class History:
    """How much of a group is kept for those who come back.

    :param messages: how many messages; ``None`` for as many as there are in *seconds*.
    :param seconds: for how long; ``None`` for a day after the last one.
    """

    messages: int | None = None
    seconds: float | None = None

    @property
    def lifetime(self) -> float:
        """Seconds after its last message that a group is forgotten."""
        return IDLE_TIME if self.seconds is None else self.seconds


#: Where connections are disconnected one by one: workers subscribe to it as they do to a group.
#: No group has this name, for it contains braces.
CONNECTIONS = "{connections}"


@dataclass(frozen=True)
class Disconnection:
    """What closes the members of a group, or a single connection.

    :param code: the close code.
    :param reason: the reason beside it.
    :param connection: the id of that connection; ``None`` for all members.
    """

    code: int
    reason: str = ""
    connection: str | None = None


@dataclass(frozen=True)
class Publication:
    """A message on its way to a group.

    :param group: the group's name.
    :param body: text or bytes.
    :param exclude: ids of connections that shall not get it.
    :param typed: whether *body* is a JSON object that is sent with its id.
    :param history: what is kept of the group; ``None`` if the publisher doesn't know of any.
    :param keep: whether the history keeps it. Otherwise it is delivered live, without an id,
        even in a group with a history.
    :param disconnection: closes members in place of a message, which is empty then.
    """

    group: str
    body: str | bytes
    exclude: frozenset[str] = frozenset()
    typed: bool = False
    history: History | None = None
    keep: bool = True
    disconnection: Disconnection | None = None


@dataclass(frozen=True)
class Delivery:
    """A message as it arrives in a worker.

    :param id: its id, if the group has a history: see :func:`make_id`.
    :param lost: whether messages before this one can't be had any more. Then there may be
        no message in it, and *body* is ``None``. What follows may have ids of an older time.
    :param disconnection: closes members; *body* is ``None`` then.
    """

    group: str
    body: str | bytes | None
    id: str | None = None
    exclude: frozenset[str] = frozenset()
    typed: bool = False
    lost: bool = False
    disconnection: Disconnection | None = None


@dataclass(frozen=True)
class Replay:
    """What came after an id.

    :param position: the id of the last message that there is up to here.
    :param deliveries: at most ``PAGE`` of them and, unless it is a single one, ``PAGE_SIZE``
        bytes; oldest first.
    :param complete: whether nothing between the id and the first of them is missing. It never
        is if the id is of another epoch.
    :param is_last: whether there was no more when it was asked.
    """

    position: str
    deliveries: list[Delivery] = field(default_factory=list)
    complete: bool = True
    is_last: bool = True


class Broker(ABC):
    """Carries messages. To add one, subclass it and register it: see ``docs/groups.md``.

    All methods may be called by several threads or greenlets at a time. What raises
    :class:`BrokerUnavailable` does so within ``WSVIEWS_BROKER_TIMEOUT``, and at once while the
    broker is known to be away.
    """

    #: Whether other processes hear what is published here.
    is_shared: ClassVar[bool] = True

    #: Whether calls wait for a network; an event loop has them made in a thread.
    waits: ClassVar[bool] = True

    #: Where it keeps who is in a group; ``None`` if it doesn't.
    presence: PresenceStore | None = None

    @abstractmethod
    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Prepare to listen. Called once in a worker, after the fork, before :meth:`subscribe`.

        :param deliver: takes what arrives, in its order for each group. It never waits.
        """

    @abstractmethod
    def publish(self, publication: Publication) -> str | None:
        """Send a message to all who have subscribed to its group.

        :returns: the message's id, if the group has a history.
        :raises BrokerUnavailable: if it was not sent.
        """

    @abstractmethod
    def subscribe(self, group: str, history: History | None) -> None:
        """Have what is published to *group* from now on delivered; returns once that is certain.

        After a failure of the network the broker subscribes again by itself. What a
        group with a history has missed meanwhile is delivered first.

        :raises BrokerUnavailable: if it isn't subscribed to.
        """

    @abstractmethod
    def unsubscribe(self, group: str) -> None:
        """Have no more of *group* delivered. Never waits."""

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """What *group* has after the message *since*, oldest first.

        After an id of another epoch that is everything. A client makes up what it likes, so
        *since* may be any id, but it changes nothing.

        :param since: an id; ``None`` asks for the present position and no messages.
        :raises BrokerUnavailable: if it can't be had.
        """
        raise BrokerUnavailable(f"{type(self).__name__} keeps no history")

    def ping(self) -> None:
        """See whether it answers.

        :raises BrokerUnavailable: if it doesn't.
        """
        if not self.is_reachable:
            raise BrokerUnavailable(f"{type(self).__name__} can't be reached")

    @property
    def is_reachable(self) -> bool:
        """Whether messages can be published now, as far as that is known."""
        return True

    @abstractmethod
    def close(self) -> None:
        """End whatever it has started. Never waits for the network."""


def new_epoch() -> str:
    """A name for a history that begins.

    A history that has lost messages, or whose ids may go back, has to begin a new epoch. Ids of
    two epochs are never compared: who resumes from another one is told that messages are lost.
    """
    return f"{random.SystemRandom().randrange(10**EPOCH_LENGTH):0{EPOCH_LENGTH}}"


def make_id(epoch: str, key: Key) -> str:
    """The id of a message: digits and hyphens, so it needs no escaping in JSON or in a URL.

    :param epoch: of :func:`new_epoch`; the same for all messages of a history.
    :param key: grows from message to message.
    """
    return f"{epoch}-{key[0]}-{key[1]}"


def parse_id(id: str) -> tuple[str, Key]:
    """The epoch and the key of an id. The epoch of a broker that has none is an empty string.

    :raises ValueError: if it isn't an id.
    """
    parts = id.split("-")
    epoch = parts.pop(0) if len(parts) == 3 and len(parts[0]) == EPOCH_LENGTH else ""
    if len(parts) != 2 or not all(map(_is_number, (*parts, epoch or "0"))):
        raise ValueError(f"{id!r} isn't a message id")
    return epoch, (int(parts[0]), int(parts[1]))


def id_key(id: str) -> Key:
    """Something to compare ids of one epoch by.

    :raises ValueError: if it isn't an id.
    """
    return parse_id(id)[1]


def _is_number(text: str) -> bool:
    """Whether it is a number of up to 64 bits."""
    return text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 2**64
