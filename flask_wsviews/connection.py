"""Import path of the sans-IO connection: its code is in protocol/."""

from .protocol.connection import Connection, PreparedMessage, State

__all__ = [
    "Connection",
    "PreparedMessage",
    "State",
]
