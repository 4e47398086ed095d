"""Import path of the sans-IO connection: its code is in protocol/."""

from .protocol.connection import Connection
from .protocol.prepared import PreparedMessage
from .protocol.state import State

__all__ = [
    "Connection",
    "PreparedMessage",
    "State",
]
