"""AsyncAPI documents, made of what runs: the URL map and what views declare."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from marshmallow import Schema

from ..blueprints import EXTENSION
from ..groups.mailbox import MESSAGE_ID
from ..messages.declared import ERROR_TYPE, REF, Handler, Protocol, as_schema
from ..views import declared, declared_groups, protocol_of, view_class_of
from .parameters import address_of, parameters_of
from .schemas import JSONSchema, Schemas, first_line
from .security import security_of

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.routing import Rule

#: The versions of AsyncAPI that can be written.
VERSIONS = ("3.0.0", "3.1.0")

WS_BINDING = "0.1.0"

JSON, TEXT, BINARY = "application/json", "text/plain", "application/octet-stream"

#: What the package itself closes with; views may use others.
CLOSE_CODES = {
    "1001": "the server stops",
    "1003": "binary messages aren't taken here",
    "1007": "a text that is not UTF-8",
    "1008": "refused by the application, or too slow to take what is sent",
    "1009": "a message that is too big",
    "1011": "an error in the server, or no answer to a Ping",
    "1012": "the server restarts: connect again",
    "1013": "too many connections: try again later",
}

ID_SCHEMA: JSONSchema = {
    "type": "string",
    "description": "Its id in the group that it was sent to; a client resumes after it.",
}

REF_SCHEMA: JSONSchema = {
    "description": "Anything; it comes back in the reply and in errors, to match them."
}


def document(
    app: Flask,
    *,
    title: str | None = None,
    version: str = "1.0.0",
    description: str | None = None,
    servers: Mapping[str, Any] | None = None,
    asyncapi_version: str = "3.0.0",
) -> dict[str, Any]:
    """Describe the WebSockets of an application as an AsyncAPI document.

    :param app: an application with a :class:`~flask_wsviews.WebSocket`.
    :param title: of the API; the application's name by default.
    :param version: of the API.
    :param description: of the API, in Markdown.
    :param servers: AsyncAPI's server objects by name; none by default.
    :param asyncapi_version: ``"3.0.0"`` or ``"3.1.0"``.
    :raises ValueError: for another version.
    :raises LookupError: if the application has no WebSocket extension.
    """
    if asyncapi_version not in VERSIONS:
        raise ValueError(f"AsyncAPI {asyncapi_version} isn't one of {', '.join(VERSIONS)}")
    if EXTENSION not in app.extensions:
        raise LookupError(f"no WebSocket(app) is set up for {app.name!r}")
    info = {"title": title or app.name, "version": version}
    if description:
        info["description"] = description
    made: dict[str, Any] = {
        "asyncapi": asyncapi_version,
        "info": info,
        "defaultContentType": JSON,
    }
    if servers:
        made["servers"] = dict(servers)
    return {**made, **_Writer(app).write()}


class _Writer:
    """Goes through an application's WebSocket rules."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._schemas = Schemas()
        self._error_schema: Schema = app.extensions[EXTENSION].error_schema
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}
        self._security: dict[str, Any] = {}

    def write(self) -> dict[str, Any]:
        for rule in self._app.url_map.iter_rules():
            if rule.websocket:
                self._add_rule(rule)
        # What is loaded refers to components by names that are known when all are collected.
        messages = {name: self._finished(found) for name, found in self._messages.items()}
        return {
            "channels": self._schemas.named(self._channels),
            "operations": self._operations,
            "components": {
                "schemas": self._schemas.components(),
                "messages": messages,
                "securitySchemes": self._security,
            },
        }

    def _finished(self, message: dict[str, Any]) -> dict[str, Any]:
        is_loaded = message.pop("loaded")
        return self._schemas.named(message) if is_loaded else message

    def _add_rule(self, rule: Rule) -> None:
        view = self._app.view_functions[rule.endpoint]
        name = _unused(_slug(rule.endpoint), self._channels)
        channel: dict[str, Any] = {"address": address_of(rule), **_described(_documented(view))}
        parameters = parameters_of(rule)
        if parameters:
            channel["parameters"] = parameters
        channel["messages"] = {}
        channel["bindings"] = {"ws": self._binding(view)}
        channel["x-close-codes"] = CLOSE_CODES
        self._channels[name] = channel
        _Channel(self, name, protocol_of(view), view).write()

    def _binding(self, view: Callable[..., Any]) -> dict[str, Any]:
        binding: dict[str, Any] = {"method": "GET", "bindingVersion": WS_BINDING}
        for name in ("query", "headers"):
            schema = as_schema(name, declared(view, f"{name}_schema"))
            if schema is not None:
                binding[name] = self._schemas.loaded(schema)
                # Others are let through.
                binding[name].pop("additionalProperties", None)
        return binding


class _Channel:
    """The messages and operations of one rule."""

    def __init__(
        self, writer: _Writer, name: str, protocol: Protocol, view: Callable[..., Any]
    ) -> None:
        self._writer = writer
        self._schemas = writer._schemas
        self._name = name
        self._protocol = protocol
        self._view = view
        schemes = security_of(declared(view, "security"), writer._app)
        writer._security.update(schemes)
        self._security = [{"$ref": f"#/components/securitySchemes/{key}"} for key in schemes]

    def write(self) -> None:
        protocol = self._protocol
        for handler in protocol.handlers.values():
            self._add_handler(handler)
        if protocol.schema is not None:
            payload = _with_ref(self._schemas.loaded(protocol.schema))
            self._receive("message", self._message("message", payload, loaded=True))
        if not protocol.is_typed:
            self._receive("text", self._raw("text"))
        if protocol.binary:
            self._receive("binary", self._raw("binary"))
        for type_, schema in protocol.emits.items():
            payload = self._payload(type_, self._schemas.dumped(schema))
            if self._has_history:
                payload["properties"].setdefault(MESSAGE_ID, ID_SCHEMA)
            self._send(type_, self._message(type_, payload, about=schema))
        # In groups the error frame also says that messages are lost.
        if protocol.is_typed or (protocol.emits and declared_groups(self._view)):
            self._send(ERROR_TYPE, self._error())
        elif not protocol.emits:
            self._send("text", self._raw("text"))
            self._send("binary", self._raw("binary"))

    def _add_handler(self, handler: Handler) -> None:
        loaded = {"type": "object", "properties": {}}
        if handler.schema is not None:
            loaded = self._schemas.loaded(handler.schema)
        payload = _with_ref(self._payload(handler.type, loaded))
        about = inspect.getdoc(getattr(self._view_class, handler.name))
        operation = self._receive(
            handler.type,
            self._message(handler.type, payload, loaded=True, about=handler.schema),
            _described(about),
        )
        if handler.reply is not None:
            payload = self._payload(handler.reply_type, self._schemas.dumped(handler.reply))
            payload = _with_ref(payload)
            key = self._message(
                f"{handler.type}.reply", payload, about=handler.reply, title=handler.reply_type
            )
            operation["reply"] = {
                "channel": {"$ref": self._pointer},
                "messages": [{"$ref": f"{self._pointer}/messages/{key}"}],
            }

    @property
    def _view_class(self) -> Any:
        return view_class_of(self._view)

    @property
    def _has_history(self) -> bool:
        """Whether what is sent to the view's groups carries an id."""
        return any(options.history for _, options in declared_groups(self._view))

    @property
    def _owner(self) -> str:
        """Whose messages these are: all rules of a class share them."""
        return self._name if self._view_class is None else str(self._view_class.__name__)

    @property
    def _pointer(self) -> str:
        return f"#/channels/{self._name}"

    def _payload(self, type_: str, schema: JSONSchema) -> JSONSchema:
        """A typed message's schema, with the discriminator as a constant."""
        discriminator = self._protocol.discriminator
        required = [name for name in schema.get("required", ()) if name != discriminator]
        properties = dict(schema.get("properties", {}))
        properties.pop(discriminator, None)
        return {
            **schema,
            "properties": {discriminator: {"type": "string", "const": type_}, **properties},
            "required": [discriminator, *required],
        }

    def _error(self) -> str:
        schema = self._schemas.dumped(self._writer._error_schema)
        if self._protocol.discriminator not in schema["properties"]:
            schema = self._payload(ERROR_TYPE, schema)
        return self._message(ERROR_TYPE, schema, about=self._writer._error_schema)

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
        """Add a message to the components and to the channel; returns its key there."""
        found: dict[str, Any] = {"name": title or key, "contentType": content_type}
        found.update(_described(type(about).__doc__ if about is not None else None))
        # The message has what the payload's schema says of itself.
        found["payload"] = {name: one for name, one in payload.items() if name != "description"}
        found["loaded"] = loaded
        owner = "" if content_type != JSON else f"{self._owner}."
        name = _unused(f"{owner}{_slug(key)}", self._writer._messages, found)
        self._writer._messages[name] = found
        messages = self._writer._channels[self._name]["messages"]
        reference = {"$ref": f"#/components/messages/{name}"}
        # A type that goes both ways has two messages.
        slug = _unused(_slug(key), messages, reference)
        messages[slug] = reference
        return slug

    def _receive(
        self, what: str, key: str, about: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return self._operate("receive", what, key, about)

    def _send(self, what: str, key: str) -> None:
        self._operate("send", what, key, None)

    def _operate(
        self, action: str, what: str, key: str, about: Mapping[str, str] | None
    ) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "action": action,
            "channel": {"$ref": self._pointer},
            **(about or {}),
            "messages": [{"$ref": f"{self._pointer}/messages/{key}"}],
        }
        if self._security:
            operation["security"] = self._security
        name = _unused(f"{self._name}.{action}.{_slug(what)}", self._writer._operations)
        self._writer._operations[name] = operation
        return operation


def _with_ref(schema: JSONSchema) -> JSONSchema:
    if schema.get("type") != "object" or REF in schema["properties"]:
        return schema
    return {**schema, "properties": {**schema["properties"], REF: REF_SCHEMA}}


def _described(doc: str | None) -> dict[str, str]:
    """The first line of a docstring as summary, the whole as description if there is more."""
    if not doc or not doc.strip():
        return {}
    text = inspect.cleandoc(doc)
    summary = first_line(text)
    return {"summary": summary} if text == summary else {"summary": summary, "description": text}


def _documented(view: Callable[..., Any]) -> str | None:
    """The docstring of what was registered, unless it is inherited from the package."""
    view_class = getattr(view, "view_class", None)
    target = getattr(view, "websocket_target", None) or view_class
    doc: str | None = getattr(target, "__doc__", None)
    return doc


def _slug(name: str) -> str:
    """A name as a component's key may be."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def _unused(name: str, taken: Mapping[str, Any], value: Any = None) -> str:
    """A key that isn't taken, or is by the same *value*."""
    candidates = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(key for key in candidates if key not in taken or taken[key] == value)
