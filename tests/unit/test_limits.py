"""Limits by address and by rate, without a server."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from flask import Flask
from limits.errors import StorageError
from limits.storage import MemoryStorage
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests

from flask_wsviews import (
    AsyncioWebSocketClient,
    ConfigError,
    RegistrationError,
    WebSocket,
    WebSocketView,
)
from flask_wsviews.common.admission import Admission
from flask_wsviews.common.rate_limits import RETRY_AFTER, RateLimits, check_rate, windows
from flask_wsviews.config import Settings
from flask_wsviews.handshake.accept import _with_time_limits


def test_places_are_reserved_by_address() -> None:
    admission = Admission()
    places = [admission.admit(address, None, 2) for address in "aab"]
    with pytest.raises(TooManyRequests):
        admission.admit("a", None, 2)
    # A client without an address, behind a Unix socket, counts in total only.
    places.append(admission.admit(None, None, 2))
    places[0].release()
    places[0].release()
    places.append(admission.admit("a", None, 2))
    with pytest.raises(TooManyRequests):
        admission.admit("a", None, 2)
    for place in places:
        place.release()
    assert (admission._count, admission._by_address) == (0, {})


def test_places_are_reserved_in_total() -> None:
    admission = Admission()
    one, two = admission.admit("a", 2, None), admission.admit("b", 2, None)
    with pytest.raises(ServiceUnavailable):
        admission.admit("c", 2, 1)
    # What was refused takes nothing.
    one.release()
    admission.admit("c", 2, 1).release()
    two.release()
    assert (admission._count, admission._by_address) == (0, {})


def test_rates() -> None:
    assert check_rate("key", None) is None
    assert check_rate("key", "") is None
    assert check_rate("key", "20/second") == "20/second"
    assert check_rate("key", "20/second; 5 per 2 minutes") == "20/second; 5 per 2 minutes"
    for value in ("often", "20", 20, 0, ["20/second"], "0/second", "20/second; 0/hour", " "):
        with pytest.raises(ConfigError, match=r'key must be a rate such as "20/second"'):
            check_rate("key", value)


def test_the_rates_of_a_connection() -> None:
    assert windows("20/second; 5 per 2 minutes") == [
        (20, 1, "too many messages: 20 per 1 second at most"),
        (5, 120, "too many messages: 5 per 2 minute at most"),
    ]


def test_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "limits", None)
    with pytest.raises(ConfigError, match=r"flask-wsviews\[limits\]"):
        check_rate("key", "20/second")
    assert check_rate("key", None) is None


def test_messages_are_counted_by_key() -> None:
    limits = RateLimits("memory://")
    limits.check()
    one, same, other = (limits.meter("2/hour; 9/day", key) for key in "aab")
    assert [one.count(), same.count(), one.count(), other.count()] == [True, True, False, True]
    assert not one.waits
    assert one.reason == "too many messages: 2 per 1 hour at most"
    stop(limits)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://me:secret@host", "WSVIEWS_RATE_LIMIT_STORAGE.*nowhere://$"),
        ("async+redis://me:secret@host", r"remove async\+"),
    ],
)
def test_there_is_no_such_storage(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        RateLimits(url).check()
    assert "secret" not in str(caught.value)


def test_redis_gets_only_so_much_time() -> None:
    pytest.importorskip("redis")
    limits = RateLimits("redis://localhost:1/0", timeout=0.75)
    limits.check()
    meter = limits.meter("1/hour", "a")
    assert meter.waits
    options = limits._limiter.get().storage.storage.connection_pool.connection_kwargs  # type: ignore[attr-defined]
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.75, 0.75)


def test_a_storage_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("flask_wsviews.common.rate_limits.monotonic", lambda: now)
    limits = RateLimits("memory://")
    meter = limits.meter("1/hour", "a")
    asked = 0

    def fail(*args: Any, **kwargs: Any) -> None:
        nonlocal asked
        asked += 1
        raise StorageError(OSError("away"))

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStorage, "incr", fail)
        assert [meter.count() for _ in range(3)] == [True] * 3
        # For a while it isn't asked, which could delay each message.
        assert asked == 1
        now += RETRY_AFTER
        assert [meter.count() for _ in range(3)] == [True] * 3
        assert asked == 2
    assert [meter.count() for _ in range(2)] == [True] * 2
    now += RETRY_AFTER
    assert [meter.count() for _ in range(2)] == [True, False]
    assert caplog.text.count("rate limits are off because their storage fails: away") == 1
    assert caplog.text.count("rate limits are on again") == 1
    stop(limits)


def test_rates_are_checked_when_they_are_declared() -> None:
    app = Flask(__name__)
    websocket = WebSocket(app)
    with pytest.raises(ConfigError, match="rate_limit of echo"):

        @websocket.route("/", rate_limit="often")
        def echo(ws: Any) -> None:
            """Does nothing."""

    for key, value in (("RATE_LIMIT", "often"), ("RATE_LIMIT_STORAGE", "nowhere://")):
        other = Flask(__name__)
        other.config["WSVIEWS_RATE_LIMIT"] = "20/second"
        other.config[f"WSVIEWS_{key}"] = value
        with pytest.raises(ConfigError, match=f"WSVIEWS_{key}"):
            WebSocket(other)


@pytest.mark.parametrize("name", ["idle_timeout", "max_lifetime"])
def test_times_are_checked_when_they_are_declared(name: str) -> None:
    websocket = WebSocket(Flask(__name__))
    for value in (0, 60, 0.5, None):
        websocket.add_url_rule(f"/{value}", f"echo-{value}", lambda ws: None, **{name: value})
    for bad in (-1, "soon", True):
        with pytest.raises(ConfigError, match=f"{name} of echo must be a number of seconds"):
            websocket.add_url_rule("/", "echo", lambda ws: None, **{name: bad})


def test_a_view_has_times_of_its_own() -> None:
    class Own(WebSocketView):
        idle_timeout = 5
        max_lifetime = 0

    settings = Settings(idle_timeout=60, max_lifetime=600)
    assert _with_time_limits(settings, WebSocketView()) is settings
    own = _with_time_limits(settings, Own())
    assert (own.idle_timeout, own.max_lifetime) == (5, None)
    assert own.max_message_size == settings.max_message_size


def test_a_key_is_made_by_a_plain_function() -> None:
    websocket = WebSocket(Flask(__name__))

    class Chat(WebSocketView):
        async def rate_limit_key(self, ws: Any) -> str:  # type: ignore[override]
            return "key"

    with pytest.raises(RegistrationError, match="rate_limit_key of Chat can't be async def"):
        websocket.add_url_rule("/", view_func=Chat)


def test_nothing_waits_for_a_network_on_the_loop() -> None:
    client = AsyncioWebSocketClient({})
    limits = RateLimits("memory://")
    client._meter = limits.meter("1/hour", "a")
    client._meter.waits = True
    with pytest.raises(RuntimeError, match=r"await receive\(timeout\)"):
        client.recv_nb()
    stop(limits)


def stop(limits: RateLimits) -> None:
    """End the timer that the library's memory runs."""
    timer = limits._limiter.get().storage.timer  # type: ignore[attr-defined]
    timer.cancel()
    timer.join(10)
