"""The configuration: defaults, checks, and what origins look like."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from flask_wsviews.common.option_checks import origins
from flask_wsviews.common.origins import normal_origin
from flask_wsviews.config import CHECKS, Settings
from flask_wsviews.exceptions import ConfigError, WSViewsError


def read(**config: Any) -> Settings:
    return Settings.from_mapping({f"WSVIEWS_{name.upper()}": v for name, v in config.items()})


def test_defaults() -> None:
    settings = Settings.from_mapping({})
    assert settings == Settings()
    assert settings.max_message_size == 1024 * 1024
    assert settings.ping_interval is not None
    # Before uWSGI's router closes an idle connection.
    assert settings.ping_interval + settings.ping_timeout < 60
    assert settings.allowed_origins == frozenset()
    assert settings.compression is False


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().compression = True  # type: ignore[misc]


def test_every_field_has_a_check_and_passes_it() -> None:
    assert CHECKS.keys() == {field.name for field in fields(Settings)}
    defaults = {field.name: field.default for field in fields(Settings)}
    assert read(**defaults) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_message_size", 1),
        ("max_message_size", None),
        ("max_fragments", 1),
        ("max_receive_buffer", 10**9),
        ("max_send_buffer", 1),
        ("ping_interval", 0.01),
        ("ping_interval", 30),
        ("ping_interval", None),
        ("ping_timeout", 1),
        ("close_timeout", 0.5),
        ("compression", True),
        ("compression_level", 9),
        ("compression_window_bits", 9),
        ("compression_window_bits", 15),
        ("compression_min_size", 0),
        ("compression_context_takeover", False),
        ("monkey_patch", False),
    ],
)
def test_values_that_can_be_used(name: str, value: Any) -> None:
    assert getattr(read(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_message_size", 0),
        ("max_message_size", -1),
        ("max_message_size", 1.5),
        ("max_message_size", "1000"),
        ("max_message_size", True),
        ("max_fragments", None),
        ("max_fragments", 0),
        ("max_receive_buffer", None),
        ("max_send_buffer", 0),
        ("ping_interval", 0),
        ("ping_interval", 0.009),
        ("ping_interval", float("nan")),
        ("ping_interval", float("inf")),
        ("ping_interval", "25"),
        ("ping_interval", False),
        ("ping_timeout", None),
        ("ping_timeout", -1),
        ("close_timeout", 0),
        ("close_timeout", []),
        ("compression", 1),
        ("compression", None),
        ("compression_level", 0),
        ("compression_level", 10),
        ("compression_window_bits", 8),
        ("compression_window_bits", 16),
        ("monkey_patch", "yes"),
    ],
)
def test_values_that_can_not_be_used(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"WSVIEWS_{name.upper()}") as caught:
        read(**{name: value})
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, WSViewsError)


@pytest.mark.parametrize(
    ("name", "says_none"),
    [("max_message_size", True), ("ping_interval", True), ("ping_timeout", False)],
)
def test_the_error_says_whether_none_is_possible(name: str, says_none: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**{name: "wrong"})
    assert (", or None" in str(caught.value)) is says_none


def test_an_unknown_key_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"WSVIEWS_PING_INTERVALL;.*WSVIEWS_PING_INTERVAL,"):
        read(ping_intervall=1)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("WSVIEWS_MAX_CONECTIONS", "WSVIEWS_MAX_CONNECTIONS"),
        ("WSVIEWS_BROKER", "WSVIEWS_BROKER_URL"),
        ("WSVIEWS_PING_INTERVAl", "WSVIEWS_PING_INTERVAL"),
        ("WSVIEW_PING_INTERVAL", "WSVIEWS_PING_INTERVAL"),
        ("WS_VIEWS_PING_INTERVAL", "WSVIEWS_PING_INTERVAL"),
        ("WS_VIEW_THREADS", "WSVIEWS_THREADS"),
        ("WSVIEW_BROKER_URLS", "WSVIEWS_BROKER_URL"),
    ],
)
def test_a_misspelt_key_suggests_the_nearest(key: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"no setting {key}; did you mean {meant}\?"):
        Settings.from_mapping({key: 1})


def test_a_key_that_resembles_none_names_all() -> None:
    with pytest.raises(ConfigError, match=r"no setting WSVIEWS_XYZZY; known are WSVIEWS_MAX_"):
        Settings.from_mapping({"WSVIEWS_XYZZY": 1})


@pytest.mark.parametrize("key", ["WSVIEW_TEMPLATES", "WS_VIEWS", "WS_VIEW_FOLDER"])
def test_an_applications_own_keys(key: str) -> None:
    assert Settings.from_mapping({key: 1}) == Settings()


def test_the_environment_of_the_build_is_no_setting() -> None:
    assert Settings.from_mapping({"WSVIEWS_COMPILE": 1}) == Settings()


def test_other_keys_are_left_alone() -> None:
    config = {"SECRET_KEY": "x", "wsviews_compression": "?", "XWSVIEWS_COMPRESSION": "?"}
    assert Settings.from_mapping(config) == Settings()


def test_defaults_may_be_given() -> None:
    assert Settings.from_mapping({}, close_timeout=3).close_timeout == 3
    config = {"WSVIEWS_CLOSE_TIMEOUT": 7}
    assert Settings.from_mapping(config, close_timeout=3).close_timeout == 7


def test_given_defaults_are_checked() -> None:
    with pytest.raises(ConfigError, match="WSVIEWS_CLOSE_TIMEOUT"):
        Settings.from_mapping({}, close_timeout=-1)


# -- origins ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("*", "*"),
        (["*"], "*"),
        (("https://example.org", "*"), "*"),
        (None, frozenset()),
        ([], frozenset()),
        (["https://example.org"], {"https://example.org"}),
        (("HTTPS://Example.ORG:443", "http://a:8080"), {"https://example.org", "http://a:8080"}),
        ({"https://example.org", "https://example.org:443"}, {"https://example.org"}),
        (["null"], {"null"}),
    ],
)
def test_allowed_origins(value: Any, wanted: Any) -> None:
    assert origins("key", value) == wanted
    assert read(allowed_origins=value).allowed_origins == wanted


@pytest.mark.parametrize(
    "value",
    [
        "https://example.org",
        "",
        ["example.org"],
        ["https://example.org/"],
        ["https://example.org/page"],
        ["https://example.org?query"],
        ["https://example.org#fragment"],
        ["https://"],
        ["https://[::1"],
        ["https://example.org:port"],
        ["https://example.org:99999"],
        [""],
        [None],
        [1],
    ],
)
def test_what_is_no_list_of_origins(value: Any) -> None:
    with pytest.raises(ConfigError, match="WSVIEWS_ALLOWED_ORIGINS"):
        read(allowed_origins=value)


@pytest.mark.parametrize(
    ("origin", "normal"),
    [
        ("https://example.org", "https://example.org"),
        (" https://example.org ", "https://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("https://example.org:80", "https://example.org:80"),
        ("http://example.org:80", "http://example.org"),
        ("http://example.org:443", "http://example.org:443"),
        ("ws://example.org:80", "http://example.org"),
        ("WSS://example.org", "https://example.org"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("custom://host:443", "custom://host:443"),
        ("null", None),
        ("", None),
        ("//example.org", None),
        ("https:example.org", None),
    ],
)
def test_normal_origin(origin: str, normal: str | None) -> None:
    assert normal_origin(origin) == normal
