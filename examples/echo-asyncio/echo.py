"""Sends every message back: a coroutine function as WebSocket, one asyncio task per connection."""

import os

from flask import Flask, render_template

from flask_wsviews import AsyncioWebSocket

app = Flask(__name__)
websocket = AsyncioWebSocket(app)


@app.route("/")
def index():
    return render_template("echo.html")


@websocket.route("/echo")
async def echo(ws):
    async for message in ws:
        await ws.send(message)


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port)
