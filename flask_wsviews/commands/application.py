"""The application that a command is for."""

from __future__ import annotations

from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo

from ..app_state import EXTENSION, state_of
from ..exceptions import WSViewsError


def application() -> Flask:
    """Return the application that Flask has loaded for the command."""
    return click.get_current_context().ensure_object(ScriptInfo).load_app()


def settled_extension() -> Any:
    """Return the application's ``WebSocket``, after its settings have been settled.

    :raises click.ClickException: if the settings are wrong.
    """
    app = application()
    try:
        state_of(app).settle()
    except WSViewsError as error:
        raise click.ClickException(str(error)) from error
    return app.extensions[EXTENSION]
