"""Notifications for users who are logged in, sent by an ordinary page and by a command."""

import os
import secrets

import click
from flask import Flask, abort, redirect, render_template, request, session, url_for
from marshmallow import Schema, fields

from flask_wsviews import BrokerUnavailable, GeventWebSocket, WebSocketView

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
# The command is a process of its own, so memory:// would not do.
app.config["WSVIEWS_BROKER_URL"] = os.environ.get("BROKER_URL", "redis://localhost:6379/0")
websocket = GeventWebSocket(app)

USERS = ("ada", "grace")


class Notice(Schema):
    text = fields.Str(required=True)


class Position(Schema):
    message_id = fields.Str(required=True)


@websocket.route("/notices")
class Notices(WebSocketView):
    """One tab of a user: all tabs of a user are in one group."""

    emits = {"notice": Notice, "position": Position}

    def on_handshake(self, ws):
        if session.get("user") not in USERS:
            abort(401)

    def on_connect(self, ws):
        # What came while the page was reloaded, or the network away, is sent first.
        joined = ws.join(f"user:{session['user']}", since=request.args.get("since") or None)
        ws.send_message("position", {"message_id": joined.position})


websocket.configure_group("user:{name}", history=50, history_seconds=3600)


def notify(user, text):
    """Show a text to a user, in whatever tabs there are, in whatever worker."""
    websocket.send_message(f"user:{user}", "notice", {"text": text}, view=Notices)


@app.get("/")
def index():
    return render_template("notifications.html", users=USERS)


@app.post("/login")
def login():
    # A real application asks for a password: see the example auth.
    if request.form.get("user") not in USERS:
        abort(400)
    session["user"] = request.form["user"]
    return redirect(url_for("index"))


@app.post("/notify")
def send():
    user, text = request.form.get("to"), request.form.get("text", "").strip()
    if session.get("user") not in USERS or user not in USERS or not 0 < len(text) <= 200:
        abort(400)
    try:
        notify(user, f"{session['user']} says: {text}")
    except BrokerUnavailable:
        abort(503, "Nothing was sent; please try again.")
    return "", 204


@app.cli.command("notify")
@click.argument("user", type=click.Choice(USERS))
@click.argument("text")
def notify_command(user, text):
    """Show TEXT to USER."""
    notify(user, text)


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port, gevent=100, processes=2)
