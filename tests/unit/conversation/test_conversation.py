"""What becomes of what a hook raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask import Flask, abort, g, got_request_exception, redirect
from support.peers import UPGRADE_HEADERS, Peer, close, open_client, sent_close, sent_text, text
from werkzeug.exceptions import Forbidden, HTTPException, InternalServerError, NotFound

from flask_wsviews.blueprints import Blueprint
from flask_wsviews.client import WebSocketClient
from flask_wsviews.conversation.context import Handshake
from flask_wsviews.conversation.conversation import Conversation, conversation_class
from flask_wsviews.exceptions import CloseConnection, ConnectionClosed
from flask_wsviews.observers import Observer
from flask_wsviews.registration.function_view import FunctionView
from flask_wsviews.views import WebSocketView


class View(WebSocketView):
    """A view whose ``on_error`` is set by a test."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.answer: Callable[[Exception], bool | None] = lambda error: None

    def on_error(self, ws: WebSocketClient, error: Exception) -> bool | None:
        assert flask.has_request_context()
        self.errors.append(error)
        return self.answer(error)


class Site:
    """An application with one connection open, and what is known of its errors."""

    def __init__(self) -> None:
        self.app = Flask("site")
        self.blueprint = Blueprint("chat", __name__)
        self.blueprint.add_websocket_rule("/chat/<room>", "talk", lambda ws, room: None)
        self.view = View()
        self.client, self.peer = open_client(self.app)
        self.signalled: list[BaseException] = []
        self.handled: list[tuple[str, BaseException]] = []
        self.observers: tuple[Observer, ...] = ()
        self._conversation: Conversation | None = None

    @property
    def conversation(self) -> Conversation:
        """Made when first asked for, so that a test can set the application up before."""
        if self._conversation is None:
            self.app.register_blueprint(self.blueprint)
            with self.app.test_request_context("/chat/lobby", headers=UPGRADE_HEADERS):
                handshake = Handshake.current()
            self._conversation = conversation_class(self.view)(
                handshake, self.view, {"room": "lobby"}, self.client, self.observers
            )
        return self._conversation

    def run_raising(self, error: BaseException) -> bool:
        return self.conversation._hooks.run(raise_, (error,))

    def handle(self, kind: Any, name: str = "app", on: Any = None) -> None:
        """Register an error handler that notes what it gets."""

        def handler(error: Exception) -> str:
            assert flask.has_request_context()
            self.handled.append((name, error))
            return "a response that has nowhere to go"

        (on or self.app).register_error_handler(kind, handler)


def raise_(error: BaseException) -> None:
    raise error


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    def receive(sender: Flask, exception: BaseException, **extra: Any) -> None:
        assert sender is site.app
        site.signalled.append(exception)

    with got_request_exception.connected_to(receive, site.app):
        yield site


def logged(caplog: pytest.LogCaptureFixture) -> list[BaseException]:
    """The exceptions that were logged, each with its traceback."""
    errors = []
    for record in caplog.records:
        assert record.name == "site"
        assert record.levelno == logging.ERROR
        assert record.getMessage() == "Exception on WebSocket /chat/lobby"
        assert record.exc_info is not None
        assert record.exc_info[1] is not None
        assert record.exc_info[2] is not None
        errors.append(record.exc_info[1])
    return errors


# -- hooks that do well -------------------------------------------------------------------------


def test_a_hook_runs_in_a_context_of_its_own(site: Site) -> None:
    seen = []

    def hook(*args: Any, **kwargs: Any) -> str:
        assert flask.request.view_args == {"room": "lobby"}
        assert list(g) == []
        g.used = True
        seen.append((args, kwargs))
        return "nobody cares"

    assert site.conversation._hooks.run(hook, (1, 2), {"name": "x"}) is True
    assert site.conversation._hooks.run(hook) is True
    assert seen == [((1, 2), {"name": "x"}), ((), {})]
    assert not flask.has_app_context()
    assert site.peer.sent() == []


# -- conversations ------------------------------------------------------------------------------


class Journal(WebSocketView):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_connect(self, ws: WebSocketClient, **view_args: Any) -> None:
        self.calls.append(("connect", view_args))

    def on_message(self, ws: WebSocketClient, message: Any) -> None:
        self.calls.append(("message", message))

    def on_close(self, ws: WebSocketClient, code: int, reason: str) -> None:
        self.calls.append(("close", code, reason))


def converse(site: Site, view: WebSocketView) -> bool:
    """Go on with the conversation of *view*; returns whether it is over."""
    site.view = view  # type: ignore[assignment]
    driver: Any = site.client._driver
    return site.conversation.converse(driver)


def test_a_conversation(site: Site) -> None:
    class Chat(WebSocketView):
        def on_connect(self, ws: WebSocketClient, room: str) -> None:
            ws.send(f"welcome to the {room} of {flask.current_app.name}")

        def on_message(self, ws: WebSocketClient, message: Any) -> None:
            if message == "fail":
                raise CloseConnection(4001, "as you wish")
            ws.send(message)

        def on_close(self, ws: WebSocketClient, code: int, reason: str) -> None:
            closed.append((code, reason, flask.request.endpoint))

    closed: list[tuple[int, str, str | None]] = []
    site.peer.feed(text("hi") + text("fail") + text("unheard"))
    assert converse(site, Chat())
    assert site.peer.sent() == [
        sent_text("welcome to the lobby of site"),
        sent_text("hi"),
        sent_close(4001, "as you wish"),
    ]
    assert closed == [(1006, "", "chat.talk")]


def test_the_order_of_the_hooks(site: Site) -> None:
    view = Journal()
    site.peer.feed(text("one") + text("two") + close(4000, "bye"))
    assert converse(site, view)
    assert view.calls == [
        ("connect", {"room": "lobby"}),
        ("message", "one"),
        ("message", "two"),
        ("close", 4000, "bye"),
    ]


def test_a_conversation_without_a_close_frame(site: Site) -> None:
    view = Journal()
    site.peer.feed(text("one"))
    site.peer.hang_up()
    assert converse(site, view)
    assert view.calls[1:] == [("message", "one"), ("close", 1006, "")]


def test_a_conversation_that_has_nothing_to_do_is_gone_on_with_later(site: Site) -> None:
    view = Journal()
    driver: Any = site.client._driver
    driver.parks = True
    assert not converse(site, view)
    assert view.calls == [("connect", {"room": "lobby"})]
    site.peer.feed(text("one"))
    assert not converse(site, view)
    assert view.calls[1:] == [("message", "one")]
    site.peer.feed(text("two") + close(4000, "bye"))
    assert converse(site, view)
    assert view.calls[2:] == [("message", "two"), ("close", 4000, "bye")]


class Quiet(WebSocketView):
    def on_message(self, ws: WebSocketClient, message: Any) -> None:
        ws.send(message)


def test_hooks_that_nobody_wrote_have_no_context(site: Site) -> None:
    contexts: list[BaseException | None] = []
    site.app.teardown_request(contexts.append)
    site.peer.feed(text("one") + close())
    assert converse(site, Quiet())
    assert site.peer.sent()[0] == sent_text("one")
    # One of them is that of the handshake.
    assert len(contexts) == 2


def test_a_view_whose_beginning_and_end_need_no_turn(site: Site) -> None:
    driver: Any = site.client._driver
    driver.parks = True
    site.view = Quiet()  # type: ignore[assignment]
    assert not site.conversation.needs_turn
    assert not site.conversation.skip_turn(driver)
    site.peer.feed(text("one"))
    assert not converse(site, site.view)
    assert site.peer.sent() == [sent_text("one")]
    assert not site.conversation.needs_turn
    assert site.conversation.skip_turn(driver)


class Member(Quiet):
    groups = ("lobby",)


@pytest.mark.parametrize("view", [Journal(), Member(), FunctionView(lambda ws, room: None)])
def test_a_view_whose_beginning_needs_a_turn(site: Site, view: WebSocketView) -> None:
    site.view = view  # type: ignore[assignment]
    assert site.conversation.needs_turn


def test_a_view_whose_end_needs_a_turn(site: Site) -> None:
    class Ending(Quiet):
        def on_close(self, ws: WebSocketClient, code: int, reason: str) -> None:
            pass

    site.view = Ending()  # type: ignore[assignment]
    assert not site.conversation.needs_turn
    assert not site.conversation.skip_turn(site.client._driver)
    assert site.conversation.needs_turn


def test_who_watches_hooks_needs_a_turn_for_those_that_nobody_wrote(site: Site) -> None:
    class Watching(Observer):
        watches_hooks = True

    site.view = Quiet()  # type: ignore[assignment]
    site.observers = (Watching(),)
    assert site.conversation.needs_turn


def test_no_message_is_handled_after_a_failed_on_connect(site: Site) -> None:
    class Refusing(Journal):
        def on_connect(self, ws: WebSocketClient, **view_args: Any) -> None:
            raise CloseConnection(4001)

    view = Refusing()
    site.peer.feed(text("one"))
    assert converse(site, view)
    assert [call[0] for call in view.calls] == ["close"]


def test_on_close_runs_even_when_the_greenlet_is_killed(site: Site) -> None:
    class Killed(BaseException):
        pass

    class Fatal(Journal):
        def on_message(self, ws: WebSocketClient, message: Any) -> None:
            raise Killed

    view = Fatal()
    site.peer.feed(text("one"))
    with pytest.raises(Killed):
        converse(site, view)
    assert [call[0] for call in view.calls] == ["connect", "close"]


def test_a_function_owns_its_conversation(site: Site) -> None:
    calls = []

    def serve(ws: WebSocketClient, room: str) -> None:
        calls.append(room)
        for message in ws:
            calls.append(message)
            if message == "two":
                return

    site.peer.feed(text("one") + text("two") + text("three"))
    assert converse(site, FunctionView(serve))
    assert calls == ["lobby", "one", "two"]


# -- exceptions that close quietly --------------------------------------------------------------


def test_close_connection(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.handle(Exception)
    assert site.run_raising(CloseConnection(4001, "enough")) is False
    assert site.peer.sent() == [sent_close(4001, "enough")]
    assert site.view.errors == site.signalled == site.handled == logged(caplog) == []


def test_the_end_of_its_own_connection(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.handle(Exception)
    site.peer.feed(close(1001))

    def hook() -> None:
        assert site.client.receive() is None
        site.client.send("too late")

    assert site.conversation._hooks.run(hook) is False
    assert site.peer.sent() == [sent_close(1001)]
    assert site.client.close_code == 1001
    assert site.view.errors == site.signalled == site.handled == logged(caplog) == []


def test_send_after_its_own_close(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def hook() -> None:
        site.client.close(4002)
        site.client.send("too late")

    assert site.conversation._hooks.run(hook) is False
    assert site.peer.sent() == [sent_close(4002)]
    assert logged(caplog) == []


def test_the_end_of_another_connection_is_an_error(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    error = ConnectionClosed(1001)
    assert site.run_raising(error) is False
    assert site.view.errors == site.signalled == logged(caplog) == [error]
    assert site.peer.sent() == [sent_close(1011)]


class LongName(Forbidden):
    name = "x" + "é" * 100  # of which the 123 bytes of a reason would hold one half


class OddName(Forbidden):
    name = "what\udc00"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Forbidden(), 1008, "Forbidden"),
        (NotFound("no such room"), 1008, "Not Found"),
        (InternalServerError(), 1011, ""),
        (HTTPException(), 1011, ""),
        (LongName(), 1008, "x" + "é" * 61),
        (OddName(), 1008, "what?"),
    ],
)
def test_http_exceptions(
    error: HTTPException, code: int, reason: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    assert site.run_raising(error) is False
    assert site.peer.sent() == [sent_close(code, reason)]
    assert site.view.errors == [error]
    assert site.signalled == logged(caplog) == []


# -- failures -----------------------------------------------------------------------------------


def test_a_failure_is_logged_signalled_and_closes_with_1011(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("from a hook")
    assert site.run_raising(error) is False
    assert site.view.errors == [error]
    assert site.signalled == [error]
    assert logged(caplog) == [error]
    assert site.peer.sent() == [sent_close(1011)]
    assert not flask.has_app_context()


def test_the_signal_is_sent_before_it_is_logged(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def receive(sender: Flask, exception: BaseException) -> None:
        assert logged(caplog) == []

    with got_request_exception.connected_to(receive, site.app):
        site.run_raising(ValueError("from a hook"))
    # A failure of the receiver would be here as well.
    assert len(logged(caplog)) == 1


def test_a_failure_after_the_end_is_still_logged(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.peer.feed(close(4000))
    assert site.client.receive() is None
    error = ValueError("from on_close")
    assert site.run_raising(error) is False
    assert logged(caplog) == [error]
    assert site.peer.sent() == [sent_close(4000)]


def test_an_oserror_is_a_failure(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.client.close(4000)
    error = ConnectionResetError("the database")
    assert site.run_raising(error) is False
    assert logged(caplog) == [error]


def test_one_connection_does_not_end_another(site: Site) -> None:
    other = Peer()
    site.run_raising(ValueError())
    assert other.connection.next_message() is None
    assert site.conversation._hooks.run(lambda: None) is True


# -- on_error -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError(), Forbidden()])
def test_on_error_may_let_the_connection_go_on(
    error: Exception, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.handle(Exception)
    site.view.answer = lambda error: True
    assert site.run_raising(error) is True
    assert site.view.errors == [error]
    assert site.handled == []
    assert site.peer.sent() == []
    assert site.client.connected


@pytest.mark.parametrize("answer", [None, False])
def test_on_error_may_look_on(answer: bool | None, site: Site) -> None:
    site.handle(ValueError)
    site.view.answer = lambda error: answer
    error = ValueError()
    assert site.run_raising(error) is False
    assert site.handled == [("app", error)]
    assert site.peer.sent() == [sent_close(1011)]


def test_on_error_may_choose_the_close_code(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.view.answer = lambda error: raise_(CloseConnection(4003, "bad input"))
    assert site.run_raising(ValueError()) is False
    assert site.peer.sent() == [sent_close(4003, "bad input")]
    assert logged(caplog) == []


def test_on_error_may_use_abort(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.view.answer = lambda error: abort(403)
    assert site.run_raising(ValueError()) is False
    assert site.peer.sent() == [sent_close(1008, "Forbidden")]


def test_a_response_may_be_aborted_with(site: Site) -> None:
    site.view.answer = lambda error: abort(redirect("/login"))
    assert site.run_raising(ValueError()) is False
    assert site.peer.sent() == [sent_close(1008, "Found")]


def test_on_error_may_fail_itself(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    failure = KeyError("from on_error")
    site.view.answer = lambda error: raise_(failure)
    error = ValueError("from a hook")
    assert site.run_raising(error) is False
    assert site.signalled == logged(caplog) == [failure]
    assert failure.__context__ is error
    assert site.peer.sent() == [sent_close(1011)]


def test_on_error_may_raise_the_same_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    # `raise error` at the end of on_error() must not make the error disappear.
    site.view.answer = raise_
    error = ValueError("from a hook")
    assert site.run_raising(error) is False
    assert logged(caplog) == [error]
    assert site.signalled == [error]
    assert site.peer.sent() == [sent_close(1011)]


# -- error handlers -----------------------------------------------------------------------------


def test_the_applications_error_handler(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.handle(ValueError)
    error = ValueError()
    assert site.run_raising(error) is False
    assert site.handled == [("app", error)]
    assert logged(caplog) == [error]
    assert site.peer.sent() == [sent_close(1011)]


def test_the_blueprints_error_handler_comes_first(site: Site) -> None:
    site.handle(ValueError)
    site.handle(ValueError, "blueprint", site.blueprint)
    error = ValueError()
    site.run_raising(error)
    assert site.handled == [("blueprint", error)]


def test_a_handler_for_a_status(site: Site) -> None:
    site.handle(403)
    error = Forbidden()
    site.run_raising(error)
    assert site.handled == [("app", error)]
    assert site.peer.sent() == [sent_close(1008, "Forbidden")]


@pytest.mark.parametrize("kind", [500, InternalServerError])
def test_a_handler_for_500_gets_what_it_gets_for_pages(kind: Any, site: Site) -> None:
    site.handle(kind)
    error = ValueError()
    site.run_raising(error)
    [(_, handled)] = site.handled
    assert isinstance(handled, InternalServerError)
    assert handled.original_exception is error
    assert site.peer.sent() == [sent_close(1011)]


def test_a_handler_for_500_is_not_for_other_statuses(site: Site) -> None:
    site.handle(500)
    site.run_raising(Forbidden())
    assert site.handled == []
    assert site.peer.sent() == [sent_close(1008, "Forbidden")]


def test_a_handler_for_another_exception(site: Site) -> None:
    site.handle(KeyError)
    site.run_raising(ValueError())
    assert site.handled == []


def test_an_error_handler_may_choose_the_close_code(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.app.register_error_handler(ValueError, lambda error: raise_(CloseConnection(4004)))
    error = ValueError()
    assert site.run_raising(error) is False
    assert site.peer.sent() == [sent_close(4004)]
    assert logged(caplog) == [error]


def test_an_error_handler_may_fail_itself(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    failure = KeyError("from the handler")
    site.app.register_error_handler(ValueError, lambda error: raise_(failure))
    error = ValueError("from a hook")
    assert site.run_raising(error) is False
    assert logged(caplog) == [error, failure]
    assert site.signalled == [error, failure]
    assert site.peer.sent() == [sent_close(1011)]


def test_an_error_handler_may_raise_the_same_again(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.app.register_error_handler(ValueError, raise_)
    error = ValueError("from a hook")
    assert site.run_raising(error) is False
    assert logged(caplog) == [error]
    assert site.peer.sent() == [sent_close(1011)]


# -- teardown functions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "handled"),
    [
        (None, False),
        (ValueError("from a hook"), False),
        (ValueError("from a hook"), True),
        (CloseConnection(), False),
        (Forbidden(), False),
    ],
)
def test_teardown_functions_are_told(error: Exception | None, handled: bool, site: Site) -> None:
    seen: list[BaseException | None] = []
    site.view.answer = lambda error: handled
    site.app.teardown_appcontext(seen.append)
    run = site.conversation._hooks.run
    seen.clear()
    assert run(lambda: None if error is None else raise_(error)) is (error is None or handled)
    assert seen == [None if handled else error]


def test_a_teardown_function_may_fail(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    failure = KeyError("from a teardown function")
    failing = False

    @site.app.teardown_request
    def teardown(error: BaseException | None) -> None:
        if failing:
            raise failure

    run = site.conversation._hooks.run
    failing = True
    assert run(lambda: None) is False
    assert logged(caplog) == site.signalled == [failure]
    assert site.peer.sent() == [sent_close(1011)]
    assert not flask.has_app_context()


def test_a_teardown_function_may_fail_after_a_failed_hook(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    failure = KeyError("from a teardown function")
    error = ValueError("from a hook")

    @site.app.teardown_request
    def teardown(seen: BaseException | None) -> None:
        if seen is error:
            raise failure

    assert site.run_raising(error) is False
    assert logged(caplog) == [error, failure]
    assert site.peer.sent() == [sent_close(1011)]


# -- the end of everything ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, BaseException, GeneratorExit])
def test_what_ends_the_worker_goes_through(
    kind: type[BaseException], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.handle(Exception)
    seen: list[BaseException | None] = []
    site.app.teardown_request(seen.append)
    run = site.conversation._hooks.run
    seen.clear()
    error = kind()
    with pytest.raises(kind):
        run(raise_, (error,))
    assert seen == [error]
    assert site.peer.sent() == [sent_close(1011)]
    assert site.view.errors == site.signalled == site.handled == logged(caplog) == []
    assert not flask.has_app_context()
