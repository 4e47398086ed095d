"""The queues of a connection: messages for its handler, and bytes for the kernel."""

from __future__ import annotations

from typing import Final

from ..typing import Message
from .prepared import SharedFrame

#: Small frames are joined into writes of about this many bytes.
WRITE_SIZE: Final = 64 * 1024


class Queues:
    """An inbox of messages and an outbox of bytes.

    :class:`~.connection.Connection` inherits them: separate objects would cost memory for each idle
    connection and time for each message. One item waits most of the time, and needs no list. An
    empty deque would take 700 bytes.
    """

    __slots__ = (
        "_first",
        "_head",
        "_inbox",
        "_inbox_size",
        "_outbox",
        "bytes_sent",
        "is_stalled",
        "send_backlog",
    )

    def __init__(self) -> None:
        self._first: Message | None = None
        self._inbox: list[Message] = []
        self._inbox_size = 0
        self._head: bytes | memoryview | None = None
        self._outbox: list[bytes | memoryview] = []
        #: Bytes that wait to be written.
        self.send_backlog = 0
        #: Bytes that the kernel has accepted.
        self.bytes_sent = 0
        #: Whether the kernel's buffer was full at the last write.
        self.is_stalled = False

    # -- the inbox ------------------------------------------------------------------------------

    def _add_message(self, message: Message) -> None:
        self._inbox_size += message.__sizeof__()
        if self._first is None:
            self._first = message
        else:
            self._inbox.append(message)

    def _take_message(self) -> Message | None:
        message = self._first
        if message is None:
            return None
        if self._inbox:
            self._first = self._inbox.pop(0)
            self._inbox_size -= message.__sizeof__()
        else:
            self._first = None
            self._inbox_size = 0
        return message

    def _drop_messages(self) -> None:
        self._first = None
        self._inbox.clear()
        self._inbox_size = 0

    # -- the outbox -----------------------------------------------------------------------------

    def output(self) -> bytes | memoryview:
        """Return the bytes to write next, empty if there are none.

        Report to ``output_written()`` how many of them the kernel has accepted.
        """
        head, outbox = self._head, self._outbox
        if head is None:
            return b""
        if outbox and len(head) < WRITE_SIZE:
            size, count = len(head), 0
            for chunk in outbox:
                size += len(chunk)
                count += 1
                if size >= WRITE_SIZE:
                    break
            head = self._head = b"".join([head, *outbox[:count]])
            del outbox[:count]
        return head

    def _queue(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
        else:
            self._outbox.append(data)
        self.send_backlog += len(data)

    def _remove_written(self, count: int) -> None:
        head = self._head
        assert head is not None
        self.send_backlog -= count
        self.bytes_sent += count
        if count == len(head):
            self._head = self._outbox.pop(0) if self._outbox else None
            self.is_stalled = False
        else:
            self._head = memoryview(head)[count:]
            self.is_stalled = True

    def _is_queued(self, frame: bytes) -> bool:
        return frame in self._outbox

    def _drop_oldest(self, excess: int) -> tuple[int, int]:
        """Drop broadcast messages, oldest first, until *excess* bytes are gone.

        :returns: how many were dropped, and how many bytes are still too many.
        """
        outbox = self._outbox
        dropped = 0
        index = 0  # the head isn't dropped: part of it may have been written
        while excess > 0 and index < len(outbox):
            frame = outbox[index]
            if isinstance(frame, SharedFrame):
                del outbox[index]
                self.send_backlog -= len(frame)
                excess -= len(frame)
                dropped += 1
            else:
                index += 1
        return dropped, excess

    def _drop_output(self) -> None:
        self._head = None
        self._outbox.clear()
        self.send_backlog = 0
