"""The application that a command is for."""

from __future__ import annotations

from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo

from ..app_state import SETTINGS
from ..blueprints import EXTENSION
from ..exceptions import WSViewsError


def application() -> Flask:
    """Return the application that Flask has loaded for the command."""
    return click.get_current_context().ensure_object(ScriptInfo).load_app()


def settled_extension() -> Any:
    """Return the application's ``WebSocket``, after its settings have been settled.

    :raises click.ClickException: if the settings are wrong.
    """
    extensions = application().extensions
    try:
        extensions[SETTINGS].settle()
    except WSViewsError as error:
        raise click.ClickException(str(error)) from error
    return extensions[EXTENSION]
