"""A WebSocket for those who have logged in: the session is checked at the handshake."""

import os
import secrets

from flask import Flask, abort, redirect, render_template, request, session, url_for
from werkzeug.security import check_password_hash, generate_password_hash

from flask_wsviews import GeventWebSocket, WebSocketView

app = Flask(__name__)
# With a key of its own the logins outlive a restart.
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
websocket = GeventWebSocket(app)

# An application has the hashes in its database, and never the passwords.
USERS = {
    "ada": generate_password_hash("engine"),
    "grace": generate_password_hash("compiler"),
}
# Checked where there is no such user, so that refusing takes as long as for one that there is.
NOBODY = generate_password_hash(secrets.token_hex())


@app.route("/")
def index():
    return render_template("auth.html")


@app.post("/login")
def login():
    username = request.form.get("username", "")
    password = request.form.get("password", "")
    if not check_password_hash(USERS.get(username, NOBODY), password):
        return render_template("auth.html", error="Wrong name or password."), 401
    session.clear()
    session["user"] = username
    return redirect(url_for("index"))


@app.post("/logout")
def logout():
    session.clear()
    return redirect(url_for("index"))


@websocket.route("/private")
class Private(WebSocketView):
    """Refused with a 401 unless the handshake's session has a user."""

    def on_handshake(self, ws):
        if session.get("user") not in USERS:
            abort(401, "Log in first.")

    def on_connect(self, ws):
        ws.send(f"Hello, {session['user']}!")

    def on_message(self, ws, message):
        ws.send(f"{session['user']} said: {message}")


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port, gevent=100)
