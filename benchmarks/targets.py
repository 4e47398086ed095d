"""What the package aims at, as figures of one run of all benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Results = dict[str, list[dict[str, Any]]]


class Unmeasured(Exception):
    """A benchmark that a target needs hasn't run, or not with that subject."""


@dataclass(frozen=True)
class Target:
    """A figure and its bound.

    :param at_most: whether the bound is the greatest that will do; else the least.
    """

    text: str
    limit: float
    measure: Callable[[Results], float]
    at_most: bool = True
    unit: str = ""


def rows(results: Results, name: str, subject: str, **wanted: object) -> Iterator[dict[str, Any]]:
    for row in results.get(name, []):
        if row["subject"] == subject and wanted.items() <= row.items():
            yield row


def value(results: Results, name: str, subject: str, key: str, **wanted: object) -> float:
    for row in rows(results, name, subject, **wanted):
        return float(row[key])
    raise Unmeasured(f"{subject} in {name}")


def cpu(subject: str, other: str, name: str = "echo-32") -> Callable[[Results], float]:
    """How many times the CPU of another one's echo."""
    return lambda results: value(results, name, subject, "cpu") / value(results, name, other, "cpu")


def fan_out(subject: str, name: str) -> Callable[[Results], float]:
    """How many times the deliveries of picows, to 500 members."""

    def measure(results: Results) -> float:
        ours = value(results, name, subject, "deliveries", members=500)
        return ours / value(results, name, "picows", "deliveries", members=500)

    return measure


def more_with_idle(subject: str) -> Callable[[Results], float]:
    """How many times as long busy connections wait beside 10,000 idle ones, at worst."""

    def measure(results: Results) -> float:
        beside = value(results, "crowd", subject, "p99", connections=100, idle=10_000)
        return beside / value(results, "crowd", subject, "p99", connections=100, idle=0)

    return measure


def more_with_many(subject: str) -> Callable[[Results], float]:
    """How many times as much a message costs with 10,000 connections as with 100."""

    def measure(results: Results) -> float:
        many = value(results, "many", subject, "cpu", connections=10_000)
        return many / value(results, "many", subject, "cpu", connections=100)

    return measure


def worst_router(results: Results) -> float:
    found = [row["routed"] / row["direct"] for row in results.get("router", [])]
    if not found:
        raise Unmeasured("router")
    return float(max(found))


def beyond_marshmallow(way: str) -> Callable[[Results], float]:
    """Microseconds that a typed message costs beside JSON and marshmallow."""
    parts = ["json.loads", "load by the schema", "dump by the schema", "json.dumps"]

    def measure(results: Results) -> float:
        def of(subject: str) -> float:
            return value(results, "typed", subject, "microseconds")

        return of(way) - of("raw class view") - sum(map(of, parts))

    return measure


def handshakes(subject: str) -> Callable[[Results], float]:
    return lambda results: (
        value(results, "handshakes", subject, "handshakes")
        / value(results, "handshakes", "flask-sock-gevent", "handshakes")
    )


def alone(name: str, subject: str, key: str) -> Callable[[Results], float]:
    return lambda results: value(results, name, subject, key)


TARGETS = [
    Target("asyncio, function : uWSGI's API", 0.85, cpu("asyncio-function", "uwsgi-api-gevent")),
    Target("asyncio, function : aiohttp", 1.0, cpu("asyncio-function", "aiohttp")),
    Target("asyncio, class : websockets", 0.75, cpu("asyncio-class", "websockets")),
    Target("gevent, function : uWSGI's API", 1.0, cpu("gevent-function", "uwsgi-api-gevent")),
    Target(
        "gevent, function : Flask-uWSGI-WebSocket on gevent",
        *(0.2, cpu("gevent-function", "old-package-gevent")),
    ),
    Target("gevent, class : Flask-Sock on gevent", 0.5, cpu("gevent-class", "flask-sock-gevent")),
    Target(
        "blocking, function : Flask-uWSGI-WebSocket with threads",
        *(1.5, cpu("blocking-function", "old-package-blocking")),
    ),
    Target(
        "blocking, function : Flask-Sock with threads",
        *(0.3, cpu("blocking-function", "flask-sock-threads")),
    ),
    Target(
        "a typed message beside JSON and marshmallow, outgoing not checked",
        *(5, beyond_marshmallow("typed, outgoing not checked")),
        unit="µs",
    ),
    Target(
        "a typed message beside JSON and marshmallow",
        *(5, beyond_marshmallow("typed")),
        unit="µs",
    ),
    *(
        Target(f"{text}, {under_way} : picows", limit, fan_out(subject, name), at_most=False)
        for name, under_way in (
            ("fan-out", "16 messages under way"),
            ("fan-out-1", "one at a time"),
        )
        for text, subject, limit in (
            ("fan-out to 500, asyncio", "asyncio-class", 0.95),
            ("fan-out to 500, gevent", "gevent-class", 0.7),
        )
    ),
    *(
        Target(f"handshakes, {name} : Flask-Sock", 2, handshakes(f"{name}-class"), at_most=False)
        for name in ("asyncio", "gevent", "blocking")
    ),
    Target("context of a hook", 3, alone("hooks", "hook", "microseconds"), unit="µs"),
    Target(
        "context of a hook, with a teardown function",
        *(7, alone("hooks", "hook-teardown", "microseconds")),
        unit="µs",
    ),
    Target("idle, asyncio", 6, alone("memory-2000", "asyncio-class", "kib"), unit="KiB"),
    Target("idle, gevent", 12, alone("memory-2000", "gevent-class", "kib"), unit="KiB"),
    *(
        Target(f"64 KiB, {name} : aiohttp", 1.1, cpu(f"{name}-function", "aiohttp", "echo-64k"))
        for name in ("asyncio", "gevent")
    ),
    *(
        Target(f"p99 beside 10,000 idle ones : without, {name}", 2, more_with_idle(f"{name}-class"))
        for name in ("asyncio", "gevent")
    ),
    *(
        Target(f"CPU with 10,000 connections : 100, {name}", 1.2, more_with_many(f"{name}-class"))
        for name in ("asyncio", "gevent")
    ),
    Target("a round trip through the router : direct, at worst", 5, worst_router),
]
