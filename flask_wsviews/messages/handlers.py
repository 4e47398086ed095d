"""Message handlers: methods of a view that are marked with :func:`message`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from marshmallow import Schema

from ..exceptions import RegistrationError
from .errors import REF
from .schemas import SchemaLike, load_fields, object_schema

F = TypeVar("F", bound=Callable[..., Any])

# The attribute that @message sets on a method.
_MARK = "__wsviews_message__"


@dataclass(frozen=True)
class Handler:
    """A method marked with :func:`message`.

    :param type: the type of the messages that it handles.
    :param name: the method's name.
    :param schema: loads the messages; ``None`` leaves the parsed object as it is.
    :param reply: dumps the method's return value; ``None`` if the method returns nothing.
    :param reply_type: the type of the reply.
    :param removed: keys that are removed before the schema loads, because it has no fields for
        them.
    """

    type: str
    name: str
    schema: Schema | None
    reply: Schema | None
    reply_type: str
    removed: frozenset[str]


def message(
    type: str,
    *,
    schema: SchemaLike | None = None,
    reply: SchemaLike | None = None,
    reply_type: str | None = None,
) -> Callable[[F], F]:
    """Mark a method of a view as the handler of messages of one type::

        class Chat(WebSocketView):
            @message("say", schema=Say, reply=Said)
            def say(self, ws, data):
                return {"text": data["text"], "by": session["name"]}

    :param type: the value of the discriminator field in these messages.
    :param schema: loads the message, without the discriminator and ``ref`` unless it has fields for
        them. Without a schema the handler gets the rest of the object as it is.
    :param reply: dumps the handler's return value, unless that is ``None``. The reply is sent with
        the discriminator and the ``ref`` of the message.
    :param reply_type: the type of the reply; by default the handler's own type.
    :raises RegistrationError: if it is written without parentheses.
    """
    if callable(type):
        name = getattr(type, "__name__", repr(type))
        raise RegistrationError(f'@message of {name} needs a type: write @message("{name}")')

    def mark(function: F) -> F:
        setattr(function, _MARK, (type, schema, reply, type if reply_type is None else reply_type))
        return function

    return mark


def has_mark(function: Any) -> bool:
    """Return whether a function is marked as a handler."""
    return hasattr(function, _MARK)


def handlers_of(view: type[Any]) -> dict[str, Handler]:
    """Return the handlers of a view class by type; those of base classes count as well.

    :raises RegistrationError: if a mark is invalid, or two handlers have the same type.
    """
    marks: dict[str, Any] = {}
    for base in reversed(view.__mro__):
        for name, attribute in vars(base).items():
            mark = getattr(attribute, _MARK, None)
            if mark is not None:
                marks[name] = mark
            elif attribute is None:
                # A subclass removes an inherited handler by setting it to None. Any other value
                # overrides the method and keeps its mark.
                marks.pop(name, None)
    handlers: dict[str, Handler] = {}
    for name, (type_, schema, reply, reply_type) in marks.items():
        where = f"{view.__name__}.{name}"
        loads = object_schema(f"schema of {where}", schema)
        handler = Handler(
            checked_type(f"@message of {where}", type_),
            name,
            loads,
            object_schema(f"reply of {where}", reply),
            checked_type(f"reply_type of {where}", reply_type),
            keys_to_remove(loads, view.discriminator, REF),
        )
        other = handlers.setdefault(type_, handler)
        if other is not handler:
            raise RegistrationError(
                f"{where} and {view.__name__}.{other.name} both handle {type_!r}"
            )
    return handlers


def checked_type(where: str, type_: Any) -> str:
    """Return a message type.

    :param where: where it was declared, for the error.
    :raises RegistrationError: if it isn't a string, or is empty.
    """
    if not isinstance(type_, str) or not type_:
        raise RegistrationError(
            f"{where}: a message's type must be a string that isn't empty, not {type_!r}"
        )
    return type_


def keys_to_remove(schema: Schema | None, *keys: str) -> frozenset[str]:
    """Return those of *keys* that a schema has no fields for."""
    known = {} if schema is None else load_fields(schema)
    return frozenset(key for key in keys if key not in known)
