"""``flask ws run``: start uWSGI with the application."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo, prepare_import, with_appcontext

from ..exceptions import WSViewsError
from ..servers.uwsgi.command import command_line, run_uwsgi
from .application import application, settled_extension


@click.command("run")
@click.option(
    "-h", "--host", default="localhost", show_default=True, help="The address to listen on."
)
@click.option("-p", "--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--processes", type=click.IntRange(1), help="The number of workers. By default one.")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    help="The number of requests that a worker serves at a time, in the threads or greenlets "
    "that the engine needs. Open WebSockets don't count. By default 8 threads or 100 "
    "greenlets.",
)
@click.option(
    "--reload/--no-reload",
    default=None,
    help="Reload when a module changes. By default only in debug mode.",
)
@click.option(
    "--wsgi",
    metavar="MODULE:APP",
    help="What uWSGI imports. By default the application that Flask has found.",
)
@click.option("--verbose", is_flag=True, help="Show all of uWSGI's output and its command line.")
@click.option("--dry-run", is_flag=True, help="Print the command without running it.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
@with_appcontext
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

    Arguments after -- go to uWSGI: flask ws run -- --stats :1717
    """
    needed = settled_extension().engine.uwsgi_options
    options: dict[str, Any] = {"processes": processes, "use_reloader": reload}
    options.update((name, concurrency or default) for name, default in needed.items())
    app = application()
    target: Any = wsgi
    if target is None:
        target = _import_name(context, app)
        if target is None:
            target = app
        else:
            # prepare_import() has put the module's folder first.
            options["pythonpath"] = sys.path[0]
    arguments = (target, app.debug, host, port)
    try:
        if dry_run:
            click.echo(shlex.join(command_line(*arguments, extra=more, verbose=verbose, **options)))
        else:
            run_uwsgi(*arguments, extra=more, verbose=verbose, **options)
    except WSViewsError as error:
        raise click.ClickException(str(error)) from error


def _import_name(context: click.Context, app: Flask) -> str | None:
    """Return ``module:name`` of the application, if Flask has loaded it from a module."""
    path = context.ensure_object(ScriptInfo).app_import_path
    if path is None:
        path = next((name for name in ("wsgi.py", "app.py") if Path(name).exists()), None)
    if path is None:
        return None
    module_path, _, name = path.partition(":")
    module = prepare_import(module_path)
    if not name.endswith(")"):
        names = vars(sys.modules[module]) if module in sys.modules else {}
        name = next((name for name, value in names.items() if value is app), "")
    if not name:
        return None
    return f"{module}:{name}"
