"""Werkzeug's development server, which runs each request in a thread of its own."""

from __future__ import annotations

from ..typing import Environ
from .base import HeldTransport


def serves(environ: Environ) -> bool:
    """Whether Werkzeug's server made *environ*."""
    return "werkzeug.socket" in environ


def check(environ: Environ) -> None:
    """Nothing can be wrong here."""


def take_socket(environ: Environ) -> HeldTransport:
    """The client's socket."""
    return HeldTransport(environ["werkzeug.socket"])
