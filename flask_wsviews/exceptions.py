"""The exceptions that this package raises.

::

    WSViewsError
    ├── ConfigError           a WSVIEWS_* value is invalid              (also a ValueError)
    ├── RegistrationError     a view or rule can't be registered        (also a TypeError)
    ├── EngineError           the engine can't run in this process      (also a RuntimeError)
    ├── ServerError           the server doesn't hand over the socket   (also a RuntimeError)
    ├── CommandError          uWSGI can't be started                    (also a RuntimeError)
    ├── InvalidMessage        a client's message doesn't match a schema (also a ValueError)
    ├── OutgoingMessageError  a message to a client doesn't match one   (also a ValueError)
    ├── GroupError            a group name or option is invalid         (also a ValueError)
    ├── BrokerUnavailable     the broker can't be reached               (also a RuntimeError)
    ├── ConnectionClosed      the connection has ended                  (also a ConnectionError)
    └── CloseConnection       raised by a hook to close its connection
        └── GroupRefused      a connection may not join a group

A refused handshake isn't one of them: it is a :class:`werkzeug.exceptions.HTTPException`.
"""

from __future__ import annotations

from typing import Any

from .close_codes import ABNORMAL_CLOSURE, INTERNAL_ERROR, NORMAL_CLOSURE, POLICY_VIOLATION

#: A close frame holds 125 bytes; the code takes 2 of them.
MAX_REASON = 123


class WSViewsError(Exception):
    """The base class of all exceptions in this package."""


class ConfigError(WSViewsError, ValueError):
    """A ``WSVIEWS_*`` configuration value is of the wrong type or out of range."""


class RegistrationError(WSViewsError, TypeError):
    """A view or rule can't be registered; the message names the fix."""


class EngineError(WSViewsError, RuntimeError):
    """The engine can't run in this process; the message names the option or package to add."""


class ServerError(WSViewsError, RuntimeError):
    """The WSGI server doesn't hand over the client's socket."""


class CommandError(WSViewsError, RuntimeError):
    """``run()`` can't start uWSGI; the message names what to install or set."""


class InvalidMessage(WSViewsError, ValueError):
    """A client's message isn't JSON, or doesn't match its schema.

    :param errors: lists of error messages by field, as marshmallow returns them; errors of the
        whole message are under ``_schema``.
    :param code: ``invalid_message``, or ``unknown_type`` if no handler has the message's type.
    :param ref: the message's ``ref``, ``None`` if it has none.
    :param message: the text of the message.
    """

    def __init__(
        self,
        errors: dict[Any, Any],
        code: str = "invalid_message",
        ref: Any = None,
        message: str = "",
    ) -> None:
        super().__init__(errors, code, ref, message)
        self.errors = errors
        self.code = code
        self.ref = ref
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.errors}"


class OutgoingMessageError(WSViewsError, ValueError):
    """The application tried to send a message that isn't declared or doesn't match its schema."""


class GroupError(WSViewsError, ValueError):
    """A group's name, or an option for a group, is invalid.

    If a hook doesn't catch it, the connection is closed with *code*: 1008 Policy Violation for an
    invalid name, because a client may have chosen it. A mistake in the application, such as a
    ``since`` for a group without a history, is logged and closes with 1011 Internal Error.

    :param message: the error message.
    :param code: the close code, 1008 or 1011.
    """

    def __init__(self, message: str = "", *, code: int = INTERNAL_ERROR) -> None:
        super().__init__(message)
        self.code = code


class BrokerUnavailable(WSViewsError, RuntimeError):
    """The broker can't be reached, so nothing was published.

    If a hook doesn't catch it, the connection is closed with 1013 Try Again Later, so that the
    client reconnects.
    """


class ConnectionClosed(WSViewsError, ConnectionError):
    """The connection has ended, so nothing can be sent.

    :param code: the close code (RFC 6455 7.4), 1006 Abnormal Closure if no close frame came.
    :param reason: the close reason, often empty.
    """

    def __init__(self, code: int = ABNORMAL_CLOSURE, reason: str = "") -> None:
        super().__init__()
        # OSError reads two arguments as an errno and its text.
        self.args = (code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        detail = f" ({self.reason})" if self.reason else ""
        return f"the WebSocket is closed with code {self.code}{detail}"


class CloseConnection(WSViewsError):
    """Raise it in a hook to close this connection.

    :param code: the close code to send: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
    :param reason: at most 123 bytes as UTF-8 (RFC 6455 5.5).
    :raises ValueError: if the code or the reason can't go into a close frame.
    """

    def __init__(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        check_close(code, reason)
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class GroupRefused(CloseConnection):
    """The view's ``authorize_group`` refused to let a connection join a group.

    If a hook doesn't catch it, the connection is closed with 1008 Policy Violation.

    :param group: the group's name.
    """

    def __init__(self, group: str) -> None:
        super().__init__(POLICY_VIOLATION, "may not join this group")
        # pickle and copy call the class with these.
        self.args = (group,)
        self.group = group

    def __str__(self) -> str:
        return f"the connection may not join {self.group!r}"


def check_close(code: int, reason: str) -> None:
    """Check that *code* and *reason* fit into a close frame (RFC 6455 5.5.1 and 7.4).

    :raises ValueError: if one of them doesn't; the message names it.
    """
    if not _can_be_sent(code):
        raise ValueError(f"{code!r} can't be sent as a close code: use 1000, or 4000 to 4999")
    if not isinstance(reason, str):
        raise ValueError(f"a close reason is text, not {reason!r}")
    size = len(reason.encode())
    if size > MAX_REASON:
        raise ValueError(
            f"a close reason has at most {MAX_REASON} bytes as UTF-8, and this one has {size}"
        )


def _can_be_sent(code: Any) -> bool:
    # 4000.0, which JSON from a client may contain, can't be packed into a frame.
    if not isinstance(code, int) or isinstance(code, bool):
        return False
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def fit_reason(text: str) -> str:
    """Cut *text* to the length that fits into a close frame (RFC 6455 5.5)."""
    return text.encode(errors="replace")[:MAX_REASON].decode(errors="ignore")
