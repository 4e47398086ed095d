"""The context of a hook: what it shares with the handshake, and what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import flask
import pytest
from flask import Flask, g, request, session
from flask.ctx import AppContext
from flask.globals import app_ctx
from support.peers import UPGRADE_HEADERS
from werkzeug.exceptions import NotFound

from flask_wsviews.blueprints import Blueprint
from flask_wsviews.conversation.context import Handshake


@pytest.fixture
def app() -> Flask:
    app = Flask("site")
    app.secret_key = "secret"
    chat = Blueprint("chat", __name__, url_prefix="/chat")
    chat.add_websocket_rule("/<room>", "talk", lambda ws, room: None)
    app.register_blueprint(chat)
    return app


@pytest.fixture
def handshake(app: Flask) -> Handshake:
    """What is left of a handshake whose request is over."""
    context = app.test_request_context("/chat/lobby?lang=en", headers=UPGRADE_HEADERS)
    with context:
        kept = Handshake.current()
        assert kept.session is not None
        assert not kept.session.accessed
        g.user = "of the handshake"
        session["user"] = "ann"
    return kept


def test_a_hook_sees_the_handshakes_request(app: Flask, handshake: Handshake) -> None:
    with handshake.hook_context():
        assert request._get_current_object() is handshake.request
        assert flask.current_app._get_current_object() is app
        assert request.path == "/chat/lobby"
        assert request.args["lang"] == "en"
        assert request.endpoint == "chat.talk"
        assert request.blueprint == "chat"
        assert request.blueprints == ["chat"]
        assert request.view_args == {"room": "lobby"}


def test_a_hook_sees_the_handshakes_session(handshake: Handshake) -> None:
    with handshake.hook_context():
        assert session._get_current_object() is handshake.session
        assert session["user"] == "ann"
        session["seen"] = 1
    with handshake.hook_context():
        assert session["seen"] == 1


def test_without_a_secret_key_there_is_a_null_session() -> None:
    app = Flask("site")
    with app.test_request_context("/"):
        handshake = Handshake.current()
    with handshake.hook_context():
        assert session.get("user") is None
        with pytest.raises(RuntimeError, match="secret key"):
            session["user"] = "ann"


def test_each_hook_has_a_fresh_g(handshake: Handshake) -> None:
    contexts = []
    for number in range(2):
        with handshake.hook_context():
            assert list(g) == []
            g.number = number
            assert g.number == number
            contexts.append(app_ctx._get_current_object())
    assert contexts[0] is not contexts[1]


def test_there_is_no_context_between_hooks(handshake: Handshake) -> None:
    with handshake.hook_context():
        assert flask.has_request_context()
        assert flask.has_app_context()
    assert not flask.has_request_context()
    assert not flask.has_app_context()


def test_nothing_is_matched_opened_or_called_again(
    app: Flask, handshake: Handshake, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = []
    app._got_first_request = False
    app.before_request(lambda: pytest.fail("before_request"))
    app.url_value_preprocessor(lambda *args: pytest.fail("url_value_preprocessor"))
    monkeypatch.setattr(app, "create_url_adapter", adapters.append)
    monkeypatch.setattr(app.session_interface, "open_session", lambda *a: pytest.fail("session"))
    with handshake.hook_context():
        assert request.url_rule is not None
        assert request.url_rule.rule == "/chat/<room>"
    assert adapters == []


def test_urls_are_built_as_in_the_handshake(
    app: Flask, handshake: Handshake, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, created = app.create_url_adapter, []

    def create_one(request: flask.Request | None) -> Any:
        created.append(request)
        adapter = create(request)
        monkeypatch.setattr(adapter, "match", lambda *args, **kw: pytest.fail("match"))
        return adapter

    monkeypatch.setattr(app, "create_url_adapter", create_one)
    for _ in range(2):
        with handshake.hook_context():
            assert flask.url_for(".talk", room="attic") == "ws://localhost/chat/attic"
    assert created == [handshake.request]


def test_teardown_functions_run_once_per_hook(app: Flask, handshake: Handshake) -> None:
    calls: list[tuple[str, Any]] = []

    @app.teardown_request
    def of_request(error: BaseException | None) -> None:
        calls.append(("request", error))
        assert request.path == "/chat/lobby"

    @app.teardown_appcontext
    def of_context(error: BaseException | None) -> None:
        calls.append(("context", error))

    with handshake.hook_context():
        assert calls == []
    assert calls == [("request", None), ("context", None)]
    failure = ValueError("from a hook")

    def fail() -> None:
        with handshake.hook_context():
            raise failure

    with pytest.raises(ValueError, match="from a hook"):
        fail()
    assert calls[2:] == [("request", failure), ("context", failure)]


def test_teardown_functions_of_the_blueprint_run(app: Flask) -> None:
    calls = []
    page = Blueprint("page", __name__)
    page.add_websocket_rule("/page", "talk", lambda ws: None)
    page.teardown_request(lambda error: calls.append("own"))
    other = Blueprint("other", __name__)
    other.teardown_request(lambda error: calls.append("other"))
    app.register_blueprint(page)
    app.register_blueprint(other)
    with app.test_request_context("/page", headers=UPGRADE_HEADERS):
        handshake = Handshake.current()
    calls.clear()
    with handshake.hook_context():
        assert calls == []
    assert calls == ["own"]


def test_hooks_may_overlap_those_of_other_connections(app: Flask, handshake: Handshake) -> None:
    with app.test_request_context("/chat/attic", headers=UPGRADE_HEADERS):
        other = Handshake.current()
    with handshake.hook_context():
        with other.hook_context():
            assert request.view_args == {"room": "attic"}
        assert request.view_args == {"room": "lobby"}


@pytest.mark.parametrize(
    "signal",
    [
        flask.appcontext_pushed,
        flask.appcontext_popped,
        flask.appcontext_tearing_down,
        flask.request_tearing_down,
    ],
)
def test_whoever_listens_to_contexts_is_told(
    app: Flask, handshake: Handshake, signal: flask.signals.Namespace
) -> None:
    told = []

    def listen(sender: Flask, **more: Any) -> None:
        told.append(sender)

    with signal.connected_to(listen), handshake.hook_context():
        assert request.path == "/chat/lobby"
    assert told == [app]


def test_a_teardown_function_that_comes_late_is_called(app: Flask, handshake: Handshake) -> None:
    calls: list[BaseException | None] = []
    with handshake.hook_context():
        # What Flask refuses after the first request, extensions do all the same.
        app.teardown_appcontext_funcs.append(calls.append)
    assert calls == [None]
    assert not flask.has_app_context()


def test_contexts_of_an_applications_own_kind(app: Flask) -> None:
    class Special(Flask):
        def app_context(self) -> AppContext:
            context = super().app_context()
            context.g.is_special = True
            return context

    with Special("special").test_request_context("/"):
        handshake = Handshake.current()
    with handshake.hook_context():
        assert g.is_special


def test_a_context_is_entered_again_while_it_lasts(handshake: Handshake) -> None:
    context = handshake.hook_context()
    with context:
        g.number = 5
        with context:
            assert g.number == 5
        assert g.number == 5
        assert request.path == "/chat/lobby"
    assert not flask.has_request_context()


def test_contexts_that_end_in_the_wrong_order(handshake: Handshake) -> None:
    def leave_the_outer_one_first() -> None:
        outer, inner = handshake.hook_context(), handshake.hook_context()
        outer.__enter__()
        inner.__enter__()
        with pytest.raises(AssertionError, match="Popped wrong request context"):
            outer.__exit__(None, None, None)

    copy_context().run(leave_the_outer_one_first)


def test_a_hook_can_hand_its_context_on(handshake: Handshake) -> None:
    with handshake.hook_context():

        @flask.copy_current_request_context
        def later() -> tuple[str, str]:
            return request.path, session["user"]

    assert later() == ("/chat/lobby", "ann")


def test_a_hook_can_stream_with_context(handshake: Handshake) -> None:
    def parts() -> Iterator[str]:
        yield request.path

    with handshake.hook_context():
        assert list(flask.stream_with_context(parts())) == ["/chat/lobby"]


def test_flashed_messages(handshake: Handshake) -> None:
    with handshake.hook_context():
        flask.flash("hello")
    with handshake.hook_context():
        assert flask.get_flashed_messages() == ["hello"]


def test_a_handshake_that_matched_nothing_keeps_its_error(app: Flask) -> None:
    with app.test_request_context("/nowhere"):
        handshake = Handshake.current()
    with handshake.hook_context():
        assert isinstance(request.routing_exception, NotFound)
        assert request.blueprints == []


def test_a_handshake_needs_a_request() -> None:
    with pytest.raises(RuntimeError, match="request context"):
        Handshake.current()
