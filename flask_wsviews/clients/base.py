"""The client object that hooks and function routes hold: one WebSocket, seen from the server."""

from __future__ import annotations

import threading
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from marshmallow import Schema

from ..close_codes import NORMAL_CLOSURE
from ..common.json_text import dump_text
from ..common.notify import notify
from ..exceptions import GroupError, InvalidMessage
from ..messages.errors import ErrorMessage
from ..messages.handlers import Handler
from ..messages.protocol import MessageProtocol
from ..protocol.state import State
from ..typing import Environ, Sendable
from .membership import Membership, messages_lost
from .negotiation import NegotiatingClient
from .receiving import MessageWatcher
from .sending import converted, read_sharedarea
from .traffic import Traffic

# Guards the making of ids, which happens on first use: few connections need one, and a random
# number takes a system call.
_id_lock = threading.Lock()

# Shared by all clients: a schema copies its fields when it is made.
_ERROR_SCHEMA: Schema = ErrorMessage()

#: The result of sending.
Sent = TypeVar("Sent")

if TYPE_CHECKING:
    from flask import Flask

    from ..common.rate_limits import Meter
    from ..groups import Groups
    from ..groups.declared import GroupOptions
    from ..groups.names import Pattern
    from ..views import WebSocketView


class BaseClient(NegotiatingClient, Generic[Sent]):
    """One WebSocket connection: the base class of the clients of all engines.

    ``Sent`` is the result of sending: ``None``, or an awaitable.

    The package makes the client and hands it to hooks and function routes; applications don't make
    it.

    :param environ: the handshake's WSGI environment; it stays valid after the handshake.
    :param fd: the socket's file descriptor, -1 before the 101.
    :param timeout: seconds that the closing handshake may take.
    """

    # Class attributes: a connection that doesn't change them spends no memory on them.

    _error_schema: Schema = _ERROR_SCHEMA
    _membership: Membership | None = None
    _id: str | None = None
    _group: str | None = None  # the only group that the view declares

    def __init__(self, environ: Environ, fd: int = -1, timeout: float = 5) -> None:
        self.environ = environ
        self.timeout = timeout
        #: The endpoint of its URL rule.
        self.endpoint = ""
        self._fd = fd
        self._driver = None
        # For joining groups; None once the connection has left them.
        self._groups: Groups | None = None
        self._view: WebSocketView | None = None

    def _attach(
        self,
        *,
        app: Flask,
        endpoint: str,
        view: WebSocketView,
        groups: Groups,
        protocol: MessageProtocol,
        error_schema: Schema,
        text_as_bytes: bool,
        watchers: Sequence[MessageWatcher],
    ) -> None:
        """Attach the client to its application and view, in the handshake."""
        self.app = app
        self.endpoint = endpoint
        self._view = view
        self._groups = groups
        self._protocol = protocol
        self._error_schema = error_schema
        if text_as_bytes:
            self._text_as_bytes = True
        if watchers:
            self._watchers = watchers

    def _count_with(self, meter: Meter) -> None:
        """Count the client's messages together with those of other connections."""
        self._meter = meter

    @property
    def id(self) -> str:
        """The connection's unique id."""
        if self._id is None:
            with _id_lock:
                made = self._id or str(uuid.uuid4())
                if self._groups is not None:
                    # The application may exclude or disconnect it by this id from now on.
                    self._groups.note_id(self, made)
                self._id = made
        return self._id

    def __repr__(self) -> str:
        state = "open" if self.connected else "not open"
        return f"<{type(self).__name__} {self.environ.get('PATH_INFO')} {self.id} {state}>"

    # -- sending --------------------------------------------------------------------------------

    @abstractmethod
    def send(self, message: Sendable, binary: bool | None = None) -> Sent:
        """Send a message, from any thread or greenlet of the worker."""

    def send_binary(self, message: Sendable) -> Sent:
        """Send a binary message; ``str`` is encoded as UTF-8."""
        return self.send(message, binary=True)

    def send_json(self, value: Any) -> Sent:
        """Send *value* as text, written by the application's JSON provider.

        :raises TypeError: if the provider can't write *value*.
        :raises OutgoingMessageError: if *value* contains ``NaN`` or an infinite number: JSON has
            neither.
        """
        return self.send(dump_text(self.app.json.dumps, value))

    def send_message(self, type: str, obj: Any) -> Sent:
        """Send a typed message, dumped by the schema that the view's ``emits`` maps *type* to.

        :param type: a key of ``emits``.
        :param obj: the object that the schema dumps.
        :raises OutgoingMessageError: if *type* isn't in ``emits``, or *obj* doesn't match the
            schema. Nothing is sent.
        """
        return self.send_json(self._protocol.dump(type, obj, validate=self._validates()))

    def send_error(self, error: InvalidMessage) -> Sent:
        """Answer an invalid message with the application's error frame.

        :param error: why the message is invalid.
        """
        return self.send_json(self._protocol.dump_error(self._error_schema, error))

    def send_from_sharedarea(self, id: int, pos: int, len: int = 0) -> Sent:
        """Send text from a uWSGI sharedarea.

        :param id: the sharedarea's number.
        :param pos: the offset of the text, in bytes.
        :param len: the length of the text in bytes; 0 for the rest of the area.
        :raises UnicodeDecodeError: if the bytes aren't UTF-8.
        :raises RuntimeError: if the application doesn't run under uWSGI.
        """
        return self.send(read_sharedarea(id, pos, len), binary=False)

    def send_binary_from_sharedarea(self, id: int, pos: int, len: int = 0) -> Sent:
        """Send a binary message from a uWSGI sharedarea, as :meth:`send_from_sharedarea` does."""
        return self.send(read_sharedarea(id, pos, len), binary=True)

    # -- heartbeats -----------------------------------------------------------------------------

    @abstractmethod
    def ping(self, payload: str | bytes = b"") -> Sent:
        """Send a Ping (RFC 6455 5.5.2), from any thread or greenlet of the worker."""

    # -- groups ---------------------------------------------------------------------------------

    @abstractmethod
    def join(
        self, group: str, since: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> Any:
        """Join a group: messages that are broadcast to it are sent to this connection."""

    @abstractmethod
    def leave(self, group: str) -> Any:
        """Leave a group. Does nothing if the connection isn't in it."""

    def _leave(self, group: str) -> None:
        if self._membership is not None:
            self._membership.leave(group)

    @property
    def groups(self) -> frozenset[str]:
        """The names of the groups that the connection is in."""
        return frozenset() if self._membership is None else self._membership.names

    @property
    def group(self) -> str:
        """The name of the group, if the view declares exactly one in its ``groups``.

        The name stays available after the connection leaves, so ``on_close`` can use it. Groups
        joined by :meth:`join` don't count.

        :raises GroupError: if the view declares no group or several, or if the connection hasn't
            joined yet.
        """
        if self._group is None:
            raise GroupError(
                f"ws.group needs a view that declares exactly one group in its groups, and a "
                f"connection that has joined it; for {self.endpoint!r}, write the group's name"
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
        # Code that still holds the client must not keep the view alive with it.
        self._groups = self._view = None

    # -- closing --------------------------------------------------------------------------------

    @abstractmethod
    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> Sent:
        """Close the connection. Messages that arrive later are dropped."""

    @property
    def connected(self) -> bool:
        """Whether messages can be sent."""
        if self._driver is None:
            return False
        connection = self._driver.connection
        return connection.state is State.OPEN and not connection.asked_to_close

    @property
    def close_code(self) -> int | None:
        """The close code, ``None`` until the connection has ended.

        It is the code of the client's close frame, or 1005 No Status Received if the frame had
        none. Without a close frame, it is the code that was sent because the client violated the
        protocol or a limit, else 1006 Abnormal Closure.
        """
        return None if self._driver is None else self._driver.connection.close_code

    @property
    def close_reason(self) -> str | None:
        """The close reason that came with :attr:`close_code`."""
        return None if self._driver is None else self._driver.connection.close_reason

    @property
    def traffic(self) -> Traffic:
        """Messages and bytes that the connection has received and sent so far."""
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
        """The socket's file descriptor, -1 if there is none."""
        return self._fd if self._driver is None else self._driver.fd

    def _send_reply(self, handler: Handler, answer: Any, ref: Any) -> Any:
        """Send a handler's return value as the reply to the message with this *ref*."""
        payload = self._protocol.dump_reply(handler, answer, ref, validate=self._validates())
        return self.send_json(payload)

    def _validates(self) -> bool:
        return self._opened().connection.settings.validate_outgoing

    def _observe_sent(self, message: Sendable) -> None:
        notify(self._watchers, lambda watcher: watcher.sent(self, message))

    def _converted(self, message: Sendable, binary: bool | None) -> Sendable:
        # send() then raises ConnectionClosed, whatever the message is.
        return converted(message, binary) if self.connected else message

    def _has_ended(self) -> bool:
        """Return whether the connection was open and is closing or closed."""
        driver = self._driver
        return driver is not None and driver.connection.state is not State.OPEN
