"""A WebSocket connection without I/O: bytes in, messages out, and the other way round.

Frames are read and written by ``websockets``. Everything that belongs to a connection and not to
a frame is here: reassembly, UTF-8, limits, the closing handshake, keepalive, and the buffers whose
bounds an engine obeys. An engine passes the time in and asks :attr:`Connection.next_deadline` when
to call :meth:`Connection.tick`; nothing here knows a clock, a socket or a thread.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Generator, Iterable, Sequence
from copy import copy
from enum import Enum
from math import inf
from typing import Any, Final

from mypy_extensions import mypyc_attr
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import Extension
from websockets.frames import Close, Frame, Opcode

from ..close_codes import (
    ABNORMAL_CLOSURE,
    GOING_AWAY,
    INTERNAL_ERROR,
    INVALID_DATA,
    MESSAGE_TOO_BIG,
    NO_STATUS,
    POLICY_VIOLATION,
    PROTOCOL_ERROR,
    SERVICE_RESTART,
)
from ..config import Settings
from ..exceptions import ConnectionClosed, check_close, fit_reason
from ..typing import Message, Sendable
from .framing import (
    apply_mask,
    close_frame,
    payload_of,
    plain_binary_size,
    plain_frame,
    read_close,
    read_one,
    read_plain,
)
from .pongs import MAX_CONTROL_PAYLOAD, AwaitedPongs

# Why a client is closed that keeps us busy with frames which carry no message.
CONTROL_FRAMES = "too many control frames"

# How long a peer that has sent its close frame waits for ours while a hook is still at work on
# what came before. A reply that is ready within it arrives; no browser waits longer than this.
CLOSE_GRACE = 1.0

# Small frames that wait are joined into writes of about this size, in bytes.
WRITE_SIZE: Final = 64 * 1024

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class State(Enum):
    """Where a connection stands (RFC 6455 7.1)."""

    OPEN = "open"
    CLOSING = "closing"  # our close frame is out, the peer's has not come
    CLOSED = "closed"


# Once compiled, what is Final is found faster than an enumeration's member, which is compared with
# several times for each message.
OPEN: Final = State.OPEN
CLOSING: Final = State.CLOSING
CLOSED: Final = State.CLOSED


class Connection:
    """One server-side WebSocket connection, from the 101 to the end.

    :param settings: limits and times.
    :param now: the engine's monotonic clock, in seconds.
    :param preface: bytes that go out before any frame: the handshake's response.
    :param extensions: what was negotiated, in the order of the response.
    :param rates: how many messages are taken in how many seconds, and the reason that the client is
        given when it is closed with 1008 for sending more.
    """

    # Thousands of them are idle at a time.
    __slots__ = (
        "__weakref__",
        "_awaited",
        "_awaited_pongs",
        "_buffer",
        "_checked",
        "_close_deadline",
        "_control_frames",
        "_decoder",
        "_ending",
        "_extensions",
        "_failure",
        "_first",
        "_fragments",
        "_frame_reads",
        "_head",
        "_heard",
        "_idle_timeout",
        "_inbox",
        "_inbox_size",
        "_is_timed",
        "_last_moment",
        "_listening",
        "_message_size",
        "_opcode",
        "_outbox",
        "_parser",
        "_pieces",
        "_pinged",
        "_rates",
        "_received_close",
        "_spoken",
        "aborted",
        "asked_to_close",
        "bytes_received",
        "bytes_sent",
        "is_stalled",
        "messages_dropped",
        "messages_received",
        "messages_sent",
        "opened_at",
        "send_backlog",
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
        self.settings = settings
        self.state = OPEN
        #: On the engine's clock.
        self.opened_at = now
        #: Whether plain frames are read by the short way. For tests of both.
        self.takes_plain = True
        #: Whether it was given up on, so that there is nothing to wait for.
        self.aborted = False
        #: Whether another thread has called for a :meth:`close` that is still to come.
        self.asked_to_close = False
        #: Whole messages of the peer, and its bytes with all frames.
        self.messages_received = 0
        self.bytes_received = 0
        #: Messages to the peer, queued and not dropped since; and bytes that the kernel took. Below
        #: 0 until it has taken all of the preface, which doesn't count.
        self.messages_sent = 0
        self.bytes_sent = -len(preface)
        #: Messages for many that the peer had to do without, as it was slow.
        self.messages_dropped = 0
        self._extensions = tuple(extensions)
        # What came in: bytes of an unfinished frame, of an unfinished message, whole messages.
        self._buffer = bytearray()
        self._frame_reads: tuple[bytes, ...] = ()
        self._checked = 0
        self._awaited = 0  # the size of the plain frame that has begun, if one has
        # Made when it is needed: plain frames go another way.
        self._parser: Generator[None, None, Frame] | None = None
        self._opcode: Opcode | None = None
        self._pieces: list[str | bytes] | None = None
        # Made when it is needed, as most texts are whole.
        self._decoder: codecs.IncrementalDecoder | None = None
        self._message_size = 0
        self._fragments = 0
        # What waits is mostly one message, in or out: it needs no list. Where there are more, they
        # are behind it, in lists, as an empty deque has 700 bytes.
        self._first: Message | None = None
        self._inbox: list[Message] = []
        self._inbox_size = 0
        self._listening = True
        self._ending: _Ending | None = None
        # What goes out.
        self._head: bytes | memoryview | None = None
        self._outbox: list[bytes | memoryview] = []
        #: Whether the kernel had no room for all of what was to be written.
        self.is_stalled = False
        self.send_backlog = 0
        self._queue(preface)
        # How it ended, and when.
        self._received_close: Close | None = None
        self._failure: Close | None = None
        self._close_deadline = 0.0
        # How much comes, and how long it lasts.
        self._rates = tuple(_Window(*rate) for rate in rates)
        self._control_frames: _Window | None = None
        self._awaited_pongs: AwaitedPongs | None = None
        self._spoken = now
        self._idle_timeout = inf if settings.idle_timeout is None else settings.idle_timeout
        self._last_moment = inf if settings.max_lifetime is None else now + settings.max_lifetime
        self._is_timed = self._idle_timeout < inf or self._last_moment < inf
        # Keepalive.
        self._heard = now
        self._pinged: float | None = None

    # -- what the peer sent ---------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the peer. What follows a close frame or an error is ignored.

        Nothing is raised: a violation ends the connection with the code that RFC 6455 7.4.1 has
        for it, once the messages ahead of it have been taken by :meth:`next_message`.
        """
        self._heard = now
        self._pinged = None
        self.bytes_received += len(data)
        if not self._listening:
            return
        try:
            if self._awaited:
                self._buffer += data
                if len(self._buffer) < self._awaited:
                    return
                data = bytes(self._buffer)
                self._buffer.clear()
                self._awaited = 0
            if self.takes_plain and self._is_between_messages:
                data = self._take_plain(data)
                if not data:
                    return
                close = read_close(data)
                if close is not None:
                    self._end(_Ending(close, now, peer_closed=True))
                    return
            self._buffer += data
            if not self._awaited:
                self._parse(now)
        except ProtocolError as error:
            self._end(_Ending(Close(PROTOCOL_ERROR, fit_reason(str(error))), now))
        except (PayloadTooBig, _LimitExceeded):
            self._end(_Ending(Close(MESSAGE_TOO_BIG, self._too_big()), now))
        except UnicodeDecodeError:
            self._end(_Ending(Close(INVALID_DATA, "the text is not UTF-8"), now))
        except _TooMany as error:
            self._end(_Ending(Close(POLICY_VIOLATION, str(error)), now))

    def receive_eof(self, now: float) -> None:
        """The peer writes no more: the end of its stream came, perhaps without a close frame."""
        if self._listening:
            self._end(_Ending(None, now))

    def next_message(self) -> Message | None:
        """The next whole message, or ``None`` if there is none (see ``state``)."""
        message = self._first
        if message is not None:
            if self._inbox:
                self._first = self._inbox.pop(0)
                self._inbox_size -= message.__sizeof__()
            else:
                self._first = None
                self._inbox_size = 0
            return message
        if self._ending is not None:
            self._finish_ending()
        return None

    @property
    def reading_paused(self) -> bool:
        """Whether the engine shall leave the peer's bytes in the kernel for now."""
        if self.state is not OPEN:
            return False
        if not self._inbox_size and not self.send_backlog:
            # As most of the time; saves two looks at the settings.
            return self._ending is not None
        return (
            self._inbox_size >= self.settings.max_receive_buffer
            or self.send_backlog > self.settings.max_send_buffer
            or self._ending is not None
        )

    @property
    def has_only_messages(self) -> bool:
        """Whether there is nothing to do but to take messages, and more of them may come."""
        return (
            self._head is None
            and self.state is OPEN
            and self._ending is None
            and self._inbox_size < self.settings.max_receive_buffer
        )

    @property
    def awaits_pong(self) -> bool:
        """Whether a Ping has gone out and nothing was heard of the peer since."""
        return self._pinged is not None

    @property
    def has_news(self) -> bool:
        """Whether :meth:`next_message` or ``state`` has something new for the handler."""
        return self._first is not None or self._ending is not None or self.state is CLOSED

    @property
    def has_only_end(self) -> bool:
        """Whether the end is all the news."""
        return self.has_news and self._first is None

    # -- what we send ---------------------------------------------------------------------------

    def send(self, message: Sendable) -> None:
        """Queue a message: ``str`` as text, anything bytes-like as binary.

        :raises ConnectionClosed: if no message can be sent any more.
        :raises TypeError: if it is neither.
        """
        if self.state is not OPEN:
            raise self.closed_error()
        if self._extensions and len(message) >= self.settings.compression_min_size:
            frame = Frame(*payload_of(message))
            self._queue(frame.serialize(mask=False, extensions=self._extensions))
        else:
            self._queue(plain_frame(message))
        self.messages_sent += 1

    def send_prepared(self, prepared: PreparedMessage, policy: str, now: float) -> int:
        """Queue a message that goes to many, unless the client lags behind by too much.

        More than ``max_send_buffer`` bytes never wait, but for a single message that is larger.

        :param policy: what happens beyond that: ``"close"``, with 1008; ``"drop-oldest"`` or
            ``"drop-newest"`` of the messages that were queued here. Notices are never dropped.
        :returns: how many messages were dropped.
        :raises ConnectionClosed: if no message can be sent any more.
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
                # The same notice twice says no more, so what waits stays bounded.
                if frame not in self._outbox:
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
            self._renew_deflaters()
        self.messages_sent += 1
        self._queue(frame)
        return dropped

    def _drop_oldest(self, excess: int) -> tuple[int, int]:
        """Drop messages for many, oldest first, until *excess* bytes are gone.

        :returns: how many were dropped, and how many bytes are still too many.
        """
        outbox = self._outbox
        dropped = 0
        index = 0  # not the one at the head, which may be half written
        while excess > 0 and index < len(outbox):
            frame = outbox[index]
            if isinstance(frame, _SharedFrame):
                del outbox[index]
                self.send_backlog -= len(frame)
                excess -= len(frame)
                dropped += 1
            else:
                index += 1
        return dropped, excess

    def report_pongs(self) -> None:
        """Let :meth:`next_message` return the ``Pong`` for each :meth:`ping` from now on."""
        self._awaited_pongs = AwaitedPongs()

    def ping(self, payload: bytes) -> None:
        """Queue a Ping of the application (RFC 6455 5.5.2).

        :param payload: at most 125 bytes.
        :raises ConnectionClosed: if nothing can be sent any more.
        """
        if self.state is not OPEN:
            raise self.closed_error()
        self._queue(Frame(Opcode.PING, payload).serialize(mask=False))
        if self._awaited_pongs is not None:
            self._awaited_pongs.add(payload)

    def close(self, code: int, reason: str, now: float) -> None:
        """Start the closing handshake (RFC 6455 7.1.2). Messages not yet taken are dropped.

        A connection that is already closing or closed stays as it is.

        :raises ValueError: if code or reason can't go into a close frame.
        """
        check_close(code, reason)
        if self.state is not OPEN:
            return
        self._first = None
        self._inbox.clear()
        self._inbox_size = 0
        if self._ending is not None:
            # The peer was first: its close frame is answered, its error reported, not ours.
            self._finish_ending()
            return
        self._send_close(Close(code, reason))
        self.state = CLOSING
        self._close_deadline = now + self.settings.close_timeout

    def abort(self) -> None:
        """Give the connection up: nothing more is read or written.

        Messages that have arrived can still be taken.
        """
        if self._ending is not None:
            self._record(self._ending)
        self._head = None
        self._outbox.clear()
        self.send_backlog = 0
        self._give_up()

    def output(self) -> bytes | memoryview:
        """What to write next; empty when there is nothing. Report it to :meth:`output_written`."""
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

    def output_written(self, count: int, now: float) -> None:
        """*count* bytes of :meth:`output` were taken by the kernel."""
        head = self._head
        assert head is not None
        self.send_backlog -= count
        self.bytes_sent += count
        if self.is_stalled and count:
            # The kernel has room again, so the peer acknowledges: as good as a Pong.
            self._heard = now
            self._pinged = None
        if count == len(head):
            self._head = self._outbox.pop(0) if self._outbox else None
            self.is_stalled = False
        else:
            self._head = memoryview(head)[count:]
            self.is_stalled = True

    # -- time -----------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`tick` has something to do, on the engine's clock."""
        if self.state is CLOSED:
            return None
        if self.state is CLOSING:
            return self._close_deadline
        if self._ending is not None:
            return self._ending.since + CLOSE_GRACE
        deadline = self._keepalive_deadline()
        if not self._is_timed:
            return deadline
        limit = min(self._spoken + self._idle_timeout, self._last_moment)
        return limit if deadline is None else min(deadline, limit)

    def tick(self, now: float) -> None:
        """Do what is due at *now*: a Ping, giving up on a silent peer, ending a slow close."""
        if self.state is CLOSING and now >= self._close_deadline:
            self.abort()
        if self.state is not OPEN:
            return
        if self._ending is not None:
            # Nobody pings a peer that has finished, or waits for its Pong.
            if now >= self._ending.since + CLOSE_GRACE:
                self._finish_ending()
            return
        if now >= self._last_moment:
            self.close(SERVICE_RESTART, "it has lasted long enough: please reconnect", now)
            return
        if now >= self._spoken + self._idle_timeout:
            if self._first is None and not self.reading_paused:
                self.close(GOING_AWAY, f"no message for {self._idle_timeout:g} s", now)
                return
            # It isn't the client that is silent: what it sent waits for us.
            self._spoken = now
        deadline = self._keepalive_deadline()
        if deadline is None or now < deadline:
            return
        if self._pinged is None:
            self._pinged = now
            self._queue(Frame(Opcode.PING, b"").serialize(mask=False))
        elif self._inbox_size >= self.settings.max_receive_buffer:
            # We stopped reading because a hook lags behind, so its Pong may be waiting unread.
            self._pinged = now
        else:
            if self._head is None:
                self._send_close(Close(INTERNAL_ERROR, "no answer to a Ping"))
            self._give_up()

    def _keepalive_deadline(self) -> float | None:
        interval = self.settings.ping_interval
        if interval is None:
            return None
        if self._pinged is not None:
            return self._pinged + self.settings.ping_timeout
        return self._heard + interval

    # -- the end --------------------------------------------------------------------------------

    @property
    def close_code(self) -> int | None:
        """How it ended, ``None`` while it hasn't (RFC 6455 7.1.5).

        The code of the peer's close frame, 1005 if that had none. Without one: the code we sent if
        the peer broke the protocol or a limit, else 1006.
        """
        if self.state is not CLOSED:
            return None
        if self._received_close is not None:
            return int(self._received_close.code)
        return ABNORMAL_CLOSURE if self._failure is None else int(self._failure.code)

    @property
    def close_reason(self) -> str | None:
        """The reason that belongs to :attr:`close_code` (RFC 6455 7.1.6)."""
        if self.state is not CLOSED:
            return None
        close = self._received_close or self._failure
        return "" if close is None else close.reason

    def closed_error(self) -> ConnectionClosed:
        """What a ``send()`` raises now."""
        if self.state is CLOSED:
            return ConnectionClosed(self.close_code or ABNORMAL_CLOSURE, self.close_reason or "")
        return ConnectionClosed(ABNORMAL_CLOSURE, "close() was called")

    def _end(self, ending: _Ending) -> None:
        """The peer's stream is over; what came before it is delivered first."""
        if self.state is CLOSING:
            # We are not waiting for anybody any more: RFC 6455 7.1.7 allows no further reading.
            self._record(ending)
            self._stop_listening()
            self.state = CLOSED
            return
        self._stop_listening()
        self._ending = ending
        if ending.close is None and self._first is None:
            self._finish_ending()

    def _finish_ending(self) -> None:
        ending = self._ending
        assert ending is not None
        self._record(ending)
        self.state = CLOSED
        if ending.close is not None:
            # To a close frame the answer typically echoes its code (RFC 6455 5.5.1).
            self._send_close(ending.close)

    def _record(self, ending: _Ending) -> None:
        self._ending = None
        if ending.peer_closed:
            self._received_close = ending.close
        elif self.state is OPEN:
            self._failure = ending.close

    def _give_up(self) -> None:
        self._stop_listening()
        self.aborted = True
        self.state = CLOSED

    def _send_close(self, close: Close) -> None:
        self._queue(close_frame(None if close.code == NO_STATUS else close))

    def _stop_listening(self) -> None:
        self._listening = False
        self._buffer.clear()
        self._pieces = None

    # -- frames ---------------------------------------------------------------------------------

    def _queue(self, data: bytes) -> None:
        if not data:
            return
        if self._head is None:
            self._head = data
        else:
            self._outbox.append(data)
        self.send_backlog += len(data)

    def _new_parser(self) -> Generator[None, None, Frame]:
        limit = self.settings.max_message_size
        if limit is not None:
            # A control frame may come between fragments, whatever is left of the message limit.
            limit = max(limit - self._message_size, MAX_CONTROL_PAYLOAD)
            if self._extensions and self._may_be_compressed(self._buffer[0]):
                # What is inflated is counted afterwards.
                limit += deflate_overhead(limit)
        # RFC 6455 5.1: a client masks every frame.
        return Frame.parse(self._read_exact, mask=True, max_size=limit, extensions=self._extensions)

    @staticmethod
    def _may_be_compressed(first_byte: int) -> bool:
        """Whether a frame with this first byte has RSV1, or goes on with one that may have it."""
        return bool(first_byte & 0x40) or first_byte & 0x0F == Opcode.CONT

    def _read_exact(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < count:
            yield
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        if not self._frame_reads and data[0] & 0x08 and data[1] & 0x7F > MAX_CONTROL_PAYLOAD:
            # RFC 6455 5.5; it isn't a matter of our limits, nor worth waiting for its payload.
            raise ProtocolError("control frame too long")
        self._frame_reads = (*self._frame_reads, data)
        return data

    @property
    def _is_between_messages(self) -> bool:
        return (
            not self._buffer
            and self._opcode is None
            and not self._frame_reads
            and self.state is OPEN
        )

    def _take_plain(self, data: bytes) -> bytes:
        """Take the plain frames that *data* begins with; returns the rest."""
        limit = self.settings.max_message_size
        message = read_one(data, limit)
        if message is not None:
            self._admit(message)
            return b""
        messages: list[Message] = []
        try:
            position = read_plain(data, limit, messages)
        finally:
            # Those ahead of a bad one, too.
            for message in messages:
                self._admit(message)
        if not position:
            rest = data
        elif position == len(data):
            return b""
        else:
            rest = data[position:]
        self._awaited = plain_binary_size(rest, limit)
        return rest

    def _admit(self, message: Message) -> None:
        """Keep a message for :meth:`next_message`.

        :raises _TooMany: if it is beyond a rate.
        """
        self._spoken = self._heard
        for window in self._rates:
            window.count(self._heard)
        self.messages_received += 1
        self._put_in_inbox(message)

    def _put_in_inbox(self, message: Message) -> None:
        self._inbox_size += message.__sizeof__()
        if self._first is None:
            self._first = message
        else:
            self._inbox.append(message)

    def _parse(self, now: float) -> None:
        while self._listening:
            parser = self._parser
            if parser is None:
                if not self._buffer:
                    return
                parser = self._parser = self._new_parser()
            try:
                next(parser)
            except StopIteration as stop:
                self._renew_inflaters()
                self._take_frame(stop.value, now)
                self._parser = None
                self._frame_reads = ()
                self._checked = 0
            else:
                self._check_partial_text()
                return

    def _renew_inflaters(self) -> None:
        """Begin anew after a final DEFLATE block, which is allowed (RFC 7692 7.2.3.4).

        zlib's stream ends with it: what follows would be kept there, unread and without a bound.
        """
        extension: Any  # of a class that has no types
        for extension in self._extensions:
            inflater = getattr(extension, "decoder", None)
            if inflater is None or not inflater.eof:
                continue
            if inflater.unused_data.strip(b"\0\xff"):
                raise ProtocolError("data after a final block")
            bits = extension.remote_max_window_bits
            extension.decoder = zlib.decompressobj(wbits=-bits)

    def _renew_deflaters(self) -> None:
        """Let later messages not refer to those before one that another compressor has made.

        It gets into the peer's window, too, and would be in the way of what is counted back.
        """
        extension: Any  # of a class that has no types
        for extension in self._extensions:
            if getattr(extension, "encoder", None) is not None:
                bits = extension.local_max_window_bits
                options = extension.compress_settings
                extension.encoder = zlib.compressobj(wbits=-bits, **options)

    def _take_frame(self, frame: Frame, now: float) -> None:
        if frame.opcode is Opcode.PING or frame.opcode is Opcode.PONG:
            if self._control_frames is None:
                limit = self.settings.max_control_frames
                self._control_frames = _Window(limit, 1.0, CONTROL_FRAMES)
            self._control_frames.count(now)
        if frame.opcode is Opcode.PING:
            if self.state is OPEN:
                # RFC 6455 5.5.3: with the Ping's own payload.
                self._queue(Frame(Opcode.PONG, frame.data).serialize(mask=False))
        elif frame.opcode is Opcode.CLOSE:
            self._end(_Ending(Close.parse(frame.data), now, peer_closed=True))
        elif frame.opcode is not Opcode.PONG:
            self._take_data(frame)
        elif self._awaited_pongs is not None and self.state is OPEN:
            pong = self._awaited_pongs.take(bytes(frame.data))
            if pong is not None:
                self._put_in_inbox(pong)

    def _take_data(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CONT:
            if self._opcode is None:
                raise ProtocolError("a continuation frame without a message to continue")
        elif self._opcode is not None:
            raise ProtocolError("a new message inside a fragmented one")
        else:
            self._opcode = frame.opcode
        self._message_size += len(frame.data)
        self._fragments += 1
        limit = self.settings.max_message_size
        if limit is not None and self._message_size > limit:
            raise _LimitExceeded
        if self._fragments > self.settings.max_fragments:
            raise _LimitExceeded
        if self._opcode is Opcode.TEXT:
            self._decode(frame.data[self._checked :], final=frame.fin)
        elif frame.data:
            self._keep(bytes(frame.data))
        if frame.fin:
            self._take_message()

    def _take_message(self) -> None:
        pieces: Any = self._pieces or ()
        message: Message
        if self._opcode is Opcode.TEXT:
            message = pieces[0] if len(pieces) == 1 else "".join(pieces)
        else:
            message = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = None
        self._opcode = None
        self._message_size = 0
        self._fragments = 0
        if self.state is OPEN:
            self._admit(message)

    def _decode(self, data: bytes | bytearray | memoryview, *, final: bool) -> None:
        if final and not self._pieces and not self._fragmented_text:
            text = bytes(data).decode()
        else:
            text = self._decode_part(bytes(data), final=final)
        if text:
            self._keep(text)
        if final:
            self._decoder = None

    def _keep(self, piece: str | bytes) -> None:
        if self._pieces is None:
            self._pieces = []
        self._pieces.append(piece)

    def _decode_part(self, data: bytes, *, final: bool = False) -> str:
        if self._decoder is None:
            self._decoder = _utf8_decoder()
        return self._decoder.decode(data, final)

    @property
    def _fragmented_text(self) -> bool:
        return self._fragments > 1 or self._checked > 0

    def _check_partial_text(self) -> None:
        """Fail on text that can't become UTF-8 any more before its frame is complete.

        RFC 6455 8.1 asks to fail when the bytes are invalid; a peer that sends a frame slowly
        would otherwise learn of it only at its end.
        """
        reads = self._frame_reads
        if not reads:
            return
        first, second = reads[0]
        has_extended_length = second & 0x7F >= 126
        if len(reads) < (3 if has_extended_length else 2):
            return
        opcode = first & 0x0F
        is_text = opcode == Opcode.TEXT and self._opcode is None
        is_more_text = opcode == Opcode.CONT and self._opcode is Opcode.TEXT
        is_compressed = first & 0x70
        if is_compressed or not (is_text or is_more_text) or self._message_compressed:
            return
        masked = self._buffer[self._checked :]
        if not masked:
            return
        turn = self._checked % 4
        mask = reads[-1]
        text = self._decode_part(apply_mask(masked, mask[turn:] + mask[:turn]))
        self._checked += len(masked)
        if text:
            self._keep(text)

    @property
    def _message_compressed(self) -> bool:
        # Only the first frame of a compressed message has RSV1 set (RFC 7692 6.1); later ones
        # can't be told from plain ones here, so with an extension text is checked when complete.
        return bool(self._extensions)

    def _too_big(self) -> str:
        if self._fragments > self.settings.max_fragments:
            return f"a message has more than {self.settings.max_fragments} fragments"
        return f"a message has more than {self.settings.max_message_size} bytes"


class PreparedMessage:
    """A message for many connections: its frame is made once for each way to compress it.

    :param message: ``str`` or anything bytes-like.
    :param is_notice: whether it tells a client what it misses, so that it must not be dropped
        itself. It goes out uncompressed.
    :raises TypeError: if it is neither.
    """

    def __init__(self, message: Sendable, is_notice: bool = False) -> None:
        self.is_notice = is_notice
        self._frame = Frame(*payload_of(message))
        #: How long it is, in characters or bytes.
        self.size = len(message)
        self._plain: _SharedFrame | None = None
        self._serialized: dict[tuple[int, ...], _SharedFrame] = {}

    def serialize(self, extensions: Sequence[Extension]) -> bytes:
        """The frame for a connection that uses *extensions*."""
        if self.is_notice:
            # Not a shared frame: those may be dropped once they are queued.
            return self._frame.serialize(mask=False)
        if not extensions:
            if self._plain is None:
                self._plain = _SharedFrame(self._frame.serialize(mask=False))
            return self._plain
        key = tuple(getattr(extension, "local_max_window_bits", 0) for extension in extensions)
        frame = self._serialized.get(key)
        if frame is None:
            fresh = [_without_memory(extension) for extension in extensions]
            frame = _SharedFrame(self._frame.serialize(mask=False, extensions=fresh))
            self._serialized[key] = frame
        return frame


@mypyc_attr(native_class=False)
class _SharedFrame(bytes):
    """A frame that many connections queue, and that a slow client may have to do without."""


def _without_memory(extension: Extension) -> Extension:
    """A copy that compresses each message by itself, so that any peer can inflate it."""
    fresh: Any = copy(extension)
    fresh.local_no_context_takeover = True
    made: Extension = fresh
    return made


def deflate_overhead(size: int) -> int:
    """By how many bytes deflate makes *size* bytes longer at worst, as in zlib's deflateBound()."""
    return (size >> 3) + (size >> 6) + 64


class _LimitExceeded(Exception):
    """A message has grown past a limit of ours."""


class _TooMany(Exception):
    """A client sends more than it may; says what."""


class _Window:
    """Counts within a stretch of time that begins with the first thing that is counted."""

    __slots__ = ("_count", "_ends", "_limit", "_reason", "_seconds")

    def __init__(self, limit: int, seconds: float, reason: str) -> None:
        self._limit = limit
        self._seconds = seconds
        self._reason = reason
        self._ends = -inf
        self._count = 0

    def count(self, now: float) -> None:
        if now >= self._ends:
            self._ends = now + self._seconds
            self._count = 0
        self._count += 1
        if self._count > self._limit:
            raise _TooMany(self._reason)


class _Ending:
    """How the peer's stream ended; kept until the messages ahead of it are taken."""

    __slots__ = ("close", "peer_closed", "since")

    def __init__(self, close: Close | None, since: float, *, peer_closed: bool = False) -> None:
        self.close = close
        self.since = since
        self.peer_closed = peer_closed
