"""Makes the publications for broadcasts and disconnections, and checks their arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..exceptions import GroupError, check_close
from ..typing import Sendable
from .brokers.base import CONNECTIONS, Disconnection, History, Publication
from .names import check_group

# The form of ws.id.
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def make_publication(
    group: str,
    message: Sendable,
    exclude: Any,
    typed: bool,
    history: History | None,
    keep: bool = True,
) -> Publication:
    """Make the publication of a message.

    :raises TypeError: if *message* is neither text nor bytes.
    :raises GroupError: if *group* isn't a valid name, or *exclude* contains something that isn't an
        id.
    """
    if not isinstance(message, (str, bytes, bytearray, memoryview)):
        kind = type(message).__name__
        raise TypeError(f"a message is str or bytes, not {kind}; send_message() takes objects")
    body = message if isinstance(message, str) else bytes(message)
    return Publication(check_group(group), body, _ids(exclude), typed, history, keep)


def make_disconnection(group: str | None, connection: Any, code: int, reason: str) -> Publication:
    """Make the publication that closes connections.

    :param connection: a connection or its id.
    :raises TypeError: unless either a group or a connection is given.
    :raises GroupError: if *group* isn't a valid name, or *connection* isn't an id.
    :raises ValueError: if a close frame can't carry the code or the reason.
    """
    if (group is None) == (connection is None):
        raise TypeError("disconnect() takes either group= or connection=")
    check_close(code, reason)
    if group is not None:
        ending = Disconnection(code, reason)
        return Publication(check_group(group), "", keep=False, disconnection=ending)
    ending = Disconnection(code, reason, _id_of("connection", connection))
    return Publication(CONNECTIONS, "", keep=False, disconnection=ending)


def _ids(exclude: Any) -> frozenset[str]:
    if exclude is None:
        return frozenset()
    if isinstance(exclude, str) or hasattr(exclude, "id"):
        return frozenset((_id_of("exclude", exclude),))
    if not isinstance(exclude, Iterable):
        exclude = (exclude,)
    return frozenset(_id_of("exclude", one) for one in exclude)


def _id_of(where: str, connection: Any) -> str:
    """Return the id of a connection, which may be given as its id.

    :param where: the parameter's name, for the error message.
    :raises GroupError: if it isn't an id: it would match nothing, and nobody would notice.
    :raises TypeError: if it is neither an id nor a connection.
    """
    if not isinstance(connection, str):
        if not hasattr(connection, "id"):
            raise TypeError(f"{where} takes connections or their ids, not {connection!r}")
        return str(connection.id)
    if _ID.fullmatch(connection) is None:
        raise GroupError(
            f"{where} takes connections or their ids, ws.id, and {connection!r} isn't one"
        )
    return connection
