"""Groups: who hears what, in this worker, in others, and on other machines."""

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
from .groups import Groups, Joined
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
