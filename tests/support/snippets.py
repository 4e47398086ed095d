"""Start the applications that the documentation shows."""

from __future__ import annotations

import sys
from pathlib import Path

from support import servers


def run(code: str, folder: Path):
    """Start an application from its source text."""
    app = folder / "app.py"
    app.write_text(code.replace("app.run(", "app.run(port=int(__import__('sys').argv[1]), "))
    return servers.running(lambda port: [sys.executable, str(app), str(port)], folder / "log")
