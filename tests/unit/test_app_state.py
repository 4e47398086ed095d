"""Settings: what is set before the first use counts, also after ``WebSocket(app)``.

"Use" is a handshake, a broadcast, a command, or the start of a worker.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from flask import Flask
from support.engines import EXTENSIONS

import flask_wsviews
from flask_wsviews import (
    AsyncioWebSocket,
    Blueprint,
    ConfigError,
    EngineError,
    RegistrationError,
    WebSocket,
    WebSocketView,
    servers,
)
from flask_wsviews.app_state import EXTENSION, STATE, state_of
from flask_wsviews.config import Settings, key_of
from flask_wsviews.groups.brokers.memory import MemoryBroker
from flask_wsviews.servers.uwsgi import adapter as uwsgi_adapter
from flask_wsviews.testing import (
    HandshakeRejected,
    WebSocketTestClient,
    captured_broadcasts,
    websocket_connect,
)

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()


#: A value other than the default for each setting.
OTHER: dict[str, Any] = {
    "max_connections": 7,
    "max_connections_per_address": 7,
    "max_message_size": 77,
    "max_fragments": 7,
    "max_receive_buffer": 77,
    "max_send_buffer": 77_777,
    "ping_interval": None,
    "ping_timeout": 7.5,
    "max_control_frames": 77,
    "idle_timeout": 77.0,
    "max_lifetime": 77.0,
    "rate_limit": "7/second",
    "rate_limit_storage": "redis://:hush@127.0.0.1:1/0",
    "close_timeout": 7.0,
    "shutdown_timeout": 7.0,
    "allowed_origins": ["https://example.org"],
    "compression": True,
    "compression_level": 7,
    "compression_window_bits": 9,
    "compression_context_takeover": False,
    "compression_min_size": 7,
    "text_as_bytes": True,
    "validate_outgoing": False,
    "monkey_patch": False,
    "threads": 7,
    "engine": "asyncio",
    "broker_url": "redis://:hush@127.0.0.1:1/0",
    "broker_timeout": 0.7,
    "key_prefix": "seven",
    "max_history_size": 77_777,
    "max_replays": 7,
    "replay_timeout": 7.0,
    "slow_clients": "drop-oldest",
    "keep_g": ["seven"],
    "presence_ttl": 7.0,
}

#: It acts when the application is set up.
AT_ONCE = "monkey_patch"

NAMES = [field.name for field in fields(Settings)]
LATE = [name for name in NAMES if name != AT_ONCE]


class Echo(WebSocketView):
    def on_message(self, ws: Any, message: Any) -> None:
        ws.send(message)


@pytest.fixture(params=EXTENSIONS)
def made(request: pytest.FixtureRequest) -> Iterator[WebSocket]:
    websocket: WebSocket = getattr(flask_wsviews, request.param)(site())
    websocket.add_url_rule("/echo", view_func=Echo)
    yield websocket
    websocket.stop()


def site(name: str = "site") -> Flask:
    app = Flask(name)
    app.testing = True
    return app


def app_of(websocket: WebSocket) -> Flask:
    assert websocket.app is not None
    return websocket.app


@contextmanager
def connected(app: Flask, path: str = "/echo", **options: Any) -> Iterator[WebSocketTestClient]:
    with app.test_client() as client, websocket_connect(client, path, **options) as ws:
        yield ws


def use(app: Flask) -> None:
    """A first use, which closes nothing and sends nothing."""
    with captured_broadcasts(app):
        pass


# -- where the state is kept --------------------------------------------------------------------


def test_an_application_keeps_the_extension_and_one_state(made: WebSocket) -> None:
    app = app_of(made)
    use(app)
    assert {key for key in app.extensions if key.startswith("wsviews")} == {EXTENSION, STATE}
    assert app.extensions[EXTENSION] is state_of(app).extension is made


def test_the_state_of_an_application_that_is_not_set_up() -> None:
    with pytest.raises(RegistrationError, match=r"call init_app\(\) first"):
        state_of(site())


# -- before the first use -----------------------------------------------------------------------


def test_every_setting_is_tested() -> None:
    assert OTHER.keys() == set(NAMES)
    assert all(getattr(Settings(), name) != value for name, value in OTHER.items())


@pytest.mark.parametrize("name", LATE)
def test_what_is_set_after_the_extension_counts(name: str) -> None:
    app = site()
    websocket = WebSocket(app)
    app.config.from_mapping({key_of(name): OTHER[name]})
    use(app)
    wanted = Settings.from_mapping(app.config)
    assert getattr(wanted, name) != getattr(Settings(), name)
    assert state_of(app).settings == wanted
    assert websocket.groups.settings == wanted


@pytest.mark.parametrize("name", LATE)
def test_what_is_taken_back_before_the_first_use_counts(name: str) -> None:
    app = site()
    app.config[key_of(name)] = OTHER[name]
    WebSocket(app)
    del app.config[key_of(name)]
    use(app)
    assert state_of(app).settings == Settings()


@pytest.mark.parametrize("when", ["before", "after"])
def test_patching_has_been_done_when_it_is_switched_off(when: str) -> None:
    app = site()
    if when == "before":
        app.config["WSVIEWS_MONKEY_PATCH"] = False
        WebSocket(app)
        use(app)
        return
    WebSocket(app)
    app.config["WSVIEWS_MONKEY_PATCH"] = False
    with pytest.raises(ConfigError, match="WSVIEWS_MONKEY_PATCH was changed from True to False"):
        use(app)


def test_limits_count(made: WebSocket) -> None:
    app = app_of(made)
    app.config["WSVIEWS_MAX_MESSAGE_SIZE"] = 10
    app.config["WSVIEWS_ALLOWED_ORIGINS"] = ["https://example.org"]
    app.config["WSVIEWS_MAX_CONNECTIONS"] = 1
    with connected(app, origin="https://example.org") as ws:
        with pytest.raises(HandshakeRejected, match="503"), connected(app):
            pass
        ws.send("x" * 11)
        ws.assert_closed(1009)


def test_rates_count(made: WebSocket) -> None:
    app = app_of(made)
    app.config["WSVIEWS_RATE_LIMIT"] = "1/hour"
    app.config["WSVIEWS_RATE_LIMIT_STORAGE"] = "memory://"
    with connected(app) as ws:
        ws.send("one")
        assert ws.receive() == "one"
        ws.send("two")
        ws.assert_closed(1008)


def test_the_broker_counts(made: WebSocket) -> None:
    app = app_of(made)
    app.config["WSVIEWS_BROKER_URL"] = "redis://127.0.0.1:1/0"
    app.config["WSVIEWS_BROKER_TIMEOUT"] = 0.5
    with pytest.raises(flask_wsviews.BrokerUnavailable):
        made.broadcast("lobby", "hello")


def test_the_engine_counts(made: WebSocket) -> None:
    app = app_of(made)
    app.config["WSVIEWS_ENGINE"] = "asyncio"
    assert made.engine.name == "asyncio"

    async def later(ws: Any) -> None:
        await ws.send(made.engine.name)

    made.route("/later")(later)
    with connected(app, "/later") as ws:
        assert ws.receive() == "asyncio"


def test_coroutines_and_an_engine_that_is_set_too_late() -> None:
    app = site()

    async def later(ws: Any) -> None: ...

    AsyncioWebSocket(app).route("/later")(later)
    app.config["WSVIEWS_ENGINE"] = "blocking"
    with pytest.raises(RegistrationError, match="later: async def needs AsyncioWebSocket"):
        use(app)


@pytest.mark.parametrize(
    ("key", "value", "error", "match"),
    [
        ("WSVIEWS_PING_INTERVALL", 5, ConfigError, "did you mean WSVIEWS_PING_INTERVAL"),
        ("WSVIEWS_PING_INTERVAL", "often", ConfigError, "WSVIEWS_PING_INTERVAL"),
        ("WSVIEWS_BROKER_URL", "carrier-pigeon://", ConfigError, "WSVIEWS_BROKER_URL"),
        ("WSVIEWS_RATE_LIMIT", "often", ConfigError, "WSVIEWS_RATE_LIMIT"),
        ("WSVIEWS_ENGINE", "steam", EngineError, "steam"),
    ],
    ids=["misspelt", "value", "broker", "rate", "engine"],
)
def test_late_mistakes_are_found_at_first_use(
    made: WebSocket, key: str, value: Any, error: type[Exception], match: str
) -> None:
    app = app_of(made)
    app.config[key] = value
    # Again and again, until it is put right.
    for _ in range(2):
        with pytest.raises(error, match=match), connected(app):
            pass
    app.config.pop(key)
    with connected(app) as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def test_a_mistake_answers_with_500_and_is_logged(
    made: WebSocket, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(made)
    app.testing = False
    app.config["WSVIEWS_PING_INTERVALL"] = 5
    with pytest.raises(HandshakeRejected, match="500"), connected(app):
        pass
    assert "did you mean WSVIEWS_PING_INTERVAL?" in caplog.text


# -- after the first use ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_later_change_is_refused(name: str) -> None:
    app = site()
    websocket = WebSocket(app)
    websocket.add_url_rule("/echo", view_func=Echo)
    use(app)
    app.config[key_of(name)] = OTHER[name]
    for attempt in (use, lambda app: websocket.broadcast("lobby", "hello"), _handshake):
        with pytest.raises(ConfigError, match=f"{key_of(name)} was changed") as caught:
            attempt(app)
        assert "hush" not in str(caught.value)
    # It may be put back.
    app.config.pop(key_of(name))
    use(app)


def _handshake(app: Flask) -> None:
    with connected(app):
        pass


def test_a_list_that_is_changed_in_place_is_a_change() -> None:
    app = site()
    app.config["WSVIEWS_ALLOWED_ORIGINS"] = origins = ["https://a.org"]
    WebSocket(app)
    origins.append("https://b.org")
    use(app)
    origins.append("https://c.org")
    with pytest.raises(ConfigError, match=r"WSVIEWS_ALLOWED_ORIGINS was changed .*c\.org"):
        use(app)


def test_what_is_the_same_is_no_change() -> None:
    app = site()
    app.config["WSVIEWS_ALLOWED_ORIGINS"] = ["https://a.org"]
    WebSocket(app)
    use(app)
    app.config["WSVIEWS_ALLOWED_ORIGINS"] = ("https://A.org:443",)
    app.config["WSVIEWS_PING_INTERVAL"] = 25
    app.config["OTHER"] = 1
    use(app)
    app.config["OTHER"] = 2
    use(app)


def test_a_misspelt_key_after_the_first_use() -> None:
    app = site()
    WebSocket(app)
    use(app)
    app.config["WSVIEWS_TREADS"] = 4
    with pytest.raises(ConfigError, match="did you mean WSVIEWS_THREADS"):
        use(app)


# -- several applications -----------------------------------------------------------------------


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_each_application_has_its_own_settings(extension: str) -> None:
    websocket: WebSocket = getattr(flask_wsviews, extension)()
    websocket.add_url_rule("/echo", view_func=Echo)
    apps = [site(f"site{number}") for number in range(3)]
    for number, app in enumerate(apps):
        websocket.init_app(app)
        app.config["WSVIEWS_MAX_MESSAGE_SIZE"] = 10 + number
        app.config["WSVIEWS_THREADS"] = 1 + number
        app.config["WSVIEWS_ENGINE"] = ["blocking", "asyncio", None][number]
    for number, app in enumerate(apps):
        with connected(app) as ws:
            ws.send("x" * (10 + number))
            assert ws.receive()
            ws.send("x" * (11 + number))
            ws.assert_closed(1009)
    for app, name in zip(apps, ["blocking", "asyncio"], strict=False):
        with app.app_context():
            assert websocket.engine.name == name
    apps[0].config["WSVIEWS_THREADS"] = 9
    use(apps[1])
    with pytest.raises(ConfigError, match="WSVIEWS_THREADS was changed from 1 to 9"):
        use(apps[0])
    websocket.stop()


def test_applications_with_equal_settings_share_an_engine() -> None:
    websocket = AsyncioWebSocket()
    apps = [site("one"), site("two"), site("three")]
    for app in apps:
        websocket.init_app(app)
    apps[2].config["WSVIEWS_THREADS"] = 3
    for app in apps:
        use(app)
    one, two, three = (state_of(app).engine for app in apps)
    assert one is two
    assert one is not three


# -- registration -------------------------------------------------------------------------------


class Lobby(WebSocketView):
    groups = ("lobby",)
    presence = True


class Uwsgi:
    numproc = 4
    loop = None
    has_threads = 1

    def mule_id(self) -> int:
        return 0

    def worker_id(self) -> int:
        return 1


@pytest.mark.parametrize("late", [True, False], ids=["late", "never"])
def test_groups_may_be_registered_before_the_broker_is_named(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", Uwsgi())
    app = site()
    websocket = WebSocket(app)
    websocket.add_url_rule("/lobby", view_func=Lobby)
    blueprint = Blueprint("more", "more")
    blueprint.add_websocket_rule("/more", view_func=Lobby)
    app.register_blueprint(blueprint)
    if late:
        app.config["WSVIEWS_BROKER_URL"] = "redis://127.0.0.1:1/0"
        use(app)
        return
    with pytest.raises(ConfigError, match=r"4 workers.*WSVIEWS_BROKER_URL"):
        use(app)


def test_a_broker_without_presence_is_found_at_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    app = site()
    WebSocket(app).add_url_rule("/lobby", view_func=Lobby)
    app.config["WSVIEWS_KEY_PREFIX"] = "another"
    monkeypatch.setattr(MemoryBroker, "presence", None, raising=False)
    monkeypatch.setattr(MemoryBroker, "__init__", lambda self, settings: None)
    with pytest.raises(RegistrationError, match="MemoryBroker doesn't support"):
        use(app)


# -- workers ------------------------------------------------------------------------------------


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the adapter sees of uWSGI while the master loads the application."""
    uwsgi = SimpleNamespace(worker=0)
    uwsgi.worker_id = lambda: uwsgi.worker
    monkeypatch.setattr(uwsgi_adapter, "find_uwsgi", lambda: uwsgi)
    monkeypatch.setattr(servers, "_made", {})
    return uwsgi


def test_a_worker_settles_when_it_starts(master: SimpleNamespace) -> None:
    app = site()
    called: list[str] = []
    master.post_fork_hook = lambda: called.append("application's")
    WebSocket(app)
    WebSocket(site("another"))
    app.config["WSVIEWS_THREADS"] = 3
    # In a mule.
    master.post_fork_hook()
    assert not state_of(app).is_settled
    master.worker = 1
    master.post_fork_hook()
    settings = state_of(app).settings
    assert settings is not None
    assert settings.threads == 3
    assert called == ["application's"] * 2


def test_a_worker_that_can_not_settle_logs_why(
    master: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    app = site()
    WebSocket(app)
    app.config["WSVIEWS_TREADS"] = 3
    master.worker = 1
    with caplog.at_level(logging.ERROR, "flask_wsviews"):
        master.post_fork_hook()
    [message] = caplog.messages
    assert message.startswith("this worker can't serve WebSockets: there is no setting")


def test_a_worker_that_loads_the_application_itself(master: SimpleNamespace) -> None:
    master.worker = 1
    WebSocket(site())
    assert not hasattr(master, "post_fork_hook")


# -- commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["routes"], ["run", "--dry-run"], ["broadcast", "a", "b"], ["doctor"]]
)
def test_commands_use_settings(arguments: list[str]) -> None:
    app = site()
    WebSocket(app)
    app.config["WSVIEWS_TREADS"] = 3
    result = app.test_cli_runner().invoke(args=["ws", *arguments])
    assert result.exit_code == 1
    assert "did you mean WSVIEWS_THREADS" in result.output
