"""Make the message protocol of a view class or a function route from its options."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..exceptions import RegistrationError
from .errors import REF
from .handlers import Handler, checked_type, handlers_of, keys_to_remove
from .protocol import MessageProtocol
from .schemas import SchemaLike, as_schema, object_schema


def protocol_of_class(
    view: type[Any], *, has_on_message: bool, emits: Mapping[str, Any], binary: bool | None
) -> MessageProtocol:
    """Make the protocol of a view class from its attributes and marked methods.

    :param has_on_message: whether the class overrides ``on_message``.
    :param emits: the merged ``emits`` of the class and its bases.
    :param binary: the class's ``binary`` option.
    :raises RegistrationError: if the options contradict each other.
    """
    owner = view.__name__
    handlers = handlers_of(view)
    if handlers and view.message_schema is not None:
        raise RegistrationError(
            f"{owner} has both message_schema and @message handlers: use one of them"
        )
    if handlers and has_on_message and binary is not True:
        names = ", ".join(handler.name for handler in handlers.values())
        raise RegistrationError(
            f"{owner}.on_message gets no text beside @message handlers ({names}): leave it out, "
            "or set binary = True if it is for binary messages"
        )
    if binary is None:
        binary = has_on_message or not handlers
    return make_protocol(
        owner,
        discriminator=view.discriminator,
        binary=binary,
        schema=view.message_schema,
        handlers=handlers,
        emits=emits,
    )


def make_protocol(
    owner: str,
    *,
    discriminator: str = "type",
    binary: bool = True,
    schema: SchemaLike | None = None,
    handlers: Mapping[str, Handler] | None = None,
    emits: Mapping[str, SchemaLike] | None = None,
) -> MessageProtocol:
    """Make a protocol; its parameters are described at :class:`MessageProtocol`.

    :raises RegistrationError: naming the invalid option.
    """
    if not isinstance(discriminator, str) or not discriminator or discriminator == REF:
        raise RegistrationError(
            f"discriminator of {owner} must be a field's name other than {REF!r}, not "
            f"{discriminator!r}"
        )
    if not isinstance(binary, bool):
        raise RegistrationError(f"binary of {owner} must be True or False, not {binary!r}")
    schemas: dict[str, Any] = {
        checked_type(f"emits of {owner}", type_): object_schema(
            f"emits[{type_!r}] of {owner}", value
        )
        for type_, value in (emits or {}).items()
    }
    message_schema = as_schema(f"message_schema of {owner}", schema)
    return MessageProtocol(
        owner=owner,
        discriminator=discriminator,
        binary=binary,
        schema=message_schema,
        handlers=MappingProxyType(dict(handlers or {})),
        emits=MappingProxyType(schemas),
        removed=keys_to_remove(message_schema, REF),
    )
