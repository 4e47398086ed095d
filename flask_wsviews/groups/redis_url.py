"""Clients of redis-py for the URLs of ``WSVIEWS_BROKER_URL``."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..exceptions import ConfigError

FORMS = {
    "sentinel": "redis+sentinel://[user:password@]host:port,host:port/service[/database]",
    "cluster": "redis+cluster://[user:password@]host:port,host:port",
}

PORTS = {"sentinel": 26379, "cluster": 6379}


def make_client(url: str, timeout: float) -> Any:
    """A client for *url*. That of a cluster connects at once, the others when they are used.

    :param timeout: seconds that connecting, and each answer, may take.
    :raises ConfigError: if it can't be used.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # What is tried again, and when, is the broker's own business.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    try:
        if not kind:
            return redis.Redis.from_url(url, **options)
        parts = urlsplit(url)
        hosts = _hosts(parts, PORTS[kind])
    except ValueError as error:
        form = FORMS.get(kind, "redis://[user:password@]host:port/database")
        raise ConfigError(f"WSVIEWS_BROKER_URL is no {form}: {error}") from None
    options |= _credentials(parts)
    if scheme == "rediss":
        options["ssl"] = True
        options |= {name: value for name, value in parse_qsl(parts.query) if name[:4] == "ssl_"}
    if kind == "cluster":
        nodes = [ClusterNode(*host) for host in hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **options)
    service, _, database = parts.path.strip("/").partition("/")
    if not service or (database and not database.isdigit()):
        raise ConfigError(f"WSVIEWS_BROKER_URL is no {FORMS[kind]}")
    asking = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    sentinel = Sentinel(hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    return sentinel.master_for(  # type: ignore[no-untyped-call]
        service, db=int(database or 0), **options
    )


def close_client(client: Any) -> None:
    """Close a client's connections, and those to the sentinels that it asks."""
    client.close()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in getattr(manager, "sentinels", ()):
        sentinel.close()


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for host in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{host}")
        if not one.hostname:
            raise ValueError("a host is missing")
        hosts.append((one.hostname, one.port or default_port))
    return hosts


def _credentials(parts: SplitResult) -> dict[str, str]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}
