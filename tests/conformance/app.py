"""An echo for the Autobahn test suite, on the engine of ENGINE."""

from __future__ import annotations

import os

from flask import Flask

import flask_wsviews

app = Flask(__name__)
app.config.update(
    WSVIEWS_ALLOWED_ORIGINS="*",
    WSVIEWS_COMPRESSION=True,
    WSVIEWS_COMPRESSION_WINDOW_BITS=15,
    WSVIEWS_COMPRESSION_MIN_SIZE=0,
    # Cases 9.* send messages of 16 MiB, and one in frames of 64 bytes.
    WSVIEWS_MAX_MESSAGE_SIZE=32 * 1024 * 1024,
    WSVIEWS_MAX_FRAGMENTS=1_000_000,
    WSVIEWS_MAX_SEND_BUFFER=64 * 1024 * 1024,
)
websocket = getattr(flask_wsviews, os.environ["ENGINE"])(app)


@app.get("/")
def index():
    return ""


if os.environ.get("HOOKS") == "async":

    @websocket.route("/echo")
    class Echo(flask_wsviews.WebSocketView):
        """Sends back what came."""

        async def on_message(self, ws, message):
            await ws.send(message)
else:

    @websocket.route("/echo")
    class Echo(flask_wsviews.WebSocketView):
        """Sends back what came."""

        def on_message(self, ws, message):
            ws.send(message)
