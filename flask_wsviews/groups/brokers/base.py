"""The interface of brokers, and the messages that they carry."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from ...exceptions import BrokerUnavailable
from ...protocol.prepared import PreparedMessage
from ..presence.store import PresenceStore

#: Seconds that a history is kept after its last message, if only a number of messages is set.
IDLE_TIME = 24 * 3600.0

#: The most messages that one :meth:`Broker.replay` returns.
PAGE = 100

#: The most bytes of messages that one :meth:`Broker.replay` returns, except for a single message.
PAGE_SIZE = 1024 * 1024

#: The number of digits of an epoch.
EPOCH_LENGTH = 12

#: The part of an id that orders the messages of one epoch.
Key = tuple[int, int]

#: A parsed id: its epoch and its key.
Position = tuple[str, Key]

#: The field in which a typed message carries its id.
MESSAGE_ID = "message_id"


@dataclass(frozen=True)
class History:
    """How much of a group is kept for clients that reconnect.

    :param messages: how many messages; ``None`` for all of the last *seconds*.
    :param seconds: for how long; ``None`` for a day after the last message.
    """

    messages: int | None = None
    seconds: float | None = None

    @property
    def lifetime(self) -> float:
        """Seconds after its last message until the history is deleted."""
        return IDLE_TIME if self.seconds is None else self.seconds


#: The group that carries disconnections of single connections. No other group can have this name,
#: because it contains braces.
CONNECTIONS = "{connections}"


@dataclass(frozen=True)
class Disconnection:
    """A request to close the members of a group, or one connection.

    :param code: the close code.
    :param reason: the close reason.
    :param connection: the id of the connection; ``None`` for all members.
    """

    code: int
    reason: str = ""
    connection: str | None = None


@dataclass(frozen=True)
class Publication:
    """A message on its way to a group.

    :param group: the group's name.
    :param body: text or bytes.
    :param exclude: ids of connections that don't get the message.
    :param typed: whether *body* is a JSON object that is sent with its id.
    :param history: how much of the group to keep; ``None`` if the publisher doesn't know.
    :param keep: whether the history keeps the message. Otherwise it is only delivered live, without
        an id.
    :param disconnection: closes members instead; *body* is empty then.
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
    """A message that has arrived in a worker.

    :param group: the group's name.
    :param body: text or bytes; ``None`` if there is no message.
    :param id: the message's id, if the group has a history: see :func:`make_id`.
    :param exclude: ids of connections that don't get the message.
    :param typed: whether *body* is a JSON object that is sent with its id.
    :param lost: whether earlier messages are lost. Then *body* may be ``None``, and the ids of
        later messages may be lower than before.
    :param disconnection: closes members instead; *body* is ``None`` then.
    """

    group: str
    body: str | bytes | None
    id: str | None = None
    exclude: frozenset[str] = frozenset()
    typed: bool = False
    lost: bool = False
    disconnection: Disconnection | None = None

    @property
    def content(self) -> str | bytes:
        """The message as clients receive it: a typed message carries its id."""
        body = self.body
        assert body is not None
        if self.typed and self.id is not None and isinstance(body, str):
            # An object with a discriminator in it is never empty.
            return f'{{"{MESSAGE_ID}": "{self.id}", {body[1:].lstrip()}'
        return body

    @cached_property
    def prepared(self) -> PreparedMessage:
        """The content as frames, made once for all members of this process."""
        return PreparedMessage(self.content)

    def is_up_to(self, position: Position) -> bool:
        """Return whether the message has an id of the same epoch that isn't after *position*."""
        if self.id is None:
            return False
        epoch, key = parse_id(self.id)
        return epoch == position[0] and key <= position[1]


@dataclass(frozen=True)
class Replay:
    """A page of the messages after an id.

    :param position: the id of the page's last message, or the group's current position.
    :param deliveries: the messages, oldest first: at most ``PAGE`` and ``PAGE_SIZE`` bytes, or a
        single longer one.
    :param complete: whether no message between the id and the first one is missing; always false
        if the id is of another epoch.
    :param is_last: whether there were no more messages.
    """

    position: str
    deliveries: list[Delivery] = field(default_factory=list)
    complete: bool = True
    is_last: bool = True


class Broker(ABC):
    """Carries messages between publishers and workers.

    To add a broker, subclass this class and register it: ``docs/groups.md`` describes how. Several
    threads or greenlets may call a method at a time. A method that raises
    :class:`BrokerUnavailable` does so within ``WSVIEWS_BROKER_TIMEOUT``, and at once while the
    broker is known to be unreachable.
    """

    #: Whether messages reach other processes.
    is_shared: ClassVar[bool] = True

    #: Whether calls may wait for the network. Then event loops make them in a thread.
    waits: ClassVar[bool] = True

    #: Stores the members of groups; ``None`` if the broker doesn't support presence.
    presence: PresenceStore | None = None

    @abstractmethod
    def start(self, deliver: Callable[[Delivery], None]) -> None:
        """Prepare to subscribe. Called once per worker, after the fork.

        :param deliver: call it for each message that arrives, in order for each group. It never
            waits.
        """

    @abstractmethod
    def publish(self, publication: Publication) -> str | None:
        """Send a message to all subscribers of its group.

        :returns: the message's id, if a history keeps it.
        :raises BrokerUnavailable: if the message was not sent.
        """

    @abstractmethod
    def subscribe(self, group: str, history: History | None) -> None:
        """Deliver what is published to *group*; return once the subscription is confirmed.

        After a lost connection the broker subscribes again by itself, and first delivers the missed
        messages of a group with a history.

        :raises BrokerUnavailable: if it can't subscribe.
        """

    @abstractmethod
    def unsubscribe(self, group: str) -> None:
        """Stop delivering messages of *group*. Never waits."""

    def replay(self, group: str, since: str | None, history: History) -> Replay:
        """Return the messages of *group* after the id *since*, oldest first.

        After an id of another epoch, these are all messages. Clients can invent ids, so this must
        accept any id, and must change nothing because of it.

        :param since: an id; ``None`` for no messages but the current position.
        :raises BrokerUnavailable: if the history can't be read.
        """
        raise BrokerUnavailable(f"{type(self).__name__} keeps no history")

    def ping(self) -> None:
        """Check that the broker answers.

        :raises BrokerUnavailable: if it doesn't.
        """
        if not self.is_reachable:
            raise BrokerUnavailable(f"{type(self).__name__} can't be reached")

    @property
    def is_reachable(self) -> bool:
        """Whether the broker could be reached the last time."""
        return True

    @abstractmethod
    def close(self) -> None:
        """End threads and connections. Never waits for the network."""


def new_epoch() -> str:
    """Return a random name for a new history.

    A history that has lost messages, or whose ids may decrease, has to begin a new epoch. Ids of
    different epochs are never compared: a client that resumes from another epoch learns that
    messages are lost.
    """
    return f"{random.SystemRandom().randrange(10**EPOCH_LENGTH):0{EPOCH_LENGTH}}"


def make_id(epoch: str, key: Key) -> str:
    """Return a message's id: digits and hyphens, which need no escaping in JSON or in a URL.

    :param epoch: from :func:`new_epoch`; the same for all messages of a history.
    :param key: increases from message to message.
    """
    return f"{epoch}-{key[0]}-{key[1]}"


def parse_id(id: str) -> tuple[str, Key]:
    """Return the epoch and the key of an id. The epoch is empty if the broker uses none.

    :raises ValueError: if it isn't an id.
    """
    parts = id.split("-")
    epoch = parts.pop(0) if len(parts) == 3 and len(parts[0]) == EPOCH_LENGTH else ""
    if len(parts) != 2 or not all(map(_is_number, (*parts, epoch or "0"))):
        raise ValueError(f"{id!r} isn't a message id")
    return epoch, (int(parts[0]), int(parts[1]))


def id_key(id: str) -> Key:
    """Return the key of an id, by which ids of one epoch can be compared.

    :raises ValueError: if it isn't an id.
    """
    return parse_id(id)[1]


def _is_number(text: str) -> bool:
    """Return whether *text* is a number of up to 64 bits."""
    return text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 2**64
