"""AsyncAPI's own parser reads the documents of all examples and of the applications here."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

import pytest
from support import asyncapi_documents
from support.paths import EXAMPLES
from support.servers import APPS, BIN

APPLICATIONS = {
    **{
        f"examples/{path.parent.name}": path
        for path in sorted(EXAMPLES.glob("*/*.py"))
        if "Flask(__name__)" in path.read_text()
    },
    "contract": APPS / "contract.py",
    "coroutines": APPS / "coroutines.py",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents")


@cache
def write(application: Path, folder: Path, version: str) -> Path:
    """Write the document of an application with the command, and return its path."""
    target = folder / f"{application.parent.name}-{application.stem}-{version}.json"
    done = subprocess.run(
        [
            *(str(BIN / "flask"), "--app", application.stem, "ws", "asyncapi"),
            *("--version", version, "-o", str(target)),
        ],
        cwd=application.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize("version", ["3.0.0", "3.1.0"])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_official_schema_accepts_each_document(name: str, version: str, folder: Path) -> None:
    document = json.loads(write(APPLICATIONS[name], folder, version).read_text())
    assert document["asyncapi"] == version
    assert document["channels"]
    asyncapi_documents.validate(document)


@pytest.mark.skipif(
    asyncapi_documents.why_no_parser() is not None, reason=str(asyncapi_documents.why_no_parser())
)
def test_the_official_parser_reads_each_document(folder: Path) -> None:
    asyncapi_documents.parse(
        [
            write(application, folder, version)
            for application in APPLICATIONS.values()
            for version in ("3.0.0", "3.1.0")
        ]
    )
