"""The command line that run() calls uWSGI with."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import flask
import pytest

from flask_wsviews.exceptions import CommandError
from flask_wsviews.servers.uwsgi import command as uwsgi_command
from flask_wsviews.servers.uwsgi.arguments import uwsgi_arguments
from flask_wsviews.servers.uwsgi.binary import BINARY_VARIABLE, find_binary, wheel_interpreter
from flask_wsviews.servers.uwsgi.command import (
    DEBUG_VARIABLE,
    WITHOUT_DEBUGGER,
    command_line,
    run_uwsgi,
)

Options = dict[str, list[str | bool]]


def options_of(arguments: list[str]) -> Options:
    """Each option with its values, ``True`` for a bare flag."""
    options: Options = {}
    name = None
    for argument in arguments:
        if argument.startswith("-"):
            assert name not in options or options[name]
            name = argument.lstrip("-")
            options.setdefault(name, []).append(True)
        else:
            assert name is not None
            assert options[name][-1] is True
            options[name][-1] = argument
    return options


def options_for(
    app: Any = "module:app",
    debug: bool = False,
    host: str = "localhost",
    port: int = 5000,
    **options: Any,
) -> Options:
    return options_of(uwsgi_arguments(app, debug, host, port, options))


@pytest.fixture
def in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/environment")
    monkeypatch.setattr(sys, "base_prefix", "/system")


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/system")
    monkeypatch.setattr(sys, "base_prefix", "/system")


# -- options ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_environment")
def test_the_defaults() -> None:
    assert uwsgi_arguments("module:app", False, "localhost", 5000, {}) == [
        "--master",
        "--die-on-term",
        "--http",
        "localhost:5000",
        "--http-websockets",
        "--http-buffer-size",
        "65536",
        "--buffer-size",
        "32768",
        "--enable-threads",
        "--need-app",
        "--disable-logging",
        "--wsgi",
        "module:app",
        "--pythonpath",
        os.getcwd(),
        "--hook-accepting1-once",
        "print:Running on http://localhost:5000 (Ctrl-C stops it)",
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (True, ["--some-option"]),
        (1, ["--some-option", "1"]),
        (0, ["--some-option", "0"]),
        ("", ["--some-option", ""]),
        ("a b; rm", ["--some-option", "a b; rm"]),
        (Path("/tmp/x"), ["--some-option", "/tmp/x"]),
        (["a", "b"], ["--some-option", "a", "--some-option", "b"]),
        ((1, True, None), ["--some-option", "1", "--some-option"]),
        ([], []),
        (None, []),
        (False, []),
    ],
)
@pytest.mark.parametrize("name", ["some_option", "some-option"])
def test_how_an_option_is_written(name: str, value: Any, wanted: list[str]) -> None:
    plain = uwsgi_arguments("module:app", False, "localhost", 5000, {})
    arguments = uwsgi_arguments("module:app", False, "localhost", 5000, {name: value})
    # The line that says where it runs comes last.
    assert arguments == [*plain[:-2], *wanted, *plain[-2:]]


def test_a_short_option_has_one_dash() -> None:
    assert options_for(p=4)["p"] == ["4"]
    assert "-p" in uwsgi_arguments("module:app", False, "localhost", 5000, {"p": 4})


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("master", False, None),
        ("master", None, None),
        ("die_on_term", False, None),
        ("die-on-term", False, None),
        ("need_app", False, None),
        ("enable_threads", False, None),
        ("http_websockets", False, None),
        ("http_buffer_size", 131072, ["131072"]),
        ("http-buffer-size", None, None),
        ("buffer_size", 8192, ["8192"]),
        ("disable_logging", False, None),
        ("hook_accepting1_once", False, None),
    ],
)
def test_a_default_can_be_replaced(option: str, value: Any, wanted: list[str] | None) -> None:
    assert options_for(**{option: value}).get(option.replace("_", "-")) == wanted


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", "localhost:80"),
        ("0.0.0.0", "0.0.0.0:80"),
        ("::1", "[::1]:80"),
        ("::", "[::]:80"),
        ("", ":80"),
    ],
)
def test_the_address(host: str, address: str) -> None:
    assert options_for(host=host, port=80)["http"] == [address]


@pytest.mark.parametrize(
    "options",
    [
        {"http": ":8080"},
        {"http": [":8080", ":8081"]},
        {"https": ":443,cert,key"},
        {"http": ":8080", "socket": ":3031"},
        {"http_socket": None},
    ],
)
def test_the_router_lets_websockets_through(options: dict[str, Any]) -> None:
    got = options_for(**options)
    assert got["http-websockets"] == [True]
    assert got["http-buffer-size"] == ["65536"]


@pytest.mark.parametrize(
    ("option", "flag"),
    [
        ("http_socket", "http-socket"),
        ("http-socket", "http-socket"),
        ("https_socket", "https-socket"),
        ("socket", "socket"),
        ("uwsgi_socket", "uwsgi-socket"),
        ("s", "s"),
    ],
)
def test_no_router_beside_a_socket(option: str, flag: str) -> None:
    got = options_for(**{option: ":8080"})
    assert got[flag] == [":8080"]
    assert got.keys().isdisjoint({"http", "http-websockets", "http-buffer-size"})


@pytest.mark.parametrize(("gevent", "threads"), [(100, None), (None, [True]), (0, [True])])
def test_threads_are_for_the_engine_that_needs_them(
    gevent: int | None, threads: list[bool] | None
) -> None:
    assert options_for(gevent=gevent).get("enable-threads") == threads


def test_an_option_may_be_short() -> None:
    assert "buffer-size" not in options_for(b=8192)


@pytest.mark.parametrize(
    ("options", "urls"),
    [
        ({"host": "0.0.0.0", "port": 80}, "http://localhost:80"),
        ({"host": "::1"}, "http://[::1]:5000"),
        ({"host": ""}, "http://localhost:5000"),
        ({"http": ":8080"}, "http://localhost:8080"),
        ({"http": [":8080", "10.0.0.1:81"]}, "http://localhost:8080 and http://10.0.0.1:81"),
        ({"https": "example.org:443,cert,key"}, "https://example.org:443"),
        ({"http_socket": "127.0.0.1:9"}, "http://127.0.0.1:9"),
        ({"http-socket": ":9", "socket": ":8"}, "http://localhost:9"),
    ],
)
def test_a_line_says_where_it_runs(options: dict[str, Any], urls: str) -> None:
    assert options_for(**options)["hook-accepting1-once"] == [
        f"print:Running on {urls} (Ctrl-C stops it)"
    ]


@pytest.mark.parametrize("options", [{"socket": ":8"}, {"http_socket": "/run/x"}, {"http": ":0"}])
def test_no_line_where_there_is_no_url(options: dict[str, Any]) -> None:
    assert "hook-accepting1-once" not in options_for(**options)


@pytest.mark.parametrize(
    "extra", [["--http-socket", ":7"], ["--http-socket=:7"], ["--stats", ":1", "--http", ":7"]]
)
def test_a_url_among_the_arguments_as_they_are(extra: list[str]) -> None:
    arguments = uwsgi_arguments("module:app", False, "localhost", 5000, {}, extra)
    assert "print:Running on http://localhost:7 (Ctrl-C stops it)" in arguments


def test_own_hooks_stand_beside_the_line() -> None:
    hooks = options_for(hook_accepting1_once=["print:one", "print:two"])["hook-accepting1-once"]
    assert hooks[1:] == ["print:one", "print:two"]
    assert "Running on" in str(hooks[0])


@pytest.mark.parametrize("option", ["logto", "daemonize", "req-logger", "log_format"])
def test_a_log_of_ones_own_has_the_requests(option: str) -> None:
    assert "disable-logging" not in options_for(**{option: "/tmp/log"})


def test_a_verbose_start_has_the_requests() -> None:
    assert "--disable-logging" not in uwsgi_arguments("m:a", False, "h", 1, {}, verbose=True)


@pytest.mark.parametrize(
    ("options", "reloads"),
    [
        ({"debug": True, "use_reloader": False}, False),
        ({"debug": True, "use-reloader": False}, False),
        ({"debug": True, "use_reloader": None}, True),
        ({"debug": True, "use_reloader": True}, True),
        ({"use_reloader": True}, True),
        ({"use_reloader": False}, False),
    ],
)
def test_the_reloader_can_be_chosen(options: dict[str, Any], reloads: bool) -> None:
    got = options_for(**options)
    assert ("python-autoreload" in got) is reloads
    # Nothing would load the application later.
    assert ("need-app" in got) is not reloads
    assert "use-reloader" not in got


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ssl_context", "adhoc"),
        ("ssl_context", ("cert.pem", "key.pem")),
        ("extra_files", ["settings.toml"]),
        ("exclude_patterns", ["*.tmp"]),
        ("reloader_type", "watchdog"),
        ("reloader-interval", 2),
        ("use_debugger", True),
        ("use_evalex", True),
        ("threaded", True),
        ("passthrough_errors", True),
        ("request_handler", object),
        ("static_files", {"/static": "static"}),
        ("load_dotenv", True),
        ("fd", 3),
    ],
)
def test_options_of_werkzeug_are_refused(option: str, value: Any) -> None:
    with pytest.raises(CommandError, match=option.replace("-", "_")):
        options_for(**{option: value})
    assert option.replace("_", "-") not in options_for(**{option: None})


def test_the_debugger_comes_with_debug() -> None:
    assert "use-debugger" not in options_for(debug=True, use_debugger=True)
    assert "use-debugger" not in options_for(debug=True, use_debugger=False)


def test_debug_reloads() -> None:
    got = options_for(debug=True)
    assert got["python-autoreload"] == ["1"]
    assert "need-app" not in got


def test_without_debug_a_broken_application_ends_the_server() -> None:
    got = options_for(debug=False)
    assert got["need-app"] == [True]
    assert "python-autoreload" not in got


@pytest.mark.usefixtures("in_environment")
def test_a_virtual_environment_is_handed_on() -> None:
    assert options_for()["virtualenv"] == ["/environment"]


@pytest.mark.usefixtures("in_environment")
@pytest.mark.parametrize("option", ["virtualenv", "venv", "home", "pyhome", "H"])
def test_another_virtual_environment_can_be_given(option: str) -> None:
    got = options_for(**{option: "/other"})
    assert got[option] == ["/other"]
    assert "/environment" not in got.get("virtualenv", [])


@pytest.mark.usefixtures("no_environment")
def test_outside_of_a_virtual_environment_there_is_none() -> None:
    assert "virtualenv" not in options_for()


# -- the application ----------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that can be imported, with an application as a global."""
    made = ModuleType("some_package.site")
    made.application = flask.Flask("some_package.site")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def as_main(monkeypatch: pytest.MonkeyPatch, app: flask.Flask, file: str, spec: Any = None) -> None:
    main = ModuleType("__main__")
    main.__file__ = file
    main.__spec__ = spec
    main.site = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)


def test_an_application_by_name() -> None:
    got = options_for("package.module:factory()")
    assert got["wsgi"] == ["package.module:factory()"]
    assert got["pythonpath"] == [os.getcwd()]


def test_a_global_of_a_module(module: ModuleType) -> None:
    got = options_for(module.application)
    assert got["wsgi"] == ["some_package.site:application"]
    assert got["pythonpath"] == [os.getcwd()]


def test_a_global_of_a_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = flask.Flask("__main__")
    as_main(monkeypatch, app, str(tmp_path / "server.py"))
    got = options_for(app)
    assert got["wsgi"] == ["server:site"]
    assert got["pythonpath"] == [str(tmp_path.resolve())]


def test_an_application_of_a_script_may_have_any_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = flask.Flask("no_such_module")
    as_main(monkeypatch, app, str(tmp_path / "server.py"))
    assert options_for(app)["wsgi"] == ["server:site"]


def test_a_module_run_as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    app = flask.Flask("__main__")
    as_main(monkeypatch, app, "ignored.py", SimpleNamespace(name="package.server"))
    got = options_for(app)
    assert got["wsgi"] == ["package.server:site"]
    assert got["pythonpath"] == [os.getcwd()]


def test_an_application_that_is_no_global(module: ModuleType) -> None:
    hidden = flask.Flask(module.__name__)
    with pytest.raises(CommandError, match=r"'some_package.site'.*module:factory\(\)"):
        options_for(hidden)


def test_an_application_without_any_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "__main__")
    with pytest.raises(CommandError, match="isn't a global"):
        options_for(flask.Flask("no_such_module"))


@pytest.mark.parametrize(
    "option", ["wsgi", "module", "w", "wsgi_file", "wsgi-file", "file", "mount"]
)
def test_an_application_among_the_options(option: str) -> None:
    got = options_for(flask.Flask("no_such_module"), **{option: "mine"})
    assert got[option.replace("_", "-")] == ["mine"]
    assert ("wsgi" in got) is (option == "wsgi")
    assert "pythonpath" not in got


# -- the binary ---------------------------------------------------------------------------------


def program(folder: Path, name: str = "uwsgi") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without uWSGI: neither beside Python nor on the path."""
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    return tmp_path


def test_where_uwsgi_is_looked_for(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program(nowhere / "path")
    assert find_binary() == on_path
    in_prefix = program(nowhere / "prefix" / "bin")
    assert find_binary() == in_prefix
    beside = program(nowhere / "beside")
    assert find_binary() == beside
    in_variable = program(nowhere / "variable", "my-uwsgi")
    monkeypatch.setenv(BINARY_VARIABLE, in_variable)
    assert find_binary() == in_variable
    given = program(nowhere / "given", "other-uwsgi")
    assert find_binary(given) == given


def test_a_given_name_is_looked_up(nowhere: Path) -> None:
    path = program(nowhere / "path", "uwsgi-special")
    assert find_binary("uwsgi-special") == path


def test_an_empty_variable_is_none(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(nowhere / "path")
    monkeypatch.setenv(BINARY_VARIABLE, "")
    assert find_binary() == path


def test_no_uwsgi_at_all(nowhere: Path) -> None:
    with pytest.raises(CommandError, match=rf"pip install.*{BINARY_VARIABLE}"):
        find_binary()


@pytest.mark.parametrize("executable", [False, True])
def test_a_given_binary_has_to_be_a_program(nowhere: Path, executable: bool) -> None:
    program(nowhere / "path")
    wrong = nowhere / "wrong"
    if not executable:
        wrong.write_text("text")
    with pytest.raises(CommandError, match=r"uwsgi_binary is .*wrong"):
        find_binary(str(wrong))


def test_a_wrong_variable_is_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(nowhere / "path")
    monkeypatch.setenv(BINARY_VARIABLE, "/no/such/uwsgi")
    with pytest.raises(CommandError, match=f"{BINARY_VARIABLE} is '/no/such/uwsgi'"):
        find_binary()


# -- the start ----------------------------------------------------------------------------------


class Started(Exception):
    """What replaces this process."""


@pytest.mark.parametrize("debug", [False, True])
def test_run_replaces_the_process(
    debug: bool,
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    binary = program(nowhere / "path")
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    monkeypatch.setenv("KEPT", "yes")

    def execve(path: str, arguments: list[str], environ: dict[str, str]) -> None:
        raise Started(path, arguments, environ)

    monkeypatch.setattr(uwsgi_command.os, "execve", execve)
    with pytest.raises(Started) as caught:
        run_uwsgi("module:app", debug, "localhost", 5000, gevent=100, logger="file:a b")
    path, arguments, environ = caught.value.args
    assert path == binary
    assert arguments[0] == binary
    options = {"gevent": 100, "logger": "file:a b"}
    assert arguments[1:] == uwsgi_arguments("module:app", debug, "localhost", 5000, options)
    assert environ["KEPT"] == "yes"
    assert environ.get(DEBUG_VARIABLE) == ("true" if debug else None)
    assert DEBUG_VARIABLE not in os.environ
    assert not capsys.readouterr().out
    with pytest.raises(Started):
        run_uwsgi(
            "module:app", debug, "localhost", 5000, verbose=True, gevent=100, logger="file:a b"
        )
    output = capsys.readouterr().out
    assert output.startswith(f"Running: {binary} --master")
    assert "--logger 'file:a b'" in output


def test_debug_without_the_debugger(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(nowhere / "path")
    started = []
    monkeypatch.setattr(uwsgi_command.os, "execve", lambda *args: started.append(args))
    run_uwsgi("module:app", True, "localhost", 5000, verbose=True, use_debugger=False)
    [(_, arguments, environ)] = started
    assert "--python-autoreload" in arguments
    assert environ[DEBUG_VARIABLE] == WITHOUT_DEBUGGER


HELP = "#!/bin/sh\necho '    --http-socket  x'; echo '    -T|--enable-threads  x'\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"asyncio": 100}, r"asyncio isn't an option of .*UWSGI_PROFILE=asyncio.*AsyncioWebSocket"),
        ({"greenlet": True}, "greenlet isn't an option"),
        ({"extra": ["--asyncio=100"]}, "asyncio isn't an option"),
        ({"gevent": 100}, "gevent isn't an option"),
        ({"gevent": 100, "plugins": "python3,gevent"}, None),
        ({"asyncio": None}, None),
    ],
)
def test_a_loop_that_uwsgi_was_built_without(
    options: dict[str, Any], text: str | None, nowhere: Path
) -> None:
    binary = program(nowhere / "path")
    Path(binary).write_text(HELP)
    if text is None:
        assert command_line("module:app", False, "localhost", 5000, **options)[0] == binary
        return
    with pytest.raises(CommandError, match=text):
        command_line("module:app", False, "localhost", 5000, **options)


@pytest.mark.parametrize(
    ("content", "has_python", "options", "path"),
    [
        ("#!/bin/sh\n", True, {}, "beside"),
        ("#!/bin/sh\n", True, {"binary_path": "mine"}, "mine"),
        ("#!/bin/sh\n", True, {"binary-path": "mine"}, "mine"),
        ("#!/bin/sh\n", False, {}, None),
        ("\x7fELF", True, {}, None),
    ],
    ids=["script", "given", "given with dashes", "no python beside it", "program"],
)
def test_the_script_of_the_wheel_is_told_its_interpreter(
    content: str,
    has_python: bool,
    options: dict[str, Any],
    path: str | None,
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    monkeypatch.setattr(uwsgi_command.os, "execve", lambda _, args, env: started.append(args))
    binary = program(nowhere / "bin")
    Path(binary).write_text(content)
    python = str(nowhere / "bin" / "python")
    if has_python:
        program(nowhere / "bin", "python")
    run_uwsgi("module:app", False, "localhost", 5000, binary, **options)
    [arguments] = started
    wanted = None if path is None else [python if path == "beside" else path]
    assert options_of(arguments[1:]).get("binary-path") == wanted


def test_run_fails_before_the_process_is_replaced(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uwsgi_command.os, "execve", lambda *args: pytest.fail("was called"))
    with pytest.raises(CommandError):
        run_uwsgi("module:app", False, "localhost", 5000)
    with pytest.raises(CommandError):
        run_uwsgi("module:app", False, "localhost", 5000, str(nowhere / "missing"))


@pytest.mark.parametrize(
    ("first_bytes", "is_wheel"), [(b"#!/usr/bin/python", True), (b"\x7fELF", False)]
)
def test_the_script_of_a_wheel_is_run_again_by_its_own_python(tmp_path, first_bytes, is_wheel):
    binary, python = tmp_path / "uwsgi", tmp_path / "python"
    binary.write_bytes(first_bytes)
    python.touch(stat.S_IRWXU)
    assert wheel_interpreter(str(binary)) == (str(python) if is_wheel else None)
