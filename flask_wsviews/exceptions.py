"""What can go wrong, as one tree.

::

    WSViewsError
    ├── ConfigError           a WSVIEWS_* value is unusable             (also a ValueError)
    ├── RegistrationError     a view or rule can't be registered        (also a TypeError)
    ├── EngineError           the engine can't run where it was started (also a RuntimeError)
    ├── ServerError           the WSGI server doesn't hand out a socket (also a RuntimeError)
    ├── CommandError          uWSGI can't be started                    (also a RuntimeError)
    ├── InvalidMessage        a client's message is not as declared     (also a ValueError)
    ├── OutgoingMessageError  our own message is not as declared        (also a ValueError)
    ├── GroupError            a group name or message id is invalid   (also a ValueError)
    ├── BrokerUnavailable     nothing gets to other workers for now     (also a RuntimeError)
    ├── ConnectionClosed      the peer or the network ended it          (also a ConnectionError)
    └── CloseConnection       raised by a view to end its connection
        └── GroupRefused      a connection may not join a group

A refused handshake is none of these: it is a :class:`werkzeug.exceptions.HTTPException`.
"""

from __future__ import annotations

from typing import Any

from .close_codes import ABNORMAL_CLOSURE, INTERNAL_ERROR, NORMAL_CLOSURE, POLICY_VIOLATION

#: A close frame's 125 bytes, without those of the code.
MAX_REASON = 123


class WSViewsError(Exception):
    """The root of everything this package raises."""


class ConfigError(WSViewsError, ValueError):
    """A ``WSVIEWS_*`` configuration value is of the wrong type or out of range."""


class RegistrationError(WSViewsError, TypeError):
    """Something that isn't a WebSocket view was registered as one, or on the wrong engine."""


class EngineError(WSViewsError, RuntimeError):
    """The engine can't run here; the message names the option or package to add."""


class ServerError(WSViewsError, RuntimeError):
    """The WSGI server gives no access to the client's socket."""


class CommandError(WSViewsError, RuntimeError):
    """``run()`` can't start uWSGI; the message says what to install or set."""


class InvalidMessage(WSViewsError, ValueError):
    """A client's message can't be used: it isn't JSON, or not as its schema says.

    :param errors: what is wrong, in marshmallow's form: lists of messages by field, under
        ``_schema`` what concerns the message as a whole.
    :param code: ``invalid_message``, or ``unknown_type`` if there is no handler for its type.
    :param ref: the message's own ``ref``, ``None`` if it has none.
    :param message: the text that came.
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
    """The application would send a message that isn't declared, or not as its schema says."""


class GroupError(WSViewsError, ValueError):
    """The name of a group or an option for it can't be used.

    A hook that lets it out closes its connection with *code*: 1008 Policy Violation if the
    name is at fault, since a client may have chosen it. A mistake in the application, such as a
    ``since`` for a group without a history, is logged and closes with 1011 Internal Error.

    :param message: what is wrong.
    :param code: the close code, 1008 or 1011.
    """

    def __init__(self, message: str = "", *, code: int = INTERNAL_ERROR) -> None:
        super().__init__(message)
        self.code = code


class BrokerUnavailable(WSViewsError, RuntimeError):
    """The broker can't be reached: what was to be published has not been.

    A hook that lets it out closes its connection with 1013, so that the client tries again.
    """


class ConnectionClosed(WSViewsError, ConnectionError):
    """The connection has ended, so nothing can be sent any more.

    :param code: the close code (RFC 6455 7.4), 1006 when no close frame came.
    :param reason: the reason that came with it, often empty.
    """

    def __init__(self, code: int = ABNORMAL_CLOSURE, reason: str = "") -> None:
        super().__init__()
        # OSError would take two arguments for an errno and its text.
        self.args = (code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        detail = f" ({self.reason})" if self.reason else ""
        return f"the WebSocket is closed with code {self.code}{detail}"


class CloseConnection(WSViewsError):
    """Raise it in a hook to close this connection.

    :param code: close code to send: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
    :param reason: at most 123 bytes as UTF-8 (RFC 6455 5.5).
    :raises ValueError: if the code or the reason can't go into a close frame.
    """

    def __init__(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        check_close(code, reason)
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class GroupRefused(CloseConnection):
    """The view's ``authorize_group`` doesn't let a connection join a group.

    A hook that lets it out closes its connection with 1008.

    :param group: the group's name.
    """

    def __init__(self, group: str) -> None:
        super().__init__(POLICY_VIOLATION, "may not join this group")
        # What pickle and copy make another one of.
        self.args = (group,)
        self.group = group

    def __str__(self) -> str:
        return f"the connection may not join {self.group!r}"


def check_close(code: int, reason: str) -> None:
    """Check that *code* and *reason* fit into a close frame (RFC 6455 5.5.1 and 7.4).

    :raises ValueError: naming what doesn't fit.
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
    # A number such as 4000.0, as a client's JSON may have it, doesn't fit into a frame.
    if not isinstance(code, int) or isinstance(code, bool):
        return False
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def fit_reason(text: str) -> str:
    """Cut *text*, which wasn't written for it, to what a close frame holds (RFC 6455 5.5)."""
    return text.encode(errors="replace")[:MAX_REASON].decode(errors="ignore")
