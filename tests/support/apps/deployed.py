"""Views with limits, and one that sends what it knows of its client, for use behind a proxy."""

from __future__ import annotations

import os

from flask import request
from limited import app, websocket
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_wsviews import WebSocketView

if os.environ.get("PROXY_FIX"):
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)


def known():
    return {
        "address": request.remote_addr,
        "origin": f"{request.scheme}://{request.host}",
        "pid": os.getpid(),
    }


@app.get("/known")
def page():
    return known()


@websocket.route("/known")
class Known(WebSocketView):
    """Sends what it knows of its client, then echoes."""

    def on_connect(self, ws):
        ws.send_json(known())

    def on_message(self, ws, message):
        ws.send(message)


__all__ = ["app"]
