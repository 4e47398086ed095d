"""``run()``: replace this process by uWSGI."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import uwsgi_arguments
from .binary import check_loop, find_binary, wheel_interpreter

if TYPE_CHECKING:
    import flask
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.debug import DebuggedApplication

#: The environment variable by which ``run(debug=True)`` turns debug mode on in uWSGI.
DEBUG_VARIABLE = "FLASK_UWSGI_DEBUG"
#: Its value for debug mode without Werkzeug's debugger.
WITHOUT_DEBUGGER = "without debugger"


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

    :param extra: arguments to append unchanged.
    :param verbose: show all of uWSGI's output, with requests, and its command line.
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


def run_app(
    app: flask.Flask,
    host: str | None = None,
    port: int | None = None,
    debug: bool | None = None,
    load_dotenv: bool | None = None,
    **options: Any,
) -> None:
    """Replace this process by uWSGI. Takes the arguments of ``app.run()``, which it replaces."""
    if load_dotenv is not None:
        options["load_dotenv"] = load_dotenv
    run_uwsgi(app, debug or app.debug, host or "localhost", port or 5000, **options)


def is_debug_mode() -> bool:
    """Return whether ``run(debug=True)`` has started this process."""
    return bool(os.environ.get(DEBUG_VARIABLE))


def with_debugger(application: WSGIApplication) -> WSGIApplication:
    """Wrap *application* in Werkzeug's debugger, if ``run(debug=True)`` has asked for it."""
    has_debugger = is_debug_mode() and os.environ[DEBUG_VARIABLE] != WITHOUT_DEBUGGER
    return debugged(application) if has_debugger else application


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
    """Return the command that :func:`run_uwsgi` runs; the first item is the binary's path.

    :raises CommandError: as :func:`run_uwsgi` does.
    """
    binary = find_binary(uwsgi_binary)
    interpreter = wheel_interpreter(binary)
    if interpreter is not None and not options.keys() & {"binary_path", "binary-path"}:
        options["binary_path"] = interpreter
    arguments = uwsgi_arguments(app, debug, host, port, options, extra, verbose)
    check_loop(binary, arguments)
    return [binary, *arguments]


def debugged(application: WSGIApplication) -> DebuggedApplication:
    """Wrap *application* in Werkzeug's debugger, which writes tracebacks to stderr.

    By default it writes them to ``wsgi.errors``, which uWSGI buffers.
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
    """Filter what this process, or the program that replaces it, writes to stderr.

    If the filter can't be started, stderr stays unchanged.
    """
    try:
        stderr = os.dup(2)
    except OSError:
        # stderr is closed.
        yield
        return
    try:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            _filter(stderr)
        yield
    finally:
        # Reached only if exec failed.
        os.dup2(stderr, 2)
        os.close(stderr)


def _filter(stderr: int) -> None:
    """Start a filter that writes to *stderr*, and redirect descriptor 2 to the filter.

    :raises OSError: if it can't be started.
    :raises subprocess.SubprocessError: if it fails.
    """
    reader, writer = os.pipe()
    try:
        # It detaches itself at once, since uWSGI takes all children of its process for workers.
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("output.py"))]
        subprocess.run(command, stdin=reader, stdout=stderr, stderr=stderr, check=True)  # noqa: S603
        os.dup2(writer, 2)
    finally:
        os.close(reader)
        os.close(writer)
