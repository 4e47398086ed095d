"""Messages of a broadcast: the frame is made once for all connections that can share it."""

from __future__ import annotations

from collections.abc import Sequence

from mypy_extensions import mypyc_attr
from websockets.extensions import Extension

from ..typing import Sendable
from .deflate import without_context
from .frames import payload_of, serialize, serialize_compressed


@mypyc_attr(native_class=False)
class SharedFrame(bytes):
    """A frame that many connections queue. A slow client's connection may drop it."""


class PreparedMessage:
    """A message for many connections. Each way to compress it makes its frame once.

    :param message: ``str`` or anything bytes-like.
    :param is_notice: whether the message reports lost messages to a client. It is never dropped,
        and never compressed.
    :raises TypeError: if the message is neither ``str`` nor bytes-like.
    """

    def __init__(self, message: Sendable, is_notice: bool = False) -> None:
        self.is_notice = is_notice
        self._first, self.payload = payload_of(message)
        #: The length in characters or bytes.
        self.size = len(message)
        self._plain: SharedFrame | None = None
        self._compressed: dict[tuple[int, ...], SharedFrame] = {}

    def serialize(self, extensions: Sequence[Extension]) -> bytes:
        """Return the frame for a connection that uses *extensions*."""
        if self.is_notice:
            # Only shared frames are dropped.
            return serialize(self._first, self.payload)
        if not extensions:
            if self._plain is None:
                self._plain = SharedFrame(serialize(self._first, self.payload))
            return self._plain
        key = tuple(getattr(extension, "local_max_window_bits", 0) for extension in extensions)
        frame = self._compressed.get(key)
        if frame is None:
            fresh = [without_context(extension) for extension in extensions]
            data = serialize_compressed(self._first, self.payload, fresh)
            frame = self._compressed[key] = SharedFrame(data)
        return frame
