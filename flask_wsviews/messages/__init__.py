"""The messages that a view declares: loaded, routed by type, and dumped."""

from .declared import make_protocol, protocol_of_class
from .errors import ErrorMessage
from .handlers import Handler, has_mark, message
from .protocol import Loaded, MessageProtocol
from .schemas import SchemaLike, as_schema, error_messages, load_fields

__all__ = [
    "ErrorMessage",
    "Handler",
    "Loaded",
    "MessageProtocol",
    "SchemaLike",
    "as_schema",
    "error_messages",
    "has_mark",
    "load_fields",
    "make_protocol",
    "message",
    "protocol_of_class",
]
