"""What extensions find out about the client in the handshake is there in its hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flask_httpauth
import flask_jwt_extended
import flask_login
import flask_principal
import flask_security
import pytest
from apiflask import APIFlask, HTTPTokenAuth
from flask import Flask, after_this_request, copy_current_request_context, g, session
from flask.ctx import _AppCtxGlobals

import flask_wsviews
from flask_wsviews import ConfigError, WebSocket, WebSocketView, message
from flask_wsviews.testing import HandshakeRejected, websocket_connect

BEARER = {"Authorization": "Bearer bobs-token"}

#: The kinds of handlers, and the extensions that run them.
KINDS = {
    f"{extension}-{kind}": (extension, kind)
    for extension, kinds in (
        ("WebSocket", ("hooks", "function", "typed")),
        ("GeventWebSocket", ("hooks", "function")),
        ("AsyncioWebSocket", ("hooks", "function", "typed", "coroutines", "coroutine-function")),
    )
    for kind in kinds
}

Site = Callable[..., Callable[..., list[str]]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(kind: str) -> Iterator[Site]:
    """Sets an application up with a view that answers with what *who* says in each hook.

    It returns what connects with header fields, and returns these answers.
    """
    made: list[WebSocket] = []

    def make(app: Flask, who: Callable[[], Any], **options: Any) -> Callable[..., list[str]]:
        app.secret_key = "for tests, and long enough for that"
        extension, handlers = KINDS[kind]
        websocket = getattr(flask_wsviews, extension)(app)
        made.append(websocket)
        view = VIEWS[handlers](who)
        if isinstance(view, type):
            decorators = options.pop("decorators", [])
            view = type("Made", (view,), {"decorators": decorators, **options})
            options = {}
        websocket.add_url_rule("/who", "who", view, **options)

        def connect(headers: dict[str, str] | None = None) -> list[str]:
            with (
                app.test_client() as client,
                websocket_connect(client, "/who", headers=headers) as ws,
            ):
                answers = []
                for _ in range(2):
                    ws.send('{"type": "who"}')
                    answers.append(str(ws.receive()))
                return answers

        return connect

    yield make
    for websocket in made:
        websocket.stop()


def hooks(who: Callable[[], Any]) -> Any:
    class Hooks(WebSocketView):
        def on_connect(self, ws: Any) -> None:
            self.first = who()

        def on_message(self, ws: Any, message: Any) -> None:
            assert who() == self.first
            ws.send(str(who()))

    return Hooks


def typed(who: Callable[[], Any]) -> Any:
    class Typed(WebSocketView):
        @message("who")
        def on_who(self, ws: Any, data: Any) -> None:
            ws.send(str(who()))

    return Typed


def coroutines(who: Callable[[], Any]) -> Any:
    class Coroutines(WebSocketView):
        def on_connect(self, ws: Any) -> None:
            self.first = who()

        async def on_message(self, ws: Any, message: Any) -> None:
            assert who() == self.first
            await ws.send(str(who()))

    return Coroutines


def function(who: Callable[[], Any]) -> Any:
    def plain(ws: Any) -> None:
        for _ in ws:
            ws.send(str(who()))

    return plain


def coroutine_function(who: Callable[[], Any]) -> Any:
    async def coroutine(ws: Any) -> None:
        async for _ in ws:
            await ws.send(str(who()))

    return coroutine


VIEWS = {
    "hooks": hooks,
    "typed": typed,
    "coroutines": coroutines,
    "function": function,
    "coroutine-function": coroutine_function,
}


# -- extensions ---------------------------------------------------------------------------------


def test_flask_httpauth(site: Site) -> None:
    auth = flask_httpauth.HTTPTokenAuth()
    auth.verify_token(lambda token: "bob" if token == "bobs-token" else None)
    connect = site(Flask("site"), auth.current_user, decorators=[auth.login_required])
    assert connect(BEARER) == ["bob", "bob"]


def test_apiflask(site: Site) -> None:
    auth = HTTPTokenAuth()
    auth.verify_token(lambda token: "bob" if token == "bobs-token" else None)
    app = APIFlask("site")
    connect = site(app, lambda: auth.current_user, decorators=[app.auth_required(auth)])
    assert connect(BEARER) == ["bob", "bob"]


def test_flask_jwt_extended(site: Site) -> None:
    app = Flask("site")
    app.config["JWT_SECRET_KEY"] = "for tests, and long enough for that"
    jwt = flask_jwt_extended.JWTManager(app)
    jwt.user_lookup_loader(lambda header, data: f"user {data['sub']}")

    def who() -> Any:
        return (
            flask_jwt_extended.get_jwt_identity(),
            flask_jwt_extended.get_jwt()["role"],
            flask_jwt_extended.get_jwt_header()["typ"],
            str(flask_jwt_extended.current_user),
        )

    connect = site(app, who, decorators=[flask_jwt_extended.jwt_required()])
    with app.app_context():
        token = flask_jwt_extended.create_access_token("bob", additional_claims={"role": "admin"})
    found = "('bob', 'admin', 'JWT', 'user bob')"
    assert connect({"Authorization": f"Bearer {token}"}) == [found, found]


def test_flask_principal(site: Site) -> None:
    app = Flask("site")
    principal = flask_principal.Principal(app, use_sessions=False)
    principal.identity_loader(lambda: flask_principal.Identity("bob"))
    admins = flask_principal.Permission(flask_principal.RoleNeed("admin"))

    @flask_principal.identity_loaded.connect_via(app)
    def load(sender: Any, identity: Any) -> None:
        identity.provides.add(flask_principal.RoleNeed("admin"))

    def who() -> Any:
        with admins.require():
            return g.identity.id

    connect = site(app, who)
    assert connect() == ["bob", "bob"]


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, id: str) -> None:
        self.id = id


def test_flask_login_by_a_header(site: Site) -> None:
    app = Flask("site")
    manager = flask_login.LoginManager(app)
    loaded: list[str] = []

    @manager.request_loader
    def load(request: Any) -> User | None:
        loaded.append(request.headers["Authorization"])
        return User("bob")

    decorators = [flask_login.login_required]
    connect = site(app, lambda: flask_login.current_user.id, decorators=decorators)
    assert connect(BEARER) == ["bob", "bob"]
    assert loaded == ["Bearer bobs-token"]


def test_flask_login_by_a_basic_authentication_of_its_own(site: Site) -> None:
    """As Flask-Security does it: no loader would find the user again."""
    app = Flask("site")
    manager = flask_login.LoginManager(app)
    app.before_request(lambda: manager._update_request_context_with_user(User("bob")))
    connect = site(app, lambda: flask_login.current_user.id)
    assert connect() == ["bob", "bob"]


class Admin(flask_security.RoleMixin):
    name = "admin"


class Account(flask_security.UserMixin):
    """A user of Flask-Security that is kept in memory."""

    active = True
    username = "bob"
    email = "bob@example.org"
    password = "unused"
    fs_uniquifier = "the one of bob"
    roles = [Admin()]


class Accounts(flask_security.UserDatastore):
    """What Flask-Security asks for users, without a database."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(Account, flask_security.RoleMixin)
        self._found = found

    def find_user(self, case_insensitive: bool = False, **wanted: Any) -> Account | None:
        self._found.append(str(wanted.get("fs_uniquifier")))
        return Account() if wanted.get("fs_uniquifier") == Account.fs_uniquifier else None


@pytest.mark.parametrize(
    "required",
    [flask_security.auth_token_required, flask_security.auth_required("token", "session")],
    ids=["auth_token_required", "auth_required"],
)
def test_flask_security_by_a_token(site: Site, required: Any) -> None:
    app = Flask("site")
    app.config.update(SECRET_KEY="for tests", SECURITY_PASSWORD_SALT="for tests")
    found: list[str] = []
    flask_security.Security(app, Accounts(found))

    def who() -> Any:
        found.append("hook")
        user, identity = flask_security.current_user, g.identity
        needs = sorted(need.value for need in identity.provides if need.method == "role")
        return user.username, user.is_authenticated, identity.id, needs, g.fs_authn_via

    connect = site(app, who, decorators=[required])
    with app.app_context():
        token = Account().get_auth_token()
    known = "('bob', True, 'the one of bob', ['admin'], 'token')"
    assert connect({"Authentication-Token": token}) == [known, known]
    # The handshake has looked the account up, and no hook does.
    assert set(found[found.index("hook") :]) == {"hook"}
    with pytest.raises(HandshakeRejected, match="401"):
        connect({"Authentication-Token": "another", "Accept": "application/json"})


def test_flask_login_by_a_session_loads_the_user_again(site: Site) -> None:
    app = Flask("site")
    manager = flask_login.LoginManager(app)
    loaded: list[User] = []

    @manager.user_loader
    def load(id: str) -> User:
        loaded.append(User(id))
        return loaded[-1]

    @app.before_request
    def log_in() -> None:
        flask_login.login_user(User("bob"))

    connect = site(app, lambda: flask_login.current_user._get_current_object().id)
    assert connect() == ["bob", "bob"]
    assert loaded


def test_authlib(site: Site) -> None:
    app = Flask("site")

    @app.before_request
    def check() -> None:
        g.authlib_server_oauth2_token = "a token"

    assert site(app, lambda: g.authlib_server_oauth2_token)() == ["a token", "a token"]


# -- names of the application's own --------------------------------------------------------------


def state() -> str:
    return str(sorted(vars(g).items()))


def keep(view: Any) -> Any:
    """A decorator that finds something out, before and after what it decorates."""

    def wrapped(**view_args: Any) -> Any:
        g.by_decorator = "d"
        answer = view(**view_args)
        g.afterwards = "a"
        return answer

    return wrapped


@pytest.fixture
def app() -> Flask:
    """An application that leaves much on its ``g``."""
    app = Flask("site")

    @app.before_request
    def find_out() -> None:
        g.tenant, g.db = "t", "a connection"

        @after_this_request
        def last(response: Any) -> Any:
            g.last = "l"
            return response

    return app


def test_nothing_else_is_kept(site: Site, app: Flask) -> None:
    assert site(app, state)() == ["[]", "[]"]


def test_what_a_view_names(site: Site, app: Flask) -> None:
    named = ["tenant", "by_decorator", "afterwards", "last", "missing"]
    found = "[('afterwards', 'a'), ('by_decorator', 'd'), ('last', 'l'), ('tenant', 't')]"
    assert site(app, state, keep_g=named, decorators=[keep])() == [found, found]


def test_what_the_settings_name(site: Site, app: Flask) -> None:
    app.config["WSVIEWS_KEEP_G"] = ["tenant"]
    assert site(app, state)() == ["[('tenant', 't')]"] * 2


def test_both_together(site: Site, app: Flask) -> None:
    app.config["WSVIEWS_KEEP_G"] = ["tenant"]
    found = "[('by_decorator', 'd'), ('tenant', 't')]"
    assert site(app, state, keep_g=("by_decorator",), decorators=[keep])() == [found, found]


def test_what_a_hook_puts_there_is_gone_with_it(site: Site, app: Flask) -> None:
    def who() -> str:
        if "seen" not in g:
            g.seen = state()
            g.tenant = "another"
        return str(g.seen)

    assert site(app, who, keep_g=["tenant"])() == ["[('tenant', 't')]"] * 2


@pytest.mark.parametrize("watched", [True, False], ids=["teardown", "no-teardown"])
def test_teardown_functions_take_nothing_away(site: Site, app: Flask, watched: bool) -> None:
    if watched:

        @app.teardown_request
        def tear_down(error: BaseException | None) -> None:
            g.pop("tenant", None)
            g.pop("db", None)

    assert site(app, state, keep_g=["tenant"])() == ["[('tenant', 't')]"] * 2


def test_a_copy_of_the_context(site: Site, app: Flask) -> None:
    def who() -> Any:
        return copy_current_request_context(lambda: g.tenant)()

    assert site(app, who, keep_g=["tenant"])() == ["t", "t"]


def test_within_an_application_context_of_a_test(site: Site, app: Flask) -> None:
    connect = site(app, lambda: g.tenant, keep_g=["tenant"])
    with app.app_context():
        assert connect() == ["t", "t"]


def test_a_g_of_the_application_s_own(site: Site, app: Flask) -> None:
    class Globals(_AppCtxGlobals):
        @property
        def shout(self) -> str:
            return str(self.tenant.upper())

    app.app_ctx_globals_class = Globals
    assert site(app, lambda: g.shout, keep_g=["tenant"])() == ["T", "T"]


def test_clients_are_kept_apart(site: Site) -> None:
    auth = flask_httpauth.HTTPTokenAuth()
    auth.verify_token(lambda token: token)
    connect = site(Flask("site"), auth.current_user, decorators=[auth.login_required])
    for name in ("ann", "bob", "cid"):
        assert connect({"Authorization": f"Bearer {name}"}) == [name, name]


# -- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["tenant", b"tenant", 3, [3], [""], None])
def test_what_is_no_list_of_names(value: Any) -> None:
    app = Flask("site")
    app.config["WSVIEWS_KEEP_G"] = value
    with pytest.raises(ConfigError, match="WSVIEWS_KEEP_G must be a list of names"):
        WebSocket(app)
    websocket = WebSocket(Flask("site"))
    with pytest.raises(ConfigError, match="keep_g of 'function' must be a list of names"):
        websocket.add_url_rule("/function", "function", lambda ws: None, keep_g=value)
    view = type("View", (WebSocketView,), {"keep_g": value})
    with pytest.raises(ConfigError, match=r"View\.keep_g must be a list of names"):
        websocket.add_url_rule("/view", view_func=view)


def test_a_handshake_that_leaves_nothing(site: Site) -> None:
    app = Flask("site")
    assert site(app, lambda: (state(), dict(session)))() == ["('[]', {})"] * 2
