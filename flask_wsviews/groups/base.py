"""Public import path of the classes for custom brokers, which are in brokers/base.py."""

from .brokers.base import (
    Broker,
    Delivery,
    Disconnection,
    History,
    Publication,
    Replay,
    id_key,
    make_id,
    new_epoch,
    parse_id,
)

__all__ = [
    "Broker",
    "Delivery",
    "Disconnection",
    "History",
    "Publication",
    "Replay",
    "id_key",
    "make_id",
    "new_epoch",
    "parse_id",
]
