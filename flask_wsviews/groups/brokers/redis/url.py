"""Makes clients of redis-py for the URL in ``WSVIEWS_BROKER_URL``."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from ....exceptions import ConfigError

FORMS = {
    "": "redis://[user:password@]host:port/database",
    "unix": "unix://[user:password@]/path?db=database",
    "sentinel": "redis+sentinel://[user:password@]host:port,host:port/service[/database]",
    "cluster": "redis+cluster://[user:password@]host:port,host:port",
}

PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}


def _text(value: str) -> str:
    if not value:
        raise ValueError("some text")
    return value


def _integer(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError("a number from 0 on")
    return int(value)


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError("a number of seconds above 0")
    return number


def _flag(value: str) -> bool:
    flags = {"true": True, "yes": True, "on": True, "1": True}
    flags |= {"false": False, "no": False, "off": False, "0": False}
    if value.lower() not in flags:
        raise ValueError("true or false")
    return flags[value.lower()]


def _one_of(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    def read(value: str) -> Any:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return choices[value]

    return read


_TLS_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

#: The options that a URL's query may have, and the function that reads each value.
OPTIONS: dict[str, Callable[[str], Any]] = {
    "username": _text,
    "password": _text,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "health_check_interval": _integer,
    "client_name": _text,
}
TCP_OPTIONS: dict[str, Callable[[str], Any]] = {"socket_keepalive": _flag}
DB_OPTIONS: dict[str, Callable[[str], Any]] = {"db": _integer}
TLS_OPTIONS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _one_of({each: each for each in ("required", "optional", "none")}),
    "ssl_check_hostname": _flag,
    "ssl_min_version": _one_of(_TLS_VERSIONS),
    "ssl_ciphers": _text,
}
SENTINEL_OPTIONS: dict[str, Callable[[str], Any]] = {
    "sentinel_username": _text,
    "sentinel_password": _text,
}
SENTINEL_TLS_OPTIONS: dict[str, Callable[[str], Any]] = {"sentinel_ssl": _flag}

#: Why an option isn't accepted, where that isn't obvious.
REASONS = {
    "decode_responses": "messages may be binary",
    "protocol": "the broker speaks RESP2",
    "max_connections": "the broker bounds its connections itself",
    "timeout": "set WSVIEWS_BROKER_TIMEOUT",
}


def client_maker(url: str, timeout: float) -> Callable[[], Any]:
    """Return a function that makes a client for *url*.

    A client of a cluster connects when it is made, any other at its first use.

    :param timeout: seconds that connecting, and each answer, may take.
    :raises ConfigError: if the URL isn't valid. The message contains no password.
    """
    scheme, _, kind = url.partition("://")[0].lower().partition("+")
    is_tls = scheme == "rediss"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _invalid(kind, "its host isn't valid") from None
    given, asking = _options(parts.query, scheme, kind)
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # The broker does its own retries.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        **given,
    }
    options |= _credentials(parts)
    if scheme == "unix":
        # A user, if there is one, comes before the path.
        path = unquote(parts.netloc.rpartition("@")[2] + parts.path)
        if not path:
            raise _invalid("unix", "a path is missing")
        return partial(redis.Redis, unix_socket_path=path, **options)
    if is_tls:
        options["ssl"] = True
    hosts = _hosts(parts, kind)
    if kind == "cluster":
        if parts.path.strip("/"):
            raise _invalid(kind, "a cluster has no databases")
        make_node: Any = ClusterNode
        nodes = [make_node(*host) for host in hosts]
        return partial(RedisCluster, startup_nodes=nodes, **options)
    if not kind:
        if len(hosts) > 1:
            raise _invalid(kind, "there may be only one host")
        [(host, port)] = hosts
        options |= _database(kind, parts.path.strip("/"))
        return partial(redis.Redis, host=host, port=port, **options)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise _invalid(kind, "the service is missing")
    options |= _database(kind, database)
    asking = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        **asking,
    }

    def ask_sentinels() -> Any:
        make_sentinel: Any = Sentinel
        sentinel = make_sentinel(hosts, sentinel_kwargs=asking)
        return sentinel.master_for(service, **options)

    return ask_sentinels


def close_client(client: Any) -> None:
    """Close a client's connections, also those to its sentinels."""
    client.close()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in getattr(manager, "sentinels", ()):
        sentinel.close()


def why_no_master(client: Any, error: MasterNotFoundError) -> str:
    """Return why no master was found, from each sentinel: *error* only contains error types."""
    reasons = []
    for sentinel in client.connection_pool.sentinel_manager.sentinels:
        at = sentinel.connection_pool.connection_kwargs
        try:
            known = sentinel.sentinel_masters()
        except RedisError as failure:
            reason = str(failure) or type(failure).__name__
        else:
            reason = f"it knows {', '.join(known) or 'no master'}"
        reasons.append(f"the sentinel at {at.get('host')}:{at.get('port')}: {reason}")
    name = client.connection_pool.service_name
    return f"No master found for {name!r}: {'; '.join(reasons)}"


def _options(query: str, scheme: str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the query's options: for the servers, and for the sentinels."""
    known = dict(OPTIONS)
    if scheme != "unix":
        known |= TCP_OPTIONS
    if not kind:
        known |= DB_OPTIONS
    if scheme == "rediss":
        known |= TLS_OPTIONS
    if kind == "sentinel":
        known |= SENTINEL_OPTIONS
    if kind == "sentinel" and scheme == "rediss":
        known |= SENTINEL_TLS_OPTIONS
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise _unknown(name if value else "", known)
        if name in found:
            raise ConfigError(f"WSVIEWS_BROKER_URL: the option {name} is given twice")
        try:
            found[name] = known[name](value)
        except ValueError as error:
            raise ConfigError(f"WSVIEWS_BROKER_URL: the option {name} must be {error}") from None
    if found.get("ssl_cert_reqs") == "none":
        # A host name can't be checked without a certificate.
        found.setdefault("ssl_check_hostname", False)
    return _split_options(found, scheme == "rediss")


def _split_options(found: dict[str, Any], is_tls: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    asking = {
        name.removeprefix("sentinel_"): found.pop(name)
        for name in list(found)
        if name.startswith("sentinel_")
    }
    if asking.pop("ssl", is_tls):
        asking |= {name: value for name, value in found.items() if name.startswith("ssl_")}
        asking["ssl"] = True
    return found, asking


def _unknown(name: str, known: Mapping[str, object]) -> ConfigError:
    # A name without a value may be part of a password that wasn't escaped.
    shown = name if name in REASONS or (name.isidentifier() and name.islower()) else "***"
    reason = f", as {REASONS[name]}" if name in REASONS else ""
    if name in TLS_OPTIONS or name in SENTINEL_TLS_OPTIONS:
        reason = ", as TLS needs rediss:// or rediss+…://"
    return ConfigError(
        f"WSVIEWS_BROKER_URL: the option {shown} can't be set{reason}; known are {', '.join(known)}"
    )


def _invalid(kind: str, reason: str) -> ConfigError:
    return ConfigError(f"WSVIEWS_BROKER_URL isn't a valid {FORMS[kind]}: {reason}")


def _database(kind: str, text: str) -> dict[str, int]:
    if not text:
        return {}
    if not (text.isascii() and text.isdigit()):
        raise _invalid(kind, "the database must be a number; escape a / in the password as %2F")
    return {"db": int(text)}


def _hosts(parts: SplitResult, kind: str) -> list[tuple[str, int]]:
    hosts = []
    for host in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{host}")
            name, port = one.hostname, one.port
        except ValueError:
            # The error's text may contain part of a password.
            raise _invalid(
                kind, "a port must be a number; escape /, ? and # in the password as %2F, %3F, %23"
            ) from None
        if not name and kind:
            raise _invalid(kind, "a host is missing")
        hosts.append((name or "localhost", port or PORTS[kind]))
    return hosts


def _credentials(parts: SplitResult) -> dict[str, str]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}
