"""Writes what the benchmarks found into README.md, and draws it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plots import Bar, bars
from targets import TARGETS, Results, Unmeasured

Row = dict[str, Any]

#: What subjects are called in tables and plots.
LABELS = {
    "asyncio-function": "**asyncio, function route**",
    "asyncio-class": "**asyncio, class-based view**",
    "gevent-function": "**gevent, function route**",
    "gevent-class": "**gevent, class-based view**",
    "blocking-function": "**blocking, function route**",
    "blocking-class": "**blocking, class-based view**",
    "asyncio-uncompiled": "**asyncio, class-based view, not compiled**",
    "gevent-uncompiled": "**gevent, class-based view, not compiled**",
    "blocking-uncompiled": "**blocking, class-based view, not compiled**",
    "uwsgi-api-gevent": "uWSGI's own API, gevent",
    "flask-only-gevent": "Flask's answer alone, uWSGI with gevent",
    "flask-only-threads": "Flask's answer alone, uWSGI with threads",
    "old-package-gevent": "Flask-uWSGI-WebSocket, gevent",
    "old-package-blocking": "Flask-uWSGI-WebSocket, threads",
    "flask-sock-gevent": "Flask-Sock, gunicorn gevent",
    "flask-sock-threads": "Flask-Sock, gunicorn gthread",
    "flask-socketio-gevent": "Flask-SocketIO, gunicorn gevent",
    "uvicorn-websockets": "Starlette, uvicorn with websockets",
    "uvicorn-wsproto": "Starlette, uvicorn with wsproto",
    "channels-daphne": "Django Channels, daphne",
    "websockets": "websockets, asyncio",
    "aiohttp": "aiohttp",
    "tornado": "Tornado",
    "picows": "picows",
    "ws-node": "ws, Node.js",
    "bare-c": "a bare loop in C",
    "hook": "of a hook",
    "hook-teardown": "of a hook, with a teardown function",
    "app-context": "Flask's app_context()",
    "request-context": "Flask's request_context(), with a session",
}

#: Of each table: what its columns are called, and what is in them.
COLUMNS: dict[str, Sequence[tuple[str, str]]] = {
    "echo": (
        ("CPU, µs per message", "{cpu:.1f}"),
        ("messages/s", "{rate:,.0f}"),
        ("median, µs", "{median:,.0f}"),
        ("99 %, µs", "{p99:,.0f}"),
    ),
    "fan-out": (
        ("members", "{members:,}"),
        ("deliveries/s", "{deliveries:,.0f}"),
        ("CPU, µs per delivery", "{cpu:.2f}"),
    ),
    "handshakes": (("handshakes/s", "{handshakes:,.0f}"), ("CPU, µs each", "{cpu:,.0f}")),
    "memory": (("connections", "{connections:,}"), ("KiB per connection", "{kib:.1f}")),
    "crowd": (
        ("connections", "{connections:,}"),
        ("idle ones beside them", "{idle:,}"),
        ("CPU, µs per message", "{cpu:.1f}"),
        ("median, µs", "{median:,.0f}"),
        ("99 %, µs", "{p99:,.0f}"),
    ),
    "router": (
        ("bytes", "{bytes:,}"),
        ("direct, µs", "{direct:,.0f}"),
        ("through the router, µs", "{routed:,.0f}"),
    ),
    "hooks": (("µs", "{microseconds:.1f}"),),
    "typed": (("µs", "{microseconds:.1f}"),),
}
KINDS = {
    "echo-32": "echo",
    "echo-1k": "echo",
    "echo-64k": "echo",
    "latency": "echo",
    "fan-out-1": "fan-out",
    "memory-2000": "memory",
    "memory-10000": "memory",
    "many": "crowd",
}

#: What tables have and plots leave out.
NOT_DRAWN = {"bare-c", "asyncio-uncompiled", "gevent-uncompiled", "blocking-uncompiled"}

#: Of each plot: its title, the benchmark, which rows, what is drawn, and how it is written.
PLOTS: dict[str, tuple[str, str, Callable[[Row], bool], str, str]] = {
    "bench-echo": (
        "CPU time of the server for an echo of 32 bytes, in µs; less is better",
        *("echo-32", lambda row: row["subject"] not in NOT_DRAWN, "cpu", "{:.1f}"),
    ),
    "bench-fan-out": (
        "Deliveries a second to 500 members, 16 messages under way; more is better",
        *("fan-out", lambda row: row["members"] == 500, "deliveries", "{:,.0f}"),
    ),
    "bench-memory": (
        "Memory of the server for an idle connection, in KiB; less is better",
        *("memory-2000", lambda row: row["subject"] not in NOT_DRAWN, "kib", "{:.1f}"),
    ),
}


def table(name: str, rows: Sequence[Row]) -> str:
    """The figures of one benchmark."""
    columns = COLUMNS[KINDS.get(name, name)]
    lines = [
        "| | " + " | ".join(heading for heading, _ in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for row in rows:
        label = LABELS.get(row["subject"], row["subject"])
        cells = [cell.format(**row) for _, cell in columns]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def origin(found: dict[str, Any]) -> str:
    """How, when and where something was measured."""
    build = "with" if found["compiled"] else "without"
    return (
        f"`{found['command']}`, {found['date']}, {build} compiled modules; {found['machine']}; "
        f"{found['versions']}."
    )


def targets(results: Results) -> str:
    """What was aimed at, and what came of it."""
    lines = ["| what | aim | measured | |", "|---|---|---|---|"]
    for target in TARGETS:
        sign = "≤" if target.at_most else "≥"
        unit = f" {target.unit}" if target.unit else ""
        aim = f"{target.text} | {sign} {target.limit:g}{unit}"
        try:
            value = target.measure(results)
        except Unmeasured:
            lines.append(f"| {aim} | | not measured |")
            continue
        met = value <= target.limit if target.at_most else value >= target.limit
        verdict = "met" if met else "**missed**"
        lines.append(f"| {aim} | {value:.2f}{unit} | {verdict} |")
    return "\n".join(lines)


def fill(text: str, name: str, content: str) -> str:
    """Put *content* where *text* has the marks of *name*.

    :raises ValueError: if it hasn't them.
    """
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    inside, end, after = rest.partition("<!-- end -->")
    # Whose end is missing must not take that of the next one, and all that is between.
    if not begin or not end or "<!--" in inside:
        raise ValueError(f"there is no <!-- {name} --> with an <!-- end --> after it")
    return f"{before}{begin}\n{content}\n\n{end}{after}"


def render(folder: Path, readme: Path, images: Path) -> None:
    """Write the tables into *readme* and the plots into *images*.

    :param folder: where the results are.
    """
    files = sorted(folder.glob("*.json"))
    found = {file.stem: json.loads(file.read_text()) for file in files}
    text = readme.read_text()
    for name, one in found.items():
        text = fill(text, name, f"{table(name, one['rows'])}\n\n{origin(one)}")
    results = {name: one["rows"] for name, one in found.items()}
    text = fill(text, "targets", targets(results))
    readme.write_text(text)
    for image, (title, name, wanted, key, form) in PLOTS.items():
        rows = sorted(filter(wanted, results.get(name, [])), key=lambda row: row[key])
        drawn = [
            Bar(
                LABELS[row["subject"]].strip("*"),
                row[key],
                form.format(row[key]),
                "*" in LABELS[row["subject"]],
            )
            for row in (reversed(rows) if key == "deliveries" else rows)
        ]
        if drawn:
            (images / f"{image}.svg").write_text(bars(title, drawn))
