"""Groups: who hears what, in this worker, in others, and on other machines."""

from __future__ import annotations

from .base import (
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
from .brokers import make_broker
from .declared import Group
from .outcome import Outcome
from .presence import GroupMember, PresenceStore
from .publisher import Publisher
from .service import Groups, Joined

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
