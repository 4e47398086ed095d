"""What an application publishes to its groups, noted for a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..extension import groups_of

if TYPE_CHECKING:
    from flask import Flask

    from ..groups import Publication


@dataclass(frozen=True)
class Broadcast:
    """A message to a group.

    :param group: the group's name.
    :param message: text or bytes, as members get it, but for the id of those with a history.
    :param exclude: the ids of connections that didn't get it.
    """

    group: str
    message: str | bytes
    exclude: frozenset[str]


@contextmanager
def captured_broadcasts(app: Flask) -> Iterator[list[Broadcast]]:
    """Note what is published meanwhile.

    Members get it all the same::

        with captured_broadcasts(app) as broadcasts:
            client.post("/news", data="hello")
        assert [each.message for each in broadcasts] == ["hello"]
    """
    broker: Any = groups_of(app).broker
    publish = broker.publish
    found: list[Broadcast] = []

    def note(publication: Publication) -> str | None:
        # First, for a member may have it before this returns.
        broadcast = Broadcast(publication.group, publication.body, publication.exclude)
        found.append(broadcast)
        try:
            result: str | None = publish(publication)
        except BaseException:
            found.remove(broadcast)
            raise
        return result

    broker.publish = note
    try:
        yield found
    finally:
        del broker.publish
