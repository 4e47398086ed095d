"""Limits by address and by rate, without a server."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from flask import Flask
from limits.errors import StorageError
from limits.storage import MemoryStorage

from flask_wsviews import ConfigError, WebSocket
from flask_wsviews.addresses import Addresses
from flask_wsviews.rate_limits import RateLimits, check_rate


def test_addresses_are_counted() -> None:
    addresses = Addresses()
    assert addresses.enter("a", 2)
    assert addresses.enter("a", 2)
    assert addresses.enter("b", 2)
    assert not addresses.enter("a", 2)
    addresses.leave("a")
    assert addresses.enter("a", 2)
    for address in "aab":
        addresses.leave(address)
    assert not addresses._counts


def test_rates() -> None:
    assert check_rate("key", None) is None
    assert check_rate("key", "20/second") == "20/second"
    for value in ("often", "20", 20, ["20/second"]):
        with pytest.raises(ConfigError, match=r'key is a rate such as "20/second"'):
            check_rate("key", value)


def test_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "limits", None)
    with pytest.raises(ConfigError, match=r"flask-wsviews\[limits\]"):
        check_rate("key", "20/second")
    assert check_rate("key", None) is None


def test_messages_are_counted_by_key() -> None:
    limits = RateLimits("memory://")
    one, same, other = (limits.meter("2/hour", key) for key in "aab")
    assert [one.count(), same.count(), one.count(), other.count()] == [True, True, False, True]
    assert not one.waits
    assert one.rate == "2 per 1 hour"
    stop(limits)


def test_there_is_no_such_storage() -> None:
    with pytest.raises(ConfigError, match=r"WSVIEWS_RATE_LIMIT_STORAGE.*nowhere"):
        RateLimits("nowhere://").check()


def test_a_storage_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits = RateLimits("memory://")
    meter = limits.meter("1/hour", "a")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise StorageError(OSError("away"))

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStorage, "incr", fail)
        assert [meter.count() for _ in range(3)] == [True] * 3
    assert [meter.count() for _ in range(2)] == [True, False]
    assert caplog.text.count("rates aren't limited, as their storage fails: away") == 1
    assert caplog.text.count("rates are limited again") == 1
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


def stop(limits: RateLimits) -> None:
    """End the timer that the library's memory runs."""
    assert limits._limiter is not None
    timer = limits._limiter.storage.timer  # type: ignore[attr-defined]
    timer.cancel()
    timer.join(10)
