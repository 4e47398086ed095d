"""``flask ws doctor``: check everything that WebSockets need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click
from flask.cli import with_appcontext

from ..application import application, settled_extension
from .broker import check_broker
from .build import check_build
from .finding import Finding
from .handshake import check_url
from .ini import check_configuration
from .uwsgi import check_uwsgi


def _read_headers(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> list[tuple[str, str]]:
    """Split each "Name: value".

    :raises click.BadParameter: if one isn't a header.
    """
    headers = []
    for value in values:
        if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+\s*:[^\r\n]*", value, re.ASCII):
            raise click.BadParameter(f"{value!r} isn't a header: write 'Authorization: Bearer …'")
        name, _, content = value.partition(":")
        headers.append((name.strip(), content.strip()))
    return headers


def _read_cookies(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> list[tuple[str, str]]:
    """Make a header of each "name=value".

    :raises click.BadParameter: if one isn't a cookie.
    """
    for value in values:
        if not re.fullmatch(r"[^\s=]+=[^\r\n]*", value):
            raise click.BadParameter(f"{value!r} isn't a cookie: write session=value")
    return [("Cookie", value) for value in values]


@click.command("doctor")
@click.option(
    "--ini",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A uWSGI configuration to check.",
)
@click.option(
    "--url", help="The URL of a WebSocket on a running server. The check connects like a browser."
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    callback=_read_headers,
    help="A header to send to --url, such as 'Authorization: Bearer …'. Repeatable.",
)
@click.option(
    "--cookie",
    "cookies",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_read_cookies,
    help="A cookie to send to --url, such as the session. Repeatable.",
)
@with_appcontext
def doctor(
    ini: Path | None,
    url: str | None,
    headers: list[tuple[str, str]],
    cookies: list[tuple[str, str]],
) -> None:
    """Check everything that WebSockets need. The exit status is 1 if there is a problem."""
    if url is None and (headers or cookies):
        raise click.UsageError("--header and --cookie need --url")
    websocket = settled_extension()
    engine, groups = websocket.engine, websocket.groups
    findings = [
        Finding("engine", engine.name),
        check_build(),
        *check_uwsgi(engine),
        *check_broker(groups),
    ]
    if ini is not None:
        findings += check_configuration(ini, engine, groups)
    if url is not None:
        findings += check_url(url, application(), [*headers, *cookies])
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        click.echo(f"{finding.subject.ljust(width)}  {finding.text}")
        if finding.remedy is not None:
            click.echo(f"{' ' * width}  -> {finding.remedy}")
    if any(finding.remedy is not None for finding in findings):
        raise click.exceptions.Exit(1)
