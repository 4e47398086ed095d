"""``flask ws``: run an application's WebSockets, inspect them and send to them."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup, ScriptInfo, prepare_import

from ..app_state import SETTINGS
from ..blueprints import EXTENSION as WEBSOCKET
from ..common.json_text import load_text
from ..common.urls import shown_url
from ..exceptions import ConfigError, WSViewsError
from ..servers.uwsgi.command import command_line, run_uwsgi
from ..views import declared, is_websocket_view, protocol_of, view_class_of
from .doctor import Finding, check_broker, check_build, check_configuration, check_url, check_uwsgi

ws = AppGroup("ws", help="Run, inspect and use the application's WebSockets.")


def _websocket() -> Any:
    """The application's extension, its settings settled."""
    try:
        current_app.extensions[SETTINGS].settle()
    except WSViewsError as error:
        raise click.ClickException(str(error)) from error
    return current_app.extensions[WEBSOCKET]


@ws.command("asyncapi")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A file to write; by default the document is printed.",
)
@click.option(
    "--format",
    "as_format",
    type=click.Choice(["json", "yaml"]),
    help="By default the one that the file's name ends with, or JSON.",
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
    from ..asyncapi.extension import EXTENSION, AsyncAPI, import_part

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


@ws.command("run")
@click.option("-h", "--host", default="localhost", show_default=True, help="Where to listen.")
@click.option("-p", "--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--processes", type=click.IntRange(1), help="How many workers; by default one.")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    help="How many requests a worker serves at a time, in threads or greenlets as the engine "
    "needs; open WebSockets don't count. By default 8 threads or 100 greenlets.",
)
@click.option(
    "--reload/--no-reload",
    default=None,
    help="Reload when a module changes. By default only in debug mode.",
)
@click.option("--wsgi", metavar="MODULE:APP", help="What uWSGI imports, if it isn't clear.")
@click.option("--verbose", is_flag=True, help="Show all of uWSGI's output and its command line.")
@click.option("--dry-run", is_flag=True, help="Print the command, and do nothing.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context,
    host: str,
    port: int,
    processes: int | None,
    concurrency: int | None,
    reload: bool | None,
    wsgi: str | None,
    verbose: bool,
    dry_run: bool,
    more: tuple[str, ...],
) -> None:
    """Start uWSGI with the options that the application's engine needs.

    Arguments after -- are passed on to uWSGI: flask ws run -- --stats :1717
    """
    needed = _websocket().engine.uwsgi_options
    options: dict[str, Any] = {"processes": processes, "use_reloader": reload}
    options.update((name, concurrency or default) for name, default in needed.items())
    imported: Any = wsgi or _found(context, options)
    if imported is None:
        imported = current_app._get_current_object()  # type: ignore[attr-defined]
    arguments = (imported, current_app.debug, host, port)
    try:
        if dry_run:
            click.echo(shlex.join(command_line(*arguments, extra=more, verbose=verbose, **options)))
        else:
            run_uwsgi(*arguments, extra=more, verbose=verbose, **options)
    except WSViewsError as error:
        raise click.ClickException(str(error)) from error


def _found(context: click.Context, options: dict[str, Any]) -> str | None:
    """Return ``module:name`` of the application that Flask found, if uWSGI can import that."""
    path = context.ensure_object(ScriptInfo).app_import_path
    if path is None:
        path = next((name for name in ("wsgi.py", "app.py") if Path(name).exists()), None)
    if path is None:
        return None
    module_path, _, name = path.partition(":")
    module = prepare_import(module_path)
    if not name.endswith(")"):
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        names = vars(sys.modules[module]) if module in sys.modules else {}
        name = next((name for name, value in names.items() if value is app), "")
    if not name:
        return None
    # It comes first, as Flask has put it there.
    options["pythonpath"] = sys.path[0]
    return f"{module}:{name}"


@contextmanager
def _shared_groups() -> Iterator[Any]:
    """The extension, whose groups this process can reach; errors end the command."""
    websocket = _websocket()
    groups = websocket.groups
    try:
        if not groups.broker.is_shared:
            name = shown_url(groups.settings.broker_url)
            raise ConfigError(
                f"groups are in {name}, the memory of each worker, which this command can't reach: "
                'set WSVIEWS_BROKER_URL = "redis://localhost/0"'
            )
        yield websocket
    except WSViewsError as error:
        raise click.ClickException(str(error)) from error
    finally:
        groups.broker.close()


@ws.command("broadcast")
@click.argument("group")
@click.argument("message")
@click.option(
    "--type",
    "type_",
    help="Send a typed message: MESSAGE is JSON for the schema in the view's emits.",
)
@click.option("--no-keep", is_flag=True, help="Keep the message out of the group's history.")
def broadcast(group: str, message: str, type_: str | None, no_keep: bool) -> None:
    """Send MESSAGE to all members of GROUP, on all workers and machines.

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
                value = load_text(current_app.json.loads, message)
                message_id = websocket.send_message(group, type_, value, keep=keep)
    except ValueError as error:
        raise click.UsageError(f"a message with a type is JSON: {error}") from error
    click.echo("sent" if message_id is None else f"sent as {message_id}")


@ws.command("disconnect")
@click.argument("group", required=False)
@click.option("--connection", metavar="ID", help="Close one connection, by its ws.id.")
@click.option("--code", default=1008, show_default=True, help="The close code.")
@click.option("--reason", default="", help="The reason, at most 123 bytes.")
def disconnect(group: str | None, connection: str | None, code: int, reason: str) -> None:
    """Close all members of GROUP, or one connection, wherever they are connected.

    Clients may reconnect.
    """
    if (group is None) == (connection is None):
        raise click.UsageError("name either a GROUP or a --connection")
    try:
        with _shared_groups() as websocket:
            websocket.disconnect(group=group, connection=connection, code=code, reason=reason)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo("sent")


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


@ws.command("doctor")
@click.option(
    "--ini",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A uWSGI configuration to check.",
)
@click.option("--url", help="A WebSocket of a running server to connect to, as a browser would.")
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
def doctor(
    ini: Path | None,
    url: str | None,
    headers: list[tuple[str, str]],
    cookies: list[tuple[str, str]],
) -> None:
    """Check everything that the WebSockets need; exits with 1 if there is a problem."""
    if url is None and (headers or cookies):
        raise click.UsageError("--header and --cookie are for --url")
    websocket = _websocket()
    findings = [Finding("engine", websocket.engine.name), check_build(), *check_uwsgi(websocket)]
    findings += check_broker(websocket)
    if ini is not None:
        findings += check_configuration(ini, websocket)
    if url is not None:
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        findings += check_url(url, app, [*headers, *cookies])
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        click.echo(f"{finding.subject.ljust(width)}  {finding.text}")
        if finding.remedy is not None:
            click.echo(f"{' ' * width}  -> {finding.remedy}")
    if any(finding.remedy is not None for finding in findings):
        raise click.exceptions.Exit(1)


@ws.command("routes")
def routes() -> None:
    """List the WebSocket rules of the application."""
    engine = _websocket().engine.name
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
                ", ".join(map(str, declared(view, "groups"))) or "-",
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
    """Return what messages a view takes, in a word."""
    protocol = protocol_of(view)
    if protocol.handlers:
        return ", ".join(protocol.handlers)
    return "by schema" if protocol.is_typed else "raw"
