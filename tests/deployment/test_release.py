"""What is released: a source distribution and a wheel that work without this repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from support import servers
from support.paths import ROOT
from support.servers import BIN
from websockets.sync.client import connect

SETUP = (ROOT / "setup.py").read_text()
COMPILED = re.findall(r'"(flask_wsviews/\S+\.(?:py|c))"', SETUP)


def run(*command: str, cwd: Path, **env: str) -> str:
    environ = {**os.environ, **env}
    done = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both."""
    # Of a copy, as the build leaves folders behind.
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "build", "dist", "_build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    made = folder / "dist"
    run(sys.executable, "-m", "build", "--outdir", str(made), ".", cwd=source)
    return made


def only(dist: Path, pattern: str) -> Path:
    [path] = dist.glob(pattern)
    return path


def test_what_they_say_of_themselves(dist: Path):
    paths = [str(path) for path in dist.iterdir()]
    assert len(paths) == 2
    run(sys.executable, "-m", "twine", "check", "--strict", *paths, cwd=dist)


def test_the_wheel_has_all_of_the_package_and_no_more(dist: Path):
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        names = set(wheel.namelist())
    package = ROOT / "flask_wsviews"
    expected = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= names
    assert "flask_wsviews/py.typed" in names
    assert all(name.split("/")[0].startswith("flask_wsviews") for name in names)


def test_the_source_has_what_the_tests_and_examples_need(dist: Path):
    with tarfile.open(only(dist, "*.tar.gz")) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    for path in (
        "tests/deployment/test_release.py",
        "examples/chat-gevent/chat.py",
        "docs/index.md",
    ):
        assert path in names
    assert {"Makefile", "CHANGELOG.md", "deploy/nginx.conf", "benchmarks/load.c"} <= names
    assert {"setup.py", "setup.cfg", "pyproject.toml", "tests/support/check_compiled.py"} <= names
    assert set(COMPILED) <= names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith("docs/_build")]


def ask_the_build(dist: Path, tmp_path: Path, question: str) -> str:
    """Call a hook of the build system for the source distribution, with compiling switched on."""
    with tarfile.open(only(dist, "*.tar.gz")) as source:
        source.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    # No mypyc, as in the empty environment that pip builds in.
    (folder / "mypyc.py").write_text("raise SystemExit('compiling has begun')")
    code = f"import setuptools.build_meta as backend, json; print(json.dumps(backend.{question}))"
    output = run(sys.executable, "-c", code, cwd=folder, FLASK_WSVIEWS_COMPILE="1")
    return output.splitlines()[-1]


def test_compiling_asks_for_all_that_it_takes(dist: Path, tmp_path: Path):
    needed = json.loads(ask_the_build(dist, tmp_path, "get_requires_for_build_wheel()"))
    # The versions that were tested, of the compiler and of what the modules' types come from.
    pinned = {name for name, separator, _ in (line.partition("==") for line in needed) if separator}
    assert {"mypy", "flask", "marshmallow", "types-gevent", "websockets"} <= pinned
    # Releases of setuptools before 70.1 ask for wheel as well.
    assert {line for line in needed if "==" not in line} <= {"wheel"}


def test_what_builds_no_wheel_compiles_nothing(dist: Path, tmp_path: Path):
    assert ask_the_build(dist, tmp_path, "build_sdist('.')").endswith('.tar.gz"')


def test_the_wheel_runs_the_demo_in_an_empty_environment(dist: Path, tmp_path: Path):
    environment = tmp_path / "venv"
    venv.create(environment, symlinks=True)
    purelib = sysconfig.get_path("purelib", "venv", {"base": str(environment)})
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        wheel.extractall(purelib)
    # Its dependencies are those of this environment, but for the package itself.
    borrowed = Path(purelib, "borrowed.pth")
    borrowed.write_text(f"{sysconfig.get_path('purelib')}\n")
    demo = tmp_path / "chat"
    shutil.copytree(ROOT / "examples" / "chat-gevent", demo)
    where = run(
        str(environment / "bin" / "python"),
        "-c",
        "import flask_wsviews; print(flask_wsviews.__file__)",
        cwd=demo,
    )
    assert where.startswith(purelib)
    options = ("--gevent", "20", "--virtualenv", str(environment), "--pythonpath", str(demo))
    command = servers.uwsgi("chat:app", *options, binary=lambda: BIN / "uwsgi")
    with servers.running(command, tmp_path / "log", cwd=demo) as server:
        assert "<title>" in server.get("/")
        with connect(server.ws("/chat/lobby")) as ws:
            ws.send(json.dumps({"type": "join", "name": "Ann"}))
            assert "Ann" in ws.recv(timeout=10)
