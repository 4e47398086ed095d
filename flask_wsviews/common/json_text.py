"""JSON as RFC 8259 has it, by whatever provider an application has.

Python's own reads and writes ``NaN`` and ``Infinity``, which aren't JSON (RFC 8259 6): a browser's
``JSON.parse()`` fails on them. Others write bytes, while a JSON message is text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..exceptions import OutgoingMessageError


class NotJSON(ValueError):
    """A text has a number that JSON doesn't know."""


def load_text(loads: Callable[[str], Any], text: str) -> Any:
    """Parse a text.

    :param loads: the provider's.
    :raises ValueError: if it isn't JSON.
    """
    _check(text)
    return loads(text)


def dump_text(dumps: Callable[[Any], Any], value: Any) -> str:
    """Write *value* as text.

    :param dumps: the provider's, which may make ``str`` or bytes of it.
    :raises OutgoingMessageError: for ``NaN`` and infinite numbers.
    :raises TypeError: if the provider can't write it.
    """
    made = dumps(value)
    text: str = made if isinstance(made, str) else bytes(made).decode()
    try:
        _check(text)
    except NotJSON as error:
        raise OutgoingMessageError(f"a message can't be sent: {error}") from None
    return text


def _check(text: str) -> None:
    # Two searches cost far less than Python's parser does once it is told to refuse constants.
    if "NaN" not in text and "Infinity" not in text:
        return
    try:
        json.loads(text, parse_constant=_refuse)
    except NotJSON:
        raise
    except (ValueError, RecursionError):
        # The provider will say so; or it knows more than JSON.
        return


def _refuse(constant: str) -> Any:
    raise NotJSON(f"{constant} isn't JSON (RFC 8259 6)")
