"""Encodes messages as bytes, for brokers that carry bytes."""

from __future__ import annotations

import json

from .base import Delivery, Disconnection, Publication, parse_id

# The first item of the head; 0 means bytes, and 1 text.
DISCONNECTION = 2


def encode(publication: Publication) -> bytes:
    """Return a message as bytes: a JSON head, a newline and the body."""
    ending = publication.disconnection
    if ending is not None:
        fields = [ending.code, ending.reason, ending.connection]
        return f"[{DISCONNECTION}, 0]\n{json.dumps(fields)}".encode()
    body = publication.body
    is_text = isinstance(body, str)
    head = [int(is_text), int(publication.typed), *sorted(publication.exclude)]
    data = body.encode() if isinstance(body, str) else body
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + data


def decode(group: str, message_id: str, message: bytes) -> Delivery:
    """Return the delivery for an encoded message.

    :param message_id: the message's id; empty for none.
    :raises ValueError: if the message or the id isn't valid.
    """
    if message_id:
        parse_id(message_id)
    head, _, data = message.partition(b"\n")
    try:
        is_text, typed, *exclude = json.loads(head)
        if is_text == DISCONNECTION:
            return Delivery(group, None, disconnection=Disconnection(*json.loads(data)))
        excluded = frozenset(exclude)
    except TypeError as error:
        raise ValueError(str(error)) from None
    body = data.decode() if is_text else data
    return Delivery(group, body, message_id or None, excluded, bool(typed))
