"""What a client can do wrong, and the close code for it (RFC 6455 7.4.1)."""

from __future__ import annotations

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from ..close_codes import INVALID_DATA, MESSAGE_TOO_BIG, POLICY_VIOLATION, PROTOCOL_ERROR
from ..exceptions import fit_reason


class MessageTooBig(Exception):
    """A message exceeds a limit. The text is the close reason."""


class RateExceeded(Exception):
    """A client sends too much in too little time. The text is the close reason."""


#: Everything that :func:`close_for` knows.
VIOLATIONS = (ProtocolError, UnicodeDecodeError, MessageTooBig, RateExceeded)


def close_for(violation: Exception) -> Close:
    """Return the close code and reason to answer a violation with."""
    if isinstance(violation, UnicodeDecodeError):
        return Close(INVALID_DATA, "the text is not UTF-8")
    if isinstance(violation, MessageTooBig):
        return Close(MESSAGE_TOO_BIG, str(violation))
    if isinstance(violation, RateExceeded):
        return Close(POLICY_VIOLATION, str(violation))
    return Close(PROTOCOL_ERROR, fit_reason(str(violation)))
