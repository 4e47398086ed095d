"""URLs that are shown have no password in them, however it was written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_wsviews import ConfigError
from flask_wsviews.common.rate_limits import RateLimits
from flask_wsviews.common.urls import shown_url, without_secrets
from flask_wsviews.config import Settings
from flask_wsviews.groups import Publisher, make_broker
from flask_wsviews.groups.brokers.redis.url import client_maker

SECRET = "hush%2Fhush"
#: Each way to write a secret, and what may be shown of it.
SECRETS = {
    "user": ("redis://me:SECRET@host:1/0", "redis://host:1/0"),
    "no user": ("redis://:SECRET@host/0", "redis://host/0"),
    "user alone": ("redis://SECRET@host/0", "redis://host/0"),
    "query": ("redis://host/0?password=SECRET", "redis://host/0?***"),
    "encoded name": ("redis://host/0?pass%77ord=SECRET&db=1", "redis://host/0?***&db=1"),
    "user in the query": ("redis://host/0?username=SECRET", "redis://host/0?***"),
    "unix": ("unix:///run/redis.sock?db=0&password=SECRET", "unix:///run/redis.sock?db=0&***"),
    "unix with a user": ("unix://me:SECRET@/run/redis.sock", "unix:///run/redis.sock"),
    "unix with an @": ("unix:///run/a@b?password=SECRET", "unix:///run/a@b?***"),
    "an @ in the query": ("redis://host/0?password=a@SECRET", "redis://host/0?***"),
    "an @ in the password": ("redis://me:a@SECRET@host/0", "redis://host/0"),
    "key": (
        "rediss://host?ssl_password=SECRET&ssl_ca_certs=ca",
        "rediss://host?***&ssl_ca_certs=ca",
    ),
    "sentinels": (
        "redis+sentinel://me:SECRET@a:1,b:2/main/0?sentinel_password=SECRET",
        "redis+sentinel://a:1,b:2/main/0?***",
    ),
    "cluster": ("rediss+cluster://:SECRET@a,b:2", "rediss+cluster://a,b:2"),
    "IPv6": ("redis://:SECRET@[::1]:6379/0", "redis://[::1]:6379/0"),
    "a slash": ("redis://me:a/SECRET@host/0", "redis://host/0"),
    "a question mark": ("redis://me:SECRET?SECRET@host/0", "redis://***?***"),
    "a hash": ("redis://me:a#SECRET@host/0", "redis://host/0"),
    "a fragment": ("redis://host/0#SECRET", "redis://host/0"),
    "a fragment of the query": ("redis://host/0?db=1#SECRET", "redis://host/0?db=1"),
    "no name": ("redis://host/0?SECRET", "redis://host/0?***"),
    "unknown": ("nats://host/?token=SECRET", "nats://host/?***"),
    "no scheme": ("me:SECRET@host", "host"),
    "no slashes": ("unix:/run/redis.sock?password=SECRET", "unix:/run/redis.sock?***"),
    "no slashes and a user": ("redis:me:SECRET@host", "host"),
    "no scheme and a query": ("host:6379/0?password=SECRET", "host:6379/0?***"),
    "no scheme and an @ in the query": ("host?password=a@SECRET", "***?***"),
    "no scheme and a question mark": ("me:SECRET?SECRET@host", "***?***"),
    "in place of the port": ("redis://host:SECRET", "redis://***"),
    "upper case": ("REDIS://me:SECRET@HOST", "REDIS://HOST"),
    "mongo": ("mongodb://me:SECRET@a,b:2/limits?authSource=SECRET", "mongodb://a,b:2/limits?***"),
}
every_way = pytest.mark.parametrize("way", SECRETS)
every_secret = pytest.mark.parametrize("secret", ["hush", "hush%2Fhush", "h%75sh", "hush+hush"])


def is_in(secret: str, text: str) -> bool:
    return "hush" in text or secret in text


@every_way
@every_secret
def test_what_is_shown(way: str, secret: str) -> None:
    url, shown = (each.replace("SECRET", secret) for each in SECRETS[way])
    assert shown_url(url) == shown
    text = without_secrets(f"can't use {url}, nor {secret}", url)
    assert not is_in(secret, text)


def use_storage(url: str) -> None:
    # Those would connect at once.
    if not ("cluster" in url or "mongo" in url):
        RateLimits(url).check()


def error_of(use: Callable[[str], None], url: str) -> ConfigError | None:
    try:
        use(url)
    except ConfigError as error:
        return error
    return None


@every_way
@every_secret
def test_no_error_has_a_secret(way: str, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of what uses a URL: nothing is connected to."""
    url = SECRETS[way][0].replace("SECRET", secret)
    for scheme in ("", "redis", "rediss", "unix", "redis+sentinel", "memory", "none"):
        named = url if not scheme else f"{scheme}://{url.partition('://')[2] or url}"
        for use in (
            lambda url: make_broker(Settings(broker_url=url)).close(),
            lambda url: Publisher(url).close(),
            use_storage,
        ):
            error = error_of(use, named)
            assert error is None or not is_in(secret, str(error)), named
            assert error is None or error.__cause__ is None
    assert not is_in(secret, caplog.text)


def test_a_rate_limit_storage_whose_host_is_not_valid() -> None:
    with pytest.raises(ConfigError, match="WSVIEWS_RATE_LIMIT_STORAGE: Invalid IPv6 URL"):
        RateLimits("redis://:hush@[::1").check()


def test_what_has_no_secret_is_shown() -> None:
    for url in (
        "memory://",
        "redis://localhost:6379/0",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://a:1,b/main/0",
        "rediss://host?ssl_check_hostname=false&ssl_cert_reqs=none",
        "localhost:6379",
    ):
        assert shown_url(url) == url
        assert without_secrets(f"no {url}", url) == f"no {url}"


# -- options of Redis ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://h?decode_responses=True", "decode_responses can't be set, as messages may be"),
        ("redis://h?protocol=3", "protocol can't be set"),
        ("redis://h?max_connections=1", "max_connections can't be set"),
        ("redis://h?foo=bar", "foo can't be set; known are username, password, socket_timeout"),
        ("redis://h?db=x", "db must be a number from 0 on"),
        ("redis://h?db=-1", "db must be a number from 0 on"),
        ("redis://h?socket_timeout=soon", "socket_timeout must be a number of seconds above 0"),
        ("redis://h?socket_timeout=nan", "socket_timeout must be a number of seconds above 0"),
        ("redis://h?socket_keepalive=2", "socket_keepalive must be true or false"),
        ("redis://h?password=", "password must be some text"),
        ("redis://h?db=1&db=2", "db is given twice"),
        ("redis://h?ssl_ca_certs=ca.pem", "ssl_ca_certs can't be set, as TLS needs rediss://"),
        ("redis://h?sentinel_password=x", "sentinel_password can't be set"),
        ("rediss://h?ssl_check_hostname=nope", "ssl_check_hostname must be true or false"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs must be one of required, optional, none"),
        ("rediss://h?ssl_min_version=1", "ssl_min_version must be one of TLSv1.2, TLSv1.3"),
        ("unix:///s?socket_keepalive=true", "socket_keepalive can't be set"),
        ("unix://", "a path is missing"),
        ("redis://h/x", "the database must be a number"),
        ("redis://a,b/0", "only one host"),
        ("redis://[a/0", "its host isn't valid"),
        ("redis+sentinel://h/main?db=1", "db can't be set"),
        ("redis+sentinel://h/main?sentinel_ssl=true", "sentinel_ssl can't be set, as TLS needs"),
        ("redis+sentinel://h/main?decode_responses=1", "decode_responses can't be set"),
        ("redis+cluster://h?foo=bar", "foo can't be set"),
        ("redis+cluster://h/1", "a cluster has no databases"),
        ("redis+cluster://h:x", "a port must be a number"),
    ],
)
def test_options_that_cannot_be_used(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"WSVIEWS_BROKER_URL.*{problem}"):
        make_broker(Settings(broker_url=url))


def arguments(url: str) -> dict[str, object]:
    client = client_maker(url, 2.0)()
    found: dict[str, object] = client.connection_pool.connection_kwargs
    client.close()
    return found


def test_options_have_the_right_type() -> None:
    found = arguments(
        "rediss://me:a%2Fb@h:1/3?ssl_check_hostname=false&socket_timeout=5&socket_keepalive=yes"
    )
    assert (found["username"], found["password"], found["db"]) == ("me", "a/b", 3)
    assert found["ssl_check_hostname"] is False
    assert (found["socket_timeout"], found["socket_connect_timeout"]) == (5.0, 2.0)
    assert found["socket_keepalive"] is True
    assert arguments("rediss://h?ssl_cert_reqs=none")["ssl_check_hostname"] is False
    assert arguments("redis://?password=a%2Bb")["password"] == "a+b"
    local = arguments("unix://me:x@/run/a.sock?db=2")
    assert (local["path"], local["db"], local["password"]) == ("/run/a.sock", 2, "x")
    assert arguments("unix:///run/a@b.sock?password=x%26y")["path"] == "/run/a@b.sock"


def sentinels(url: str) -> dict[str, object]:
    client = client_maker(url, 2.0)()
    [sentinel, _] = client.connection_pool.sentinel_manager.sentinels
    found: dict[str, object] = dict(sentinel.connection_pool.connection_kwargs)
    found["class"] = sentinel.connection_pool.connection_class.__name__
    return found


def test_sentinels_have_credentials_and_tls_of_their_own() -> None:
    url = "redis+sentinel://me:master@a,b:2/main/1?sentinel_username=you&sentinel_password=other"
    found = sentinels(url)
    assert (found["username"], found["password"]) == ("you", "other")
    assert (found["class"], found["socket_timeout"]) == ("Connection", 2.0)
    master = arguments(url)
    assert (master["username"], master["password"], master["db"]) == ("me", "master", 1)
    found = sentinels("rediss+sentinel://a,b/main?ssl_ca_certs=ca.pem")
    assert (found["class"], found["ssl_ca_certs"]) == ("SSLConnection", "ca.pem")
    assert sentinels("rediss+sentinel://a,b/main?sentinel_ssl=false")["class"] == "Connection"
    assert sentinels("redis+sentinel://:x@a,b/main").get("password") is None
