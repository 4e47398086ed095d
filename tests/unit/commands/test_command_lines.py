"""The command lines and configurations of uWSGI that the documentation and the examples show."""

from __future__ import annotations

import re

import pytest
from support.paths import ROOT

from flask_wsviews.servers.uwsgi.arguments import BUFFER_SIZE, HTTP_BUFFER_SIZE

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
COMMANDS = [
    (page.relative_to(ROOT).as_posix(), line.strip(" +"))
    for page in PAGES
    if "_build" not in page.parts
    for line in page.read_text().splitlines()
    if re.match(r"[ +]*uwsgi -", line) and "--ini" not in line
]
INIS = [
    *(path.read_text() for path in sorted((ROOT / "deploy").glob("*.ini"))),
    *re.findall(
        r"^```ini\n(\[uwsgi\]\n.*?)^```", (ROOT / "docs/tutorial.md").read_text(), re.M | re.S
    ),
]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: str(value)[:100])
def test_a_command_line_has_what_matters(page: str, command: str) -> None:
    assert "--master --die-on-term" in command
    assert f"--buffer-size {BUFFER_SIZE}" in command
    if "--http " in command:
        assert f"--http-websockets --http-buffer-size {HTTP_BUFFER_SIZE}" in command


def test_there_are_command_lines() -> None:
    assert len(COMMANDS) > 15
    assert len(INIS) == 4


@pytest.mark.parametrize("ini", INIS, ids=[str(number) for number in range(len(INIS))])
def test_a_configuration_has_what_matters(ini: str) -> None:
    lines = ini.splitlines()
    assert {"master = true", "die-on-term = true", f"buffer-size = {BUFFER_SIZE}"} <= set(lines)
    if any(line.startswith("http =") for line in lines):
        assert {"http-websockets = true", f"http-buffer-size = {HTTP_BUFFER_SIZE}"} <= set(lines)
