"""The error frame, which answers an invalid message."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, missing

#: The type of the error frame.
ERROR_TYPE = "error"

#: The field that matches replies and errors with the message that they answer.
REF = "ref"

#: marshmallow's key for errors of the message as a whole.
SCHEMA_ERRORS = "_schema"


class ErrorMessage(Schema):
    """Answers an invalid message."""

    # It is dumped from InvalidMessage. The discriminator is added as "error", unless a schema that
    # replaces this one has a field of that name. Documents show the docstring.

    #: ``invalid_message``, ``unknown_type`` or ``messages_lost``.
    code = fields.Str(
        required=True,
        metadata={
            "description": "`invalid_message`; `unknown_type`; or `messages_lost`, if messages of "
            "a group are no longer available."
        },
    )
    #: Error messages by field; ``_schema`` stands for the message as a whole.
    errors = fields.Dict(
        keys=fields.Str(),
        required=True,
        metadata={
            "description": "Error messages by field; `_schema` is for the message as a whole.",
        },
    )
    #: The ``ref`` of the invalid message; left out if it had none.
    ref = fields.Raw(metadata={"description": "The `ref` of the invalid message, if it had one."})

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Leave ``ref`` out if it is ``None``."""
        value = super().get_attribute(obj, attr, default)
        return missing if attr == REF and value is None else value
