"""The uWSGI command line behind ``run()``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .exceptions import CommandError

if TYPE_CHECKING:
    import flask

#: Set it to have an application wrapped in Werkzeug's debugger.
DEBUG_VARIABLE = "FLASK_UWSGI_DEBUG"

BINARY_VARIABLE = "FLASK_UWSGI_BINARY"

# The router passes larger messages on in 4 KiB chunks unless told otherwise, and each costs a
# delayed acknowledgement.
HTTP_BUFFER_SIZE = 65536

# The value of an option that stands among the arguments already.
_ELSEWHERE = object()

# What uWSGI calls the places that an application can be loaded from.
_APP_OPTIONS = ("wsgi", "module", "w", "wsgi_file", "file", "mount", "manage_script_name")

# Sockets that make the built-in router superfluous.
_SOCKET_OPTIONS = ("http", "https", "http_socket", "https_socket", "socket", "s", "uwsgi_socket")


def run_uwsgi(
    app: flask.Flask | str,
    debug: bool,
    host: str,
    port: int,
    uwsgi_binary: str | None = None,
    extra: Sequence[str] = (),
    **options: Any,
) -> None:
    """Replace this process by uWSGI.

    :param extra: arguments that go to it as they are.
    :raises CommandError: if uWSGI or the application can't be found.
    """
    arguments = command_line(app, debug, host, port, uwsgi_binary, extra, **options)
    binary = arguments[0]
    environ = dict(os.environ)
    if debug:
        environ[DEBUG_VARIABLE] = "true"
    print("Running:", shlex.join(arguments), flush=True)
    os.execve(binary, arguments, environ)


def command_line(
    app: flask.Flask | str,
    debug: bool,
    host: str,
    port: int,
    uwsgi_binary: str | None = None,
    extra: Sequence[str] = (),
    **options: Any,
) -> list[str]:
    """What :func:`run_uwsgi` runs, from the binary's path on.

    :raises CommandError: if uWSGI or the application can't be found.
    """
    binary = find_uwsgi(uwsgi_binary)
    interpreter = wheel_interpreter(binary)
    if interpreter is not None and not options.keys() & {"binary_path", "binary-path"}:
        options["binary_path"] = interpreter
    return [binary, *uwsgi_arguments(app, debug, host, port, options, extra)]


def find_uwsgi(given: str | None = None) -> str:
    """The path of the uWSGI binary.

    :param given: use this one.
    :raises CommandError: if there is none.
    """
    from_environment = os.environ.get(BINARY_VARIABLE)
    for source, name in (("uwsgi_binary", given), (BINARY_VARIABLE, from_environment)):
        if name:
            path = shutil.which(name)
            if path is None:
                raise CommandError(f"{source} is {name!r}, which is no program")
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


def wheel_interpreter(binary: str) -> str | None:
    """The Python that has to run *binary* again on a reload, if it is the script of pyuwsgi.

    The wheel would start the Python that a virtual environment was made from, and not find itself.
    """
    with open(binary, "rb") as file:
        is_script = file.read(2) == b"#!"
    interpreter = Path(binary).parent / "python"
    return str(interpreter) if is_script and interpreter.exists() else None


def uwsgi_arguments(
    app: flask.Flask | str,
    debug: bool,
    host: str,
    port: int,
    options: Mapping[str, Any],
    extra: Sequence[str] = (),
) -> list[str]:
    """What to call uWSGI with: the defaults, and *options* in their place or beside them.

    :param extra: arguments that go to it as they are, and take the place of defaults as well.
    :raises CommandError: if the application is no module's global.
    """
    # Of those only the names matter here.
    names = {argument.lstrip("-").partition("=")[0] for argument in extra if argument[:1] == "-"}
    given = {**options, **dict.fromkeys(names, _ELSEWHERE)}
    options = {name.replace("-", "_"): value for name, value in given.items()}
    defaults: dict[str, Any] = {"master": True, "die_on_term": True}
    if not any(options.get(name) for name in _SOCKET_OPTIONS):
        defaults["http"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if "http" in defaults or options.get("http") or options.get("https"):
        defaults["http_websockets"] = True
        defaults["http_buffer_size"] = HTTP_BUFFER_SIZE
    if not options.get("gevent"):
        defaults["enable_threads"] = True
    has_home = any(name in options for name in ("virtualenv", "venv", "home", "pyhome", "H"))
    if sys.prefix != sys.base_prefix and not has_home:
        defaults["virtualenv"] = sys.prefix
    if debug:
        defaults["python_autoreload"] = 1
    else:
        # Better no server than one that answers every request with a 500.
        defaults["need_app"] = True
    if not any(name in options for name in _APP_OPTIONS):
        defaults.update(_application(app))
    return [*_flags({**defaults, **options}), *extra]


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = "--" + name.replace("_", "-") if len(name) > 1 else "-" + name
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if item is None or item is False or item is _ELSEWHERE:
                continue
            yield flag
            if item is not True:
                yield str(item)


def _application(app: flask.Flask | str) -> dict[str, str]:
    """Where uWSGI finds the application that runs here."""
    if isinstance(app, str):
        return {"wsgi": app, "pythonpath": os.getcwd()}
    module = sys.modules.get(app.import_name) or sys.modules.get("__main__")
    name = None if module is None else _global_name(module, app)
    if module is None or name is None:
        raise CommandError(
            f"{app.name!r} is no global of the module {app.import_name!r}, so uWSGI can't import "
            'it: call run() of the extension with app="module:callable", or "module:factory()"'
        )
    if module.__name__ != "__main__":
        return {"wsgi": f"{module.__name__}:{name}", "pythonpath": os.getcwd()}
    if module.__spec__ is not None:
        # Started with `python -m`.
        return {"wsgi": f"{module.__spec__.name}:{name}", "pythonpath": os.getcwd()}
    path = Path(module.__file__ or "").resolve()
    return {"wsgi": f"{path.stem}:{name}", "pythonpath": str(path.parent)}


def _global_name(module: ModuleType, app: flask.Flask) -> str | None:
    return next((name for name, value in vars(module).items() if value is app), None)
