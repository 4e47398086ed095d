"""Check that every module that setup.py compiles is loaded from a shared library."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

setup = Path(__file__).parents[2].joinpath("setup.py").read_text()
sources = re.findall(r'"(flask_wsviews/\S+)\.(?:py|c)"', setup)
assert len(sources) > 10, sources
for source in sources:
    path = import_module(source.replace("/", ".")).__file__
    assert str(path).endswith(".so"), f"{path} isn't compiled"
print(f"{len(sources)} modules are compiled")
