"""The client object that hooks and function routes hold: one WebSocket, seen from the server."""

from __future__ import annotations

import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import (
    Callable,
    Coroutine,
    Generator,
    Mapping,
    Sequence,
)
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from marshmallow import Schema
from werkzeug.datastructures import Headers

from ..close_codes import NORMAL_CLOSURE, POLICY_VIOLATION
from ..common.json_text import dump_text
from ..common.notify import tell
from ..common.process import find_uwsgi
from ..common.steps import Step, run_steps, run_steps_async
from ..exceptions import ConnectionClosed, GroupError, InvalidMessage
from ..messages import declared
from ..messages.declared import ErrorMessage, Handler
from ..protocol.connection import State
from ..protocol.pongs import Pong
from ..typing import AsyncDriver, Environ, Message, Sendable
from .membership import Membership, messages_lost
from .traffic import Traffic

# For the first who asks for an id: few do, and it takes the kernel's random numbers.
_id_lock = threading.Lock()

# Made once: a schema copies its fields.
_ERROR_SCHEMA: Schema = ErrorMessage()
_ANY_MESSAGES = declared.Protocol()

#: What sending returns.
Sent = TypeVar("Sent")

if TYPE_CHECKING:
    from flask import Flask

    from ..engines import Driver
    from ..groups import Groups
    from ..groups.declared import GroupOptions
    from ..groups.names import Pattern
    from ..views import WebSocketView
    from .rate_limits import Meter


class MessageWatcher(Protocol):
    """An observer of messages."""

    def received(self, ws: Any, message: Any) -> None:
        """Called for each message of the client, before a schema loads it."""

    def sent(self, ws: Any, message: Any) -> None:
        """Called for each message that a method of *ws* sends."""


class BaseClient(ABC, Generic[Sent]):
    """One WebSocket connection: what the clients of all engines have in common.

    ``Sent`` is what sending returns: nothing, or something to await.

    :param environ: the handshake's WSGI environment; it stays valid after the handshake.
    :param fd: the socket's descriptor, -1 before the 101.
    :param timeout: seconds that the closing handshake may take.

    The application gets it from the package; it isn't made by hand.
    """

    #: The application that serves it.
    app: Flask

    # What most connections leave as it is takes no memory of theirs.

    #: What the view's ``query_schema`` has loaded of the URL's query.
    query: Any = None
    #: What the view's ``headers_schema`` has loaded of the handshake's header fields.
    headers: Any = None
    _protocol: declared.Protocol = _ANY_MESSAGES
    _error_schema: Schema = _ERROR_SCHEMA
    _loads_messages: bool = False  # in receive(), for a function route
    _text_as_bytes: bool = False  # as WSVIEWS_TEXT_AS_BYTES has it
    _reports_pongs: bool = False  # to the view's on_pong
    _watchers: Sequence[MessageWatcher] = ()
    _meter: Meter | None = None
    _offered: tuple[str, ...] = ()
    _subprotocol: str | None = None
    _response_headers: Headers | None = None
    _membership: Membership | None = None
    _id: str | None = None
    _group: str | None = None  # that the view declares, if it declares one

    def __init__(self, environ: Environ, fd: int = -1, timeout: float = 5) -> None:
        self.environ = environ
        self.timeout = timeout
        #: The endpoint of its rule.
        self.endpoint = ""
        self._fd = fd
        self._driver: Driver | None = None
        # What groups need of the application and the view, until it has left them.
        self._groups: Groups | None = None
        self._view: WebSocketView | None = None

    @property
    def id(self) -> str:
        """A unique name of this connection."""
        if self._id is None:
            with _id_lock:
                made = self._id or str(uuid.uuid4())
                if self._groups is not None:
                    # From now on somebody may name it.
                    self._groups.note_id(self, made)
                self._id = made
        return self._id

    @property
    def response_headers(self) -> Headers:
        """Headers to add to the 101; ``on_handshake`` may fill them."""
        if self._response_headers is None:
            self._response_headers = Headers()
        return self._response_headers

    def __repr__(self) -> str:
        state = "open" if self.connected else "not open"
        return f"<{type(self).__name__} {self.environ.get('PATH_INFO')} {self.id} {state}>"

    # -- receiving ------------------------------------------------------------------------------

    @abstractmethod
    def receive(self, timeout: float | None = None) -> Any:
        """Wait for the next message."""

    def recv_nb(self) -> Any:
        """The next message without waiting for it.

        :returns: ``""`` if none is there, ``None`` once the connection is closed.
        :raises RuntimeError: if another thread, greenlet or task is in :meth:`receive`.
        """
        driver = self._opened()
        message = driver.receive_nowait()
        while self._reports_pongs and isinstance(message, Pong):
            message = driver.receive_nowait()
        if message is None:
            return None if driver.connection.state is State.CLOSED else ""
        if self._meter is not None and not self._meter.count():
            self._close_for_rate()
            return None
        if self._watchers:
            self._tell_received(message)
        if not self._loads_messages:
            return self._given(message)
        try:
            return self._given(self._loaded(message))
        except InvalidMessage as error:
            self.send_error(error)
            return ""

    # -- sending --------------------------------------------------------------------------------

    @abstractmethod
    def send(self, message: Sendable, binary: bool | None = None) -> Sent:
        """Send a message; any thread or greenlet of the worker may."""

    def send_binary(self, message: Sendable) -> Sent:
        """Send a binary message; ``str`` is encoded as UTF-8."""
        return self.send(message, binary=True)

    def send_json(self, value: Any) -> Sent:
        """Send *value* as text, written by the application's JSON provider.

        :raises TypeError: if the provider can't write it.
        :raises OutgoingMessageError: if it has ``NaN`` or an infinite number, which JSON has not.
        """
        return self.send(dump_text(self.app.json.dumps, value))

    def send_message(self, type: str, obj: Any) -> Sent:
        """Send a typed message, through the schema that the view's ``emits`` has for it.

        :param type: as in ``emits``.
        :param obj: what the schema dumps.
        :raises OutgoingMessageError: if it isn't declared, or isn't what its schema says; nothing
            is sent then.
        """
        return self.send_json(self._protocol.dump(type, obj, validate=self._validates()))

    def send_error(self, error: InvalidMessage) -> Sent:
        """Send the application's error frame for a message that can't be used.

        :param error: what is wrong with it.
        """
        return self.send_json(self._protocol.dump_error(self._error_schema, error))

    def send_from_sharedarea(self, id: int, pos: int, len: int = 0) -> Sent:
        """Send text out of a uWSGI sharedarea.

        :param id: number of the sharedarea.
        :param pos: where the text begins, in bytes.
        :param len: its length in bytes, 0 for all that follows.
        :raises UnicodeDecodeError: if it isn't UTF-8.
        """
        return self.send(_read_sharedarea(id, pos, len), binary=False)

    def send_binary_from_sharedarea(self, id: int, pos: int, len: int = 0) -> Sent:
        """Send bytes out of a uWSGI sharedarea; see :meth:`send_from_sharedarea`."""
        return self.send(_read_sharedarea(id, pos, len), binary=True)

    # -- heartbeats -----------------------------------------------------------------------------

    @abstractmethod
    def ping(self, payload: str | bytes = b"") -> Sent:
        """Send a Ping (RFC 6455 5.5.2); any thread or greenlet of the worker may."""

    # -- groups ---------------------------------------------------------------------------------

    @abstractmethod
    def join(
        self, group: str, since: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> Any:
        """Join a group: messages that are broadcast to it are sent to this connection, too."""

    @abstractmethod
    def leave(self, group: str) -> Any:
        """Leave a group; nothing happens if the connection isn't in it."""

    def _leave(self, group: str) -> None:
        if self._membership is not None:
            self._membership.leave(group)

    @property
    def groups(self) -> frozenset[str]:
        """The names of the groups that it has joined."""
        return frozenset() if self._membership is None else self._membership.names

    @property
    def group(self) -> str:
        """The name of the one group that the view declares in its ``groups``.

        It stays the same when the connection leaves, so ``on_close`` can use it. Groups joined by
        :meth:`join` don't count.

        :raises GroupError: if the view declares no group or several, or before the connection
            joins.
        """
        if self._group is None:
            raise GroupError(
                f"ws.group is for a view that declares exactly one group in its groups, once the "
                f"connection joins it; for {self.endpoint!r}, write the group's name"
            )
        return self._group

    def _the_membership(self) -> Membership:
        if self._membership is None:
            driver = self._opened()
            if self._groups is None or self._view is None:
                raise driver.connection.closed_error()
            self._membership = Membership(
                self._groups, self, driver, self._view, self._messages_lost
            )
        return self._membership

    def _messages_lost(self, group: str) -> str:
        frame = self._protocol.dump_error(self._error_schema, messages_lost(group))
        return dump_text(self.app.json.dumps, frame)

    def _group_options(self, group: str) -> GroupOptions:
        assert self._groups is not None
        return self._groups.options_of(group)

    def _check_owner(self, pattern: Pattern, group: str) -> None:
        assert self._groups is not None
        self._groups.declarations.check_owner(pattern, group)

    def _leave_groups(self) -> None:
        membership = self._membership
        if membership is not None:
            self._membership = None
            membership.end()
        if self._groups is not None:
            self._groups.forget(self)
        # Who keeps a client after its end shall not keep its view with it.
        self._groups = self._view = None

    # -- closing --------------------------------------------------------------------------------

    @abstractmethod
    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> Sent:
        """Close the connection. Messages that arrive from now on are dropped."""

    @property
    def connected(self) -> bool:
        """Whether messages can be sent."""
        if self._driver is None:
            return False
        connection = self._driver.connection
        return connection.state is State.OPEN and not connection.asked_to_close

    @property
    def close_code(self) -> int | None:
        """How the connection ended, ``None`` as long as it hasn't.

        The code of the client's close frame; 1005 if that had none. Where no close frame came: the
        code that went out because the client broke the protocol or a limit, else 1006.
        """
        return None if self._driver is None else self._driver.connection.close_code

    @property
    def close_reason(self) -> str | None:
        """The reason that belongs to :attr:`close_code`."""
        return None if self._driver is None else self._driver.connection.close_reason

    @property
    def traffic(self) -> Traffic:
        """What went over the connection so far."""
        if self._driver is None:
            return Traffic()
        connection = self._driver.connection
        return Traffic(
            messages_received=connection.messages_received,
            bytes_received=connection.bytes_received,
            messages_sent=connection.messages_sent,
            bytes_sent=max(connection.bytes_sent, 0),
            messages_dropped=connection.messages_dropped,
        )

    # -- the handshake --------------------------------------------------------------------------

    @property
    def fd(self) -> int:
        """The socket's descriptor, -1 while there is none."""
        return self._fd if self._driver is None else self._driver.fd

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol in use; ``on_handshake`` may choose one that the client offers.

        :raises ValueError: on setting one that the client doesn't offer (RFC 6455 4.2.2).
        :raises RuntimeError: on setting it after the handshake.
        """
        return self._subprotocol

    @subprotocol.setter
    def subprotocol(self, name: str | None) -> None:
        if self._driver is not None:
            raise RuntimeError("the subprotocol is chosen before the 101: in on_handshake()")
        if name is not None and name not in self._offered:
            offers = ", ".join(self._offered) or "none"
            raise ValueError(f"the client doesn't offer the subprotocol {name!r}, but {offers}")
        self._subprotocol = name

    @property
    def offered_subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, in its order of preference."""
        return self._offered

    def _send_reply(self, handler: Handler, answer: Any, ref: Any) -> Any:
        """Send what a handler has returned for the message with this *ref*."""
        payload = self._protocol.dump_reply(handler, answer, ref, validate=self._validates())
        return self.send_json(payload)

    def _validates(self) -> bool:
        return self._opened().connection.settings.validate_outgoing

    def _loaded(self, message: Message) -> Any:
        return self._protocol.take(message, self.app.json.loads).data

    def _report_pongs(self) -> None:
        """Let Pongs come to the view, between its messages."""
        self._reports_pongs = True
        self._opened().connection.report_pongs()

    def _receive_event(self) -> Any:
        """The next message, or :class:`Pong`, for the view's own conversation."""
        return run_steps(self._receive_checked(self._opened().receive, None, pongs=True))

    def _receive_async(
        self, driver: AsyncDriver, timeout: float | None = None, *, pongs: bool = False
    ) -> Coroutine[Any, Any, Any]:
        """Receive on an event loop; what counts messages may have to wait in a thread."""
        if self._receives_as_is:
            return driver.receive_async(timeout)
        steps = self._receive_checked(driver.receive_async, timeout, pongs=pongs)
        meter = self._meter
        if meter is None or not meter.waits:
            return run_steps_async(steps)
        return run_steps_async(
            steps,
            lambda step: driver.call_aside(step) if step == meter.count else step(),
        )

    @property
    def _receives_as_is(self) -> bool:
        """Whether nobody looks at a message before it is handed on."""
        return not (
            self._loads_messages
            or self._meter is not None
            or self._watchers
            or self._text_as_bytes
            or self._reports_pongs
        )

    def _given(self, message: Any) -> Any:
        """What a handler gets of a message."""
        return message.encode() if self._text_as_bytes and isinstance(message, str) else message

    def _close_for_rate(self) -> None:
        assert self._meter is not None
        self._opened().close(POLICY_VIOLATION, self._meter.reason)

    def _receive_checked(
        self,
        receive: Callable[[float | None], Any],
        timeout: float | None,
        *,
        pongs: bool = False,
    ) -> Generator[Step, Any, Any]:
        deadline = None if timeout is None else monotonic() + timeout
        left, has_looked = timeout, False
        while True:
            message = yield partial(receive, left)
            if message is None:
                return None
            if self._reports_pongs and isinstance(message, Pong):
                if pongs:
                    return message
                # The handler that calls receive() waits for a message.
                left = None if deadline is None else max(0.0, deadline - monotonic())
                continue
            if self._meter is not None and not (yield self._meter.count):
                self._close_for_rate()
                continue
            if self._watchers:
                self._tell_received(message)
            if not self._loads_messages:
                return self._given(message)
            try:
                return self._given(self._loaded(message))
            except InvalidMessage as error:
                yield partial(self.send_error, error)
            if deadline is not None:
                left = max(0.0, deadline - monotonic())
                if not left and not self._opened().connection.has_news:
                    # One look at the socket, and no more: nobody gets longer by sending messages
                    # that can't be used.
                    if has_looked:
                        raise TimeoutError(f"no message within {timeout:g} s")
                    has_looked = True

    def _tell_received(self, message: Message) -> None:
        tell(self._watchers, lambda watcher: watcher.received(self, message))

    def _tell_sent(self, message: Sendable) -> None:
        tell(self._watchers, lambda watcher: watcher.sent(self, message))

    def _converted(self, message: Sendable, binary: bool | None) -> Sendable:
        # Once it is closed that is what send() tells, whatever the message.
        if not self.connected:
            return message
        if binary is None:
            return _as_text_if_possible(message)
        return _as_bytes(message) if binary else _as_text(message)

    def _opened(self) -> Driver:
        if self._driver is None:
            raise RuntimeError("the WebSocket isn't open yet: talk to the client from on_connect()")
        return self._driver

    def _closed_by_itself(self, error: ConnectionClosed) -> bool:
        """Whether *error* tells of the end of this connection and not of another one."""
        driver = self._driver
        return driver is not None and driver.connection.state is not State.OPEN


def _as_bytes(message: Sendable) -> Sendable:
    return message.encode() if isinstance(message, str) else message


def _as_text_if_possible(message: Sendable) -> Sendable:
    try:
        return _as_text(message)
    except UnicodeDecodeError:
        return message


def _as_text(message: Sendable) -> str:
    return message if isinstance(message, str) else str(bytes(message), "utf-8")


def _read_sharedarea(area: int, position: int, length: int) -> bytes:
    uwsgi = find_uwsgi()
    if uwsgi is None:
        raise RuntimeError("sharedareas exist under uWSGI only, with --sharedarea")
    # Without a length uWSGI reads up to the end of the area.
    data: bytes = uwsgi.sharedarea_read(area, position, *([length] if length else []))
    return data
