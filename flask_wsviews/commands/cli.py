"""``flask ws``: run an application's WebSockets, inspect them and send to them."""

from __future__ import annotations

from flask.cli import AppGroup

from .asyncapi import asyncapi
from .doctor.command import doctor
from .routes import routes
from .run import run
from .send import broadcast, disconnect

ws = AppGroup("ws", help="Run, inspect and use the application's WebSockets.")

for command in (asyncapi, broadcast, disconnect, doctor, routes, run):
    ws.add_command(command)
