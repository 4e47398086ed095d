"""The messages that a view takes and sends: loaded, routed by type, and dumped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from marshmallow import Schema, ValidationError

from ..close_codes import UNSUPPORTED_DATA
from ..common.json_text import load_text
from ..exceptions import CloseConnection, InvalidMessage, OutgoingMessageError
from ..typing import Message
from .errors import ERROR_TYPE, REF, SCHEMA_ERRORS
from .handlers import Handler
from .schemas import dump, error_messages, errors_of_dumped, load


class Loaded(NamedTuple):
    """A valid message: its handler, if it is routed by type, its data and its ``ref``."""

    handler: Handler | None
    data: Any
    ref: Any = None


@dataclass(frozen=True)
class MessageProtocol:
    """The messages that a view takes and sends. It is made with the class and never changes.

    :param owner: the name of the view, for errors.
    :param discriminator: the field that holds a message's type.
    :param binary: whether binary messages are allowed; otherwise one closes the connection with
        1003 Unsupported Data.
    :param schema: loads every message; ``None`` if messages are routed by type, or not parsed.
    :param handlers: the handlers by type.
    :param emits: the schemas of ``ws.send_message()`` by type.
    :param removed: keys that are removed before *schema* loads, because it has no fields for them.
    """

    owner: str = "view"
    discriminator: str = "type"
    binary: bool = True
    schema: Schema | None = None
    handlers: Mapping[str, Handler] = field(default_factory=lambda: MappingProxyType({}))
    emits: Mapping[str, Schema] = field(default_factory=lambda: MappingProxyType({}))
    removed: frozenset[str] = frozenset()

    @property
    def is_typed(self) -> bool:
        """Whether text is parsed and loaded, rather than passed on as it is."""
        return self.schema is not None or bool(self.handlers)

    @property
    def is_declared(self) -> bool:
        """Whether messages have schemas in either direction, so that clients know error frames."""
        return self.is_typed or bool(self.emits)

    # -- incoming ---------------------------------------------------------------------------------

    def take(self, message: Message, loads: Callable[[str], Any]) -> Loaded:
        """Parse and load a text message; a binary message stays as it is.

        :param loads: parses JSON.
        :raises InvalidMessage: if the message is invalid.
        :raises CloseConnection: with 1003 Unsupported Data for a binary message where only text is
            allowed (RFC 6455 7.4.1).
        """
        if not isinstance(message, str):
            if not self.binary:
                raise CloseConnection(UNSUPPORTED_DATA, "messages are text here")
            return Loaded(None, message)
        if not self.is_typed:
            return Loaded(None, message)
        try:
            value = load_text(loads, message)
        except (ValueError, RecursionError):
            raise InvalidMessage({SCHEMA_ERRORS: ["Not valid JSON."]}, message=message) from None
        try:
            _check_ref(value)
            return self.load(value)
        except InvalidMessage as error:
            error.message = message
            raise

    def load(self, value: Any) -> Loaded:
        """Load a parsed message.

        :raises InvalidMessage: if the message is invalid.
        """
        ref = value.get(REF) if isinstance(value, dict) else None
        if self.schema is not None:
            return Loaded(None, _load(self.schema, value, ref, self.removed), ref)
        if not isinstance(value, dict):
            raise InvalidMessage({SCHEMA_ERRORS: ["A message is a JSON object."]})
        type_ = value.get(self.discriminator)
        handler = self.handlers.get(type_) if isinstance(type_, str) else None
        if handler is None:
            known = ", ".join(self.handlers)
            problem = f"Missing; known are {known}."
            if self.discriminator in value:
                problem = f"Unknown; known are {known}."
            raise InvalidMessage({self.discriminator: [problem]}, code="unknown_type", ref=ref)
        return Loaded(handler, _load(handler.schema, value, ref, handler.removed), ref)

    # -- outgoing ---------------------------------------------------------------------------------

    def dump(self, type: str, obj: Any, *, validate: bool = True) -> dict[str, Any]:
        """Dump *obj* by the schema of its type in :attr:`emits`, and add the discriminator.

        :param validate: whether to check the dumped object against the schema.
        :raises OutgoingMessageError: if *type* isn't declared, or the object doesn't match.
        """
        schema = self.emits.get(type)
        if schema is None:
            declared = f"has {', '.join(map(repr, self.emits))}" if self.emits else "is empty"
            raise OutgoingMessageError(f"{type!r} isn't in {self.owner}.emits (which {declared})")
        return self._dump(schema, type, obj, validate)

    def dump_reply(
        self, handler: Handler, obj: Any, ref: Any, *, validate: bool = True
    ) -> dict[str, Any]:
        """Dump the return value of a handler as its reply.

        :param ref: the ``ref`` of the message that it answers.
        :raises OutgoingMessageError: if the handler declares no reply, or *obj* doesn't match it.
        """
        if handler.reply is None:
            raise OutgoingMessageError(
                f"{self.owner}.{handler.name} returned {obj!r}, but has no schema for replies: add "
                "reply= to its @message"
            )
        payload = self._dump(handler.reply, handler.reply_type, obj, validate)
        if ref is not None:
            payload.setdefault(REF, ref)
        return payload

    def dump_error(self, schema: Schema, error: InvalidMessage) -> dict[str, Any]:
        """Dump the error frame that answers an invalid message.

        :param schema: the schema of error frames.
        """
        payload: Any = schema.dump(error)
        return {self.discriminator: ERROR_TYPE, **payload}

    def _dump(self, schema: Schema, type: str, obj: Any, validate: bool) -> dict[str, Any]:
        payload = dump(schema, obj)
        errors = errors_of_dumped(schema, payload) if validate else None
        if errors:
            raise OutgoingMessageError(
                f"{self.owner} can't send this {type!r}, which doesn't match its schema: {errors}"
            )
        # The type comes first, for readability, and the object can't replace it.
        return {self.discriminator: type, **payload, self.discriminator: type}


def _check_ref(value: Any) -> None:
    """Check that the ``ref`` of a parsed message can be sent back.

    :raises InvalidMessage: if it contains a number so large that Python reads it as infinite.
    """
    ref = value.get(REF) if isinstance(value, dict) else None
    if ref is None or isinstance(ref, (str, int)):
        return
    try:
        json.dumps(ref, allow_nan=False)
    except ValueError:
        raise InvalidMessage({REF: ["A number is too large."]}) from None
    except TypeError:
        # The application's JSON provider has read it, and can write it as well.
        return


def _load(schema: Schema | None, value: Any, ref: Any, removed: frozenset[str]) -> Any:
    """Load *value* without the keys in *removed*.

    :raises InvalidMessage: if it is invalid.
    """
    if isinstance(value, dict):
        value = dict(value)
        for key in removed:
            value.pop(key, None)
    if schema is None:
        return value
    try:
        return load(schema, value)
    except ValidationError as error:
        raise InvalidMessage(error_messages(error), ref=ref) from error
