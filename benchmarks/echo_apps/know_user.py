"""What handshakes.py has an app do before each handshake: read the session, refuse strangers."""

from __future__ import annotations

from flask import Flask, abort, g, request, session

SECRET_KEY = "benchmarks"


def init_app(app: Flask) -> None:
    app.secret_key = SECRET_KEY

    @app.before_request
    def know_user() -> None:
        g.user = session.get("user")
        if g.user is None and request.path == "/handshake":
            abort(403)


def session_cookie() -> str:
    """The header of a client who has a session."""
    app = Flask(__name__)
    init_app(app)
    signer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    return f"Cookie: session={signer.dumps({'user': 'Ada'})}"
