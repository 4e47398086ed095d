"""What a view declares of its messages, and what loads and dumps them."""

from .declared import (
    ErrorMessage,
    Handler,
    Loaded,
    Protocol,
    SchemaLike,
    as_schema,
    error_messages,
    has_mark,
    load_fields,
    make_protocol,
    message,
    protocol_of_class,
)

__all__ = [
    "ErrorMessage",
    "Handler",
    "Loaded",
    "Protocol",
    "SchemaLike",
    "as_schema",
    "error_messages",
    "has_mark",
    "load_fields",
    "make_protocol",
    "message",
    "protocol_of_class",
]
