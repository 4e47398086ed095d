"""Messages as bytes, for brokers that carry nothing else."""

from __future__ import annotations

import json

from .base import Delivery, Publication


def encode(publication: Publication) -> bytes:
    """A message as it is published and kept."""
    body = publication.body
    is_text = isinstance(body, str)
    head = [int(is_text), int(publication.typed), *sorted(publication.exclude)]
    data = body.encode() if isinstance(body, str) else body
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + data


def decode(group: str, message_id: bytes, message: bytes) -> Delivery:
    """A message as it was published or kept.

    :raises ValueError: if it isn't one.
    """
    head, _, data = message.partition(b"\n")
    is_text, typed, *exclude = json.loads(head)
    body = data.decode() if is_text else data
    return Delivery(group, body, message_id.decode() or None, frozenset(exclude), bool(typed))
