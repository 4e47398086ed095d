"""Start programs as users who can't read the folders of Python and of these files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from support.paths import ROOT

NEEDED = (Path(sys.base_prefix), Path(sys.prefix), ROOT)
OTHERS = 0o001


@cache
def why_not() -> str | None:
    """Return why no program can be started as another user here, or ``None`` if it can."""
    if os.geteuid() != 0:
        return "only root may become another user"
    if shutil.which("setpriv") is None:
        return "setpriv isn't installed"
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    with TemporaryDirectory() as folder:
        command = [*readable(Path(folder)), *nobody, sys.executable, "-c", "import flask_wsviews"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    return f"nobody can't run Python here: {result.stderr}" if result.returncode else None


def readable(folder: Path) -> list[str]:
    """Return a prefix for a command, so that every user can read Python and these files.

    Where a folder on their way is closed to others, the command sees one in its place that has
    nothing but them.

    :param folder: an empty one.
    """
    kept: dict[Path, Path] = {}
    closed: set[Path] = set()
    for needed in {path.resolve() for path in NEEDED}:
        barred = [parent for parent in needed.parents if not parent.stat().st_mode & OTHERS]
        if barred:
            kept[needed] = folder / str(len(kept))
            closed.add(barred[-1])
    if not closed:
        return []
    script = ["set -e", "umask 022"]
    for path, place in kept.items():
        script += [f"mkdir '{place}'", f"mount --bind '{path}' '{place}'"]
    script += [f"mount -t tmpfs -o mode=755 tmpfs '{path}'" for path in closed]
    for path, place in kept.items():
        script += [f"mkdir -p '{path}'", f"mount --bind '{place}' '{path}'"]
    return ["unshare", "--mount", "sh", "-c", "\n".join([*script, 'exec "$@"']), "sh"]
