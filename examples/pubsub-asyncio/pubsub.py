"""Channels to listen to and to publish on, as coroutines; Redis carries them to all workers."""

import os

from flask import Flask, render_template

from flask_wsviews import AsyncioWebSocket

app = Flask(__name__)
app.config["WSVIEWS_BROKER_URL"] = os.environ.get("BROKER_URL", "redis://localhost:6379/0")
websocket = AsyncioWebSocket(app)


@app.route("/")
def index():
    return render_template("pubsub.html")


@websocket.route("/channels/<channel>")
async def listen(ws, channel):
    group = f"channel:{channel}"
    await ws.join(group)
    await ws.send(f"Welcome to channel <{channel}>")
    async for message in ws:
        await websocket.broadcast(group, message)


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port, processes=2)
