"""Names and descriptions in a document."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from itertools import chain, count
from typing import Any


def described(doc: str | None) -> dict[str, str]:
    """Return a docstring's first line as summary, and the whole as description if it is longer."""
    if not doc or not doc.strip():
        return {}
    text = inspect.cleandoc(doc)
    summary = first_line(text)
    return {"summary": summary} if text == summary else {"summary": summary, "description": text}


def first_line(doc: str) -> str:
    """Return the first line of a docstring."""
    return doc.strip().partition("\n")[0].strip()


def slug(name: str) -> str:
    """Return *name* with only the characters that a component's key may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def unused(name: str, taken: Mapping[str, Any], value: Any = None) -> str:
    """Return *name*, numbered if another value has that key."""
    candidates = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(key for key in candidates if key not in taken or taken[key] == value)
