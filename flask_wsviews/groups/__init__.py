"""Groups: broadcast messages to many connections, in all workers and on all machines.

The way of a broadcast, from ``websocket.broadcast()`` to the sockets:

1. ``groups``: ``Groups.publish()`` makes a ``Publication`` (``publications``) and passes it to the
   broker; in an event loop, ``broker_thread`` makes that call.
2. ``brokers``: the broker carries it to the workers that subscribe to the group: ``memory`` within
   the process, ``redis`` as bytes (``wire``). A group with a history keeps the message and gives it
   an id.
3. In each worker, a ``Delivery`` arrives. ``fanout`` finds the group's ``members``, which skip a
   repeated message, and hold a new one for members that still replay older ones (``join``).
4. ``delivery_queue``: each home (a thread or an event loop) has one queue, and is called once for
   all waiting messages.
5. At home, ``Delivery.prepared`` makes the message's frame once, and the driver of each connection
   queues that frame for its socket. A slow client is closed, or misses messages (``slow_clients``).

A disconnection takes the same way. For a single connection, it ends in ``disconnections``.
"""

from __future__ import annotations

from .brokers import make_broker
from .brokers.base import (
    Broker,
    Delivery,
    Disconnection,
    History,
    Publication,
    Replay,
    make_id,
    new_epoch,
    parse_id,
)
from .declared import Group
from .groups import Groups
from .join import Joined
from .outcome import Outcome
from .presence.store import GroupMember, PresenceStore
from .publisher import Publisher

__all__ = [
    "Broker",
    "Delivery",
    "Disconnection",
    "Group",
    "GroupMember",
    "Groups",
    "History",
    "Joined",
    "Outcome",
    "PresenceStore",
    "Publication",
    "Publisher",
    "Replay",
    "make_broker",
    "make_id",
    "new_epoch",
    "parse_id",
]
