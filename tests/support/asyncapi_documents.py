"""Validate AsyncAPI documents with the official schemas and the official parser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from websockets.sync.client import ClientConnection

from support.kept import alone
from support.paths import TESTS
from support.servers import BIN

SPECS = TESTS / "documents" / "asyncapi-specs"
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
def of_application(script: Path) -> dict[str, Any]:
    """Return the document of a Flask application, made by the command."""
    command = [str(BIN / "flask"), "--app", script.stem, "ws", "asyncapi"]
    done = subprocess.run(
        command, cwd=script.parent, capture_output=True, text=True, timeout=60, check=True
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


class Checked:
    """A client whose messages are validated against the application's document, both ways.

    :param connection: the client.
    :param document: the document of the application.
    :param path: the path of the connection.
    """

    def __init__(self, connection: ClientConnection, document: dict[str, Any], path: str) -> None:
        self._connection = connection
        self._document = document
        [self._channel] = [
            f"#/channels/{name}"
            for name, channel in document["channels"].items()
            if _matches(channel, path.partition("?")[0])
        ]
        self._unanswered: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Checked:
        self._connection.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._connection.__exit__(*exc)
        if exc[0] is None:
            # The client sent what the document forbids, and the application accepted it.
            assert self._unanswered == []

    def send(self, message: str | bytes) -> None:
        if not self._is_described(message, "receive"):
            self._unanswered.append(str(message))
        self._connection.send(message)

    def recv(self, timeout: float | None = None) -> str | bytes:
        message = self._connection.recv(timeout)
        assert self._is_described(message, "send"), f"the document knows no such {message!r}"
        if self._unanswered and '"error"' in str(message):
            self._unanswered.pop(0)
        return message

    def _is_described(self, message: str | bytes, action: str) -> bool:
        return any(_accepts(self._document, found, message) for found in self._messages(action))

    def _messages(self, action: str) -> Iterator[dict[str, Any]]:
        for operation in self._document["operations"].values():
            if operation["channel"]["$ref"] != self._channel:
                continue
            references = operation["messages"] if operation["action"] == action else []
            if action == "send":
                references = references + operation.get("reply", {}).get("messages", [])
            for reference in references:
                yield follow(self._document, follow(self._document, reference["$ref"])["$ref"])


def follow(document: dict[str, Any], pointer: str) -> Any:
    """Return the target of a reference in a document."""
    found: Any = document
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _matches(channel: dict[str, Any], path: str) -> bool:
    pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(channel["address"]))
    return re.fullmatch(pattern, path) is not None


def _accepts(document: dict[str, Any], message: dict[str, Any], data: str | bytes) -> bool:
    kind = message["contentType"]
    if kind != "application/json":
        return isinstance(data, str) == (kind == "text/plain")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return False
    schema = {**message["payload"], "components": document["components"]}
    return Draft7Validator(schema).is_valid(value)


@cache
def why_no_parser() -> str | None:
    """Return what the official parser needs and isn't installed, or ``None``."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"there is no {' and no '.join(missing)}" if missing else None


def parse(files: list[Path]) -> None:
    """Read documents with the official parser, which is installed once and kept."""
    folder = Path(sys.prefix) / "asyncapi-parser"
    with alone(folder):
        if not folder.exists():
            _install(folder)
    done = subprocess.run(
        ["node", "-e", PROGRAM, *map(str, files)],
        env={**os.environ, "NODE_PATH": str(folder / "node_modules")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _install(folder: Path) -> None:
    # A folder with the final name is a complete installation.
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
