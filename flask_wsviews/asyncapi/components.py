"""What the channels of a document share: schemas, messages, operations, security schemes."""

from __future__ import annotations

from typing import Any

from .schemas import JSONSchema, Schemas
from .text import described, slug, unused

JSON, TEXT, BINARY = "application/json", "text/plain", "application/octet-stream"


class Components:
    """Collects the parts of a document while its channels are written."""

    def __init__(self) -> None:
        self.schemas = Schemas()
        self.operations: dict[str, Any] = {}
        self.security: dict[str, Any] = {}
        # Each message, and whether its payload is a schema for loading.
        self._messages: dict[str, tuple[dict[str, Any], bool]] = {}

    def add_message(
        self,
        key: str,
        payload: JSONSchema,
        *,
        owner: str,
        title: str | None = None,
        content_type: str = JSON,
        loaded: bool = False,
        about: Any = None,
    ) -> dict[str, str]:
        """Add a message, unless an equal one was added before.

        :param key: the message's name in its channel.
        :param owner: a prefix for the component's name.
        :param title: the name that clients see; by default the key.
        :param loaded: whether the payload is a schema for loading.
        :param about: an object whose class's docstring describes the message.
        :returns: a reference to it.
        """
        message: dict[str, Any] = {"name": title or key, "contentType": content_type}
        message.update(described(type(about).__doc__ if about is not None else None))
        # The message has the schema's description already.
        message["payload"] = {name: one for name, one in payload.items() if name != "description"}
        prefix = "" if content_type != JSON else f"{owner}."
        name = unused(f"{prefix}{slug(key)}", self._messages, (message, loaded))
        self._messages[name] = (message, loaded)
        return {"$ref": f"#/components/messages/{name}"}

    def write(self) -> dict[str, Any]:
        """Return the components object. Call it after the last channel has been written."""
        # Only now is it known which schemas differ between loading and dumping.
        messages = {
            name: self.schemas.named(message) if is_loaded else message
            for name, (message, is_loaded) in self._messages.items()
        }
        return {
            "schemas": self.schemas.components(),
            "messages": messages,
            "securitySchemes": self.security,
        }
