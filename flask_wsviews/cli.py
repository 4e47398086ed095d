"""``flask ws``: what can be asked of an application's WebSockets on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from .blueprints import EXTENSION as WEBSOCKET
from .exceptions import WSViewsError
from .groups.brokers import without_password
from .views import declared, is_websocket_view, protocol_of, view_class_of

ws = AppGroup("ws", help="WebSockets of the application.")


@ws.command("asyncapi")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file; else it is printed.")
@click.option(
    "--format",
    "as_format",
    type=click.Choice(["json", "yaml"]),
    help="By default what the file's name says, or JSON.",
)
@click.option(
    "--version",
    "asyncapi_version",
    type=click.Choice(["3.0.0", "3.1.0"]),
    help="The version of AsyncAPI; by default that of AsyncAPI(app), or 3.0.0.",
)
@click.option("--title", help="The title of the API.")
def asyncapi(
    output: Path | None, as_format: str | None, asyncapi_version: str | None, title: str | None
) -> None:
    """Write the AsyncAPI document of the application's WebSockets."""
    from .asyncapi.extension import EXTENSION, AsyncAPI, import_part

    extension: AsyncAPI = current_app.extensions.get(EXTENSION) or AsyncAPI()
    given = {"asyncapi_version": asyncapi_version, "title": title}
    options = {**extension.options, **{key: value for key, value in given.items() if value}}
    is_yaml = as_format == "yaml" or (
        as_format is None and output is not None and output.suffix in (".yaml", ".yml")
    )
    try:
        document: dict[str, Any] = import_part("document").document(
            current_app._get_current_object(),  # type: ignore[attr-defined]
            **options,
        )
        writer = import_part("output")
        text: str = writer.to_yaml(document) if is_yaml else writer.to_json(document)
    except (WSViewsError, LookupError) as error:
        raise click.ClickException(str(error)) from error
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{output} can't be written: {error.strerror}") from error


@ws.command("doctor")
def doctor() -> None:
    """Look whether what the WebSockets need is there; exits with 1 if not."""
    groups = current_app.extensions[WEBSOCKET].groups
    name = without_password(groups.settings.broker_url)
    try:
        groups.broker.ping()
    except WSViewsError as error:
        click.echo(f"broker    {name}: {error}")
        click.echo("          Is it running there, and is WSVIEWS_BROKER_URL right?")
        raise click.exceptions.Exit(1) from error
    finally:
        groups.broker.close()
    if groups.broker.is_shared:
        click.echo(f"broker    {name} answers")
    else:
        click.echo(f"broker    {name}: groups are in the memory of a single worker")


@ws.command("routes")
def routes() -> None:
    """List the WebSocket rules of the application."""
    engine = current_app.extensions[WEBSOCKET].engine.name
    rows = [("Rule", "Endpoint", "View", "Messages", "Groups", "Origins")]
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
                ", ".join(declared(view, "groups")) or "-",
                origins if isinstance(origins, str) else ", ".join(sorted(origins)) or "own",
            )
        )
    if len(rows) == 1:
        click.echo("There are no WebSocket rules.")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
    click.echo(f"\nengine: {engine}")


def _messages(view: Callable[..., Any]) -> str:
    """What a view takes, in a word."""
    protocol = protocol_of(view)
    if protocol.handlers:
        return ", ".join(protocol.handlers)
    return "by schema" if protocol.is_typed else "raw"
