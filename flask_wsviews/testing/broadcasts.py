"""Captures what an application publishes to its groups during a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..app_state import groups_of

if TYPE_CHECKING:
    from flask import Flask

    from ..groups import Publication

T = TypeVar("T")


@dataclass(frozen=True)
class Broadcast:
    """A message to a group.

    :param group: the group's name.
    :param message: text or bytes, as published: without the id that a history assigns.
    :param exclude: ids of connections that don't get the message.
    :param keep: whether the group's history, if it has one, keeps the message.
    """

    group: str
    message: str | bytes
    exclude: frozenset[str]
    keep: bool = True


@dataclass(frozen=True)
class Disconnect:
    """A call of ``websocket.disconnect()``.

    :param group: the group whose members are closed; ``None`` for a single connection.
    :param connection: the id of the single connection, otherwise ``None``.
    :param code: the close code.
    :param reason: the close reason.
    """

    group: str | None
    connection: str | None
    code: int
    reason: str


@contextmanager
def captured_broadcasts(app: Flask) -> Iterator[list[Broadcast]]:
    """Collect the messages that are published in the ``with`` block.

    Members receive them as usual::

        with captured_broadcasts(app) as broadcasts:
            client.post("/news", data="hello")
        assert [each.message for each in broadcasts] == ["hello"]
    """
    with _captured(app, _as_broadcast) as found:
        yield found


@contextmanager
def captured_disconnects(app: Flask) -> Iterator[list[Disconnect]]:
    """Collect the calls of ``websocket.disconnect()`` in the ``with`` block.

    The connections are closed as usual::

        with captured_disconnects(app) as disconnects:
            client.post("/logout")
        assert [each.group for each in disconnects] == ["user:5"]
    """
    with _captured(app, _as_disconnect) as found:
        yield found


@contextmanager
def _captured(app: Flask, make: Callable[[Publication], T | None]) -> Iterator[list[T]]:
    """Collect the result of *make* for each publication, unless it is ``None``."""
    broker: Any = groups_of(app).broker
    publish = broker.publish
    found: list[T] = []

    def note(publication: Publication) -> str | None:
        noted = make(publication)
        if noted is not None:
            # Before publishing: a member may receive the message before publish() returns.
            found.append(noted)
        try:
            result: str | None = publish(publication)
        except BaseException:
            if noted is not None:
                found.remove(noted)
            raise
        return result

    broker.publish = note
    try:
        yield found
    finally:
        broker.publish = publish


def _as_broadcast(publication: Publication) -> Broadcast | None:
    if publication.disconnection is not None:
        return None
    return Broadcast(publication.group, publication.body, publication.exclude, publication.keep)


def _as_disconnect(publication: Publication) -> Disconnect | None:
    ending = publication.disconnection
    if ending is None:
        return None
    group = publication.group if ending.connection is None else None
    return Disconnect(group, ending.connection, ending.code, ending.reason)
