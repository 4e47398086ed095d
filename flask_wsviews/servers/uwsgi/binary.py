"""The uWSGI binary: where it is, and what it was built with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ...exceptions import CommandError

#: The environment variable with the path of the binary.
BINARY_VARIABLE = "FLASK_UWSGI_BINARY"

# The loops that only some builds of uWSGI have, and what to do without them.
_LOOPS = {
    "asyncio": "needs a uWSGI built with UWSGI_PROFILE=asyncio. AsyncioWebSocket runs on any other "
    "build as well, with its event loop in a thread of each worker: leave asyncio and greenlet out",
    "greenlet": "needs a uWSGI built with UWSGI_PROFILE=asyncio: leave it out",
    "gevent": "needs a uWSGI with the gevent plugin: pip install 'flask-wsviews[uwsgi,gevent]' "
    'builds one; a distribution\'s needs plugins="python3,http,gevent"',
}


def find_binary(given: str | None = None) -> str:
    """Return the path of the uWSGI binary.

    :param given: a path or a name on ``PATH`` to use instead of searching.
    :raises CommandError: if there is none.
    """
    from_environment = os.environ.get(BINARY_VARIABLE)
    for source, name in (("uwsgi_binary", given), (BINARY_VARIABLE, from_environment)):
        if name:
            path = shutil.which(name)
            if path is None:
                raise CommandError(f"{source} is {name!r}, which isn't a program")
            return path
    for beside in (Path(sys.executable).parent, Path(sys.prefix) / "bin"):
        path = shutil.which("uwsgi", path=str(beside))
        if path is not None:
            return path
    path = shutil.which("uwsgi")
    if path is None:
        raise CommandError(
            "uWSGI isn't installed: pip install 'flask-wsviews[uwsgi]' builds it, "
            f"'flask-wsviews[pyuwsgi]' needs no compiler; or set {BINARY_VARIABLE} to its path"
        )
    return path


def known_options(binary: str) -> set[str]:
    """Return the options of a uWSGI binary, each with its dashes.

    :raises OSError: if it can't be run.
    :raises subprocess.SubprocessError: if it doesn't exit in time.
    """
    command = [binary, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    return set(re.findall(r"^\s+(?:-\w\|)?(--[\w-]+)", done.stdout, re.MULTILINE))


def check_loop(binary: str, arguments: Sequence[str]) -> None:
    """Check that uWSGI was built with the loop that *arguments* select.

    :raises CommandError: if it wasn't.
    """
    names = {argument[2:].partition("=")[0] for argument in arguments if argument[:2] == "--"}
    wanted = [name for name in _LOOPS if name in names]
    if not wanted or names & {"plugin", "plugins", "need-plugin", "need-plugins"}:
        return
    try:
        known = known_options(binary)
    except (OSError, subprocess.SubprocessError):
        return
    # If this option is missing, the output isn't uWSGI's help.
    for name in wanted if "--http-socket" in known else ():
        if f"--{name}" not in known:
            raise CommandError(f"{name} isn't an option of {binary}: it {_LOOPS[name]}")


def wheel_interpreter(binary: str) -> str | None:
    """Return the Python that runs *binary* if it is pyuwsgi's script, otherwise ``None``.

    On a reload pyuwsgi would start the Python that the virtual environment was created from, which
    can't import pyuwsgi.
    """
    with open(binary, "rb") as file:
        is_script = file.read(2) == b"#!"
    interpreter = Path(binary).parent / "python"
    return str(interpreter) if is_script and interpreter.exists() else None
