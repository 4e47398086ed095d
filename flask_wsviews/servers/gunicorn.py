"""gunicorn with gthread or gevent workers; a request holds its thread or greenlet."""

from __future__ import annotations

from collections.abc import Callable

from ..typing import Environ
from .base import HeldTransport


def serves(environ: Environ) -> bool:
    """Whether gunicorn made *environ*."""
    return "gunicorn.socket" in environ


def check(environ: Environ) -> None:
    """Nothing can be wrong here."""


def take_socket(environ: Environ) -> HeldTransport:
    """The client's socket."""
    return HeldTransport(environ["gunicorn.socket"])


def before_exit(ending_signal: Callable[[], int | None], farewell: Callable[[int], None]) -> None:
    """Nothing: gunicorn tells an application nothing of its end, short of ending it."""
