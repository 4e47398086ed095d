"""The layers: which module may import which, read off their syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import flask_wsviews

PACKAGE = "flask_wsviews"
ROOT = Path(flask_wsviews.__file__).parent

#: The layers, from the bottom to the top. A module may import those below its own, and its own,
#: for type checkers as well. A layer is a folder, or modules of the top level.
LAYERS = (
    ("close_codes",),
    ("exceptions",),
    ("typing",),
    ("common",),
    ("config",),
    ("protocol", "connection"),
    ("servers",),
    ("engines",),
    ("messages",),
    ("groups",),
    ("views",),
    ("registration",),
    ("clients", "client"),
    ("observers",),
    ("logs", "signals"),
    ("app_state",),
    ("blueprints",),
    ("conversation", "dispatcher"),
    ("handshake", "middleware"),
    ("asyncapi",),
    ("commands",),
    ("extension",),
    ("metrics", "testing", "tracing"),
    ("",),
)

LEVELS = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


@dataclass(frozen=True)
class Import:
    """One imported module.

    :param name: its full name.
    :param inside: what encloses the statement: any of ``function``, ``try``, ``typing``.
    """

    name: str
    inside: frozenset[str]

    @property
    def library(self) -> str:
        return self.name.partition(".")[0]

    @property
    def at_run_time(self) -> bool:
        return "typing" not in self.inside


def module_names() -> dict[str, Path]:
    """The package's modules by name: ``flask_wsviews.engines.base`` is ``engines.base``."""
    names = {}
    # A module in C has a stub.
    for path in sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyi")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    return names


MODULES = module_names()


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    path = MODULES[module]
    package = f"{PACKAGE}.{module}".rstrip(".").split(".")
    if path.name != "__init__.py":
        package.pop()
    return tuple(_imports(ast.parse(path.read_text()), package, frozenset()))


def _imports(node: ast.AST, package: list[str], inside: frozenset[str]) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, inside)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        origin = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
        for alias in node.names:
            # `from . import handshake` imports a module, `from .handshake import Offer` doesn't.
            name = f"{origin}.{alias.name}"
            is_module = name.removeprefix(f"{PACKAGE}.") in MODULES
            yield Import(name if is_module else origin, inside)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.body:
            yield from _imports(child, package, inside | {"typing"})
        for child in node.orelse:
            yield from _imports(child, package, inside)
    else:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inside |= {"function"}
        elif isinstance(node, ast.Try):
            inside |= {"try"}
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, package, inside)


def own(module: str) -> set[str]:
    """The package's modules that a module imports at run time."""
    names = {
        found.name.removeprefix(f"{PACKAGE}.")
        for found in imports_of(module)
        if found.at_run_time and found.library == PACKAGE
    }
    return names - {PACKAGE}


def libraries(module: str) -> set[str]:
    """The top-level packages that a module imports, for type checkers only or not."""
    return {found.library for found in imports_of(module)}


def closure(module: str) -> set[str]:
    """A module, and whatever of ours is imported with it."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += own(name)
    return seen


def room_of(module: str) -> str:
    return module.partition(".")[0]


def modules_in(*rooms: str) -> list[str]:
    return [module for module in MODULES if room_of(module) in rooms]


every_module = pytest.mark.parametrize("module", [module for module in MODULES if module])


# -- the reader itself --------------------------------------------------------------------------


def test_the_reader_sees_every_kind_of_import() -> None:
    source = """
import os.path, websockets
from . import handshake
from .config import Settings
from ..typing import Message
if TYPE_CHECKING:
    import flask
else:
    import json
try:
    import uwsgi
except ImportError:
    pass
class A:
    def f(self):
        from gevent import spawn
"""
    found = list(_imports(ast.parse(source), [PACKAGE, "engines"], frozenset()))
    assert [(i.name, sorted(i.inside)) for i in found] == [
        ("os.path", []),
        ("websockets", []),
        (f"{PACKAGE}.engines", []),
        (f"{PACKAGE}.engines.config", []),
        (f"{PACKAGE}.typing", []),
        ("flask", ["typing"]),
        ("json", []),
        ("uwsgi", ["try"]),
        ("gevent", ["function"]),
    ]


def test_the_reader_finds_the_package() -> None:
    assert {"", "engines", "engines.base", "protocol.connection", "servers.uwsgi"} <= MODULES.keys()
    assert own("protocol.response") == {"config", "protocol.opening"}
    assert "websockets" in libraries("protocol.response")


# -- the rules ----------------------------------------------------------------------------------


@every_module
def test_what_a_module_imports_exists(module: str) -> None:
    assert own(module) <= MODULES.keys()


def test_there_are_no_circles() -> None:
    graph = {module: with_types(module) for module in MODULES if module}
    order = list(TopologicalSorter(graph).static_order())
    assert (
        order.index("protocol.connection") < order.index("engines.base") < order.index("extension")
    )


def with_types(module: str) -> set[str]:
    """The package's modules that a module imports, for type checkers only or not."""
    names = {found.name for found in imports_of(module) if found.library == PACKAGE}
    return {name.removeprefix(PACKAGE).lstrip(".") for name in names} - {""}


@every_module
def test_imports_go_down(module: str) -> None:
    level = LEVELS[room_of(module)]
    upward = {name for name in with_types(module) if LEVELS[room_of(name)] > level}
    assert upward == set()


def test_there_are_no_circles_of_folders_and_modules_of_the_top_level() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        rooms = {room_of(name) for name in with_types(module)}
        graph.setdefault(room_of(module), set()).update(rooms - {room_of(module)})
    assert set(TopologicalSorter(graph).static_order()) == set(LEVELS)


@pytest.mark.parametrize("module", ["exceptions", "typing", *modules_in("common")])
def test_modules_that_need_nothing_of_ours(module: str) -> None:
    outside = {name for name in own(module) if room_of(name) != "common"}
    assert outside <= {"close_codes", "exceptions"} - {module}


#: These start uWSGI with an application.
STARTS_UWSGI = {"servers.uwsgi.arguments", "servers.uwsgi.command"}


@pytest.mark.parametrize(
    "module",
    sorted({*modules_in("protocol", "servers", "engines", "groups")} - STARTS_UWSGI),
)
def test_no_flask_below_the_middleware(module: str) -> None:
    for imported in closure(module):
        assert "flask" not in libraries(imported), imported


def test_views_never_see_a_socket() -> None:
    for imported in closure("views"):
        run_time = {found.library for found in imports_of(imported) if found.at_run_time}
        assert run_time.isdisjoint({"socket", "_socket", "select", "selectors", "ssl"}), imported


@every_module
def test_who_may_import_websockets(module: str) -> None:
    allowed = room_of(module) in ("protocol", "testing")
    assert allowed or "websockets" not in libraries(module)


@every_module
def test_who_may_import_gevent(module: str) -> None:
    # The last for uWSGI's gevent loop, and only there.
    allowed = module in (
        "engines.gevent",
        "engines.gevent_driver",
        "common.process",
        "servers.uwsgi.transport",
    )
    assert allowed or "gevent" not in libraries(module)
    for found in imports_of(module):
        # Requests are greenlets under uWSGI's asyncio loop, and only there is it needed.
        under_uwsgi = module == "servers.uwsgi.own_loop" and "function" in found.inside
        assert allowed or under_uwsgi or found.library != "greenlet"


@every_module
def test_who_may_import_redis(module: str) -> None:
    assert module.startswith("groups.brokers.redis") or "redis" not in libraries(module)


def test_the_choice_of_an_engine_does_without_gevent() -> None:
    for found in imports_of("common.process"):
        if found.library in ("gevent", "greenlet"):
            assert "function" in found.inside


@every_module
def test_uwsgi_is_only_looked_up(module: str) -> None:
    # Its module exists inside uWSGI's processes only: common.process finds it there.
    assert "uwsgi" not in libraries(module)


@every_module
def test_engines_are_imported_when_they_are_chosen(module: str) -> None:
    # Each may need a library that isn't installed.
    chosen = {"engines.gevent", "engines.asyncio"}
    assert room_of(module) == "engines" or own(module).isdisjoint(chosen)


def test_the_package_needs_flask_marshmallow_and_websockets_only() -> None:
    program = """
import sys
for name in ("gevent", "greenlet", "uwsgi", "uvloop", "redis", "prometheus_client",
    "apispec", "yaml"):
    sys.modules[name] = None
import flask, flask_wsviews
app = flask.Flask("site")
ws = flask_wsviews.WebSocket(app)
ws.add_url_rule("/talk", "talk", lambda ws: None)
try:
    flask_wsviews.GeventWebSocket()
except flask_wsviews.EngineError as error:
    print(error)
try:
    flask_wsviews.AsyncAPI(app)
except flask_wsviews.ConfigError as error:
    print(error)
print(sorted(set(flask_wsviews.__all__) - set(dir(flask_wsviews))))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    refusal, no_documents, missing = result.stdout.splitlines()
    assert "pip install 'flask-wsviews[gevent]'" in refusal
    assert "pip install 'flask-wsviews[asyncapi]'" in no_documents
    assert missing == "[]"
