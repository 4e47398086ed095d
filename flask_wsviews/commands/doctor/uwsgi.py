"""Whether uWSGI is installed, with the options that the engine needs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from ...engines import Engine
from ...exceptions import CommandError
from ...servers.uwsgi.binary import find_binary, known_options
from .finding import Finding

# How long the binary may take, in seconds.
SECONDS = 10.0


def check_uwsgi(engine: Engine) -> Iterator[Finding]:
    """Check that uWSGI is installed, with the options that the engine needs."""
    try:
        binary = find_binary()
    except CommandError as error:
        yield Finding("uWSGI", "isn't installed", str(error))
        return
    try:
        version = _output(binary, "--version").strip()
        known = known_options(binary)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("uWSGI", f"{binary} can't be run: {error}", "Reinstall it.")
        return
    needed = ("wsgi", "http-websockets", *engine.uwsgi_options)
    missing = [f"--{option}" for option in needed if f"--{option}" not in known]
    if missing:
        yield Finding(
            "uWSGI",
            f"{version} at {binary} lacks {', '.join(missing)}",
            "pip install 'flask-wsviews[uwsgi]' builds one that has them. A distribution's "
            "uWSGI needs --plugins python3,http" + (",gevent" if "--gevent" in missing else ""),
        )
    else:
        yield Finding("uWSGI", f"{version} at {binary}")


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)  # noqa: S603
    return done.stdout
