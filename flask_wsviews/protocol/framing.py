"""The frames that nearly all messages, and ends, are made of, without what the others need.

A *plain* frame is a whole message, text or binary, without reserved bits. Anything else, right or
wrong, is left to ``websockets``, which reads the same bytes then.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from websockets.frames import Close, Opcode

from ..typing import Message, Sendable

__all__ = [
    "apply_mask",
    "close_frame",
    "payload_of",
    "plain_binary_size",
    "plain_frame",
    "read_close",
    "read_one",
    "read_plain",
]

try:
    from websockets.speedups import apply_mask
except ImportError:  # the wheel for this platform has no compiled part
    from websockets.utils import apply_mask

speedups: Any
try:
    from . import speedups
except ImportError:  # it isn't compiled
    speedups = None

# Once compiled, what is Final is found without a look into the module's dictionary; numbers are
# even part of the code. An enumeration's members would be looked for at each use otherwise.

# RFC 6455 5.2: FIN with an opcode, then MASK with a length.
FIN: Final = 0x80
MASK: Final = 0x80
TEXT: Final = 0x81
BINARY: Final = 0x82
CLOSE: Final = 0x88
LENGTH_16: Final = 126
LENGTH_64: Final = 127

_TEXT_OPCODE: Final = Opcode.TEXT
_BINARY_OPCODE: Final = Opcode.BINARY

_unmask: Final = apply_mask
_unpack_16: Final = Struct("!H").unpack_from
_unpack_64: Final = Struct("!Q").unpack_from
_pack_16: Final = Struct("!BBH").pack
_pack_64: Final = Struct("!BBQ").pack

_TEXT_HEADS: Final = [bytes((TEXT, length)) for length in range(LENGTH_16)]
_BINARY_HEADS: Final = [bytes((BINARY, length)) for length in range(LENGTH_16)]


def _read_plain(data: bytes, limit: int | None, messages: list[Message]) -> int:
    """Read the plain frames that *data* begins with.

    :param limit: how long a message may be, in bytes.
    :param messages: takes what they say.
    :returns: where the first byte is that wasn't read.
    :raises UnicodeDecodeError: if a text isn't UTF-8 (RFC 6455 8.1).
    """
    position = 0
    size = len(data)
    while size - position >= 6:
        first = data[position]
        length = data[position + 1] - MASK
        if (first != TEXT and first != BINARY) or length < 0:
            return position
        start = position + 6
        if length == LENGTH_16:
            (length,) = _unpack_16(data, position + 2)
            start = position + 8
        elif length == LENGTH_64:
            if size - position < 14:
                return position
            (length,) = _unpack_64(data, position + 2)
            start = position + 14
        end = start + length
        if end > size or (limit is not None and length > limit):
            return position
        payload = _unmask(data[start:end], data[start - 4 : start])
        messages.append(payload.decode() if first == TEXT else payload)
        position = end
    return position


def _read_one(data: bytes, limit: int | None) -> Message | None:
    """Read *data* if it is one plain frame, and nothing else, as it mostly is.

    :param limit: as for :func:`read_plain`.
    :raises UnicodeDecodeError: as there.
    """
    size = len(data)
    if size < 6:
        return None
    first = data[0]
    length = data[1] - MASK
    start = 6
    if length == LENGTH_16:
        (length,) = _unpack_16(data, 2)
        start = 8
    elif length == LENGTH_64 and size >= 14:
        (length,) = _unpack_64(data, 2)
        start = 14
    if (first != TEXT and first != BINARY) or start + length != size:
        return None
    if limit is not None and length > limit:
        return None
    payload = _unmask(data[start:], data[start - 4 : start])
    return payload.decode() if first == TEXT else payload


ReadOne = Callable[[bytes, "int | None"], "Message | None"]
ReadPlain = Callable[[bytes, "int | None", list[Message]], int]

# The same in C, where that is compiled.
read_one: Final[ReadOne] = getattr(speedups, "read_one", _read_one)
read_plain: Final[ReadPlain] = getattr(speedups, "read_plain", _read_plain)


def read_close(data: bytes) -> Close | None:
    """Read *data* if it is one close frame, and nothing else.

    :raises ProtocolError: if it has a code that can't be sent (RFC 6455 7.4).
    :raises UnicodeDecodeError: if its reason isn't UTF-8.
    """
    if len(data) < 6 or data[0] != CLOSE:
        return None
    length = data[1] - MASK
    if length >= LENGTH_16 or len(data) != 6 + length:
        return None
    close: Close = Close.parse(_unmask(data[6:], data[2:6]))
    return close


def close_frame(close: Close | None) -> bytes:
    """A close frame as a server sends it.

    :param close: its code and reason; ``None`` for a frame without.
    """
    payload = b"" if close is None else close.serialize()
    return bytes((CLOSE, len(payload))) + payload


def plain_binary_size(data: bytes, limit: int | None) -> int:
    """How long the frame is that *data* begins with; 0 if it has to be looked at before its end.

    A text does: it fails as soon as it can't be UTF-8 any more. So does one that is too long.
    """
    if len(data) < 14 or data[0] != BINARY or data[1] < MASK:
        return 0
    length = data[1] - MASK
    start = 6
    if length == LENGTH_16:
        (length,) = _unpack_16(data, 2)
        start = 8
    elif length == LENGTH_64:
        (length,) = _unpack_64(data, 2)
        start = 14
    return 0 if limit is None or length > limit else start + length


def payload_of(message: Sendable) -> tuple[Opcode, bytes]:
    """What a message is sent as: ``str`` as text, anything bytes-like as binary.

    :raises TypeError: if it is neither.
    """
    if isinstance(message, str):
        return _TEXT_OPCODE, message.encode()
    if isinstance(message, (bytes, bytearray, memoryview)):
        return _BINARY_OPCODE, bytes(message)
    kind = type(message).__name__
    raise TypeError(f"a message is str or bytes, not {kind}; send_json() takes objects")


def plain_frame(message: Sendable) -> bytes:
    """The frame of a message, as a server sends it: without a mask (RFC 6455 5.1).

    :raises TypeError: if it is neither text nor bytes.
    """
    opcode, payload = payload_of(message)
    length = len(payload)
    if length < LENGTH_16:
        return (_TEXT_HEADS if opcode is _TEXT_OPCODE else _BINARY_HEADS)[length] + payload
    if length < 1 << 16:
        return _pack_16(FIN | opcode, LENGTH_16, length) + payload
    return _pack_64(FIN | opcode, LENGTH_64, length) + payload
