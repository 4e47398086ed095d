"""The application of the contract tests. They read its journal over HTTP.

``ENGINE`` chooses the extension, ``SETTINGS`` is JSON that goes into the configuration.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections import defaultdict
from contextvars import ContextVar
from datetime import timedelta

import flask
import loop  # noqa: F401
import typed
from flask import Flask, Response, abort, current_app, g, redirect, request, session, url_for
from flask.signals import got_request_exception
from surrounding import Chosen
from werkzeug.middleware.proxy_fix import ProxyFix

import flask_wsviews
from flask_wsviews import Blueprint, CloseConnection, ConnectionClosed, WebSocketView

app = Flask(__name__)
app.secret_key = "for tests"
# A second is long enough on one machine; the default would delay tests with vanished clients.
app.config["WSVIEWS_CLOSE_TIMEOUT"] = 1
app.config.update(json.loads(os.environ.get("SETTINGS", "{}")))
app.config["WSVIEWS_ALLOWED_ORIGINS"] = ["https://partner.example"]
app.wsgi_app = Chosen(app.wsgi_app, "within")
websocket = getattr(flask_wsviews, os.environ.get("ENGINE", "WebSocket"))(app)
app.wsgi_app = Chosen(app.wsgi_app, "around")
if os.environ.get("PROXY_FIX"):
    app.wsgi_app = ProxyFix(app.wsgi_app, x_proto=1, x_host=1)

journal: dict[str, list[object]] = defaultdict(list)
clients: dict[str, object] = {}
released: dict[str, threading.Event] = defaultdict(threading.Event)


def note(*entry: object) -> None:
    """Add an entry to the journal of the current request's connection."""
    journal[request.args.get("key", "")].append(list(entry))


@app.get("/loop")
def loop_module():
    """Return the module of the running event loop, after the first connection."""
    return type(websocket.engine._loop_thread.get().loop).__module__


@app.get("/")
def index():
    return "ready"


@app.get("/options")
def options():
    """Return the options that Python was started with."""
    return [sys.flags.optimize, sys.warnoptions[-1], sys.flags.dev_mode]


@app.get("/connections")
def connections():
    """Return the engine's number of connections, and how many places are taken."""
    return [websocket.engine.connections, websocket.admission._count]


@app.get("/journal/<key>")
def read_journal(key):
    return journal[key]


@app.get("/process")
def process():
    gc.collect()
    greenlets = 0
    try:
        import greenlet
    except ImportError:
        pass
    else:
        # Only live ones: the collector also tracks objects that wait to be freed.
        greenlets = sum(isinstance(o, greenlet.greenlet) and bool(o) for o in gc.get_objects())
    return {
        "pid": os.getpid(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "greenlets": greenlets,
        "views": sum(isinstance(o, WebSocketView) for o in gc.get_objects()),
        "idle views": sum(isinstance(o, MessagesOnly) for o in gc.get_objects()),
    }


word: ContextVar[str] = ContextVar("word", default="")


@websocket.route("/variable")
class Variable(WebSocketView):
    """Sends the variable that the previous hook has set."""

    def on_connect(self, ws):
        word.set("connected")

    def on_message(self, ws, message):
        before = word.get()
        word.set(message)
        ws.send(before)


@app.before_request
def find_tenant():
    g.tenant, g.unkept = request.args.get("tenant"), "gone"


@websocket.route("/tenant")
class Tenant(WebSocketView):
    """Sends the attribute of g that the handshake has set."""

    keep_g = ("tenant",)

    def on_message(self, ws, message):
        ws.send_json([g.tenant, "unkept" in g])


@app.get("/push/<key>")
def push(key):
    """Send to a connection from an HTTP request, and return how many seconds that took."""
    size, count = int(request.args.get("size", 1)), int(request.args.get("count", 1))
    began = time.monotonic()
    try:
        for _ in range(count):
            clients[key].send("p" * size)
    except ConnectionClosed as error:
        return {"closed": error.code}
    return {"seconds": time.monotonic() - began}


@app.get("/push-from-thread/<key>")
def push_from_thread(key):
    def work():
        clients[key].send("from a thread")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    return {"alive": thread.is_alive()}


@app.get("/close/<key>")
def close(key):
    clients[key].close(4002, "closed from outside")
    return {}


@app.get("/release/<key>")
def release(key):
    """Release a hook that waits after "hold"."""
    released[key].set()
    return {}


@app.before_request
def refuse_strangers():
    if "stranger" in request.args:
        abort(401, "no strangers")


@app.after_request
def mark(response):
    if "veto" in request.args:
        return Response("vetoed", 409)
    response.headers["X-Marked"] = "yes"
    # Every Flask response has one, as extensions know.
    response.headers["X-Content-Type"] = response.content_type.partition(";")[0]
    if "after" in request.args:
        response.headers["X-Name"] = request.args["after"]
    if "cookie" in request.args:
        response.set_cookie("name", "value", path=request.args["cookie"])
    if "error" in request.args:
        raise ValueError("in after_request")
    return response


@app.teardown_request
def torn_down(error):
    if request.args.get("key") and request.endpoint != "push":
        note("teardown", None if error is None else type(error).__name__)


@got_request_exception.connect_via(app)
def got(sender, exception, **extra):
    note("signal", type(exception).__name__)


@app.errorhandler(LookupError)
def app_error(error):
    note("app error handler", str(error))
    return "unused", 500


@app.get("/login")
def login():
    """A session with a lifetime of one second."""
    app.permanent_session_lifetime = timedelta(seconds=1)
    session.permanent = True
    session["user"] = "bob"
    return "welcome"


@websocket.route("/members-only")
class MembersOnly(WebSocketView):
    def on_handshake(self, ws):
        if "user" not in session:
            abort(401)

    def on_message(self, ws, message):
        ws.send(session["user"])


# -- function routes ----------------------------------------------------------------------------


@websocket.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)


@websocket.route("/messages-only")
class MessagesOnly(WebSocketView):
    """Has no hook for the beginning or the end of a connection."""

    def on_message(self, ws, message):
        ws.send(message)


@websocket.route("/pings")
class Pings(WebSocketView):
    """Pings its client, and sends the payload of each Pong."""

    def on_connect(self, ws):
        ws.ping("hello")

    def on_message(self, ws, message):
        ws.ping(message)
        ws.send("pinged")

    def on_pong(self, ws, payload):
        ws.send(f"{request.path} {payload.decode()}")


@websocket.route("/old-echo")
def old_echo(ws):
    while True:
        ws.send(ws.receive())


@websocket.route("/old-context")
def old_context(ws):
    with app.request_context(ws.environ):
        ws.send(request.args["q"] + request.headers["Host"])


@websocket.route("/polls")
def polls(ws):
    while True:
        try:
            message = ws.receive(timeout=0)
        except TimeoutError:
            continue
        if message is None:
            break
        ws.send(message)
    note("end", ws.close_code)


@websocket.route("/returns")
def returns(ws):
    ws.send("last words")


@websocket.route("/asks")
def asks(ws):
    """Runs the commands that it receives."""
    ws.send_json({"id": ws.id, "fd": ws.fd, "timeout": ws.timeout, "path": ws.environ["PATH_INFO"]})
    for command in ws:
        if command == "nb":
            ws.send_json(ws.recv_nb())
        elif command == "wait for nb":
            while (message := ws.recv_nb()) == "":
                time.sleep(0.01)
            ws.send_json(message)
        elif command == "timeout":
            try:
                ws.receive(timeout=0.05)
            except TimeoutError as error:
                ws.send(f"TimeoutError: {error}")
        elif command == "recv":
            ws.send(ws.recv(timeout=5))
        elif command == "binary":
            ws.send("text as binary", binary=True)
            ws.send(b"bytes as text", binary=False)
            ws.send_binary("also binary")
            ws.send(bytearray(b"array"))
            ws.send(memoryview(b"view"))
        elif command == "bad type":
            ws.send({"not": "a message"})
        elif command == "big":
            for _ in range(8):
                ws.send(b"x" * 1024 * 1024)
            note("sent it all")


@websocket.route("/ends")
def ends(ws):
    messages = list(ws)
    note("messages", messages, "then", ws.receive(), ws.recv_nb(), ws.connected, ws.close_code)
    try:
        ws.send("too late")
    except OSError as error:
        note(type(error).__name__, error.code)


@websocket.route("/produces")
def produces(ws):
    """Sends and never receives, as a ticker does."""
    try:
        while True:
            ws.send("tick")
            time.sleep(0.02)
    except ConnectionClosed as error:
        note("closed", error.code)
        raise


def only_admins(view):
    def guarded(*args, **kwargs):
        if request.args.get("role") != "admin":
            abort(403, "admins only")
        return view(*args, **kwargs)

    guarded.__name__ = view.__name__
    return guarded


@websocket.route("/guarded", decorators=[only_admins], subprotocols=["v2", "v1"])
def guarded(ws):
    ws.send(f"welcome {ws.subprotocol}")


@websocket.route("/sharedarea")
def sharedarea(ws):
    import uwsgi

    uwsgi.sharedarea_write(0, 0, "shared: grüße".encode())
    ws.send_from_sharedarea(0, 8, len("grüße".encode()))
    ws.send_binary_from_sharedarea(0, 0, 6)
    ws.send_binary_from_sharedarea(0, 4090)


@websocket.route("/strict/", strict_slashes=True)
def strict(ws):
    ws.send("strict")


@websocket.route("/slash/<name>/")
def slash(ws, name):
    ws.send(name)


@websocket.route("/moved", redirect_to="/slash/moved")
def moved(ws):
    ws.send("never called")


# -- class-based views --------------------------------------------------------------------------

bp = Blueprint("views", __name__, url_prefix="/views")


@bp.errorhandler(KeyError)
def blueprint_error(error):
    note("blueprint error handler", str(error))


@bp.websocket("/all/<name>")
class All(WebSocketView):
    """Has every hook, with commands for most outcomes of one."""

    def on_handshake(self, ws, name):
        if name == "refused":
            abort(401, "who are you?")
        if name == "elsewhere":
            return redirect(url_for("index"))
        session["name"] = name
        ws.response_headers["X-Name"] = request.args.get("header", name)
        self.count = 0

    def on_connect(self, ws, name):
        clients[request.args.get("key", "")] = ws
        note("connect", name, ws.connected)
        g.connected = True
        if name == "breaks":
            raise ValueError("in on_connect")
        ws.send(f"hello {name}")

    def on_message(self, ws, message):
        self.count += 1
        note("message", message if isinstance(message, str) else len(message), self.count)
        command, _, argument = str(message).partition(" ")
        if command == "context":
            ws.send_json(
                {
                    "path": request.path,
                    "args": request.args,
                    "endpoint": request.endpoint,
                    "blueprint": request.blueprint,
                    "view_args": request.view_args,
                    "session": dict(session),
                    "app": current_app.name,
                    "fresh g": not hasattr(g, "connected"),
                    "url": url_for("views.All", name="x"),
                    "page": url_for("index", _external=True),
                }
            )
        elif command == "raise":
            raise {"value": ValueError, "lookup": LookupError, "key": KeyError}[argument](argument)
        elif command == "survive":
            raise ArithmeticError
        elif command == "close":
            raise CloseConnection(4001, argument)
        elif command == "close()":
            ws.close(4003, argument)
        elif command == "abort":
            abort(403)
        elif command == "sleep":
            time.sleep(float(argument))
            ws.send("slept")
        elif command == "hold":
            released[request.args["key"]].wait(30)
            ws.send("released")
        elif command == "tell":
            clients[argument].send("from another hook")
        else:
            ws.send(message)

    def on_error(self, ws, error):
        note("on_error", type(error).__name__)
        return isinstance(error, ArithmeticError)

    def on_close(self, ws, code, reason):
        note("close", code, reason, ws.connected)


class Guarded(WebSocketView):
    decorators = (only_admins,)
    subprotocols = ("v2", "v1")
    allowed_origins = ("https://friend.example",)

    def on_handshake(self, ws):
        if request.args.get("choose"):
            ws.subprotocol = request.args["choose"]

    def on_connect(self, ws):
        ws.send(f"{ws.subprotocol} of {','.join(ws.offered_subprotocols)}")


bp.add_websocket_rule("/guarded", view_func=Guarded.as_view("guarded"))


inner = Blueprint("inner", __name__, url_prefix="/inner")


@inner.websocket("/")
def nested(ws):
    ws.send("nested")


@inner.websocket("/strict/", strict_slashes=True)
def nested_strict(ws):
    ws.send("strict")


bp.register_blueprint(inner)

plain = flask.Blueprint("plain", __name__, url_prefix="/plain")


@plain.route("/old/")
def old(ws):
    ws.send("old")


class Shared(WebSocketView):
    init_every_request = False

    def __init__(self):
        self.connections = 0

    def on_connect(self, ws):
        self.connections += 1
        ws.send(str(self.connections))


websocket.add_url_rule("/shared", view_func=Shared.as_view("shared"))

app.register_blueprint(bp)
websocket.register_blueprint(plain)
app.register_blueprint(typed.bp)
