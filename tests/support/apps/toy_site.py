"""Serve the contract's application on the engine, broker and server of support.toys."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from support import toys

toys.register()
if __name__ == "__main__":
    from contract import app

    toys.serve(app, int(sys.argv[1]))
