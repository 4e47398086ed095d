"""Who the client is, as extensions note it on ``g`` in the handshake: its hooks have that, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

#: What hooks find on their ``g`` as the handshake has left it.
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

# Where Flask-Login keeps the id of the user who has logged in.
_USER_ID = "_user_id"


def identity_on(
    g: object, session: Mapping[str, Any] | None, more: Iterable[str]
) -> dict[str, Any] | None:
    """The attributes to keep of the handshake's ``g``; ``None`` for nothing.

    A user whom the session names is loaded again by Flask-Login in each hook that asks for them, as
    it is for each page: the object may belong to a database session that has been closed since.

    :param session: the handshake's.
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
