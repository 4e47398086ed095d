"""Import path of the sans-IO connection: its code is in protocol/."""

from .protocol.connection import Connection, State
from .protocol.prepared import PreparedMessage

__all__ = [
    "Connection",
    "PreparedMessage",
    "State",
]
