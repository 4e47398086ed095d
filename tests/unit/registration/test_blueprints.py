"""WebSocket rules on blueprints: they end up in the application's own URL map."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import flask
import pytest
from flask import Flask, url_for
from flask.cli import routes_command
from support.peers import UPGRADE_HEADERS
from werkzeug.routing import Rule

from flask_wsviews import Blueprint, RegistrationError, WebSocket, WebSocketView


def talk(ws: Any, **view_args: Any) -> None: ...


class Chat(WebSocketView):
    pass


def rules_of(app: Flask) -> dict[str, Rule]:
    """The rules by path, without that of static files."""
    return {rule.rule: rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"}


def app_with(*blueprints: flask.Blueprint, **options: Any) -> Flask:
    app = Flask("site")
    WebSocket(app)
    for blueprint in blueprints:
        app.register_blueprint(blueprint, **options)
    return app


def endpoint_of(app: Flask, path: str, **options: Any) -> tuple[str | None, Any]:
    """What a handshake for a path matches."""
    with app.test_request_context(path, headers=UPGRADE_HEADERS, **options) as context:
        return context.request.endpoint, context.request.view_args


@pytest.fixture
def chat() -> Blueprint:
    blueprint = Blueprint("chat", __name__, url_prefix="/chat")
    blueprint.websocket("/<room>")(Chat)
    blueprint.websocket("/talk/<int:number>", endpoint="by_number", strict_slashes=False)(talk)
    return blueprint


def test_rules_are_in_the_url_map(chat: Blueprint) -> None:
    rules = rules_of(app_with(chat))
    assert rules.keys() == {"/chat/<room>", "/chat/talk/<int:number>"}
    for rule in rules.values():
        assert rule.websocket is True
        assert rule.methods == {"GET", "HEAD"}
        assert rule.provide_automatic_options is False
    assert rules["/chat/<room>"].endpoint == "chat.Chat"
    assert rules["/chat/talk/<int:number>"].endpoint == "chat.by_number"
    for rule in rules.values():
        assert rule.strict_slashes is False


def test_slashes_may_be_strict() -> None:
    blueprint = Blueprint("chat", __name__)
    blueprint.websocket("/talk/", strict_slashes=True)(talk)
    assert rules_of(app_with(blueprint))["/talk/"].strict_slashes is True


def test_the_decorator_returns_what_it_decorates() -> None:
    blueprint = Blueprint("chat", __name__)
    assert blueprint.websocket("/talk")(talk) is talk
    assert blueprint.websocket("/chat")(Chat) is Chat


def test_a_handshake_matches(chat: Blueprint) -> None:
    app = app_with(chat)
    assert endpoint_of(app, "/chat/lobby") == ("chat.Chat", {"room": "lobby"})
    assert endpoint_of(app, "/chat/talk/7/") == ("chat.by_number", {"number": 7})


def test_pages_beside_websockets() -> None:
    both = Blueprint("both", __name__)
    both.add_url_rule("/here", "page", lambda: "a page")
    both.add_websocket_rule("/here", "talk", talk)
    app = app_with(both)
    assert app.test_client().get("/here").text == "a page"
    assert endpoint_of(app, "/here") == ("both.talk", {})


def test_a_url_prefix_at_registration(chat: Blueprint) -> None:
    rules = rules_of(app_with(chat, url_prefix="/elsewhere"))
    assert rules.keys() == {"/elsewhere/<room>", "/elsewhere/talk/<int:number>"}


def test_a_name_at_registration(chat: Blueprint) -> None:
    app = app_with(chat)
    app.register_blueprint(chat, name="again", url_prefix="/again")
    assert endpoint_of(app, "/again/lobby") == ("again.Chat", {"room": "lobby"})
    assert endpoint_of(app, "/chat/lobby") == ("chat.Chat", {"room": "lobby"})


def test_nested_blueprints(chat: Blueprint) -> None:
    parent = Blueprint("parent", __name__, url_prefix="/parent")
    parent.register_blueprint(chat)
    app = app_with(parent)
    assert endpoint_of(app, "/parent/chat/lobby") == ("parent.chat.Chat", {"room": "lobby"})


def test_a_blueprint_in_one_of_flasks(chat: Blueprint) -> None:
    parent = flask.Blueprint("parent", __name__, url_prefix="/parent")
    parent.register_blueprint(chat)
    app = app_with(parent)
    assert rules_of(app)["/parent/chat/<room>"].websocket is True


def test_a_subdomain() -> None:
    blueprint = Blueprint("chat", __name__, subdomain="ws")
    blueprint.add_websocket_rule("/<room>", "talk", talk)
    app = Flask("site", subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.org"
    WebSocket(app)
    app.register_blueprint(blueprint)
    assert rules_of(app)["/<room>"].subdomain == "ws"
    base = "http://ws.example.org"
    assert endpoint_of(app, "/lobby", base_url=base) == ("chat.talk", {"room": "lobby"})
    assert endpoint_of(app, "/lobby", base_url="http://example.org") == (None, None)


def test_defaults_of_a_rule() -> None:
    blueprint = Blueprint("chat", __name__, url_defaults={"lang": "en"})
    blueprint.add_websocket_rule("/", "talk", talk, defaults={"room": "lobby"})
    assert endpoint_of(app_with(blueprint), "/") == (
        "chat.talk",
        {"lang": "en", "room": "lobby"},
    )


@pytest.mark.parametrize(("scheme", "wanted"), [("http", "ws"), ("https", "wss")])
def test_urls_have_the_scheme_of_websockets(chat: Blueprint, scheme: str, wanted: str) -> None:
    app = app_with(chat)
    with app.test_request_context("/", base_url=f"{scheme}://example.org"):
        assert url_for("chat.Chat", room="lobby") == f"{wanted}://example.org/chat/lobby"
        assert url_for("chat.by_number", number=1, _external=True) == (
            f"{wanted}://example.org/chat/talk/1"
        )


def test_flask_routes_shows_them(chat: Blueprint) -> None:
    result = app_with(chat).test_cli_runner().invoke(routes_command)
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert ["chat.Chat", "GET", "/chat/<room>"] in lines
    assert ["chat.by_number", "GET", "/chat/talk/<int:number>"] in lines


# -- what goes wrong ----------------------------------------------------------------------------


def test_an_endpoint_can_not_be_taken_twice() -> None:
    blueprint = Blueprint("chat", __name__)
    blueprint.add_websocket_rule("/one", "same", talk)
    blueprint.add_websocket_rule("/two", "same", lambda ws: None)
    with pytest.raises(AssertionError, match=r"overwriting an existing endpoint.*chat\.same"):
        app_with(blueprint)


def test_a_page_and_a_websocket_can_not_share_an_endpoint() -> None:
    blueprint = Blueprint("chat", __name__)
    blueprint.add_url_rule("/one", "same", lambda: "page")
    blueprint.add_websocket_rule("/two", "same", talk)
    with pytest.raises(AssertionError, match=r"overwriting an existing endpoint.*chat\.same"):
        app_with(blueprint)


@pytest.mark.parametrize("target", [talk, Chat])
def test_a_target_can_have_two_rules(target: Any) -> None:
    blueprint = Blueprint("chat", __name__)
    blueprint.websocket("/one")(blueprint.websocket("/two")(target))
    app = app_with(blueprint)
    name = f"chat.{target.__name__}"
    assert endpoint_of(app, "/one") == endpoint_of(app, "/two") == (name, {})


@pytest.mark.parametrize("target", [None, "talk", dict])
def test_what_is_no_view_is_refused_at_once(target: Any) -> None:
    blueprint = Blueprint("chat", __name__)
    with pytest.raises(RegistrationError):
        blueprint.add_websocket_rule("/", "endpoint", target)
    assert rules_of(app_with(blueprint)) == {}


@pytest.mark.parametrize("extension_first", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_coroutines_are_refused(extension_first: bool, nested: bool) -> None:
    async def later(ws: Any) -> None: ...

    blueprint = Blueprint("chat", __name__)
    blueprint.add_websocket_rule("/", view_func=later)
    if nested:
        parent = flask.Blueprint("parent", __name__)
        parent.register_blueprint(blueprint)
        blueprint = parent  # type: ignore[assignment]
    app = Flask("site")
    steps = [lambda: WebSocket(app), lambda: app.register_blueprint(blueprint)]
    first, second = steps if extension_first else steps[::-1]
    first()
    with pytest.raises(RegistrationError, match="later: async def"):
        second()


# -- blueprints whose rules are all WebSockets --------------------------------------------------


def test_a_plain_blueprint_of_websockets() -> None:
    plain = flask.Blueprint("plain", __name__, url_prefix="/plain")
    plain.route("/talk/<room>")(talk)
    plain.add_url_rule("/chat", view_func=Chat.as_view("chat"))
    app = Flask("site")
    WebSocket(app).register_blueprint(plain, url_prefix="/prefix")
    rules = rules_of(app)
    assert rules.keys() == {"/prefix/talk/<room>", "/prefix/chat"}
    for rule in rules.values():
        assert rule.websocket is True
        assert rule.provide_automatic_options is False
        assert rule.methods == {"GET", "HEAD"}
    assert app.blueprints["plain"] is plain
    assert endpoint_of(app, "/prefix/talk/lobby") == ("plain.talk", {"room": "lobby"})


def test_the_functions_of_a_plain_blueprint_are_registered_too() -> None:
    plain = flask.Blueprint("plain", __name__)
    plain.route("/talk")(talk)
    plain.before_request(lambda: None)
    plain.errorhandler(ValueError)(lambda error: "")
    plain.record(lambda state: state.app.extensions.setdefault("recorded", state.app.name))
    app = Flask("site")
    WebSocket(app).register_blueprint(plain)
    assert len(app.before_request_funcs["plain"]) == 1
    assert ValueError in app.error_handler_spec["plain"][None]
    assert app.extensions["recorded"] == "site"


def test_the_extension_registers_its_own_kind_as_flask_does() -> None:
    both = Blueprint("both", __name__)
    both.add_url_rule("/page", "page", lambda: "a page")
    both.add_websocket_rule("/talk", "talk", talk)
    app = Flask("site")
    WebSocket(app).register_blueprint(both, url_prefix="/x")
    rules = rules_of(app)
    assert rules["/x/page"].websocket is False
    assert rules["/x/talk"].websocket is True


def test_coroutines_of_a_plain_blueprint_are_refused() -> None:
    plain = flask.Blueprint("plain", __name__)

    @plain.route("/")
    async def later(ws: Any) -> None: ...

    with pytest.raises(RegistrationError, match="later: async def"):
        WebSocket(Flask("site")).register_blueprint(plain)


def test_static_files_of_a_plain_blueprint_stay_pages(tmp_path):
    (tmp_path / "style.css").write_text("body {}")
    app = Flask(__name__)
    websocket = WebSocket(app)
    plain = flask.Blueprint("plain", __name__, static_folder=str(tmp_path), url_prefix="/plain")
    websocket.register_blueprint(plain)
    with app.test_client().get(f"/plain/{tmp_path.name}/style.css") as response:
        assert response.data == b"body {}"


def calls_to_register(number: int) -> int:
    """Count the calls in the package's modules while a blueprint registers its rules."""
    views = [
        type(f"View{index}", (WebSocketView,), {"groups": ["room:{room}"]})
        for index in range(number)
    ]
    app = Flask("site")
    WebSocket(app)
    blueprint = Blueprint("many", "many")
    for view in views:
        blueprint.websocket(f"/{view.__name__}/<room>")(view)
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and "flask_wsviews" in frame.f_code.co_filename

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        app.register_blueprint(blueprint)
    finally:
        sys.setprofile(before)
    return calls


def test_the_work_for_each_rule_does_not_grow_with_their_number() -> None:
    calls_to_register(1)
    few, many = calls_to_register(10), calls_to_register(100)
    assert 0 < many <= 10 * few
