"""The server's end of a WebSocket connection, without I/O: RFC 6455 from the 101 to the end.

An engine passes in bytes and the time, and writes the bytes that the connection returns. Nothing
here knows a clock, a socket or a thread. The frames, and messages in several frames, are in
:mod:`.frames` and :mod:`.assembler`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from websockets.extensions import Extension
from websockets.frames import Close, Frame, Opcode

from ..close_codes import ABNORMAL_CLOSURE, INTERNAL_ERROR, NO_STATUS, POLICY_VIOLATION
from ..config import Settings
from ..exceptions import ConnectionClosed, check_close
from ..typing import Message, Sendable
from .assembler import Assembler
from .deflate import reset_deflaters
from .frames import CLOSE, PING, PONG, payload_of, serialize, serialize_compressed
from .plain_frames import read_plain
from .pongs import AwaitedPongs
from .prepared import PreparedMessage
from .queues import Queues
from .rates import RateWindow
from .state import CLOSED, CLOSING, OPEN, PeerEnd, State
from .time_limits import TimeLimits
from .violations import VIOLATIONS, close_for

# The close reason for a client that sends too many Pings and Pongs.
CONTROL_FRAMES = "too many control frames"

# How many seconds a busy hook has to send replies after the peer's close frame has arrived. No
# browser waits longer for the answer.
CLOSE_GRACE = 1.0


class Connection(Queues):
    """One server-side WebSocket connection, from the 101 to the end.

    :param settings: limits and times.
    :param now: the time on the engine's monotonic clock, in seconds.
    :param preface: bytes to write before any frame: the handshake's response.
    :param extensions: the negotiated extensions, in the order of the response.
    :param rates: limits on messages: how many, in how many seconds, and the reason for closing
        with 1008 Policy Violation beyond.
    """

    # Thousands of connections are idle at a time.
    __slots__ = (
        "__weakref__",
        "_assembler",
        "_awaited_pongs",
        "_close",
        "_close_deadline",
        "_control_frames",
        "_extensions",
        "_heard",
        "_listening",
        "_peer_end",
        "_pinged",
        "_rates",
        "_time_limits",
        "aborted",
        "asked_to_close",
        "bytes_received",
        "messages_dropped",
        "messages_received",
        "messages_sent",
        "opened_at",
        "settings",
        "state",
        "takes_plain",
    )

    def __init__(
        self,
        settings: Settings,
        now: float,
        *,
        preface: bytes = b"",
        extensions: Sequence[Extension] = (),
        rates: Iterable[tuple[int, float, str]] = (),
    ) -> None:
        super().__init__()
        self.settings = settings
        self.state: State = OPEN
        #: On the engine's clock.
        self.opened_at = now
        #: Whether plain frames take the shortcut. Tests turn it off.
        self.takes_plain = True
        #: Whether the connection was given up without a closing handshake.
        self.aborted = False
        #: Whether another thread has requested a :meth:`close` that hasn't happened yet.
        self.asked_to_close = False
        self.bytes_received = 0
        self.messages_received = 0
        #: Messages that were queued and not dropped later.
        self.messages_sent = 0
        #: Broadcast messages that were dropped because the client is slow.
        self.messages_dropped = 0
        self._extensions = tuple(extensions)
        # Only while a message or a frame is incomplete.
        self._assembler: Assembler | None = None
        self._listening = True
        self._awaited_pongs: AwaitedPongs | None = None
        # The end: how the peer's stream ended, while messages before it wait; how the connection
        # ended; and when to stop waiting for the peer's close frame.
        self._peer_end: PeerEnd | None = None
        self._close: Close | None = None
        self._close_deadline = 0.0
        # Limits, most of which are off.
        self._rates = tuple(RateWindow(*rate) for rate in rates)
        self._control_frames: RateWindow | None = None
        self._time_limits: TimeLimits | None = None
        if settings.idle_timeout is not None or settings.max_lifetime is not None:
            self._time_limits = TimeLimits(settings, now)
        # Keepalive: when the last byte arrived, and when a Ping without an answer was sent.
        self._heard = now
        self._pinged: float | None = None
        if preface:
            self._queue(preface)
            # The handshake isn't counted.
            self.bytes_sent = -len(preface)

    # -- receiving ------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Process bytes from the peer. Bytes after a close frame or an error are ignored.

        Nothing is raised. A violation closes the connection with the close code of RFC 6455 7.4.1,
        after :meth:`next_message` has returned the messages before it.
        """
        self._heard = now
        self._pinged = None
        self.bytes_received += len(data)
        if not self._listening:
            return
        try:
            if self.takes_plain and self._assembler is None:
                # A shortcut: it saves 2.5 us of 2.9 per message (benchmarks/protocol.py).
                data = self._receive_plain(data)
            if data:
                self._receive_frames(data, now)
        except VIOLATIONS as violation:
            self._peer_ended(PeerEnd(close_for(violation), now))

    def _receive_frames(self, data: bytes, now: float) -> None:
        """Process frames of all kinds."""
        assembler = self._assembler
        if assembler is None:
            assembler = self._assembler = Assembler(self.settings, self._extensions)
        assembler.feed(data)
        while self._listening:
            event = assembler.next_event()
            if event is None:
                break
            if isinstance(event, Frame):
                self._receive_control(event, now)
            else:
                self._receive_message(event)
        if assembler.is_empty:
            self._assembler = None

    def _receive_plain(self, data: bytes) -> bytes:
        """Receive the plain frames at the front of *data*; return the rest."""
        messages: list[Message] = []
        try:
            position = read_plain(data, self.settings.max_message_size, messages)
        finally:
            # Those before invalid text, too.
            for message in messages:
                self._receive_message(message)
        return b"" if position == len(data) else data[position:]

    def _receive_message(self, message: Message) -> None:
        """Keep a message for :meth:`next_message`.

        :raises RateExceeded: if the client sends too many.
        """
        if self.state is not OPEN:
            # close() has dropped the messages before it, too.
            return
        now = self._heard
        if self._time_limits is not None:
            self._time_limits.last_message = now
        for window in self._rates:
            window.count(now)
        self.messages_received += 1
        self._add_message(message)

    def _receive_control(self, frame: Frame, now: float) -> None:
        """Process a control frame (RFC 6455 5.5).

        :raises RateExceeded: if the client sends too many Pings and Pongs.
        :raises ProtocolError: if a close frame has a code that can't be sent (RFC 6455 7.4).
        :raises UnicodeDecodeError: if the reason of a close frame isn't UTF-8.
        """
        payload = bytes(frame.data)
        if frame.opcode is Opcode.CLOSE:
            self._peer_ended(PeerEnd(Close.parse(payload), now, peer_closed=True))
            return
        if self._control_frames is None:
            self._control_frames = RateWindow(self.settings.max_control_frames, 1.0, CONTROL_FRAMES)
        self._control_frames.count(now)
        if self.state is not OPEN:
            return
        if frame.opcode is Opcode.PING:
            # 5.5.3: "A Pong frame sent in response to a Ping frame must have identical
            # "Application data" as found in the message body of the Ping frame being replied to."
            self._queue(serialize(PONG, payload))
        elif self._awaited_pongs is not None:
            pong = self._awaited_pongs.take(payload)
            if pong is not None:
                self._add_message(pong)

    def receive_eof(self, now: float) -> None:
        """Process the end of the peer's stream, with or without a close frame before it."""
        if self._listening:
            self._peer_ended(PeerEnd(None, now))

    def next_message(self) -> Message | None:
        """Return the next message, or ``None`` if there is none (see ``state``)."""
        message = self._take_message()
        if message is None and self._peer_end is not None:
            self._finish()
        return message

    # -- sending --------------------------------------------------------------------------------

    def send(self, message: Sendable) -> None:
        """Queue a message: ``str`` as text, anything bytes-like as binary.

        :raises ConnectionClosed: if the connection is closing or closed.
        :raises TypeError: if the message is neither.
        """
        if self.state is not OPEN:
            raise self.closed_error()
        first, payload = payload_of(message)
        if self._extensions and len(message) >= self.settings.compression_min_size:
            self._queue(serialize_compressed(first, payload, self._extensions))
        else:
            self._queue(serialize(first, payload))
        self.messages_sent += 1

    def send_prepared(self, prepared: PreparedMessage, policy: str, now: float) -> int:
        """Queue a broadcast message, unless the client is too slow.

        A client is too slow if more than ``max_send_buffer`` bytes would wait. A single message
        may be larger.

        :param policy: what happens then: ``"close"`` with 1008 Policy Violation, or
            ``"drop-oldest"`` or ``"drop-newest"`` of the broadcast messages. Notices are never
            dropped.
        :returns: how many messages were dropped.
        :raises ConnectionClosed: if the connection is closing or closed.
        """
        if self.state is not OPEN:
            raise self.closed_error()
        compresses = bool(self._extensions) and prepared.size >= self.settings.compression_min_size
        frame = prepared.serialize(self._extensions if compresses else ())
        dropped = 0
        excess = self.send_backlog + len(frame) - self.settings.max_send_buffer
        if excess > 0 and self.send_backlog:
            if policy == "close":
                self.messages_dropped += 1
                self.close(POLICY_VIOLATION, "the client is too slow", now)
                return 1
            if prepared.is_notice:
                # A second copy would add no information, so few notices wait.
                if not self._is_queued(frame):
                    self.messages_sent += 1
                    self._queue(frame)
                return 0
            if policy == "drop-oldest":
                dropped, excess = self._drop_oldest(excess)
                self.messages_sent -= dropped
            if excess > 0:
                dropped += 1
            self.messages_dropped += dropped
            if excess > 0:
                return dropped
        if compresses:
            reset_deflaters(self._extensions)
        self.messages_sent += 1
        self._queue(frame)
        return dropped

    def ping(self, payload: bytes) -> None:
        """Queue a Ping of the application (RFC 6455 5.5.2).

        :param payload: at most 125 bytes.
        :raises ConnectionClosed: if the connection is closing or closed.
        """
        if self.state is not OPEN:
            raise self.closed_error()
        self._queue(serialize(PING, payload))
        if self._awaited_pongs is not None:
            self._awaited_pongs.add(payload)

    def report_pongs(self) -> None:
        """Let :meth:`next_message` return the ``Pong`` for each later :meth:`ping`."""
        self._awaited_pongs = AwaitedPongs()

    def output_written(self, count: int, now: float) -> None:
        """Report that the kernel has accepted *count* bytes of the output."""
        if self.is_stalled and count:
            # The kernel's buffer has room again because the peer has acknowledged some bytes: as
            # good as a Pong.
            self._heard = now
            self._pinged = None
        self._remove_written(count)

    # -- closing (RFC 6455 7) -------------------------------------------------------------------

    def close(self, code: int, reason: str, now: float) -> None:
        """Start the closing handshake (RFC 6455 7.1.2). Messages that wait in the inbox are lost.

        A connection that is closing or closed doesn't change.

        :raises ValueError: if the code or the reason can't go into a close frame.
        """
        check_close(code, reason)
        if self.state is not OPEN:
            return
        self._drop_messages()
        if self._peer_end is not None:
            # The peer was first: answer its close frame, or report its error.
            self._finish()
            return
        self._send_close(Close(code, reason))
        self.state = CLOSING
        self._close_deadline = now + self.settings.close_timeout

    def abort(self) -> None:
        """Give the connection up: nothing more is read or written.

        :meth:`next_message` still returns the messages that have arrived.
        """
        if self._peer_end is not None:
            self._record(self._peer_end)
        self._drop_output()
        self._give_up()

    def _peer_ended(self, end: PeerEnd) -> None:
        """Stop reading. The messages before the end are delivered first."""
        # 7.1.7: an endpoint doesn't "continue to attempt to process data (including a responding
        # Close frame)" after an error. Nothing follows a close frame either.
        self._listening = False
        self._assembler = None
        if self.state is CLOSING:
            # 5.5.1: "After both sending and receiving a Close message, an endpoint considers the
            # WebSocket connection closed".
            self._record(end)
            self.state = CLOSED
            return
        self._peer_end = end
        if end.close is None and self._first is None:
            self._finish()

    def _finish(self) -> None:
        """Close a connection whose peer has ended it."""
        end = self._peer_end
        assert end is not None
        self._record(end)
        self.state = CLOSED
        if end.close is not None:
            # 5.5.1: "When sending a Close frame in response, the endpoint typically echos the
            # status code it received."
            self._send_close(end.close)

    def _record(self, end: PeerEnd) -> None:
        self._peer_end = None
        if end.peer_closed or self.state is OPEN:
            self._close = end.close

    def _give_up(self) -> None:
        self._listening = False
        self._assembler = None
        self.aborted = True
        self.state = CLOSED

    def _send_close(self, close: Close) -> None:
        # 7.4.1: 1005 "MUST NOT be set as a status code in a Close control frame".
        payload = b"" if close.code == NO_STATUS else close.serialize()
        self._queue(serialize(CLOSE, payload))

    @property
    def close_code(self) -> int | None:
        """The close code, ``None`` until the connection is closed (RFC 6455 7.1.5).

        The code of the peer's close frame, or 1005 No Status Received if it had none. Without a
        close frame: the code we sent if the peer violated the protocol or exceeded a limit,
        otherwise 1006 Abnormal Closure.
        """
        if self.state is not CLOSED:
            return None
        return ABNORMAL_CLOSURE if self._close is None else int(self._close.code)

    @property
    def close_reason(self) -> str | None:
        """The reason that belongs to :attr:`close_code` (RFC 6455 7.1.6)."""
        if self.state is not CLOSED:
            return None
        return "" if self._close is None else self._close.reason

    def closed_error(self) -> ConnectionClosed:
        """Return the error to raise when something can't be sent any more."""
        if self.state is CLOSED:
            return ConnectionClosed(self.close_code or ABNORMAL_CLOSURE, self.close_reason or "")
        return ConnectionClosed(ABNORMAL_CLOSURE, "close() was called")

    # -- timers ---------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> float | None:
        """When to call :meth:`tick` next, on the engine's clock."""
        if self.state is CLOSED:
            return None
        if self.state is CLOSING:
            return self._close_deadline
        if self._peer_end is not None:
            return self._peer_end.since + CLOSE_GRACE
        deadline = self._keepalive_deadline()
        if self._time_limits is None:
            return deadline
        limit = self._time_limits.deadline
        return limit if deadline is None else min(deadline, limit)

    def tick(self, now: float) -> None:
        """Do everything that is due at *now*: end a slow close, apply time limits, send a Ping."""
        if self.state is CLOSING and now >= self._close_deadline:
            self.abort()
        if self.state is not OPEN:
            return
        if self._peer_end is not None:
            if now >= self._peer_end.since + CLOSE_GRACE:
                self._finish()
            return
        if self._time_limits is not None:
            is_busy = self._first is not None or self.reading_paused
            close = self._time_limits.check(now, is_busy=is_busy)
            if close is not None:
                self.close(close.code, close.reason, now)
                return
        deadline = self._keepalive_deadline()
        if deadline is not None and now >= deadline:
            self._keep_alive(now)

    def _keepalive_deadline(self) -> float | None:
        interval = self.settings.ping_interval
        if interval is None:
            return None
        if self._pinged is not None:
            return self._pinged + self.settings.ping_timeout
        return self._heard + interval

    def _keep_alive(self, now: float) -> None:
        """Send a Ping to a silent peer, or give up on a peer that hasn't answered one."""
        if self._pinged is None:
            # 5.5.2: "A Ping frame may serve either as a keepalive or as a means to verify that the
            # remote endpoint is still responsive."
            self._pinged = now
            self._queue(serialize(PING, b""))
        elif self._inbox_size >= self.settings.max_receive_buffer:
            # Reading is paused because a hook is slow, so a Pong may wait in the kernel.
            self._pinged = now
        else:
            if self._head is None:
                self._send_close(Close(INTERNAL_ERROR, "no answer to a Ping"))
            self._give_up()

    # -- state, for engines ---------------------------------------------------------------------

    @property
    def reading_paused(self) -> bool:
        """Whether the engine should leave the peer's bytes in the kernel (backpressure)."""
        if self.state is not OPEN:
            return False
        if not self._inbox_size and not self.send_backlog:
            # True most of the time; saves reading two settings.
            return self._peer_end is not None
        return (
            self._inbox_size >= self.settings.max_receive_buffer
            or self.send_backlog > self.settings.max_send_buffer
            or self._peer_end is not None
        )

    @property
    def has_only_messages(self) -> bool:
        """Whether nothing has to be written or closed, and reading isn't paused."""
        return (
            self._head is None
            and self.state is OPEN
            and self._peer_end is None
            and self._inbox_size < self.settings.max_receive_buffer
        )

    @property
    def awaits_pong(self) -> bool:
        """Whether nothing has arrived since the last keepalive Ping."""
        return self._pinged is not None

    @property
    def has_news(self) -> bool:
        """Whether :meth:`next_message` has a message, or the end of the connection to report."""
        return self._first is not None or self._peer_end is not None or self.state is CLOSED

    @property
    def has_only_end(self) -> bool:
        """Whether :meth:`next_message` has only the end of the connection to report."""
        return self.has_news and self._first is None
