"""``flask ws routes``: list the WebSocket rules."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import with_appcontext

from ..registration.declaration import Declaration, declaration_of
from .application import settled_extension


@click.command("routes")
@with_appcontext
def routes() -> None:
    """List the WebSocket rules of the application."""
    engine = settled_extension().engine.name
    rows: list[tuple[str, ...]] = [("Rule", "Endpoint", "View", "Messages", "Groups", "Origins")]
    for rule in sorted(current_app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = current_app.view_functions.get(rule.endpoint)
        declaration = declaration_of(view)
        if declaration is None:
            continue
        origins = declaration.option("allowed_origins")
        rows.append(
            (
                rule.rule,
                rule.endpoint,
                declaration.name,
                _messages(declaration),
                ", ".join(map(str, declaration.option("groups"))) or "-",
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


def _messages(declaration: Declaration) -> str:
    """Return what a view receives: its message types, or how messages are handled."""
    protocol = declaration.protocol
    if protocol.handlers:
        return ", ".join(protocol.handlers)
    return "by schema" if protocol.is_typed else "raw"
