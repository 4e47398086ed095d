"""Typed messages: what a view's messages are, loaded and dumped by marshmallow, routed by type."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, TypeVar

from marshmallow import Schema, ValidationError, fields, missing

from ..close_codes import UNSUPPORTED_DATA
from ..common.json_text import load_text
from ..exceptions import CloseConnection, InvalidMessage, OutgoingMessageError, RegistrationError
from ..typing import Message
from .dumped import dump_errors
from .plain_schemas import dump_plain, is_surely_valid, key_of, load_plain

F = TypeVar("F", bound=Callable[..., Any])

#: A schema wherever one is declared: a class of marshmallow's, or an instance with options.
SchemaLike: TypeAlias = Schema | type[Schema]


#: The type of the frame that answers a message which can't be used.
ERROR_TYPE = "error"

#: The field by which a client matches replies and errors with its messages.
REF = "ref"

#: Under this key marshmallow has the errors that belong to no field.
SCHEMA_ERRORS = "_schema"

# What @message leaves on a method.
_MARK = "__wsviews_message__"


class ErrorMessage(Schema):
    """Answers a message that can't be used."""

    # It is dumped from InvalidMessage. The discriminator is added to it, as "error", unless a
    # schema that takes its place has a field of that name. Documents show the text above.

    #: ``invalid_message``, ``unknown_type`` or ``messages_lost``.
    code = fields.Str(
        required=True,
        metadata={
            "description": "`invalid_message`; `unknown_type`; or `messages_lost`, for messages of "
            "a group that can't be had any more."
        },
    )
    #: What is wrong with each field; ``_schema`` stands for the message as a whole.
    errors = fields.Dict(
        keys=fields.Str(),
        required=True,
        metadata={
            "description": "Messages by field; `_schema` is for the message as a whole.",
        },
    )
    #: That of the message; left out if it had none.
    ref = fields.Raw(metadata={"description": "That of the message, if it had one."})

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Leave ``ref`` out where there is none."""
        value = super().get_attribute(obj, attr, default)
        return missing if attr == REF and value is None else value


@dataclass(frozen=True)
class Handler:
    """A method marked with :func:`message`.

    :param type: of the messages that it takes.
    :param name: of the method.
    :param schema: loads them; ``None`` leaves the parsed object as it is.
    :param reply: dumps what it returns; ``None`` if it returns nothing.
    :param reply_type: of the reply.
    :param ours: keys that are taken out before the schema loads, since it has no fields for them.
    """

    type: str
    name: str
    schema: Schema | None
    reply: Schema | None
    reply_type: str
    ours: frozenset[str]


class Loaded(NamedTuple):
    """A message that could be used: its handler, if it is routed, its data and its ``ref``."""

    handler: Handler | None
    data: Any
    ref: Any = None


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

    :param type: what the discriminator field of such a message says.
    :param schema: loads the message, without discriminator and ``ref`` unless it has fields for
        them. Without one the handler gets the rest of the object as it is.
    :param reply: dumps what the handler returns, unless that is ``None``. It is sent with the
        discriminator and with the ``ref`` of the message.
    :param reply_type: type of the reply; the handler's own by default.
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
    """Whether a function is marked as a handler."""
    return hasattr(function, _MARK)


@dataclass(frozen=True)
class Protocol:
    """The messages that a view takes and sends. Made once, when a class is, and never changed.

    :param owner: whose it is, for errors.
    :param discriminator: the field that tells a message's type.
    :param binary: whether binary messages are taken; otherwise one closes with 1003.
    :param schema: loads every message; ``None`` where they are routed by type, or not looked into.
    :param handlers: by type.
    :param emits: schemas of what the view sends by itself, by type.
    :param ours: keys that are taken out before *schema* loads, since it has no fields for them.
    """

    owner: str = "view"
    discriminator: str = "type"
    binary: bool = True
    schema: Schema | None = None
    handlers: Mapping[str, Handler] = field(default_factory=lambda: MappingProxyType({}))
    emits: Mapping[str, Schema] = field(default_factory=lambda: MappingProxyType({}))
    ours: frozenset[str] = frozenset()

    @property
    def is_typed(self) -> bool:
        """Whether text is parsed and loaded, rather than passed on as it is."""
        return self.schema is not None or bool(self.handlers)

    @property
    def is_declared(self) -> bool:
        """Whether messages have declared types in either direction, so that clients know errors."""
        return self.is_typed or bool(self.emits)

    # -- what clients send ------------------------------------------------------------------------

    def take(self, message: Message, loads: Callable[[str], Any]) -> Loaded:
        """Parse and load a message; a binary one stays as it is.

        :param loads: parses JSON.
        :raises InvalidMessage: if it can't be used.
        :raises CloseConnection: with 1003 if it is binary and shouldn't be (RFC 6455 7.4.1).
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

        :raises InvalidMessage: if it can't be used.
        """
        ref = value.get(REF) if isinstance(value, dict) else None
        if self.schema is not None:
            return Loaded(None, _load(self.schema, value, ref, self.ours), ref)
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
        return Loaded(handler, _load(handler.schema, value, ref, handler.ours), ref)

    # -- what goes out ----------------------------------------------------------------------------

    def dump(self, type: str, obj: Any, *, validate: bool = True) -> dict[str, Any]:
        """What :attr:`emits` makes of *obj*, with the discriminator.

        :param validate: whether to check the outcome against the schema.
        :raises OutgoingMessageError: if it isn't declared, or not valid.
        """
        schema = self.emits.get(type)
        if schema is None:
            declared = f"has {', '.join(map(repr, self.emits))}" if self.emits else "is empty"
            raise OutgoingMessageError(f"{type!r} isn't in {self.owner}.emits (which {declared})")
        return self._dump(schema, type, obj, validate)

    def dump_reply(
        self, handler: Handler, obj: Any, ref: Any, *, validate: bool = True
    ) -> dict[str, Any]:
        """What goes out for what *handler* has returned.

        :param ref: of the message that it answers.
        :raises OutgoingMessageError: if the handler declares no reply, or this one isn't valid.
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
        """The frame that says what is wrong with a message.

        :param schema: gives it its shape.
        """
        payload: Any = schema.dump(error)
        return {self.discriminator: ERROR_TYPE, **payload}

    def _dump(self, schema: Schema, type: str, obj: Any, validate: bool) -> dict[str, Any]:
        payload: Any = dump_plain(schema, obj)
        if payload is None:
            payload = schema.dump(obj)
        errors = None
        if validate and not is_surely_valid(schema, payload):
            errors = dump_errors(schema, payload)
        if errors:
            raise OutgoingMessageError(
                f"{self.owner} can't send this {type!r}, which doesn't match its schema: {errors}"
            )
        # The type comes first, for whoever reads it, and can't be another one.
        return {self.discriminator: type, **payload, self.discriminator: type}


def protocol_of_class(
    view: type[Any], *, has_on_message: bool, emits: Mapping[str, Any], binary: bool | None
) -> Protocol:
    """The protocol that a view class declares by its attributes and marked methods.

    :param has_on_message: whether it overrides ``on_message``.
    :param emits: what it and its bases declare, merged.
    :param binary: what it says of binary messages, ``None`` for nothing.
    :raises RegistrationError: if it contradicts itself.
    """
    owner = view.__name__
    handlers = _handlers_of(view)
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
) -> Protocol:
    """A protocol of what has been declared.

    :raises RegistrationError: naming what can't be used.
    """
    if not isinstance(discriminator, str) or not discriminator or discriminator == REF:
        raise RegistrationError(
            f"discriminator of {owner} must be a field's name other than {REF!r}, not "
            f"{discriminator!r}"
        )
    if not isinstance(binary, bool):
        raise RegistrationError(f"binary of {owner} must be True or False, not {binary!r}")
    made = {
        _type(f"emits of {owner}", type_): _object_schema(f"emits[{type_!r}] of {owner}", value)
        for type_, value in (emits or {}).items()
    }
    whole = as_schema(f"message_schema of {owner}", schema)
    return Protocol(
        owner=owner,
        discriminator=discriminator,
        binary=binary,
        schema=whole,
        handlers=MappingProxyType(dict(handlers or {})),
        emits=MappingProxyType(made),
        ours=_ours(whole, REF),
    )


def as_schema(where: str, value: Any) -> Schema | None:
    """The schema that *value* is, or makes; ``None`` stays.

    :param where: names it in the error.
    :raises RegistrationError: if it isn't a marshmallow schema.
    """
    if value is None or isinstance(value, Schema):
        return value
    if isinstance(value, type) and issubclass(value, Schema):
        return value()
    raise RegistrationError(
        f"{where} must be a marshmallow Schema, class or instance, not {value!r}"
    )


def load_fields(schema: Schema) -> dict[str, fields.Field[Any]]:
    """The fields that a schema loads, by the key that they have in a message."""
    return {key_of(name, one): one for name, one in schema.load_fields.items()}


def error_messages(error: ValidationError) -> dict[Any, Any]:
    """What marshmallow says is wrong, by field."""
    untyped: Any = error
    messages: dict[Any, Any] = untyped.normalized_messages()
    return messages


def _handlers_of(view: type[Any]) -> dict[str, Handler]:
    marks: dict[str, Any] = {}
    for base in reversed(view.__mro__):
        for name, attribute in vars(base).items():
            mark = getattr(attribute, _MARK, None)
            if mark is not None:
                marks[name] = mark
            elif attribute is None:
                # How a subclass takes a handler of its base back. Any other value overrides
                # the method, and leaves its mark.
                marks.pop(name, None)
    handlers: dict[str, Handler] = {}
    for name, (type_, schema, reply, reply_type) in marks.items():
        where = f"{view.__name__}.{name}"
        loads = _object_schema(f"schema of {where}", schema)
        handler = Handler(
            _type(f"@message of {where}", type_),
            name,
            loads,
            _object_schema(f"reply of {where}", reply),
            _type(f"reply_type of {where}", reply_type),
            _ours(loads, view.discriminator, REF),
        )
        other = handlers.setdefault(type_, handler)
        if other is not handler:
            raise RegistrationError(
                f"{where} and {view.__name__}.{other.name} both handle {type_!r}"
            )
    return handlers


def _object_schema(where: str, value: Any) -> Any:
    schema = as_schema(where, value)
    if schema is not None and schema.many:
        raise RegistrationError(f"{where} has many=True, but a typed message is one object")
    return schema


def _type(where: str, type_: Any) -> str:
    if not isinstance(type_, str) or not type_:
        raise RegistrationError(
            f"{where}: a message's type must be a string that isn't empty, not {type_!r}"
        )
    return type_


def _ours(schema: Schema | None, *keys: str) -> frozenset[str]:
    known = {} if schema is None else load_fields(schema)
    return frozenset(key for key in keys if key not in known)


def _check_ref(value: Any) -> None:
    """Check that the ``ref`` of a parsed message can be sent back.

    :raises InvalidMessage: for one with a number that is too large, which Python takes as infinite.
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


def _load(schema: Schema | None, value: Any, ref: Any, ours: frozenset[str]) -> Any:
    """Load *value* without the keys that are *ours*."""
    if isinstance(value, dict):
        value = dict(value)
        for key in ours:
            value.pop(key, None)
    if schema is None:
        return value
    loaded = load_plain(schema, value)
    if loaded is not None:
        return loaded
    try:
        return schema.load(value)
    except ValidationError as error:
        raise InvalidMessage(error_messages(error), ref=ref) from error
