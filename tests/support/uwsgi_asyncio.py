"""Build a uWSGI with its asyncio loop, which ordinary builds lack, once and keep it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path

from support.kept import alone

#: Options for this uWSGI. It finds the virtual environment by itself only if it is in its ``bin``.
OPTIONS = ["--asyncio", "10", "--greenlet"]
if sys.prefix != sys.base_prefix:
    OPTIONS += ["--virtualenv", sys.prefix]


@cache
def why_not() -> str | None:
    """Return what the build needs and isn't installed, or ``None``."""
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        return "there is no C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "there are no C headers of Python"
    if _greenlet_headers() is None:
        return "there is no greenlet.h: pip install greenlet"
    return None


@cache
def binary() -> Path:
    """Build it if necessary, and return its path.

    :raises AssertionError: with the end of pip's output, if the build fails.
    """
    version = _version()
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    built = _cache_folder() / f"{python}-uwsgi{version}"
    with alone(built):
        if not built.exists():
            _build(version, built)
    return built / "bin" / "uwsgi"


def _build(version: str, folder: Path) -> None:
    # A folder with the final name is a complete build.
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    install = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    # pip's cache may have a wheel of another profile.
    options = ["--no-cache-dir", "--no-binary", "uwsgi", "--no-deps", "--target", str(unfinished)]
    env = {**os.environ, "UWSGI_PROFILE": "asyncio", "CFLAGS": f"-I{_greenlet_headers()}"}
    done = subprocess.run(
        [*install, *options, f"uwsgi=={version}"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(unfinished)
        raise AssertionError(f"uWSGI could not be built:\n{done.stdout[-4000:]}")
    unfinished.rename(folder)


def _version() -> str:
    """Return the version of the uWSGI that the other tests use."""
    for name in ("uwsgi", "pyuwsgi"):
        try:
            return metadata.version(name).partition(".post")[0]
        except metadata.PackageNotFoundError:
            pass
    raise AssertionError("uWSGI isn't installed")


def _greenlet_headers() -> Path | None:
    """Return the folder that contains ``greenlet/greenlet.h``."""
    try:
        distribution = metadata.distribution("greenlet")
    except metadata.PackageNotFoundError:
        return None
    folder = Path(str(distribution.locate_file("")))
    return folder if (folder / "greenlet" / "greenlet.h").exists() else None


def _cache_folder() -> Path:
    for parent in (Path(sys.prefix), Path(tempfile.gettempdir())):
        folder = parent / "uwsgi-asyncio"
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise AssertionError("no folder to build uWSGI in")
