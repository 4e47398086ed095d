"""Judging AsyncAPI documents: by the official schemas, and by the official parser."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

SPECS = Path(__file__).parent / "asyncapi-specs"
PARSER = "@asyncapi/parser@3.6.3"

PROGRAM = """
const { Parser } = require("@asyncapi/parser");
const fs = require("fs");
const files = process.argv.slice(2);
(async () => {
  let failed = false;
  for (const file of files) {
    const { document, diagnostics } = await new Parser().parse(fs.readFileSync(file, "utf8"));
    const errors = diagnostics.filter((found) => found.severity === 0);
    for (const error of errors) {
      console.log(`${file}: ${error.path.join(".")}: ${error.message}`);
    }
    failed ||= !document || errors.length > 0;
  }
  process.exit(failed ? 1 : 0);
})();
"""


@cache
def _validator(version: str) -> Draft7Validator:
    return Draft7Validator(json.loads((SPECS / f"{version}.json").read_text()))


def validate(document: dict[str, Any]) -> None:
    """Check a document by AsyncAPI's own JSON Schema of its version."""
    found = [
        f"{error.json_path}: {error.message[:300]}"
        for error in _validator(document["asyncapi"]).iter_errors(document)
    ]
    assert not found, "\n".join(found)


@cache
def why_no_parser() -> str | None:
    """What is missing for the official parser, ``None`` if nothing is."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"there is no {' and no '.join(missing)}" if missing else None


def parse(files: list[Path]) -> None:
    """Have the official parser read documents; it is installed once and kept."""
    folder = Path(sys.prefix) / "asyncapi-parser"
    # Another run of the tests may be at it: wait for what it installs.
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _install(folder)
    done = subprocess.run(
        ["node", "-e", PROGRAM, *map(str, files)],
        env={**os.environ, "NODE_PATH": str(folder / "node_modules")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _install(folder: Path) -> None:
    # A folder with the final name is a whole installation.
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    quiet = ["--no-audit", "--no-fund", "--no-save", "--loglevel", "error"]
    done = subprocess.run(
        ["npm", "install", *quiet, "--prefix", str(unfinished), PARSER],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    unfinished.rename(folder)
