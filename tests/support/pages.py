"""The pages of docs/ as tests read them: sections, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from support.paths import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"

#: A fenced block, perhaps within a list.
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
#: The text before a block that is a file, or that continues one.
FILE = re.compile(r"`([^`\s]+\.\w+)`(, continued)?:\n\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :param language: the language after its fence, often empty.
    :param file: the name of the file, if the page gives one.
    :param goes_on: whether it is appended to the file.
    """

    language: str
    text: str
    file: str | None = None
    goes_on: bool = False


def all_blocks(text: str) -> list[Block]:
    found = []
    for fence in FENCE.finditer(text):
        _, language, code = fence.groups()
        file = FILE.search(text[: fence.start()])
        name, goes_on = (file[1], file[2] is not None) if file else (None, False)
        found.append(Block(language, dedent(code), name, goes_on))
    return found


def blocks(page: Path, language: str = "python") -> list[str]:
    """Return the texts of a page's blocks in one language."""
    return [block.text for block in all_blocks(page.read_text()) if block.language == language]


def sections(page: Path) -> dict[str, list[Block]]:
    """Return the blocks of a page by second-level heading."""
    parts = re.split(r"^## (.*)\n", page.read_text(), flags=re.MULTILINE)[1:]
    return {title: all_blocks(text) for title, text in zip(parts[::2], parts[1::2], strict=True)}


def write_files(found: list[Block], folder: Path) -> list[Path]:
    """Write the files of a page, in its order."""
    written = []
    for block in found:
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(exist_ok=True)
            before = path.read_text() if block.goes_on else ""
            path.write_text(before + block.text)
            written.append(path)
    return written
