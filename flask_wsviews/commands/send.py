"""``flask ws broadcast`` and ``flask ws disconnect``: reach connections from outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask.cli import with_appcontext

from ..common.json_text import load_text
from ..common.urls import shown_url
from ..exceptions import ConfigError, WSViewsError
from .application import application, settled_extension


@contextmanager
def _shared_groups() -> Iterator[Any]:
    """Yield the extension if its groups can be reached from here. Errors end the command."""
    websocket = settled_extension()
    groups = websocket.groups
    try:
        if not groups.broker.is_shared:
            name = shown_url(groups.settings.broker_url)
            raise ConfigError(
                f"{name} keeps groups in the memory of each worker, out of this command's reach: "
                'set WSVIEWS_BROKER_URL = "redis://localhost/0"'
            )
        yield websocket
    except WSViewsError as error:
        raise click.ClickException(str(error)) from error
    finally:
        groups.broker.close()


@click.command("broadcast")
@click.argument("group")
@click.argument("message")
@click.option(
    "--type",
    "type_",
    help="Send a typed message. MESSAGE is JSON for that type's schema in the view's emits.",
)
@click.option("--no-keep", is_flag=True, help="Don't add the message to the group's history.")
@with_appcontext
def broadcast(group: str, message: str, type_: str | None, no_keep: bool) -> None:
    """Broadcast MESSAGE to all members of GROUP, on all workers and machines.

    If MESSAGE is -, it is read from standard input.
    """
    if message == "-":
        message = sys.stdin.read()
    keep = not no_keep
    try:
        with _shared_groups() as websocket:
            if type_ is None:
                message_id = websocket.broadcast(group, message, keep=keep)
            else:
                value = load_text(application().json.loads, message)
                message_id = websocket.send_message(group, type_, value, keep=keep)
    except ValueError as error:
        raise click.UsageError(f"with --type MESSAGE must be JSON: {error}") from error
    click.echo("sent" if message_id is None else f"sent as {message_id}")


@click.command("disconnect")
@click.argument("group", required=False)
@click.option("--connection", metavar="ID", help="Close the connection with this ws.id.")
@click.option("--code", default=1008, show_default=True, help="The close code.")
@click.option("--reason", default="", help="The reason in the close frame, at most 123 bytes.")
@with_appcontext
def disconnect(group: str | None, connection: str | None, code: int, reason: str) -> None:
    """Close the connections of all members of GROUP, or one connection, on any machine.

    Clients may reconnect.
    """
    if (group is None) == (connection is None):
        raise click.UsageError("pass either a GROUP or a --connection")
    try:
        with _shared_groups() as websocket:
            websocket.disconnect(group=group, connection=connection, code=code, reason=reason)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo("sent")
