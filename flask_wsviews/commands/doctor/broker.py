"""Whether the broker delivers and keeps messages."""

from __future__ import annotations

from collections.abc import Iterator

from ...common.urls import shown_url
from ...exceptions import WSViewsError
from ...groups import Groups
from ...groups.brokers.health import check_round_trip
from .finding import Finding


def check_broker(groups: Groups) -> Iterator[Finding]:
    """Check that the broker delivers a message, and keeps it in a group's history."""
    name = shown_url(groups.settings.broker_url)
    try:
        groups.broker.ping()
        if groups.broker.is_shared:
            check_round_trip(groups.broker, groups.settings.broker_timeout)
    except WSViewsError as error:
        yield Finding(
            "broker", f"{name}: {error}", "Is it running there, and is WSVIEWS_BROKER_URL right?"
        )
        return
    finally:
        groups.broker.close()
    if groups.broker.is_shared:
        yield Finding("broker", f"{name} answers, delivers and keeps messages")
    else:
        yield Finding("broker", f"{name}: groups are in the memory of a single worker")
