"""The uWSGI command line behind ``run()``."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...exceptions import CommandError

if TYPE_CHECKING:
    import flask
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.debug import DebuggedApplication

#: ``run(debug=True)`` sets it for the process that serves, where the extension reads it.
DEBUG_VARIABLE = "FLASK_UWSGI_DEBUG"
#: Its value for the debug mode without Werkzeug's debugger.
WITHOUT_DEBUGGER = "without debugger"

BINARY_VARIABLE = "FLASK_UWSGI_BINARY"

# The router passes larger messages on in 4 KiB chunks unless told otherwise, and each costs a
# delayed acknowledgement.
HTTP_BUFFER_SIZE = 65536

# A request whose headers don't fit is dropped without an answer, and cookies soon fill uWSGI's
# default, 4096.
BUFFER_SIZE = 32768

# The value of an option that stands among the arguments already.
_ELSEWHERE = object()

# What uWSGI calls the places that an application can be loaded from.
_APP_OPTIONS = ("wsgi", "module", "w", "wsgi_file", "file", "mount", "manage_script_name")

# Sockets that make the built-in router superfluous.
_SOCKET_OPTIONS = ("http", "https", "http_socket", "https_socket", "socket", "s", "uwsgi_socket")

# The front sockets that speak HTTP, and the scheme of each.
_SCHEMES = {
    "http": "http",
    "https": "https",
    "http_socket": "http",
    "https_socket": "https",
    "http11_socket": "http",
}

# Whoever chooses one of these wants the requests in it.
_LOG_OPTIONS = (
    *("logto", "logto2", "logger", "req_logger", "logger_req", "daemonize", "daemonize2", "d"),
    *("log_format", "logformat", "log_master", "log_slow", "log_4xx", "log_5xx"),
)

# Options of Werkzeug's server that run() can't pass on, and what to do instead.
_WERKZEUG_OPTIONS = {
    "ssl_context": 'https="localhost:5000,cert.pem,key.pem" has uWSGI\'s router serve TLS',
    "extra_files": 'touch_reload=["file"] has uWSGI reload when a file changes',
    "exclude_patterns": 'py_auto_reload_ignore=["module"] keeps the reloader from a module',
    "reloader_type": "python_autoreload=1 is the only reloader, and debug=True turns it on",
    "reloader_interval": "python_autoreload=2 looks for changes every 2 seconds",
    "use_evalex": "debug=True has the debugger with its console, use_debugger=False has neither",
    "threaded": "threads=8 sets the number of threads for pages and handshakes",
    "passthrough_errors": "use_debugger=False lets errors reach the log",
    "request_handler": "uWSGI reads the requests",
    "static_files": 'static_map=["/static=folder"] has uWSGI serve files',
    "load_dotenv": "call flask.cli.load_dotenv() before run()",
    "fd": 'http_socket="fd://3" takes a socket over',
}

# Loops that not every build of uWSGI has.
_LOOPS = {
    "asyncio": "needs a uWSGI built with UWSGI_PROFILE=asyncio. AsyncioWebSocket runs on any other "
    "build as well, with its event loop in a thread of each worker: leave asyncio and greenlet out",
    "greenlet": "needs a uWSGI built with UWSGI_PROFILE=asyncio: leave it out",
    "gevent": "needs a uWSGI with the gevent plugin: pip install 'flask-wsviews[uwsgi,gevent]' "
    'builds one; a distribution\'s needs plugins="python3,http,gevent"',
}


def run_uwsgi(
    app: flask.Flask | str,
    debug: bool,
    host: str,
    port: int,
    uwsgi_binary: str | None = None,
    extra: Sequence[str] = (),
    verbose: bool = False,
    **options: Any,
) -> None:
    """Replace this process by uWSGI.

    :param extra: arguments that go to it as they are.
    :param verbose: show everything that uWSGI writes, requests as well, and its command line.
    :raises CommandError: if uWSGI or the application can't be found, or an option is Werkzeug's.
    """
    arguments = command_line(app, debug, host, port, uwsgi_binary, extra, verbose, **options)
    binary = arguments[0]
    environ = dict(os.environ)
    if debug:
        has_debugger = options.get("use_debugger") is not False
        environ[DEBUG_VARIABLE] = "true" if has_debugger else WITHOUT_DEBUGGER
    if verbose:
        print("Running:", shlex.join(arguments), flush=True)
    with contextlib.nullcontext() if verbose else _quiet_stderr():
        os.execve(binary, arguments, environ)


def debugged(application: WSGIApplication) -> DebuggedApplication:
    """Return *application* in Werkzeug's debugger, with its tracebacks on stderr.

    It writes them to ``wsgi.errors``, which uWSGI buffers.
    """
    from werkzeug.debug import DebuggedApplication

    class Debugger(DebuggedApplication):
        def debug_application(
            self, environ: WSGIEnvironment, start_response: StartResponse
        ) -> Iterator[bytes]:
            environ["wsgi.errors"] = sys.stderr
            yield from super().debug_application(environ, start_response)

    return Debugger(application, evalex=True)


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send what is written to stderr through the filter, also after an exec.

    stderr stays as it is if the filter can't be started.
    """
    try:
        stderr = os.dup(2)
    except OSError:
        # It is closed.
        yield
        return
    try:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            _filter(stderr)
        yield
    finally:
        # Only if there was no exec.
        os.dup2(stderr, 2)
        os.close(stderr)


def _filter(stderr: int) -> None:
    """Have a filter write to *stderr*, and make the standard one a pipe to it.

    :raises OSError: if it can't be started.
    :raises subprocess.SubprocessError: if it fails.
    """
    reader, writer = os.pipe()
    try:
        # It detaches itself at once: uWSGI expects all children of its process to be its own.
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("output.py"))]
        subprocess.run(command, stdin=reader, stdout=stderr, stderr=stderr, check=True)  # noqa: S603
        os.dup2(writer, 2)
    finally:
        os.close(reader)
        os.close(writer)


def command_line(
    app: flask.Flask | str,
    debug: bool,
    host: str,
    port: int,
    uwsgi_binary: str | None = None,
    extra: Sequence[str] = (),
    verbose: bool = False,
    **options: Any,
) -> list[str]:
    """Return what :func:`run_uwsgi` runs, from the binary's path on.

    :raises CommandError: as :func:`run_uwsgi` does.
    """
    binary = find_uwsgi(uwsgi_binary)
    interpreter = wheel_interpreter(binary)
    if interpreter is not None and not options.keys() & {"binary_path", "binary-path"}:
        options["binary_path"] = interpreter
    arguments = uwsgi_arguments(app, debug, host, port, options, extra, verbose)
    _check_loop(binary, arguments)
    return [binary, *arguments]


def _check_loop(binary: str, arguments: Sequence[str]) -> None:
    """Check that uWSGI has the loop that it is to run.

    :raises CommandError: if it was built without.
    """
    names = {argument[2:].partition("=")[0] for argument in arguments if argument[:2] == "--"}
    wanted = [name for name in _LOOPS if name in names]
    if not wanted or names & {"plugin", "plugins", "need-plugin", "need-plugins"}:
        return
    try:
        known = known_options(binary)
    except (OSError, subprocess.SubprocessError):
        return
    # Without this one it isn't uWSGI's help.
    for name in wanted if "--http-socket" in known else ():
        if f"--{name}" not in known:
            raise CommandError(f"{name} isn't an option of {binary}: it {_LOOPS[name]}")


def known_options(binary: str) -> set[str]:
    """Return the options that a uWSGI binary was built with, each with its dashes.

    :raises OSError: if it can't be run.
    :raises subprocess.SubprocessError: if it doesn't end in time.
    """
    command = [binary, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    return set(re.findall(r"^\s+(?:-\w\|)?(--[\w-]+)", done.stdout, re.MULTILINE))


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
    verbose: bool = False,
) -> list[str]:
    """Return what to call uWSGI with: the defaults, and *options* in their place or beside them.

    :param extra: arguments that go to it as they are, and take the place of defaults as well.
    :raises CommandError: if the application isn't a global of a module, or an option is Werkzeug's.
    """
    passed = _passed(extra)
    given = {**options, **dict.fromkeys(passed, _ELSEWHERE)}
    options = {name.replace("-", "_"): value for name, value in given.items()}
    is_reloading = _take_werkzeug_options(options, debug)
    defaults: dict[str, Any] = {"master": True, "die_on_term": True}
    if not any(options.get(name) for name in _SOCKET_OPTIONS):
        defaults["http"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if "http" in defaults or options.get("http") or options.get("https"):
        defaults["http_websockets"] = True
        defaults["http_buffer_size"] = HTTP_BUFFER_SIZE
    if "b" not in options:
        defaults["buffer_size"] = BUFFER_SIZE
    if not options.get("gevent"):
        defaults["enable_threads"] = True
    has_home = any(name in options for name in ("virtualenv", "venv", "home", "pyhome", "H"))
    if sys.prefix != sys.base_prefix and not has_home:
        defaults["virtualenv"] = sys.prefix
    if is_reloading:
        defaults["python_autoreload"] = 1
    else:
        # Better no server than one that answers every request with a 500.
        defaults["need_app"] = True
    if not verbose and options.keys().isdisjoint(_LOG_OPTIONS):
        defaults["disable_logging"] = True
    if not any(name in options for name in _APP_OPTIONS):
        defaults.update(_application(app))
    hooks = options.get("hook_accepting1_once", ())
    urls = _urls({**defaults, **options, **passed})
    if urls and hooks is not None and hooks is not False:
        # uWSGI prints it once it serves, and not at all if it can't.
        line = f"print:Running on {' and '.join(urls)} (Ctrl-C stops it)"
        options["hook_accepting1_once"] = [line, *_as_list(hooks)]
    return [*_flags({**defaults, **options}), *extra]


def _passed(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the options of a command line with their values, by names as ``run()`` has them."""
    passed: dict[str, list[str]] = {}
    name = ""
    for argument in arguments:
        if argument[:1] == "-":
            name, has_value, value = argument.lstrip("-").partition("=")
            name = name.replace("-", "_")
            passed.setdefault(name, []).extend([value] if has_value else [])
        elif name:
            passed[name].append(argument)
    return passed


def _take_werkzeug_options(options: dict[str, Any], debug: bool) -> bool:
    """Remove Werkzeug's options, and return whether uWSGI is to reload on changes.

    :raises CommandError: if one of them can't be honoured.
    """
    for name, advice in _WERKZEUG_OPTIONS.items():
        if options.pop(name, None) not in (None, False):
            raise CommandError(f"{name} is an option of Werkzeug's server, not of uWSGI: {advice}")
    if options.pop("use_debugger", None) and not debug:
        raise CommandError("use_debugger=True needs debug=True")
    use_reloader = options.pop("use_reloader", None)
    return debug if use_reloader is None else bool(use_reloader)


def _urls(options: Mapping[str, Any]) -> list[str]:
    """Return where browsers find what uWSGI serves with *options*."""
    urls = []
    for name, scheme in _SCHEMES.items():
        for item in _as_list(options.get(name) or ()):
            host, _, port = str(item).partition(",")[0].rpartition(":")
            if port.isdigit() and port != "0":
                is_any = host in ("", "0.0.0.0", "[::]")  # noqa: S104
                urls.append(f"{scheme}://{'localhost' if is_any else host}:{port}")
    return urls


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = "--" + name.replace("_", "-") if len(name) > 1 else "-" + name
        for item in _as_list(value):
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
            f"{app.name!r} isn't a global of the module {app.import_name!r}, so uWSGI can't import "
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
