"""Makes pages of docs/ by Sphinx: ``make docs``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import flask_wsviews

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "Flask-WSViews"
project_copyright = "the authors of Flask-WSViews"
version = release = flask_wsviews.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False

# As GitHub does, so that a link to a heading works in both.
myst_heading_anchors = 3

# Most blocks without a language are for a shell.
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True

# Other projects' names have no page here, and looking theirs up would take a network. What is left
# out of the reference because it isn't for applications is named only in signatures.
nitpick_ignore_regex = [
    (r"py:.*", r"(flask|werkzeug|marshmallow|websockets|collections|socket|os|http)\..*"),
    (r"py:.*", r"(Flask|FlaskClient|ResponseReturnValue|TestResponse|SansIOResponse)"),
    (
        r"py:.*",
        r"(StartResponse|WSGIApplication|AbstractContextManager|CollectorRegistry|TracerProvider)",
    ),
    (r"py:.*", r"(flask_wsviews\..*\.[TF]|dict\[str)"),
    (
        r"py:.*",
        r"flask_wsviews\.(app_state\.AppState|groups\.groups\.Groups|protocol\.prepared\.PreparedMessage)",
    ),
    (r"py:.*", r"(Drained|Driver|MiddlewareOwner|Handshake|PairTransport)"),
    (r"py:.*", r"(BaseClient|contextlib\.AbstractContextManager)"),
    (r"py:.*", r"flask_wsviews\.engines\.(places\.Place|asyncio_driver\.AsyncioDriver)"),
    (r"py:.*", r"flask_wsviews\.clients\.base\.(BaseClient|Sent)"),
]

#: Files of the repository that are pages of the site as well, by the page that stands for them.
INCLUDED = {"readme": ROOT / "README.md", "benchmarks": ROOT / "benchmarks" / "README.md"}

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


def bring_in(app: Any, docname: str, source: list[str]) -> None:
    """Put a file of the repository in the place of its page, and mend links out of docs/."""
    path = INCLUDED.get(docname)
    page = DOCS / f"{docname}.md"
    if path is not None:
        source[0] = path.read_text(encoding="utf-8")

    def mend(link: re.Match[str]) -> str:
        target = ((path or page).parent / link[1]).resolve()
        for name, included in INCLUDED.items():
            if target == included:
                target = DOCS / f"{name}.md"
        if target.is_dir():
            # An example: the site has its application, the first of its modules.
            target = min([*target.glob("*.py")] or target.iterdir())
        if not target.exists():
            return link[0]
        return os.path.relpath(target, page.parent) + (link[2] or "")

    source[0] = LINK.sub(mend, source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", bring_in)
