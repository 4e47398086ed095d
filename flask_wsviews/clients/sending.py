"""Convert messages before they are sent, and read them from uWSGI sharedareas."""

from __future__ import annotations

from ..common.process import find_uwsgi
from ..typing import Sendable


def converted(message: Sendable, binary: bool | None) -> Sendable:
    """Return a message as text or binary, converted as UTF-8.

    :param binary: ``None`` for text, or binary if the message isn't UTF-8.
    :raises UnicodeDecodeError: if *binary* is ``False`` and the message isn't UTF-8.
    """
    if binary is None:
        return _as_text_if_possible(message)
    return _as_bytes(message) if binary else _as_text(message)


def read_sharedarea(area: int, position: int, length: int) -> bytes:
    """Return bytes of a uWSGI sharedarea.

    :raises RuntimeError: if the application doesn't run under uWSGI.
    """
    uwsgi = find_uwsgi()
    if uwsgi is None:
        raise RuntimeError("sharedareas need uWSGI, started with --sharedarea")
    # Without a length, uWSGI reads to the end of the area.
    data: bytes = uwsgi.sharedarea_read(area, position, *([length] if length else []))
    return data


def _as_bytes(message: Sendable) -> Sendable:
    return message.encode() if isinstance(message, str) else message


def _as_text_if_possible(message: Sendable) -> Sendable:
    try:
        return _as_text(message)
    except UnicodeDecodeError:
        return message


def _as_text(message: Sendable) -> str:
    return message if isinstance(message, str) else str(bytes(message), "utf-8")
