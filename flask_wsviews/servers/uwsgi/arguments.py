"""The arguments that uWSGI needs for an application: defaults, and what the caller changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...exceptions import CommandError

if TYPE_CHECKING:
    import flask

# By default the router forwards messages in chunks of 4 KiB, and each chunk after the first waits
# for a delayed acknowledgement.
HTTP_BUFFER_SIZE = 65536

# uWSGI closes a request whose headers don't fit, without an answer. Its default of 4096 bytes is
# too small for many cookies.
BUFFER_SIZE = 32768

# The value of an option that *extra* already contains.
_IN_EXTRA = object()

# The options that say where uWSGI loads the application from.
_APP_OPTIONS = ("wsgi", "module", "w", "wsgi_file", "file", "mount", "manage_script_name")

# The sockets that replace the default one.
_SOCKET_OPTIONS = ("http", "https", "http_socket", "https_socket", "socket", "s", "uwsgi_socket")

# The sockets for browsers, and the scheme of their URLs.
_SCHEMES = {
    "http": "http",
    "https": "https",
    "http_socket": "http",
    "https_socket": "https",
    "http11_socket": "http",
}

# With one of these options, requests are logged.
_LOG_OPTIONS = (
    *("logto", "logto2", "logger", "req_logger", "logger_req", "daemonize", "daemonize2", "d"),
    *("log_format", "logformat", "log_master", "log_slow", "log_4xx", "log_5xx"),
)

# Options of Werkzeug's server that have no equivalent of the same name, and what to use instead.
_WERKZEUG_OPTIONS = {
    "ssl_context": 'https="localhost:5000,cert.pem,key.pem" has uWSGI\'s router serve TLS',
    "extra_files": 'touch_reload=["file"] has uWSGI reload when a file changes',
    "exclude_patterns": 'py_auto_reload_ignore=["module"] excludes a module from the reloader',
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


def uwsgi_arguments(
    app: flask.Flask | str,
    debug: bool,
    host: str,
    port: int,
    options: Mapping[str, Any],
    extra: Sequence[str] = (),
    verbose: bool = False,
) -> list[str]:
    """Return uWSGI's arguments: *options*, and a default for each one that is missing.

    :param extra: arguments to append unchanged; they replace defaults, too.
    :raises CommandError: if the application isn't a global of a module, or an option is Werkzeug's.
    """
    passed = _passed(extra)
    given = {**options, **dict.fromkeys(passed, _IN_EXTRA)}
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
        # Without it uWSGI starts anyway, and answers every request with a 500.
        defaults["need_app"] = True
    if not verbose and options.keys().isdisjoint(_LOG_OPTIONS):
        defaults["disable_logging"] = True
    if not any(name in options for name in _APP_OPTIONS):
        defaults.update(_application(app))
    hooks = options.get("hook_accepting1_once", ())
    urls = _urls({**defaults, **options, **passed})
    if urls and hooks is not None and hooks is not False:
        # A hook, so that the line appears only when uWSGI has started to accept connections.
        line = f"print:Running on {' and '.join(urls)} (Ctrl-C stops it)"
        options["hook_accepting1_once"] = [line, *_as_list(hooks)]
    return [*_flags({**defaults, **options}), *extra]


def _passed(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the options of a command line: ``run()``'s names, and their values."""
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
    """Remove Werkzeug's options, and return whether the reloader is on.

    :raises CommandError: if uWSGI has no equivalent of one.
    """
    for name, advice in _WERKZEUG_OPTIONS.items():
        if options.pop(name, None) not in (None, False):
            raise CommandError(f"{name} is an option of Werkzeug's server, not of uWSGI: {advice}")
    if options.pop("use_debugger", None) and not debug:
        raise CommandError("use_debugger=True needs debug=True")
    use_reloader = options.pop("use_reloader", None)
    return debug if use_reloader is None else bool(use_reloader)


def _urls(options: Mapping[str, Any]) -> list[str]:
    """Return the URLs of the application that uWSGI serves with *options*."""
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
            if item is None or item is False or item is _IN_EXTRA:
                continue
            yield flag
            if item is not True:
                yield str(item)


def _application(app: flask.Flask | str) -> dict[str, str]:
    """Return the options that have uWSGI import the application of this process."""
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
