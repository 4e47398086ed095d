"""Flask's part of a handshake: its answer goes out, and nothing is taken over."""

from __future__ import annotations

import know_user
from flask import Flask, Response

app = Flask(__name__)
know_user.init_app(app)


@app.route("/handshake", websocket=True)
def handshake():
    return Response(status=101)
