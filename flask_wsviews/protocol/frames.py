"""Frame headers (RFC 6455 5.2): read a client's, write the server's."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from websockets.exceptions import ProtocolError
from websockets.extensions import Extension
from websockets.frames import Frame, Opcode

from ..typing import Sendable

try:
    from websockets.speedups import apply_mask
except ImportError:  # the wheel for this platform has no compiled part
    from websockets.utils import apply_mask

__all__ = [
    "BINARY",
    "CLOSE",
    "MASK",
    "MAX_CONTROL_PAYLOAD",
    "PING",
    "PONG",
    "TEXT",
    "FrameHeader",
    "apply_mask",
    "payload_of",
    "payload_span",
    "serialize",
    "serialize_compressed",
    "take_header",
]

# mypyc compiles Final numbers into the code. It looks an enumeration's members up at each use.
FIN: Final = 0x80
RSV1: Final = 0x40
RSV2: Final = 0x20
RSV3: Final = 0x10
CONTROL: Final = 0x08
OPCODE: Final = 0x0F
MASK: Final = 0x80
LENGTH_16: Final = 126
LENGTH_64: Final = 127

#: The longest payload of a control frame, in bytes (RFC 6455 5.5).
MAX_CONTROL_PAYLOAD: Final = 125

#: The first bytes of unfragmented frames: FIN with an opcode.
TEXT: Final = 0x81
BINARY: Final = 0x82
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A

_unpack_16: Final = Struct("!H").unpack_from
_unpack_64: Final = Struct("!Q").unpack_from
_pack_16: Final = Struct("!BBH").pack
_pack_64: Final = Struct("!BBQ").pack

# The headers of short messages: making them once saves 0.15 us of 0.5 per message, compiled.
_SHORT_HEADERS: Final = [
    [bytes((first, length)) for length in range(LENGTH_16)] for first in (TEXT, BINARY)
]


class FrameHeader:
    """The header of a client's frame.

    :param first: FIN, the reserved bits, and the opcode.
    :param length: the bytes of the payload that are still masked.
    :param mask: the masking key, rotated to fit the first of them.
    """

    __slots__ = ("first", "length", "mask", "opcode")

    def __init__(self, first: int, opcode: Opcode, length: int, mask: bytes) -> None:
        self.first = first
        self.opcode = opcode
        self.length = length
        self.mask = mask

    @property
    def has_reserved_bits(self) -> bool:
        """Whether the frame uses an extension."""
        return bool(self.first & (RSV1 | RSV2 | RSV3))

    @property
    def may_be_compressed(self) -> bool:
        """Whether the frame begins a compressed message or continues a message (RFC 7692 6.1)."""
        return bool(self.first & RSV1) or self.opcode is Opcode.CONT

    def frame(self, payload: bytes) -> Frame:
        """Return the frame with this header."""
        first = self.first
        return Frame(
            self.opcode,
            payload,
            fin=bool(first & FIN),
            rsv1=bool(first & RSV1),
            rsv2=bool(first & RSV2),
            rsv3=bool(first & RSV3),
        )

    def unmask(self, masked: bytes | bytearray) -> bytes:
        """Unmask the next bytes of the payload (RFC 6455 5.3)."""
        payload = apply_mask(masked, self.mask)
        self.length -= len(masked)
        turn = len(masked) % 4
        if turn:
            self.mask = self.mask[turn:] + self.mask[:turn]
        return payload


def take_header(buffer: bytearray) -> FrameHeader | None:
    """Remove a header from the front of *buffer*, or return ``None`` if it is incomplete.

    :raises ProtocolError: as soon as the first two bytes break RFC 6455.
    """
    if len(buffer) < 2:
        return None
    first, second = buffer[0], buffer[1]
    try:
        opcode = Opcode(first & OPCODE)
    except ValueError:
        # 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
        # Connection_."
        raise ProtocolError("invalid opcode") from None
    if not second & MASK:
        # 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
        raise ProtocolError("incorrect masking")
    if first & CONTROL and second - MASK > MAX_CONTROL_PAYLOAD:
        # 5.5: "All control frames MUST have a payload length of 125 bytes or less".
        raise ProtocolError("control frame too long")
    start, length = payload_span(buffer, 0)
    if not start:
        return None
    mask = bytes(buffer[start - 4 : start])
    del buffer[:start]
    return FrameHeader(first, opcode, length, mask)


def payload_span(data: bytes | bytearray, position: int) -> tuple[int, int]:
    """Return where the payload of the masked frame at *position* starts, and its length.

    Both are 0 if the header is incomplete.
    """
    size = len(data) - position
    if size < 6:
        return 0, 0
    length = data[position + 1] & 0x7F
    if length < LENGTH_16:
        return position + 6, length
    if length == LENGTH_16:
        if size < 8:
            return 0, 0
        (length,) = _unpack_16(data, position + 2)
        return position + 8, length
    if size < 14:
        return 0, 0
    (length,) = _unpack_64(data, position + 2)
    return position + 14, length


def payload_of(message: Sendable) -> tuple[int, bytes]:
    """Return the first byte of a message's frame, and its payload.

    :raises TypeError: if the message is neither ``str`` nor bytes-like.
    """
    if isinstance(message, str):
        return TEXT, message.encode()
    if isinstance(message, (bytes, bytearray, memoryview)):
        return BINARY, bytes(message)
    kind = type(message).__name__
    raise TypeError(f"a message is str or bytes, not {kind}; send_json() takes objects")


def serialize(first: int, payload: bytes) -> bytes:
    """Return a frame of the server, which has no mask (RFC 6455 5.1).

    :param first: FIN, the reserved bits, and the opcode.
    """
    length = len(payload)
    if length < LENGTH_16:
        if first <= BINARY:
            return _SHORT_HEADERS[first - TEXT][length] + payload
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return _pack_16(first, LENGTH_16, length) + payload
    return _pack_64(first, LENGTH_64, length) + payload


def serialize_compressed(first: int, payload: bytes, extensions: Iterable[Extension]) -> bytes:
    """Return a frame whose payload has gone through *extensions* (RFC 6455 9)."""
    frame = Frame(Opcode(first & OPCODE), payload)
    for extension in extensions:
        frame = extension.encode(frame)
    return serialize(first | RSV1 if frame.rsv1 else first, bytes(frame.data))
