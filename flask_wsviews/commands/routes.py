"""``flask ws routes``: list the WebSocket rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from ..views import declared, is_websocket_view, protocol_of, view_class_of
from .application import settled_extension


@click.command("routes")
@with_appcontext
def routes() -> None:
    """List the WebSocket rules of the application."""
    engine = settled_extension().engine.name
    rows: list[tuple[str, ...]] = [("Rule", "Endpoint", "View", "Messages", "Groups", "Origins")]
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = current_app.view_functions.get(rule.endpoint)
        if view is None or not is_websocket_view(view):
            continue
        target: Any = view_class_of(view) or getattr(view, "websocket_target", view)
        origins = declared(view, "allowed_origins")
        rows.append(
            (
                rule.rule,
                rule.endpoint,
                getattr(target, "__name__", repr(target)),
                _messages(view),
                ", ".join(map(str, declared(view, "groups"))) or "-",
                origins if isinstance(origins, str) else ", ".join(sorted(origins)) or "own",
            )
        )
    if len(rows) == 1:
        click.echo("There are no WebSocket rules.")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
    click.echo(f"\nengine: {engine}")


def _messages(view: Callable[..., Any]) -> str:
    """Return what a view receives: its message types, or how messages are handled."""
    protocol = protocol_of(view)
    if protocol.handlers:
        return ", ".join(protocol.handlers)
    return "by schema" if protocol.is_typed else "raw"
