"""A view's declared authentication as AsyncAPI security schemes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..exceptions import RegistrationError

if TYPE_CHECKING:
    from flask import Flask


def security_of(security: Iterable[str | Mapping[str, Any]], app: Flask) -> dict[str, Any]:
    """Return the security schemes of a view by name.

    :param security: ``"session"``, ``"bearer"``, or mappings of names to AsyncAPI's scheme objects.
    :raises RegistrationError: if a name is unknown.
    """
    known = {
        "session": {
            "type": "httpApiKey",
            "in": "cookie",
            "name": app.config["SESSION_COOKIE_NAME"],
            "description": "The session cookie, which a login sets.",
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token in the Authorization header.",
        },
    }
    found: dict[str, Any] = {}
    for entry in [security] if isinstance(security, str) else security:
        if isinstance(entry, Mapping):
            found.update(entry)
        elif entry in known:
            found[entry] = known[entry]
        else:
            raise RegistrationError(
                f"security {entry!r}: use {', '.join(map(repr, known))} or a scheme object by name"
            )
    return found
