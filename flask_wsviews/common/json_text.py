"""Strict JSON (RFC 8259) with any JSON provider that an application uses.

Python's ``json`` reads and writes ``NaN`` and ``Infinity``, which aren't JSON (RFC 8259 6): a
browser's ``JSON.parse()`` fails on them. Some providers write bytes, but a JSON message is text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..exceptions import OutgoingMessageError


class NotJSON(ValueError):
    """A text contains ``NaN`` or ``Infinity``, which JSON doesn't have."""


def load_text(loads: Callable[[str], Any], text: str) -> Any:
    """Parse a text as JSON.

    :param loads: the provider's function.
    :raises ValueError: if it isn't JSON.
    """
    _check(text)
    return loads(text)


def dump_text(dumps: Callable[[Any], Any], value: Any) -> str:
    """Return *value* as JSON text.

    :param dumps: the provider's function, which may return ``str`` or bytes.
    :raises OutgoingMessageError: for ``NaN`` and infinite numbers.
    :raises TypeError: if the provider can't serialize it.
    """
    made = dumps(value)
    text: str = made if isinstance(made, str) else bytes(made).decode()
    try:
        _check(text)
    except NotJSON as error:
        raise OutgoingMessageError(f"a message can't be sent: {error}") from None
    return text


def _check(text: str) -> None:
    # These searches are far cheaper than parsing with a hook for constants, so they come first.
    if "NaN" not in text and "Infinity" not in text:
        return
    try:
        json.loads(text, parse_constant=_refuse)
    except NotJSON:
        raise
    except (ValueError, RecursionError):
        # The provider raises its error, or reads a superset of JSON.
        return


def _refuse(constant: str) -> Any:
    raise NotJSON(f"{constant} isn't JSON (RFC 8259 6)")
