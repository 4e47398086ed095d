"""The identity of the client, which authentication extensions set on ``g`` in the handshake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

#: The attributes of ``g`` that are copied from the handshake to each hook.
KEPT: Final = (
    # Flask-HTTPAuth, APIFlask
    "flask_httpauth_user",
    # Flask-JWT-Extended
    "_jwt_extended_jwt",
    "_jwt_extended_jwt_header",
    "_jwt_extended_jwt_location",
    "_jwt_extended_jwt_user",
    # Flask-Login, Flask-Security
    "_login_user",
    # Flask-Principal, Flask-Security
    "identity",
    # Flask-Security
    "fs_authn_via",
    "fs_paa",
    # Authlib, Flask-OIDC
    "authlib_server_oauth2_token",
)

_LOGIN_USER = "_login_user"

# The key of the session in which Flask-Login keeps the id of the user.
_USER_ID = "_user_id"


def identity_on(
    g: object, session: Mapping[str, Any] | None, more: Iterable[str]
) -> dict[str, Any] | None:
    """Return the attributes of the handshake's ``g`` that hooks need; ``None`` if it has none.

    A user whose id is in the session isn't kept: Flask-Login loads the user in each hook that asks,
    as for each page. The handshake's object may belong to a closed database session.

    :param session: the session of the handshake.
    :param more: names besides :data:`KEPT`.
    """
    state = getattr(g, "__dict__", None)
    if not state:
        return None
    names = {name for name in KEPT if name in state}
    if _LOGIN_USER in names and session is not None and _USER_ID in session:
        names.discard(_LOGIN_USER)
    names.update(name for name in more if name in state)
    return {name: state[name] for name in names} or None
