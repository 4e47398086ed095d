"""From bytes to messages, for all frames: fragments, compression, UTF-8 and limits."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any, Final

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import Extension
from websockets.frames import Frame, Opcode

from ..config import Settings
from ..typing import Message
from .deflate import deflate_overhead, replace_finished_inflaters
from .frames import CONTROL, MAX_CONTROL_PAYLOAD, FrameHeader, take_header
from .violations import MessageTooBig

CONT: Final = Opcode.CONT
TEXT: Final = Opcode.TEXT

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Assembler:
    """Read a client's frames, and put its messages together.

    A connection has one only while a message or a frame is incomplete.

    :param settings: the limits.
    :param extensions: the negotiated extensions, in the order of the response.
    """

    __slots__ = (
        "_buffer",
        "_decoder",
        "_extensions",
        "_fragments",
        "_header",
        "_limit",
        "_opcode",
        "_pieces",
        "_settings",
        "_size",
    )

    def __init__(self, settings: Settings, extensions: Sequence[Extension]) -> None:
        self._settings = settings
        self._extensions = extensions
        self._buffer = bytearray()
        # The incomplete frame, and the maximum length of its payload.
        self._header: FrameHeader | None = None
        self._limit: int | None = None
        # The incomplete message.
        self._opcode: Opcode | None = None
        self._pieces: list[Any] = []
        self._decoder: codecs.IncrementalDecoder | None = None
        self._size = 0
        self._fragments = 0

    @property
    def is_empty(self) -> bool:
        """Whether neither a frame nor a message is incomplete."""
        return not self._buffer and self._header is None and self._opcode is None

    def feed(self, data: bytes) -> None:
        """Add bytes from the client."""
        self._buffer.extend(data)

    def next_event(self) -> Message | Frame | None:
        """Return the next message or control frame, or ``None`` until more bytes arrive.

        :raises ProtocolError: if a frame breaks RFC 6455 or RFC 7692.
        :raises MessageTooBig: if a message exceeds a limit.
        :raises UnicodeDecodeError: if a text isn't UTF-8.
        """
        while True:
            frame = self._next_frame()
            if frame is None:
                return None
            if frame.opcode & CONTROL:
                # 5.4: "Control frames MAY be injected in the middle of a fragmented message."
                return frame
            message = self._add(frame)
            if message is not None:
                return message

    def _next_frame(self) -> Frame | None:
        header = self._header
        if header is None:
            header = take_header(self._buffer)
            if header is None:
                return None
            self._header = header
            limit = self._limit = self._limit_of(header)
            if limit is not None and header.length > limit:
                raise self._too_big()
        if len(self._buffer) < header.length:
            self._decode_begun_text(header)
            return None
        payload = self._buffer[: header.length]
        del self._buffer[: header.length]
        self._header = None
        frame = header.frame(header.unmask(payload))
        try:
            for extension in reversed(self._extensions):
                frame = extension.decode(frame, max_size=self._limit)
        except PayloadTooBig:
            raise self._too_big() from None
        # 5.2: the reserved bits "MUST be 0 unless an extension is negotiated that defines meanings
        # for non-zero values". 5.5: control frames "MUST NOT be fragmented".
        frame.check()
        replace_finished_inflaters(self._extensions)
        return frame

    def _limit_of(self, header: FrameHeader) -> int | None:
        """Return how long the payload of a frame may be."""
        limit = self._settings.max_message_size
        if limit is None:
            return None
        # A control frame isn't part of a message.
        limit = max(limit - self._size, MAX_CONTROL_PAYLOAD)
        if self._extensions and header.may_be_compressed:
            # The inflated size is checked later.
            limit += deflate_overhead(limit)
        return limit

    def _decode_begun_text(self, header: FrameHeader) -> None:
        """Decode the part of a text frame that has arrived, to fail early.

        RFC 6455 8.1: an endpoint that "finds that the byte stream is not, in fact, a valid UTF-8
        stream [...] MUST _Fail the WebSocket Connection_", however slowly the frame arrives.
        """
        begins = header.opcode is TEXT and self._opcode is None
        continues = header.opcode is CONT and self._opcode is TEXT
        # Later frames of a compressed message look like uncompressed ones (RFC 7692 6.1).
        if not (begins or continues) or header.has_reserved_bits or self._extensions:
            return
        if self._buffer:
            self._size += len(self._buffer)
            self._keep(self._decode(header.unmask(self._buffer), final=False))
            self._buffer.clear()

    def _add(self, frame: Frame) -> Message | None:
        """Add a data frame (RFC 6455 5.4); return the message if it is complete."""
        if frame.opcode is CONT:
            if self._opcode is None:
                raise ProtocolError("a continuation frame without a message to continue")
        elif self._opcode is not None:
            # 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of
            # another message".
            raise ProtocolError("a new message inside a fragmented one")
        else:
            self._opcode = frame.opcode
        self._size += len(frame.data)
        self._fragments += 1
        limit = self._settings.max_message_size
        is_too_long = limit is not None and self._size > limit
        if is_too_long or self._fragments > self._settings.max_fragments:
            raise self._too_big()
        payload = bytes(frame.data)
        self._keep(self._decode(payload, final=frame.fin) if self._opcode is TEXT else payload)
        return self._take_message() if frame.fin else None

    def _decode(self, data: bytes, *, final: bool) -> str:
        if self._decoder is None:
            if final:
                return data.decode()
            self._decoder = _utf8_decoder()
        return self._decoder.decode(data, final)

    def _keep(self, piece: Message) -> None:
        if piece:
            self._pieces.append(piece)

    def _take_message(self) -> Message:
        pieces = self._pieces
        message: Message
        if len(pieces) == 1:
            message = pieces[0]
        elif self._opcode is TEXT:
            message = "".join(pieces)
        else:
            message = b"".join(pieces)
        self._opcode = None
        self._pieces = []
        self._decoder = None
        self._size = 0
        self._fragments = 0
        return message

    def _too_big(self) -> MessageTooBig:
        settings = self._settings
        if self._fragments > settings.max_fragments:
            return MessageTooBig(f"a message has more than {settings.max_fragments} fragments")
        return MessageTooBig(f"a message has more than {settings.max_message_size} bytes")
