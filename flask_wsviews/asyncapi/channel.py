"""One WebSocket rule as an AsyncAPI channel, with its messages and operations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from marshmallow import Schema

from .. import close_codes
from ..app_state import EXTENSION
from ..groups.brokers.base import MESSAGE_ID
from ..messages.errors import ERROR_TYPE, REF
from ..messages.handlers import Handler
from ..messages.schemas import as_schema
from ..registration.declaration import Declaration, declaration_of
from .components import BINARY, JSON, TEXT, Components
from .parameters import address_of, parameters_of
from .schemas import JSONSchema
from .security import security_of
from .text import described, slug, unused

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.routing import Rule

WS_BINDING = "0.1.0"

#: The close codes that the package sends. Views may send others.
CLOSE_CODES = {
    str(code): meaning
    for code, meaning in {
        close_codes.GOING_AWAY: "Going Away: the server stops",
        close_codes.UNSUPPORTED_DATA: "Unsupported Data: this view takes no binary messages",
        close_codes.INVALID_DATA: "Invalid Frame Payload Data: a text isn't UTF-8",
        close_codes.POLICY_VIOLATION: "Policy Violation: the application refuses the client, or "
        "the client reads too slowly",
        close_codes.MESSAGE_TOO_BIG: "Message Too Big",
        close_codes.INTERNAL_ERROR: "Internal Error: an error in the server, or a Ping without "
        "an answer",
        close_codes.SERVICE_RESTART: "Service Restart: reconnect",
        close_codes.TRY_AGAIN_LATER: "Try Again Later: too many connections",
    }.items()
}

ID_SCHEMA: JSONSchema = {
    "type": "string",
    "description": "The message's id in its group. A client that reconnects resumes after it.",
}

REF_SCHEMA: JSONSchema = {
    "description": "Any value. The reply, or the error, has the same one, to match them."
}


class ChannelWriter:
    """Writes the channel of one rule.

    :param app: the application.
    :param components: takes the messages and operations.
    :param name: the channel's name.
    :param view: the rule's view function.
    """

    def __init__(
        self, app: Flask, components: Components, name: str, view: Callable[..., Any]
    ) -> None:
        self._error_schema: Schema = app.extensions[EXTENSION].error_schema
        self._components = components
        self._schemas = components.schemas
        self._name = name
        self._pointer = f"#/channels/{name}"
        self._declaration = declaration_of(view) or Declaration(view)
        self._view_class: Any = self._declaration.view_class
        # All rules of a class share its messages.
        self._owner = name if self._view_class is None else str(self._view_class.__name__)
        self._protocol = self._declaration.protocol
        self._messages: dict[str, Any] = {}
        schemes = security_of(self._declaration.option("security"), app)
        components.security.update(schemes)
        self._security = [{"$ref": f"#/components/securitySchemes/{key}"} for key in schemes]

    def write(self, rule: Rule) -> dict[str, Any]:
        """Add the messages and operations to the components; return the channel."""
        channel: dict[str, Any] = {
            "address": address_of(rule),
            **described(self._declaration.target.__doc__),
        }
        parameters = parameters_of(rule)
        if parameters:
            channel["parameters"] = parameters
        binding = self._binding()
        self._add_received()
        self._add_sent()
        channel["messages"] = self._messages
        channel["bindings"] = {"ws": binding}
        channel["x-close-codes"] = CLOSE_CODES
        return channel

    def _binding(self) -> dict[str, Any]:
        binding: dict[str, Any] = {"method": "GET", "bindingVersion": WS_BINDING}
        for name in ("query", "headers"):
            schema = as_schema(name, self._declaration.option(f"{name}_schema"))
            if schema is not None:
                binding[name] = self._schemas.loaded(schema)
                # Undeclared parameters and headers are accepted.
                binding[name].pop("additionalProperties", None)
        return binding

    # -- what the server receives -----------------------------------------------------------------

    def _add_received(self) -> None:
        protocol = self._protocol
        for handler in protocol.handlers.values():
            self._add_handler(handler)
        if protocol.schema is not None:
            payload = _with_ref(self._schemas.loaded(protocol.schema))
            self._operation("receive", "message", self._message("message", payload, loaded=True))
        if not protocol.is_typed:
            self._operation("receive", "text", self._raw("text"))
        if protocol.binary:
            self._operation("receive", "binary", self._raw("binary"))

    def _add_handler(self, handler: Handler) -> None:
        loaded = {"type": "object", "properties": {}}
        if handler.schema is not None:
            loaded = self._schemas.loaded(handler.schema)
        payload = _with_ref(self._typed(handler.type, loaded))
        key = self._message(handler.type, payload, loaded=True, about=handler.schema)
        about = inspect.getdoc(getattr(self._view_class, handler.name))
        operation = self._operation("receive", handler.type, key, described(about))
        if handler.reply is not None:
            payload = _with_ref(
                self._typed(handler.reply_type, self._schemas.dumped(handler.reply))
            )
            key = self._message(
                f"{handler.type}.reply", payload, about=handler.reply, title=handler.reply_type
            )
            operation["reply"] = {
                "channel": {"$ref": self._pointer},
                "messages": [{"$ref": f"{self._pointer}/messages/{key}"}],
            }

    # -- what the server sends --------------------------------------------------------------------

    def _add_sent(self) -> None:
        protocol = self._protocol
        groups = self._declaration.groups()
        has_history = any(options.history for _, options in groups)
        for type_, schema in protocol.emits.items():
            payload = self._typed(type_, self._schemas.dumped(schema))
            if has_history:
                payload["properties"].setdefault(MESSAGE_ID, ID_SCHEMA)
            self._operation("send", type_, self._message(type_, payload, about=schema))
        # In groups the error message also reports lost messages.
        if protocol.is_typed or (protocol.emits and groups):
            self._operation("send", ERROR_TYPE, self._error())
        elif not protocol.emits:
            self._operation("send", "text", self._raw("text"))
            self._operation("send", "binary", self._raw("binary"))

    def _error(self) -> str:
        schema = self._schemas.dumped(self._error_schema)
        if self._protocol.discriminator not in schema["properties"]:
            schema = self._typed(ERROR_TYPE, schema)
        return self._message(ERROR_TYPE, schema, about=self._error_schema)

    # -- messages and operations ------------------------------------------------------------------

    def _typed(self, type_: str, schema: JSONSchema) -> JSONSchema:
        """Return a typed message's schema, with the discriminator as a constant."""
        discriminator = self._protocol.discriminator
        required = [name for name in schema.get("required", ()) if name != discriminator]
        properties = dict(schema.get("properties", {}))
        properties.pop(discriminator, None)
        return {
            **schema,
            "properties": {discriminator: {"type": "string", "const": type_}, **properties},
            "required": [discriminator, *required],
        }

    def _raw(self, kind: str) -> str:
        is_text = kind == "text"
        payload = {"type": "string"} if is_text else {"type": "string", "format": "binary"}
        return self._message(kind, payload, content_type=TEXT if is_text else BINARY)

    def _message(
        self,
        key: str,
        payload: JSONSchema,
        *,
        loaded: bool = False,
        about: Any = None,
        title: str | None = None,
        content_type: str = JSON,
    ) -> str:
        """Add a message to the components and to the channel. Return its key in the channel."""
        reference = self._components.add_message(
            key,
            payload,
            owner=self._owner,
            title=title,
            content_type=content_type,
            loaded=loaded,
            about=about,
        )
        # A type that goes in both directions has two messages.
        found = unused(slug(key), self._messages, reference)
        self._messages[found] = reference
        return found

    def _operation(
        self, action: str, what: str, key: str, about: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "action": action,
            "channel": {"$ref": self._pointer},
            **(about or {}),
            "messages": [{"$ref": f"{self._pointer}/messages/{key}"}],
        }
        if self._security:
            operation["security"] = self._security
        operations = self._components.operations
        operations[unused(f"{self._name}.{action}.{slug(what)}", operations)] = operation
        return operation


def _with_ref(schema: JSONSchema) -> JSONSchema:
    if schema.get("type") != "object" or REF in schema["properties"]:
        return schema
    return {**schema, "properties": {**schema["properties"], REF: REF_SCHEMA}}
