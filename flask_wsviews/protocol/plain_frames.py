"""A shortcut for plain frames: whole, uncompressed messages, which nearly all frames are.

It reads a plain frame at a time where the assembler collects fragments, inflates and decodes in
steps. It leaves every other frame, right or wrong, to the assembler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..typing import Message
from .frames import BINARY, MASK, TEXT, apply_mask, payload_span

frames: Any
try:
    from . import _frames as frames
except ImportError:  # it isn't compiled
    frames = None

_unmask: Final = apply_mask

ReadPlain = Callable[[bytes, "int | None", list[Message]], int]


def _read_plain(data: bytes, limit: int | None, messages: list[Message]) -> int:
    """Append the messages of the plain frames at the front of *data* to *messages*.

    :param limit: the maximum size of a message, in bytes.
    :returns: the position of the first byte that wasn't read.
    :raises UnicodeDecodeError: if a text isn't UTF-8 (RFC 6455 8.1).
    """
    position = 0
    size = len(data)
    while size - position >= 6:
        first = data[position]
        if (first != TEXT and first != BINARY) or data[position + 1] < MASK:
            break
        start, length = payload_span(data, position)
        end = start + length
        if not start or end > size or (limit is not None and length > limit):
            break
        payload = _unmask(data[start:end], data[start - 4 : start])
        messages.append(payload.decode() if first == TEXT else payload)
        position = end
    return position


#: In C where that is compiled.
read_plain: Final[ReadPlain] = getattr(frames, "read_plain", _read_plain)
